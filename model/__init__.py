"""Text in, numbers out: the encoder and the text it is given."""
