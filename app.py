"""The Streamlit page: a text with [CITE] in, ranked papers out. Widgets and layout only.

The text of papers is data: it is shown through st.text, st.code and `plain`, never as HTML.
"""

import re
import shlex

import streamlit as st

from data.bibliography import bibtex
from data.contexts import CITE, OTHER, Context, parse
from data.errors import UserError
from data.paper import Paper
from indexer.guard import Gate, page_guard
from indexer.search import LEXICAL_WEIGHT, Hit, Searcher
from indexer.settings import RANKINGS, Settings, from_environment
from indexer.store import Store

EXAMPLES = {
    "Translation": "Neural machine translation with attention [CITE] learns to align and translate jointly.",
    "Optimiser": "All networks are trained with Adam [CITE] at its default settings.",
    "Two marks": "We fine-tune the language model with low-rank updates of its weights [CITE]. "
    "Direct optimisation on preference pairs then aligns it without a separate reward model [CITE].",
}
COUNTS = (5, 10, 20, 50)
RANKING_NAMES = {
    "hybrid": "Meaning and words",
    "dense": "Meaning only",
    "bm25": "Words only (BM25)",
}
SCORES = {
    "hybrid": "The score is the closeness in meaning of text and paper (cosine, 1 at most), plus up to "
    f"{LEXICAL_WEIGHT} for the words they share.",
    "dense": "The score is the closeness in meaning of text and paper (cosine, 1 at most).",
    "bm25": "The score is BM25: the rarer the words that text and paper share, the higher.",
}
REWRITTEN = re.compile(r":(?=//|material|streamlit)|@|www(?=\.)|(?<!\S)[<>=~-](?=[<>=~-]+(?!\S))", re.I)
SITES = {"arxiv": "arXiv", "acl": "ACL Anthology"}
NAMED_AUTHORS = 4
# Drawn here, since Streamlit fetches its own page icons from a font server.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" '
    'fill="#1f5fbf"/><path d="M13 8H8v16h5M19 8h5v16h-5" fill="none" stroke="#fff" stroke-width="3"/></svg>'
)


def main() -> None:
    """The page, or the one line that says what is wrong."""
    st.set_page_config(page_title="Citemark", page_icon=ICON)
    st.title("Citemark", anchor=False)
    st.markdown(f"Write a sentence, put `{CITE}` where a citation belongs, and get the papers to cite.")
    try:
        settings = from_environment()
        if Store(settings.index).current() is None:
            first_run(settings)
        else:
            search_page(settings)
    except UserError as error:
        st.error(plain(str(error)), icon=":material/error:")


def search_page(settings: Settings) -> None:
    """What there is to see once there is an index."""
    engine = searcher(settings)
    engine.reload()
    examples()
    ask()
    k, ranking = options(engine, settings)
    if "asked" in st.session_state:
        answer(engine, st.session_state["asked"], k, ranking)


@st.cache_resource(show_spinner="Opening the index …")
def searcher(settings: Settings) -> Searcher:
    """One Searcher for all sessions; it takes up a rebuilt index by itself."""
    return Searcher(settings)


@st.cache_resource(show_spinner=False)
def gate() -> Gate:
    """One for all sessions: so many search at a time, more wait, and too many are told to come again."""
    return Gate()


def plain(text: str) -> str:
    """Text for st.markdown that shows as it is: no markup, no link, no image, no formula, no icon.

    A backslash before every sign that markdown knows. Streamlit then looks at the parsed text once
    more, for addresses, `:material_icons:` and arrows; an invisible word joiner breaks these.
    """
    text = REWRITTEN.sub("\\g<0>\u2060", " ".join(text.split()))
    return re.sub(r"[!-/:-@\[-`{-~]", r"\\\g<0>", text)


def first_run(settings: Settings) -> None:
    """What to do where there is no index yet."""
    default = settings.index == Settings().index
    where = "" if default else f" --index {shlex.quote(str(settings.index))}"
    with st.container(border=True):
        st.subheader("First, build an index", anchor=False)
        st.markdown(
            f"Citemark suggests papers of a corpus that you choose, and there is none yet at "
            f"{plain(str(settings.index))}. In a terminal, start with the corpus that comes along: "
            "the best-known papers of machine learning, language, vision, speech and retrieval."
        )
        st.code(f"indexer build starter{where}", language="bash", wrap_lines=True)
        st.markdown("Or take your own: BibTeX, CSV, JSON lines, Parquet, or arXiv's metadata snapshot.")
        st.code(f"indexer build my-library.bib{where}", language="bash", wrap_lines=True)
        st.button("Look again", icon=":material/refresh:")


