"""What was chosen: the basket, the text that cites it, and the files to take away."""

from collections.abc import Sequence

import streamlit as st

from data.keys import KEY_STYLES
from data.library import Bibliography
from data.passage import FORMS
from indexer.basket import Written, write
from pages.parts.question import Question
from pages.parts.shown import plain
from pages.parts.state import basket

STYLE_NAMES = {
    "scholar": "vaswani2017attention",
    "acl": "vaswani-etal-2017-attention",
    "author-year": "vaswani2017",
    "alpha": "VSP+17",
    "id": "arxiv-1706.03762",
}
FORM_NAMES = {"latex": r"\cite{key}", "markdown": "[@key]"}


def shown_basket(question: Question | None, libraries: Sequence[Bibliography]) -> None:
    """The chosen papers, the text that cites them, and the files to take away."""
    chosen = basket()
    count = len(chosen.papers)
    with st.popover(f"Basket: {count}", icon=":material/shopping_basket:", key="basket"):
        if not count:
            st.markdown("Choose papers with *Cite* or *Keep*; here they become your text and its references.")
            return
        with st.container(horizontal=True):
            style = st.selectbox("Keys like", KEY_STYLES, format_func=STYLE_NAMES.__getitem__, key="style")
            if question and question.typed and question.marks:
                st.selectbox("Marks become", FORMS, format_func=FORM_NAMES.__getitem__, key="form")
        written = write(chosen, question.draft if question else None, libraries, style)
        for paper in chosen.papers:
            with st.container(gap=None):  # the title below: however long, it moves no button
                with st.container(
                    horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
                ):
                    st.markdown(f":gray-badge[{plain(written.keys[paper.paper_id])}]", width="content")
                    if st.button("Remove", key=f"remove {paper.paper_id}", type="tertiary"):
                        st.session_state["basket"] = chosen.without(paper)
                        st.rerun()
                st.markdown(plain(paper.title))
        if question and question.marks:
            cited_text(question, written)
        downloads(written)


def cited_text(question: Question, written: Written) -> None:
    """The text with its keys; of a draft, its files to download."""
    if question.typed:
        st.code(written.sources[0].text, language=None, wrap_lines=True)
        return
    for before, after in zip(question.draft.sources, written.sources, strict=True):
        if after.text != before.text:
            st.download_button(
                f"Draft: {after.path.name}",
                after.content,
                after.path.name,
                icon=":material/download:",
                on_click="ignore",
            )


def downloads(written: Written) -> None:
    """The references as files."""
    with st.container(horizontal=True):
        for label, content, name, mime in (
            ("BibTeX", written.bib.content, written.bib.path.name, "application/x-bibtex"),
            ("RIS", written.ris, "citemark.ris", "application/x-research-info-systems"),
            ("CSL-JSON", written.csl_json, "citemark.json", "application/json"),
        ):
            st.download_button(label, content, name, mime, icon=":material/download:", on_click="ignore")
