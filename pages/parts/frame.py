"""What every page has around it: its name, the way to the others, and the line that says what is wrong."""

from collections.abc import Callable

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from data.errors import UserError
from pages.parts.shown import plain

# Drawn here, since Streamlit fetches its own page icons from a font server.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" '
    'fill="#1f5fbf"/><path d="M13 8H8v16h5M19 8h5v16h-5" fill="none" stroke="#fff" stroke-width="3"/></svg>'
)


def framed(title: str, page: Callable[[], None]) -> None:
    """Draw a page, or the one line that says what is wrong."""
    st.set_page_config(page_title=title, page_icon=ICON)
    with st.container(horizontal=True, horizontal_alignment="right", gap="medium"):
        st.page_link("app.py", label="Search", width="content")
        st.page_link("pages/map.py", label="The map", width="content")
        st.page_link("pages/corpus.py", label="The index", width="content")
    try:
        page()
    except UserError as error:
        wrong(error)
        st.button("Look again", icon=":material/refresh:")


def heading(title: str) -> DeltaGenerator:
    """A page's title, at the same place on each, and the row beside it to put more into."""
    row = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
    row.title(title, anchor=False, width="content")
    return row


def wrong(error: UserError) -> None:
    """The line that says what is wrong and how to mend it."""
    said = str(error)
    if said.partition(" ")[0].isalpha():  # a sentence of the page; a path stays as it is
        said = said[0].upper() + said[1:]
    st.error(plain(said), icon=":material/error:")
