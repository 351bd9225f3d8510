"""How papers are shown: their text is data, through st.text, st.code and `plain`, never as HTML."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st

from data.bibliography import bibtex
from data.contexts import CITE, OTHER, Citation, Context, unmarked
from data.errors import UserError
from data.library import Bibliography
from data.paper import Paper
from indexer.basket import Basket, known_as
from indexer.candidates import PROFILE_WEIGHT, UNLEARNED_WEIGHT
from indexer.search import Hit, Searcher
from indexer.why import Spans, shared, stems, why

REWRITTEN = re.compile(r":(?=//|material|streamlit)|@|www(?=\.)|(?<!\S)[<>=~-](?=[<>=~-]+(?!\S))", re.I)
SITES = {"arxiv": "arXiv", "acl": "ACL Anthology"}
NAMED_AUTHORS = 4
NAMED_CATEGORIES = 3
BAR = 256  # pixels: as wide as its text
CONFIDENCE = ((0.5, "probably the one"), (0.2, "likely"), (0.05, "possible"), (0.0, "a long shot"))


class Around(NamedTuple):
    """What a card has to know beside its hit: the list that it stands in, and what was chosen before."""

    context: Context
    mark: int | None  # its number from 0, None where the text has no mark
    basket: Basket
    libraries: Sequence[Bibliography]
    label: int | None  # what the reader's thumb said of this hit
    choose: Callable[[int | None, Paper], None]
    similar: Callable[[Paper], None]
    rate: Callable[[Context, str, int | None], None] | None  # None: thumbs are off


def plain(text: str) -> str:
    """Text for st.markdown that shows as it is: no markup, no link, no image, no formula, no icon.

    A backslash before every sign that markdown knows. Streamlit then looks at the parsed text once
    more, for addresses, `:material_icons:` and arrows; an invisible word joiner breaks these.
    """
    return piece(text).strip()


def piece(text: str) -> str:
    """The same of a part of a text, which may begin and end with a space."""
    text = REWRITTEN.sub("\\g<0>\u2060", re.sub(r"\s+", " ", text))
    return re.sub(r"[!-/:-@\[-`{-~]", r"\\\g<0>", text)


def lit(text: str, spans: Spans) -> str:
    """Text as markdown with these spans of it lit."""
    parts, at = [], 0
    for start, stop in spans:
        parts += [piece(text[at:start]), f":blue-background[{piece(text[start:stop])}]"]
        at = stop
    return "".join([*parts, piece(text[at:])])


def marked(context: Context) -> str:
    """A context as markdown, its mark in colour and the other citations in grey."""
    text = plain(context.text).replace(plain(CITE), ":blue-badge[CITE]")
    return text.replace(plain(OTHER), ":gray-badge[CITE]")


@st.fragment
def card(hit: Hit, around: Around) -> None:
    """One hit: title, facts, why, score; abstract and BibTeX on demand; what a reader can do with it."""
    paper, name = hit.paper, f"{around.mark} {hit.paper.paper_id}"
    found = why(around.context, paper)
    with st.container(border=True, gap="small"):
        st.markdown(f"{hit.rank}\\. {linked(paper)}  \n:small[:gray[{plain(facts(paper) + cited(hit))}]]")
        known = known_as(paper, around.libraries)
        if known:
            st.markdown(f":green-badge[:material/book: already in your library as {plain(known)}]")
        if found.sentence:
            st.markdown(f":small[… {lit(found.sentence, found.lit)}]")
        for citation in hit.cited_like:
            st.markdown(f":small[:gray-badge[cited like this] {quoted(citation, around.context)}]")
        with st.container(horizontal=True, vertical_alignment="center"):
            choose_button(paper, around, name)
            abstract = st.toggle("Abstract", key=f"abstract {name}")
            entry = st.toggle("BibTeX", key=f"bibtex {name}")
            if st.button("More like this", key=f"like {name}", type="tertiary"):
                around.similar(paper)
                st.rerun()
            if around.rate:
                thumbs(paper, around, name)
            bar, said = scored(hit)
            st.progress(bar, text=f":small[{said}]", width=BAR)
        if abstract:
            st.text(paper.abstract or "The index has no abstract of this paper.")
        if entry:
            st.code(bibtex(paper), language="bibtex", wrap_lines=True)


def choose_button(paper: Paper, around: Around, name: str) -> None:
    """The button that puts the paper into the basket, for the mark of the list, or takes it out again."""
    chosen = around.basket.has(around.mark, paper)
    place = "" if around.mark is None else f" at {around.mark + 1}"
    label = (f"Cited{place}" if chosen else f"Cite{place}") if place else ("Kept" if chosen else "Keep")
    icon = ":material/check:" if chosen else ":material/add:"
    if st.button(f":green[{label}]" if chosen else label, key=f"cite {name}", icon=icon):
        around.choose(around.mark, paper)
        st.rerun()


def thumbs(paper: Paper, around: Around, name: str) -> None:
    """The reader's thumb on the hit, kept as soon as it is given."""
    key = f"thumb {name}"
    st.feedback("thumbs", key=key, default=around.label, on_change=rated, args=(key, paper, around))


