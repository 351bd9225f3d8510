"""The page on the index: what is in it, what made it, how it measures, and how to make it anew."""

import shlex
from pathlib import Path
from typing import Any

import streamlit as st

from indexer.build import REJECTS
from indexer.overview import Counts, Measured, evaluation_of, last_evaluation, searched, storage
from indexer.search import Searcher
from indexer.settings import LOCAL, Settings, from_environment
from indexer.store import Manifest, Store, build_arguments
from pages.parts.engine import index_counts, searcher
from pages.parts.frame import framed, heading
from pages.parts.shown import legible, plain
from pages.parts.work import at_work, first_run, outcome, start, watched

BARS = 220  # pixels
COUNTED = {"field": "papers", "type": "quantitative", "title": "Papers"}
CATEGORIES = 15  # of the largest, in the plot
REJECTS_SHOWN = 100


def page() -> None:
    """What there is to know of the index, else how to get one."""
    heading("The index")
    settings = from_environment()
    if Store(settings.index).current() is None:
        first_run(settings)
        return
    st.session_state["address"] = None  # of the search: this page has one of its own
    engine = searcher(settings)
    engine.reload()
    manifest = engine.snapshot.manifest
    found = index_counts(engine.snapshot.path, engine)
    numbers(manifest, found)
    size(found)
    made_of(engine, settings)
    measured(settings)
    anew(manifest, settings)


def numbers(manifest: Manifest, found: Counts) -> None:
    """The few numbers that one looks for first."""
    years = list(found.years)
    with st.container(horizontal=True):
        st.metric("Papers", f"{manifest.papers:,}")
        st.metric("Years", f"{years[0]}–{years[-1]}" if years else "none")
        st.metric("Categories", f"{len(found.categories):,}")
        st.metric("On disk", f"{sum(storage(manifest).values()) / 1e6:,.1f} MB")
        st.metric("Built", manifest.created[:10])


def size(found: Counts) -> None:
    """Papers by year and by category."""
    if found.years:
        st.subheader("Papers by year", anchor=False)
        bars(
            {"name": list(map(str, found.years)), "papers": list(found.years.values())},
            {"x": {"field": "name", "title": "Year"}, "y": COUNTED},
            f"Bars of the number of papers for each year from {min(found.years)} to {max(found.years)}",
        )
    if found.categories:
        largest = list(found.categories.items())[:CATEGORIES]
        st.subheader("Papers by category", anchor=False)
        bars(
            {"name": [name for name, _ in largest], "papers": [count for _, count in largest]},
            {"x": COUNTED, "y": {"field": "name", "title": None, "sort": "-x"}},
            f"Bars of the number of papers in each of the {len(largest)} largest categories",
        )


def bars(columns: dict[str, list[Any]], encoding: dict[str, Any], alt: str) -> None:
    """A bar for each name; years are names, too: empty ones between the first papers take no place."""
    named = {axis: {"type": "ordinal"} | channel for axis, channel in encoding.items()}
    upright = encoding["y"] is COUNTED
    st.vega_lite_chart(
        columns,
        {
            "mark": {"type": "bar", "tooltip": True},
            "height": BARS if upright else {"step": 20},
            "encoding": named,
            "config": {"axis": legible()},
        },
        alt=alt,
    )


def made_of(engine: Searcher, settings: Settings) -> None:
    """What made the index, its files, and what was left out."""
    manifest = engine.snapshot.manifest
    st.subheader("What it is made of", anchor=False)
    facts = {
        "Place": f"{settings.index}, generation {int(engine.snapshot.path.name)}",
        "Source": manifest.source,
        "Encoder": f"{manifest.encoder}, {manifest.dimension} dimensions, {manifest.precision}",
        "Fingerprint": f"{manifest.encoder_fingerprint}, text form {manifest.text_form}",
        "Vector search": searched(manifest) if settings.engine == LOCAL else f"searched by {settings.engine}",
        "Built": f"{manifest.created.replace('T', ' ')[:16]} UTC, in {manifest.seconds:,.0f} s",
    }
    facts |= {name.capitalize(): f"{size / 1e6:,.2f} MB on disk" for name, size in storage(manifest).items()}
    rows = [{"": plain(name), "value": plain(value)} for name, value in facts.items()]
    st.table(rows, hide_header=True)
    rejected = int(manifest.reading.get("rejected", 0))
    if rejected:
        with st.expander(f"{rejected:,} records were rejected", icon=":material/rule:"):
            st.text("\n".join(reject_lines(engine.snapshot.path)))


def reject_lines(path: Path) -> list[str]:
    """The first rejects of a generation, with their places and reasons."""
    try:
        with (path / REJECTS).open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n")[:200] for _, line in zip(range(REJECTS_SHOWN), file, strict=False)]
    except OSError:
        return []


def measured(settings: Settings) -> None:
    """The last evaluation, or how to get one."""
    st.subheader("How it measures", anchor=False)
    report = last_evaluation(settings.index)
    if report is None:
        st.markdown(
            "No evaluation lies beside the index. With sentences whose cited paper is known, measure recall:"
        )
        st.code(
            f"indexer evaluate starter --index {shlex.quote(str(settings.index))}",
            language=None,
            wrap_lines=True,
        )
        return
    st.markdown(
        plain(
            f"{report.contexts:,} contexts of {report.source} over {report.papers:,} papers, "
            f"from {evaluation_of(settings.index)}"
        )
    )
    st.dataframe(report.table(), hide_index=True)
    curve(report)


def curve(report: Measured) -> None:
    """Recall at k for each ranking."""
    columns = report.curve()
    st.vega_lite_chart(
        columns,
        {
            "mark": {"type": "line", "point": True},
            "height": 260,
            "config": {"axis": legible(), "legend": legible()},
            "encoding": {
                "x": {
                    "field": "k",
                    "type": "quantitative",
                    "scale": {"type": "log"},
                    "axis": {"title": "k", "values": sorted(set(columns["k"]))},
                },
                "y": {
                    "field": "share",
                    "type": "quantitative",
                    "scale": {"domain": [0, 1]},
                    "axis": {"title": "found among the first k"},
                },
                "color": {"field": "ranking", "type": "nominal", "title": "ranking"},
            },
        },
    )


def anew(manifest: Manifest, settings: Settings) -> None:
    """Update or build the index again, while searches go on with the old one."""
    st.subheader("Bring it up to date", anchor=False)
    st.markdown(
        plain(
            f"Update reads {manifest.source} again and encodes what is new or changed in it; Rebuild builds "
            "the index anew, from it alone. Searches go on meanwhile with what is there."
        )
    )
    outcome(settings)
    if at_work(settings):
        watched(settings)
        return
    with st.container(horizontal=True):
        for label, icon, arguments in (
            ("Update", ":material/update:", ["update", manifest.source, "--index", str(settings.index)]),
            ("Rebuild", ":material/refresh:", build_arguments(settings.index, manifest)),
        ):
            if st.button(label, icon=icon):
                start(settings, arguments)
                st.rerun()


if __name__ == "__main__":
    framed("Citemark: the index", page)
