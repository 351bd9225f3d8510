"""Builds started from the page: a command of its own process at work, watched from any session."""

import shlex
from collections.abc import Sequence

import streamlit as st

from indexer.jobs import Job
from indexer.settings import Settings
from indexer.store import Store
from pages.parts.shown import plain

LOOK = 1.0  # seconds between two looks at a running command
STAGES = {"reading": "Reading papers", "encoding": "Encoding papers", "map": "Drawing the map"}


@st.cache_resource
def jobs() -> dict[str, Job]:
    """The last command that was started for each index: one for all sessions of this server."""
    return {}


def start(settings: Settings, arguments: Sequence[str]) -> None:
    """Start a command for the index, unless one is at work."""
    job = jobs().get(str(settings.index))
    if job is None or not job.running:
        jobs()[str(settings.index)] = Job(arguments)


def at_work(settings: Settings) -> bool:
    """Whether a command works on the index."""
    job = jobs().get(str(settings.index))
    return job is not None and job.running


@st.fragment(run_every=LOOK)
def watched(settings: Settings) -> None:
    """How far the command is. When it is done the whole page is drawn anew."""
    job = jobs()[str(settings.index)]
    if not job.running:
        st.rerun()
    step = job.step
    said = "Starting …"
    if step:
        total = f" of {step.total:,}" if step.total else ""
        said = f"{STAGES.get(step.stage, step.stage.capitalize())}: {step.done:,}{total} {step.unit}"
    st.progress(step.share if step else 0.0, text=plain(said))
    if st.button("Stop", icon=":material/stop:", help="What is finished is kept for the next time."):
        job.stop()


def outcome(settings: Settings) -> None:
    """What became of the last command."""
    job = jobs().get(str(settings.index))
    if job is None or job.running:
        return
    last = job.said[-1] if job.said else ""
    if job.code == 0:
        st.success(plain(last or "done"), icon=":material/check:")
    elif job.code == 130:
        st.info("Stopped. What was finished is kept: start it again to go on.", icon=":material/stop:")
    else:
        st.error(plain(last.removeprefix("indexer: ")), icon=":material/error:")


def first_run(settings: Settings) -> None:
    """What to do where there is no index yet."""
    where = "" if settings.index == Settings().index else f" --index {shlex.quote(str(settings.index))}"
    with st.container(border=True):
        st.subheader("First, build an index", anchor=False)
        st.markdown(
            f"Citemark suggests papers of a corpus that you choose, and there is none yet at "
            f"{plain(str(settings.index))}. Start with the corpus that comes along: 12,000 of the best-known "
            "papers of machine learning, language, vision, speech and retrieval. It takes a few minutes."
        )
        outcome(settings)
        if at_work(settings):
            watched(settings)
        elif st.button("Build the starter index", icon=":material/play_arrow:"):
            start(settings, ["build", "starter", "--index", str(settings.index)])
            st.rerun()
        st.markdown("The same in a terminal:")
        st.code(f"indexer build starter{where}", language=None, wrap_lines=True)
        st.markdown("Or take your own: BibTeX, CSV, JSON lines, Parquet, or arXiv's metadata snapshot.")
        st.code(f"indexer build my-library.bib{where}", language=None, wrap_lines=True)
        if Store(settings.index).current() is None:
            st.button("Look again", icon=":material/refresh:")
