"""Promise: a search and a page view ask nobody outside of this machine. See walled.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, environment

UNSHARE = ("unshare", "--map-root-user", "--net")


def permitted() -> bool:
    """Whether this user may make a network of its own."""
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


needs_network = pytest.mark.skipif(not permitted(), reason="unshare --net is not permitted here")


FULL = pytest.mark.faults


@pytest.mark.parametrize(
    ("prefix", "part"),
    [
        pytest.param(UNSHARE, "page", id="page-alone", marks=needs_network),
        pytest.param(UNSHARE, "all", id="all-alone", marks=[needs_network, FULL]),
        pytest.param((), "all", id="all-watched", marks=FULL),
    ],
)
def test_a_search_and_a_page_view_reach_for_nothing_outside(
    prefix: tuple[str, ...], part: str, small_index: Path, tmp_path: Path
) -> None:
    """Alone: in a network without a way out, where they do their work; watched: in this one."""
    paths = (ROOT / "tests", ROOT / "tests" / "faults", environment()["PYTHONPATH"])
    alone = {"WALLED_NETWORK": "1"} if prefix else {}
    ran = subprocess.run(
        [*prefix, sys.executable, ROOT / "tests" / "faults" / "walled.py", small_index, tmp_path, part],
        env=environment(PYTHONPATH=":".join(map(str, paths)), OMP_NUM_THREADS="1", **alone),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    done = json.loads(ran.stdout.splitlines()[-1])
    if prefix:
        assert done["outside answers"] is False
    assert done["the hook sees"] == "socket.connect 192.0.2.1\n"  # a watch that sees nothing proves nothing
    assert (done["page"], done["foreign page"]) == (200, 403)
    assert done["hits"] > 0
    if part == "all":
        assert (done["command"], done["api"]) == (10, 200)
    assert done["tried"] == []
