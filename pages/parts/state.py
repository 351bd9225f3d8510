"""What a reader asked and chose, and the page's address that says what is asked."""

import streamlit as st

from data.paper import Paper
from indexer.basket import Basket

IN_ADDRESS = 2000  # characters of a text that goes into the page's address


def basket() -> Basket:
    """The papers that this reader chose."""
    chosen: Basket = st.session_state.get("basket", Basket())
    return chosen


def choose(mark: int | None, paper: Paper) -> None:
    """Put a paper into the basket, or take it out."""
    st.session_state["basket"] = basket().flipped(mark, paper)


def take_text(text: str) -> None:
    """Ask for a text: its marks are other ones than those before."""
    state = st.session_state
    if text != state.get("asked"):
        state["basket"] = basket().loose()
        state["mark"] = 1
    state["asked"] = text
    state["like"] = ""
    to_address()


def take_similar(paper: Paper) -> None:
    """Ask for papers like one that was found."""
    st.session_state["like"] = paper.paper_id
    to_address()


def take_back() -> None:
    """From papers like one to the text again."""
    st.session_state["like"] = ""
    to_address()


def to_address() -> None:
    """Write into the page's address what is asked, so that it can be shared and gone back to."""
    state = st.session_state
    text = state.get("asked", "")
    address = {"q": text if len(text) <= IN_ADDRESS else "", "like": state.get("like", "")}
    state["address"] = address
    for name, value in address.items():
        if value:
            st.query_params[name] = value
        elif name in st.query_params:
            del st.query_params[name]


def follow_address() -> None:
    """Take up what the address asks: of a shared page, or after the reader went back or forth."""
    state = st.session_state
    address = {name: st.query_params.get(name, "") for name in ("q", "like")}
    before = state.get("address")
    if before is None and not any(address.values()) and "asked" in state:
        to_address()  # back from another page, whose address says nothing of the search
        return
    before = before or {"q": "", "like": ""}
    if address == before:
        return
    state["address"], state["like"] = address, address["like"]
    if address["q"] not in (before["q"], state.get("asked", "")):
        state["text"] = address["q"]
        state["basket"] = basket().loose()
        if address["q"]:
            state["asked"] = address["q"]
        else:
            state.pop("asked", None)
