"""What stands beside a search: how many, how ranked, of which papers; the reader's draft and library."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from data.clean import text
from data.filter import Filter
from data.library import Bibliography, parse_bibliography
from data.manuscript import source_of
from data.paper import Paper
from indexer import feedback
from indexer.search import Searcher
from indexer.settings import RANKINGS, Settings
from pages.parts.engine import index_counts
from pages.parts.shown import plain

COUNTS = (5, 10, 20, 50)
RANKING_NAMES = {
    "best": "Best: all that is known",
    "hybrid": "Fast: meaning and words",
    "dense": "Meaning only",
    "bm25": "Words only (BM25)",
}


@dataclass(frozen=True)
class Wanted:
    """How it is to be answered."""

    k: int
    ranking: str
    keep: Filter
    draft: Paper | None


def side(engine: Searcher, settings: Settings) -> tuple[list[Bibliography], Wanted]:
    """The reader's .bib file, and how to answer."""
    with st.sidebar:
        k, ranking = results(settings)
        keep = filters(engine)
        draft, until = draft_panel()
        libraries = library_panel()
        feedback_panel(settings)
    if until is not None and (keep.until is None or until < keep.until):
        keep = replace(keep, until=until)
    return libraries, Wanted(k, ranking, keep, draft)


def results(settings: Settings) -> tuple[int, str]:
    """How many, and how ranked."""
    sizes = sorted({*COUNTS, settings.k})
    k = st.selectbox("Number of results", sizes, sizes.index(settings.k), key="k", bind="query-params")
    ranking = st.selectbox(
        "Ranking",
        RANKINGS,
        RANKINGS.index(settings.ranking),
        format_func=RANKING_NAMES.__getitem__,
        key="ranking",
        bind="query-params",
    )
    return k, ranking


def filters(engine: Searcher) -> Filter:
    """The papers that may be found."""
    with st.container(horizontal=True):
        since = st.number_input(
            "From year", 1000, 2999, None, key="since", bind="query-params", width=112, placeholder="Any"
        )
        until = st.number_input(
            "To year", 1000, 2999, None, key="until", bind="query-params", width=112, placeholder="Any"
        )
    known = index_counts(engine.snapshot.path, engine).categories
    categories = st.multiselect(
        "Categories",
        list(known),
        key="category",
        bind="query-params",
        accept_new_options=True,
        placeholder="Any; cs stands for all of cs.*",
    )
    author = st.text_input("Author", key="author", bind="query-params", placeholder="Any")
    return Filter(tuple(categories), since, until, (author,) if author.strip() else ())


def drop_filters() -> None:
    """Let every paper be found again."""
    st.session_state.update(since=None, until=None, category=[], author="", before=False)


def draft_panel() -> tuple[Paper | None, int | None]:
    """What is told of the draft, and the last year that a paper may be of."""
    with st.expander("Your draft", icon=":material/article:"):
        title = st.text_input(
            "Title",
            key="draft title",
            persist_state="session",
            placeholder="Helps to rank; the draft itself is left out",
        )
        abstract = st.text_area(
            "Its abstract",
            key="draft abstract",
            persist_state="session",
            placeholder="Helps to rank",
            height=120,
        )
        year = st.number_input("Year", 1000, 2999, None, key="draft year", persist_state="session")
        before = st.toggle(
            "Only papers before my draft's year", key="before", disabled=year is None, persist_state="session"
        )
    told = Paper("", text(title), text(abstract))
    draft = told if told.title or told.abstract else None
    return draft, int(year) - 1 if year is not None and before else None


def library_panel() -> list[Bibliography]:
    """The .bib file that the reader has, if any, and what of it could not be read."""
    with st.expander("Your library", icon=":material/book:"):
        file = st.file_uploader("Your .bib file", type="bib", help="It stays in memory.")
        if file is None:
            return []
        library = parsed_library(file)
        count = len(library.entries)
        st.caption(plain(f"{count:,} entr{'y' if count == 1 else 'ies'} in {file.name}"))
        if library.rejects:
            st.caption(plain(f"{len(library.rejects):,} cannot be read; the first: {library.rejects[0]}"))
    return [library]


def parsed_library(file: Any) -> Bibliography:
    """The uploaded file, parsed once."""
    state = st.session_state
    if state.get("library id") != file.file_id:
        state["library"] = parse_bibliography(source_of(Path(file.name), file.getvalue()))
        state["library id"] = file.file_id
    library: Bibliography = state["library"]
    return library


def feedback_panel(settings: Settings) -> None:
    """Whether thumbs are kept, and where."""
    with st.expander("Feedback", icon=":material/thumbs_up_down:"):
        st.toggle("Keep my thumbs for training", key="keep thumbs", persist_state="session")
        file = plain(str(feedback.path_of(settings.index)))
        st.caption(f"A thumb on a result is kept in {file}, as data for python -m model.train.")
