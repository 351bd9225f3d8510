"""The starter corpus: what a newcomer searches before a corpus of their own is there."""
