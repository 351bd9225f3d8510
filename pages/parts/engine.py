"""The one engine of this server: opened and made ready as the server starts, shared by all its sessions."""

import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import streamlit as st

from data.contexts import CITE
from data.errors import first_line
from data.passage import read_passage
from indexer.basket import Basket, write
from indexer.guard import Gate
from indexer.overview import Counts, counts
from indexer.search import Searcher
from indexer.settings import Settings, from_environment
from indexer.why import why

LOG = logging.getLogger("citemark")
THROWAWAY = f"Networks with attention {CITE} translate."


class Opened(NamedTuple):
    """The engine, and the thread that loads what its first answer takes: the encoder above all."""

    engine: Searcher
    readying: Thread


@asynccontextmanager
async def at_start(_: st.App) -> AsyncIterator[None]:
    """The server's lifespan: the page is there at once; meanwhile all that an answer takes is loaded."""
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(logging.Formatter("citemark: %(message)s"))
    LOG.addHandler(log)
    LOG.setLevel(logging.INFO)
    Thread(target=_open, daemon=True).start()
    yield
    LOG.removeHandler(log)


def searcher(settings: Settings) -> Searcher:
    """The engine of these settings. Raises UserError where there is no usable index."""
    with st.spinner("Opening the index …"):
        return opened(settings).engine


@st.cache_resource(show_spinner=False)
def opened(settings: Settings) -> Opened:
    """Opened by whoever asks first, while all others wait; it takes up a rebuilt index by itself."""
    engine = Searcher(settings)
    readying = Thread(target=_ready, args=(engine,), daemon=True)
    readying.start()
    return Opened(engine, readying)


@st.cache_resource(show_spinner=False)
def gate() -> Gate:
    """One for all sessions: so many search at a time, more wait, and too many are told to come again."""
    return Gate()


@st.cache_resource(max_entries=2, show_spinner=False)
def index_counts(path: Path, _engine: Searcher) -> Counts:
    """The papers of a generation, counted once."""
    return counts(_engine.snapshot.papers)


def _open() -> None:
    try:
        opened(from_environment())
    except Exception as error:  # a visitor will be told by the page
        LOG.warning("%s", first_line(error))


def _ready(engine: Searcher) -> None:
    """Answer a question that nobody asked: each part is loaded when it is first used."""
    began = time.perf_counter()
    try:
        snapshot = engine.snapshot
        index_counts(snapshot.path, engine)
        draft, contexts = read_passage(THROWAWAY)
        (hits,) = engine.search(contexts)
        for hit in hits:
            why(contexts[0], hit.paper)
            write(Basket().flipped(0, hit.paper), draft)
        snapshot.load()
    except Exception as error:  # a search will say it
        LOG.warning("%s", first_line(error))
    else:
        LOG.info("ready for searches, %.1f s after the index was opened", time.perf_counter() - began)