def rated(key: str, paper: Paper, around: Around) -> None:
    """Keep a thumb, or say why it cannot be kept."""
    if around.rate:
        try:
            around.rate(around.context, paper.paper_id, st.session_state[key])
        except UserError as error:
            st.toast(plain(str(error)), icon=":material/error:")


def linked(paper: Paper) -> str:
    """The title as markdown, a link where the paper has an address."""
    title = plain(paper.title)
    return f"[**{title}**]({paper.url})" if paper.url else f"**{title}**"


def facts(paper: Paper) -> str:
    """Who, when and where, in one line."""
    names = ", ".join(paper.authors[:NAMED_AUTHORS])
    if len(paper.authors) > NAMED_AUTHORS:
        names += " et al."
    scheme, _, name = paper.paper_id.partition(":")
    address = f"{SITES[scheme]} {name}" if paper.url and scheme in SITES else ""
    where = paper.venue or ", ".join(paper.categories[:NAMED_CATEGORIES])
    return " · ".join(fact for fact in (names, str(paper.year or ""), where, address) if fact)


def cited(hit: Hit) -> str:
    """How often the index knows it to be cited, if it does."""
    return f" · {hit.cited:,} known citation{'s' * (hit.cited != 1)}" if hit.cited else ""


def quoted(citation: Citation, context: Context) -> str:
    """A citing sentence as markdown, the words that it shares with the context lit."""
    text = citation.text.replace(CITE, "[…]").replace(OTHER, "[…]")
    return lit(text, shared(text, stems(unmarked(context.text))))


def legible() -> dict[str, str]:
    """Colours of the words of a chart's axis or legend: Streamlit's own are too pale on white."""
    ink = "#d6d3cc" if st.context.theme.type == "dark" else "#55534e"
    return {"labelColor": ink, "titleColor": ink}


def likely(probability: float) -> str:
    """A probability in words."""
    return next(word for least, word in CONFIDENCE if probability >= least)


def scored(hit: Hit) -> tuple[float, str]:
    """The score as a share of the best that there can be, and in words what it is made of."""
    if hit.probability is not None:
        percent = f"{hit.probability:.0%}" if hit.probability >= 0.005 else "under 1%"
        return hit.probability, f"{percent}, {likely(hit.probability)}"
    if hit.dense is None:
        return hit.bm25 or 0.0, f"BM25 {hit.score:.2f}"
    if hit.bm25 is None:
        return min(max(hit.dense, 0.0), 1.0), f"meaning {hit.score:.2f}"
    parts, rest, most = {"meaning": round(hit.dense, 2)}, "words", 1 + UNLEARNED_WEIGHT
    if hit.profile is not None:  # known citations take part only where no ranker fits the encoder
        parts["words"] = round(UNLEARNED_WEIGHT * hit.bm25, 2)
        rest, most = "citations", most + PROFILE_WEIGHT
    parts[rest] = round(hit.score, 2) - sum(parts.values())  # so that the sum comes out as it is shown
    told = " + ".join(f"{name} {value:.2f}" for name, value in parts.items())
    return min(max(hit.score / most, 0.0), 1.0), f"score {hit.score:.2f} = {told}"


def papers(engine: Searcher) -> str:
    """How many papers there are to find."""
    count = engine.snapshot.manifest.papers
    return f"{count:,} paper{'s' * (count != 1)}"
