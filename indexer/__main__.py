"""`python -m indexer`, the same as `indexer`."""

import os
import signal

from indexer.cli import main

if os.environ.get("CITEMARK_PROGRESS") == "json":
    # The page that started it stops it by SIGINT, which a server run in a script's background ignores.
    signal.signal(signal.SIGINT, signal.default_int_handler)
main()
