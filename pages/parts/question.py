"""What is asked: a typed text, an uploaded draft, or one of the examples; and its marks to choose from."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from data.contexts import CITE, Context
from data.library import Bibliography
from data.manuscript import LATEX, MARKDOWN, Draft
from data.passage import FORMS, around, read_passage
from indexer.cite import uploaded_draft
from indexer.search import Searcher
from pages.parts.shown import marked, papers, piece, plain
from pages.parts.state import basket, take_text

EXAMPLES = {
    "Translation": "Neural machine translation with attention [CITE] learns to align and translate jointly.",
    "Optimiser": "All networks are trained with Adam [CITE] at its default settings.",
    "Two marks": "We fine-tune the language model with low-rank updates of its weights [CITE]. "
    "Direct optimisation on preference pairs then aligns it without a separate reward model [CITE].",
    "No mark": "a benchmark of natural images with a thousand classes",
}
WRITE, UPLOAD = "Write", "Upload a draft"
IN_FULL = 1500  # characters of a text that is shown whole; a longer one gets a window of its own
PILLS = 20  # marks that are chosen from in one row


@dataclass(frozen=True)
class Question:
    """What was asked: the text or draft, and a context for each mark, or the one of a text without."""

    draft: Draft
    contexts: Sequence[Context]
    typed: bool

    @property
    def marks(self) -> int:
        """How many marks it has."""
        return len(self.draft.marks)


def ask(engine: Searcher, libraries: Sequence[Bibliography]) -> Question | None:
    """The text or the draft; None before the first one."""
    mode = st.segmented_control(
        "Input",
        (WRITE, UPLOAD),
        default=WRITE,
        required=True,
        key="mode",
        label_visibility="collapsed",
        persist_state="session",
    )
    if mode == UPLOAD:
        return ask_for_draft(libraries)
    with st.form("query", border=False):
        text = st.text_area(
            f"Your text, with {CITE} where a citation belongs",
            key="text",
            persist_state="session",
            height=110,
            placeholder="Residual connections [CITE] make very deep networks trainable.",
            help=r"Any number of marks: `[CITE]`, `\cite{}`, `[?]`, `(citation needed)`. Without a mark, "
            "describe the paper that you look for. Ctrl+Enter searches.",
        )
        if st.form_submit_button("Find papers", icon=":material/search:"):
            take_text(text)
    if "asked" not in st.session_state:
        examples(engine)
        return None
    form = st.session_state.get("form", FORMS[0])
    draft, contexts = read_passage(st.session_state["asked"], form)
    return Question(draft, contexts, typed=True)


def ask_for_draft(libraries: Sequence[Bibliography]) -> Question | None:
    """A draft's files, read in memory."""
    files = st.file_uploader(
        "The files of your draft: LaTeX or Markdown",
        type=[suffix.removeprefix(".") for suffix in LATEX + MARKDOWN],
        accept_multiple_files=True,
        key="files",
        help="They stay in memory. Give the files that it includes along with the main one.",
    )
    if not files:
        st.markdown(
            r"Every `[CITE]`, `\cite{}`, `[?]`, `\todo{cite}`, `[@?]` of the draft is answered at once. "
            "You choose, and take the draft and its .bib file back with keys and entries in place."
        )
        return None
    state = st.session_state
    key = (tuple(file.file_id for file in files), tuple(library.source.path for library in libraries))
    if state.get("draft key") != key:
        state["draft"] = uploaded_draft([(file.name, file.getvalue()) for file in files], libraries)
        state["draft key"] = key
        state["basket"] = basket().loose()
        state["mark"] = 1
    draft: Draft = state["draft"]
    if not draft.marks:
        st.info("The draft has no mark that wants a citation.", icon=":material/done_all:")
        return None
    return Question(draft, [mark.context for mark in draft.marks], typed=False)


def examples(engine: Searcher) -> None:
    """What the page is for, and texts to begin with; a chosen one is searched at once."""
    st.markdown(
        f"Write a sentence, a paragraph or a section, put `{CITE}` where a citation belongs, and get the "
        "papers to cite. Or try one:"
    )
    st.pills("Examples", list(EXAMPLES), key="example", on_change=take_example, label_visibility="collapsed")
    st.caption(plain(f"{papers(engine)} on this machine, indexed {engine.snapshot.manifest.created[:10]}"))


def take_example() -> None:
    """Put the chosen example into the text area and search it."""
    state = st.session_state
    if state["example"]:
        state["text"] = EXAMPLES[state["example"]]
        take_text(state["text"])
        state["example"] = None  # so that the same example can be chosen again


def chosen_mark(question: Question) -> int:
    """The text with its marks numbered, and the number (from 0) of the one that is looked at."""
    state = st.session_state
    numbers = list(range(1, question.marks + 1))
    if state.get("mark") not in numbers:
        state["mark"] = 1
    if question.typed:
        with st.container(height=280 if len(question.draft.sources[0].text) > IN_FULL else "content"):
            st.markdown(numbered(question.draft, state["mark"] - 1))
    if question.marks == 1:
        return 0
    if question.marks <= PILLS:
        st.pills(
            "Mark", numbers, required=True, key="mark", bind="query-params", label_visibility="collapsed"
        )
    else:
        st.selectbox(
            "Mark", numbers, key="mark", bind="query-params", format_func=lambda n: label(question, n)
        )
    number: int = state["mark"] - 1
    if not question.typed:
        mark = question.draft.marks[number]
        st.markdown(f":small[:gray[{plain(mark.place)}]]  \n{marked(mark.context)}")
    return number


def label(question: Question, number: int) -> str:
    """A mark in a list of many."""
    mark = question.draft.marks[number - 1]
    words = mark.context.text.partition(CITE)[0].split()
    return f"{number} · {mark.place} · … {' '.join(words[-6:])}"


def numbered(draft: Draft, current: int) -> str:
    """The typed text as markdown, with numbers for marks: the current one in colour, cited ones in green."""
    chosen = basket()
    parts = []
    for number, text in enumerate(around(draft)):
        if number:
            cited = bool(chosen.at(number - 1))
            colour = "blue" if number - 1 == current else "green" if cited else "gray"
            parts.append(f":{colour}-badge[{':material/check: ' * cited}{number}]")
        parts.append("  \n".join(piece(line) for line in text.split("\n")))
    return "".join(parts)
