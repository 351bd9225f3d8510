"""`python -m indexer`, the same as `indexer`."""

from indexer.cli import main

main()
