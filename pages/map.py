"""The page with the map of the corpus: papers alike in meaning near each other, the hits lit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from data.paper import Paper
from indexer.atlas import SAMPLED, Map, place
from indexer.search import Hit, Searcher
from indexer.settings import Settings, from_environment
from indexer.store import Store
from pages.parts.engine import searcher
from pages.parts.frame import framed, heading
from pages.parts.shown import facts, legible, linked, plain
from pages.parts.work import at_work, first_run, outcome, start, watched

COLOURS = ("Category", "Year")
NAMED = 9  # categories with a colour of their own
OTHER = "other"
HEIGHT, MARGIN = 560, 16  # pixels
LIT = "#c2410c"  # of the hits: seen on light and dark, and white can be read on it
PALETTE = (  # seen on light and dark; the last is OTHER's
    *("#4c78a8", "#e3a008", "#54a24b", "#b279a2", "#38b2ac", "#9d755d", "#e45756", "#7c6cf0", "#c98bb9"),
    "#8c8c8c",
)
YEARS = ["#7b5bb5", "#4c78a8", "#38b2ac", "#74b63f", "#e3a008"]  # from the oldest to the newest


def page() -> None:
    """The map, else how to get one."""
    heading("The map")
    settings = from_environment()
    if Store(settings.index).current() is None:
        first_run(settings)
        return
    st.session_state["address"] = None  # of the search: this page has one of its own
    engine = searcher(settings)
    engine.reload()
    known = engine.snapshot.map
    if known is None:
        undrawn(settings)
        return
    hits: Sequence[Hit] = st.session_state.get("listed", ())
    chosen = drawn(engine, known, hits)
    if chosen is not None:
        looked_at(engine.snapshot.papers[chosen])
    lit_papers(hits)


def undrawn(settings: Settings) -> None:
    """What a map is, and the command that draws it."""
    with st.container(border=True):
        st.markdown(
            f"The map shows up to {SAMPLED:,} papers of the index as points: the nearer two of them are, the "
            "more alike they are in meaning. The papers found for your text are lit in it. To draw it takes "
            "about a minute; searches go on meanwhile."
        )
        outcome(settings)
        if at_work(settings):
            watched(settings)
        elif st.button("Draw the map", icon=":material/scatter_plot:"):
            start(settings, ["map", "--index", str(settings.index)])
            st.rerun()


def drawn(engine: Searcher, known: Map, hits: Sequence[Hit]) -> int | None:
    """The map with the hits lit in it, and the row of the paper that was clicked on."""
    colour = st.segmented_control(
        "Colour", COLOURS, default=COLOURS[0], required=True, key="colour", label_visibility="collapsed"
    )
    columns = points(engine, known, hits)
    found = st.vega_lite_chart(
        columns,
        chart(colour, columns["category"], bool(hits)),
        key="map",
        on_select="rerun",
        selection_mode="paper",
        alt=f"A map of {len(known.rows)} papers as points, coloured by {colour.lower()}",
    )
    part = f"A sample of {len(known.rows):,} of " if len(known.rows) < known.papers else ""
    st.caption(
        f"{part}{known.papers:,} papers. Points near each other are alike in meaning; click one to read it. "
        "Drag moves the map, Ctrl and the wheel enlarge it, a double click takes it back."
    )
    picked = found["selection"].get("paper") or [{}]
    row = picked[0].get("row")
    return int(row) if row is not None and 0 <= int(row) < known.papers else None


def points(engine: Searcher, known: Map, hits: Sequence[Hit]) -> dict[str, Any]:
    """Columns of the sampled papers and of the hits: where, who, and the rank of a hit, else nothing."""
    snapshot = engine.snapshot
    rows = snapshot.papers.rows_of([hit.paper.paper_id for hit in hits])
    here = [(hit, row) for hit, row in zip(hits, rows.tolist(), strict=True) if row >= 0]
    here.reverse()  # so that the best are drawn above the others
    lit = [row for _, row in here]
    places = np.concatenate([known.points, place(known, snapshot.vectors, lit)])
    papers = [*sampled(str(snapshot.path), engine), *(hit.paper for hit, _ in here)]
    return {
        "row": [*known.rows.tolist(), *lit],
        "x": places[:, 0],
        "y": places[:, 1],
        "title": [paper.title for paper in papers],
        "by": [paper.authors[0] if paper.authors else "" for paper in papers],
        "year": [paper.year for paper in papers],
        "category": with_colours([paper.categories[0] if paper.categories else "" for paper in papers]),
        "rank": [*[None] * len(known.rows), *(hit.rank for hit, _ in here)],
    }


@st.cache_resource(max_entries=2, show_spinner=False)
def sampled(path: str, _engine: Searcher) -> list[Paper]:
    """The records of the sampled papers, read once for a generation."""
    known = _engine.snapshot.map
    return _engine.snapshot.papers.take(known.rows.tolist()) if known else []


def with_colours(categories: Sequence[str]) -> list[str]:
    """The most frequent categories by name, all else as OTHER."""
    names, counts = np.unique([name for name in categories if name], return_counts=True)
    own = set(names[np.lexsort((names, -counts))][:NAMED].tolist())
    return [name if name in own else OTHER for name in categories]


def chart(colour: str, categories: Sequence[str], lit: bool) -> dict[str, Any]:
    """The Vega-Lite specification: points by category or year, the hits with their ranks above them."""
    tooltip = [
        {"field": "title", "title": "Title"},
        {"field": "by", "title": "First author"},
        {"field": "year", "title": "Year", "type": "quantitative", "format": "d"},
        {"field": "category", "title": "Category"},
    ]
    names = sorted(set(categories) - {OTHER})
    scale = {"domain": [*names, OTHER], "range": [*PALETTE[: len(names)], PALETTE[-1]]}
    by_category = {"field": "category", "type": "nominal", "scale": scale}
    parts = {"type": "quantile", "range": YEARS}  # as many papers in each: most of a corpus is of late
    by_year = {"field": "year", "type": "quantitative", "scale": parts, "legend": {"format": "d"}}
    at = {
        name: {
            "field": name,
            "type": "quantitative",
            "axis": None,
            "scale": {"zero": False, "nice": False, "padding": MARGIN},
        }
        for name in ("x", "y")
    }
    hits = [{"filter": "isValid(datum.rank)"}]
    # A wheel or a finger that moves the page over the map must not be caught by it.
    view = {
        "type": "interval",
        "zoom": "wheel![event.ctrlKey || event.metaKey]",
        "translate": "[mousedown, window:mouseup] > window:mousemove!",
    }
    return {
        "height": HEIGHT,
        "encoding": at | {"tooltip": tooltip},
        "layer": [
            {
                "params": [
                    {"name": "view", "select": view, "bind": "scales"},
                    {"name": "paper", "select": {"type": "point", "fields": ["row"], "on": "click"}},
                ],
                "mark": {"type": "circle", "size": 28, "opacity": 0.35 if lit else 0.8},
                "encoding": {
                    "color": (by_category if colour == COLOURS[0] else by_year) | {"title": None},
                },
            },
            {
                "transform": hits,
                "mark": {"type": "circle", "size": 380, "color": LIT, "opacity": 0.95},
            },
            {
                "transform": hits,
                "mark": {"type": "text", "color": "white", "fontSize": 12, "fontWeight": "bold"},
                "encoding": {"text": {"field": "rank", "type": "quantitative"}},
            },
        ],
        "config": {
            # Three columns of so many pixels fit on a phone.
            "legend": legible() | {"orient": "bottom", "columns": 3, "labelLimit": 84, "symbolOpacity": 1},
            "view": {"stroke": None},
        },
    }


def looked_at(paper: Paper) -> None:
    """The paper that was clicked on."""
    with st.container(border=True):
        st.markdown(f"{linked(paper)}  \n:small[:gray[{plain(facts(paper))}]]")
        if paper.abstract:
            st.text(paper.abstract)
        if st.button("More like this", icon=":material/search:"):
            st.switch_page("app.py", query_params={"like": paper.paper_id})


def lit_papers(hits: Sequence[Hit]) -> None:
    """The lit papers by name, for who cannot see or reach the points."""
    if not hits:
        st.markdown("The papers that a search finds are lit here, with their ranks.")
        st.page_link("app.py", label="Search", icon=":material/search:")
        return
    st.subheader("Lit: what was found last", anchor=False)
    for hit in hits:
        st.markdown(f"{hit.rank}\\. {linked(hit.paper)} :small[:gray[{plain(facts(hit.paper))}]]")


if __name__ == "__main__":
    framed("Citemark: the map", page)
