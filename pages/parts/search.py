"""The page that searches: a text or a draft in, papers for each mark out, and what is cited of them."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import streamlit as st

from data.contexts import Context
from data.errors import UserError
from data.filter import Filter
from data.library import Bibliography
from indexer import feedback
from indexer.candidates import LEXICAL_WEIGHT, UNLEARNED_WEIGHT
from indexer.cite import find, mark_papers
from indexer.search import Hit, Searcher
from indexer.settings import from_environment
from indexer.store import Store
from pages.parts.chosen import shown_basket
from pages.parts.engine import gate, opened, searcher
from pages.parts.frame import heading, wrong
from pages.parts.question import Question, ask, chosen_mark
from pages.parts.shown import Around, card, papers, plain
from pages.parts.side import Wanted, drop_filters, side
from pages.parts.state import basket, choose, follow_address, take_back, take_similar
from pages.parts.work import first_run

SCORES = {
    "best": "The percentage is the probability that this is the paper to cite here, learned from real "
    "citations: of the papers shown with 30%, about 30 in 100 are the cited one.",
    "hybrid": "The score is the closeness in meaning of text and paper (cosine, 1 at most), plus up to "
    f"{LEXICAL_WEIGHT} for the words they share, {UNLEARNED_WEIGHT} where no ranker fits the encoder.",
    "dense": "The score is the closeness in meaning of text and paper (cosine, 1 at most).",
    "bm25": "The score is BM25: the rarer the words that text and paper share, the higher.",
}
CITATIONS = " Known citations add how near the sentences are that cite the paper, and how many they are."
DOUBT = "Nothing in this corpus fits well: the paper to cite may not be in it. These are the nearest."
FIRST = "Getting ready: the first search after a start of the server takes some seconds …"
NO_WORDS = "No paper of the index shares a word with this text."


def page() -> None:
    """What there is to see once there is an index, else how to get one."""
    head = heading("Citemark")
    settings = from_environment()
    if Store(settings.index).current() is None:
        first_run(settings)
        return
    engine = searcher(settings)
    engine.reload()
    follow_address()
    libraries, wanted = side(engine, settings)
    question = None
    st.session_state.pop("listed", None)
    try:
        question = ask(engine, libraries)
        answered(engine, question, wanted, libraries)
    except UserError as error:
        wrong(error)  # and what was chosen before stays at hand
    with head:
        shown_basket(question, libraries)


def answered(
    engine: Searcher, question: Question | None, wanted: Wanted, libraries: Sequence[Bibliography]
) -> None:
    """The papers that were asked for, if any were."""
    number = chosen_mark(question) if question and question.marks else None
    like = st.session_state.get("like", "")
    if like:
        similar_papers(engine, like, number, wanted, libraries)
    elif question:
        answer(engine, question, number, wanted, libraries)


def answer(
    engine: Searcher,
    question: Question,
    number: int | None,
    wanted: Wanted,
    libraries: Sequence[Bibliography],
) -> None:
    """The hits of the mark of this number, or of a text without any."""
    found, seconds = found_for(engine, question, wanted, libraries)
    took(engine, seconds, wanted)
    thumbs = feedback.path_of(engine.settings.index) if st.session_state.get("keep thumbs") else None
    listed(engine, found[number or 0], question.contexts[number or 0], number, wanted, libraries, thumbs)


def took(engine: Searcher, seconds: float, wanted: Wanted) -> None:
    """What was searched, and how long it took."""
    said = f"{papers(engine)} searched in {seconds * 1000:,.0f} ms"
    st.caption(plain(" · ".join(filter(None, [said, described(wanted.keep)]))))


def found_for(
    engine: Searcher, question: Question, wanted: Wanted, libraries: Sequence[Bibliography]
) -> tuple[list[tuple[Hit, ...]], float]:
    """The hits for every context, and how long they took; what was found stays until something changes."""
    state = st.session_state
    asked = (question.contexts, wanted, engine.snapshot.path, [library.source for library in libraries])
    bar = st.empty()  # has its place in every run: else all cards below move up in the next one
    if "found" not in state or state["found"][0] != asked:
        bar.progress(0.0, text=FIRST if opened(engine.settings).readying.is_alive() else "Searching …")
        began = time.perf_counter()
        found = find(
            engine,
            question.contexts,
            wanted.k,
            wanted.ranking,
            wanted.keep,
            wanted.draft or question.draft.told,
            [mark_papers(mark, libraries) for mark in question.draft.marks],
            lambda done, total: bar.progress(done / total, text=f"{done} of {total} marks answered"),
            gate().wait,
        )
        state["found"] = (asked, found, time.perf_counter() - began)
        bar.empty()
    return state["found"][1], state["found"][2]


def similar_papers(
    engine: Searcher,
    paper_id: str,
    number: int | None,
    wanted: Wanted,
    libraries: Sequence[Bibliography],
) -> None:
    """Papers like one that was found."""
    paper = engine.paper(paper_id)
    st.button("Back to the results", on_click=take_back, icon=":material/arrow_back:")
    st.markdown(f"Papers like **{plain(paper.title)}**")
    began = time.perf_counter()
    hits = gate().wait(lambda: engine.similar(paper_id, wanted.k, wanted.keep))
    took(engine, time.perf_counter() - began, wanted)
    context = Context(f"{paper.title}. {paper.abstract}")
    listed(engine, hits, context, number, replace(wanted, ranking="dense"), libraries, None)


def listed(
    engine: Searcher,
    hits: Sequence[Hit],
    context: Context,
    number: int | None,
    wanted: Wanted,
    libraries: Sequence[Bibliography],
    thumbs: Path | None,
) -> None:
    """A ranked list, or why there is none; thumbs go to a file, where there is one."""
    st.session_state["listed"] = hits  # for the map
    if not hits:
        nothing = (
            f"No paper passes the filters: {plain(described(wanted.keep))}." if wanted.keep else NO_WORDS
        )
        st.info(nothing, icon=":material/search_off:")
        if wanted.keep:
            st.button("Search without filters", on_click=drop_filters, icon=":material/filter_alt_off:")
        return
    if engine.nothing_fits(hits):
        st.info(DOUBT, icon=":material/help:")
    given = feedback.ratings(thumbs) if thumbs else {}
    for hit in hits:
        label = given.get((context.text, hit.paper.paper_id))
        keep_thumb = partial(feedback.rate, thumbs) if thumbs else None
        card(hit, Around(context, number, basket(), libraries, label, choose, take_similar, keep_thumb))
    st.caption(explained(wanted.ranking, hits[0]))


def explained(ranking: str, hit: Hit) -> str:
    """What the scores of a ranking mean, which `best` has only where a ranker fits the encoder."""
    if ranking != "best" or hit.probability is not None:
        return SCORES[ranking]
    return SCORES["hybrid"] + (CITATIONS if hit.profile is not None else "")


def described(keep: Filter) -> str:
    """The filters in force, in words."""
    years = f"{keep.since} to {keep.until}"
    if keep.since is None:
        years = "" if keep.until is None else f"until {keep.until}"
    elif keep.until is None:
        years = f"from {keep.since} on"
    who = f"by {', '.join(keep.authors)}" if keep.authors else ""
    said = ", ".join(filter(None, [years, ", ".join(keep.categories), who]))
    return f"only {said}" if said else ""