def ask() -> None:
    """The text area, its examples and its button; the text goes to the session as `asked`."""
    with st.form("query", border=False):
        text = st.text_area(
            "Your text",
            key="text",
            height=100,
            placeholder="Residual connections [CITE] make very deep networks trainable.",
            label_visibility="collapsed",
        )
        if st.form_submit_button("Find papers", type="primary", icon=":material/search:"):
            st.session_state["asked"] = text


def examples() -> None:
    """Texts to begin with; a chosen one is searched at once."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("Examples", width="content")
        st.pills(
            "Examples", list(EXAMPLES), key="example", on_change=take_example, label_visibility="collapsed"
        )


def take_example() -> None:
    """Put the chosen example into the text area and search it."""
    state = st.session_state
    if state["example"]:
        state["text"] = state["asked"] = EXAMPLES[state["example"]]
        state["example"] = None  # so that the same example can be chosen again


def options(engine: Searcher, settings: Settings) -> tuple[int, str]:
    """The number of results and the ranking that the user chose, beside what the index is."""
    manifest = engine.snapshot.manifest
    count = f"{manifest.papers:,} paper{'s' * (manifest.papers != 1)}"
    counts = sorted({*COUNTS, settings.k})
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(plain(f"{count} on this machine, indexed {manifest.created[:10]}"))
        with st.container(horizontal=True, width="content"):
            k = st.selectbox(
                "Number of results",
                counts,
                counts.index(settings.k),
                format_func=lambda count: f"{count} results",
                label_visibility="collapsed",
                width=130,
            )
            ranking = st.selectbox(
                "Ranking",
                RANKINGS,
                RANKINGS.index(settings.ranking),
                format_func=RANKING_NAMES.__getitem__,
                label_visibility="collapsed",
                width=200,
            )
    return k, ranking


def answer(engine: Searcher, text: str, k: int, ranking: str) -> None:
    """The hits of every mark of the text."""
    contexts = parse(text)
    if CITE not in text:
        st.info(f"There is no `{CITE}` in the text, so all of it is the query.", icon=":material/info:")
    with st.spinner("Searching …"):
        answers = gate().wait(lambda: engine.search(contexts, k, ranking))
    for number, (context, hits) in enumerate(zip(contexts, answers, strict=True), 1):
        if len(contexts) > 1:
            st.subheader(f"Citation {number} of {len(contexts)}", anchor=False)
            st.markdown(marked(context))
        if not hits:
            st.info("No paper of the index shares a word with this text.", icon=":material/search_off:")
        for hit in hits:
            show(hit, number)
    st.caption(SCORES[ranking])


def marked(context: Context) -> str:
    """A context as markdown, its mark in colour and the other citations in grey."""
    text = plain(context.text).replace(plain(CITE), ":blue-badge[CITE]")
    return text.replace(plain(OTHER), ":gray-badge[CITE]")


@st.fragment
def show(hit: Hit, number: int) -> None:
    """One hit of the list of that number: title, facts and score; abstract and BibTeX on demand."""
    paper = hit.paper
    with st.container(border=True, gap="small"):
        st.markdown(f"{hit.rank}\\. {linked(paper)}  \n:small[:gray[{plain(facts(paper))}]]")
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            with st.container(horizontal=True, width="content"):
                abstract = st.toggle("Abstract", key=f"abstract {number} {paper.paper_id}")
                entry = st.toggle("BibTeX", key=f"bibtex {number} {paper.paper_id}")
            st.markdown(scored(hit), width="content")
        if abstract:
            st.text(paper.abstract or "The index has no abstract of this paper.")
        if entry:
            st.code(bibtex(paper), language="bibtex", wrap_lines=True)


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
    return " · ".join(fact for fact in (names, str(paper.year or ""), paper.venue, address) if fact)


def scored(hit: Hit) -> str:
    """The score as markdown and what it is made of."""
    badge = f":gray-badge[{hit.score:.2f}]"
    if hit.dense is None or hit.bm25 is None:
        return badge
    words = round(hit.score, 2) - round(hit.dense, 2)  # so that the sum comes out as it is shown
    return f":small[:gray[meaning {hit.dense:.2f} + words {words:.2f} =]] {badge}"


if __name__ == "__main__":  # run by Streamlit for every session
    main()
else:  # served by `streamlit run app.py`
    app = st.App(
        __file__,
        middleware=[page_guard(st.get_option("server.allowedHosts"), st.get_option("server.maxUploadSize"))],
    )
