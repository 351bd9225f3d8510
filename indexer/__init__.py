"""Corpus in, answers out: build an index, search it, measure it."""
