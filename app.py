"""The Streamlit page: a text with [CITE] in, ranked papers out. Widgets and layout only.

Text of papers is data: it is shown through st.text, st.code and escaped markdown, never as HTML.
"""

import re

import streamlit as st

from data.bibliography import bibtex
from data.contexts import CITE, parse
from data.errors import UserError
from indexer.search import Hit, Searcher
from indexer.settings import RANKINGS, Settings, from_environment

EXAMPLES = {
    "Translation": "Neural machine translation with attention [CITE] learns to align and translate jointly.",
    "Optimiser": "All models are trained with Adam [CITE] and a linear warm-up.",
    "Two marks": "We fine-tune the language model with low-rank updates of its weights [CITE]. "
    "Human preferences are then used without training a separate reward model [CITE].",
}
RANKING_NAMES = {
    "hybrid": "Meaning and words",
    "dense": "Meaning only",
    "bm25": "Words only (BM25)",
}


@st.cache_resource(show_spinner="Opening the index …")
def searcher(settings: Settings) -> Searcher:
    """One Searcher for all sessions; it takes up a rebuilt index by itself."""
    return Searcher(settings)


def plain(text: str) -> str:
    """Text for st.markdown that shows as it is: no markup, no link, no image, no formula."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|$~:&^=@/])", r"\\\1", text)


def main() -> None:
    """The page."""
    st.set_page_config(page_title="Citemark", page_icon=":material/format_quote:")
    st.title("Citemark")
    st.caption(f"Write a sentence, put {CITE.join('``')} where a citation belongs, get the papers to cite.")
    try:
        settings = from_environment()
        engine = searcher(settings)
        engine.reload()
    except UserError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    k, ranking = sidebar(engine, settings)
    st.pills(
        "Examples",
        list(EXAMPLES),
        key="example",
        on_change=take_example,
        label_visibility="collapsed",
    )
    with st.form("query", border=False):
        text = st.text_area(
            "Your text",
            key="text",
            height=120,
            placeholder="Residual connections [CITE] make very deep networks trainable.",
        )
        asked = st.form_submit_button("Find papers", type="primary", icon=":material/search:")
    if asked:
        st.session_state["asked"] = text
    if "asked" in st.session_state:
        try:
            answer(engine, st.session_state["asked"], k, ranking)
        except UserError as error:
            st.warning(plain(str(error)), icon=":material/info:")


def take_example() -> None:
    """Put the chosen example into the text area and search it."""
    if st.session_state["example"]:
        st.session_state["text"] = st.session_state["asked"] = EXAMPLES[st.session_state["example"]]


def sidebar(engine: Searcher, settings: Settings) -> tuple[int, str]:
    """The number of results and the ranking that the user chose, and what the index is."""
    with st.sidebar:
        k = st.slider("Results", 1, 50, min(settings.k, 50))
        ranking = st.radio(
            "Ranking",
            RANKINGS,
            index=RANKINGS.index(settings.ranking),
            format_func=RANKING_NAMES.__getitem__,
        )
        manifest = engine.snapshot.manifest
        st.divider()
        st.metric("Papers in the index", f"{manifest.papers:,}")
        st.caption(plain(f"Encoder {manifest.encoder}, built {manifest.created[:10]}"))
    return k, ranking


def answer(engine: Searcher, text: str, k: int, ranking: str) -> None:
    """The hits of every mark of the text."""
    contexts = parse(text)
    if CITE not in text:
        st.info(f"No `{CITE}` in the text: the whole of it is the query.", icon=":material/info:")
    with st.spinner("Searching …"):
        answers = engine.search(contexts, k, ranking)
    for number, (context, hits) in enumerate(zip(contexts, answers, strict=True), 1):
        if len(contexts) > 1:
            st.subheader(f"Citation {number}", divider="gray")
            st.markdown(plain(context.text).replace(plain(CITE), f":blue-badge[{number}]"))
        if not hits:
            st.info("No paper of the index shares a word with this text.")
        for hit in hits:
            show(hit)


def show(hit: Hit) -> None:
    """One hit."""
    paper = hit.paper
    with st.container(border=True):
        left, right = st.columns([5, 1], vertical_alignment="top")
        title = f"**{hit.rank}\\. {plain(paper.title)}**"
        left.markdown(f"[{title}]({paper.url})" if paper.url else title)
        names = ", ".join(paper.authors[:4]) + (" et al." if len(paper.authors) > 4 else "")
        facts = [names, str(paper.year or ""), paper.venue or ", ".join(paper.categories[:3])]
        left.caption(plain(" · ".join(fact for fact in facts if fact)))
        right.metric("Score", f"{hit.score:.2f}", help=explained(hit))
        with left.expander("Abstract and BibTeX"):
            st.text(paper.abstract or "No abstract in the index.")
            st.code(bibtex(paper), language="bibtex", wrap_lines=True)


def explained(hit: Hit) -> str:
    """What the score is made of."""
    parts = []
    if hit.dense is not None:
        parts.append(f"cosine of sentence and paper {hit.dense:.3f}")
    if hit.bm25 is not None:
        parts.append(f"BM25 {hit.bm25:.0%} of the best")
    return ", ".join(parts)


main()
