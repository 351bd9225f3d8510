"""A process that has loaded everything and forks a child for each job; proof.py talks to it.

A job is a line of JSON on stdin: [Python code, [arguments]]. The answers are lines of JSON: the child's
process id, and when it has ended, its exit code and what it wrote. A child that has ended keeps its id
until the next job, so that a kill that comes late meets nobody else.
"""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import faiss
from sketch import Sketcher

import indexer.build
import indexer.cli

faiss.omp_set_num_threads(1)
ENCODER = Sketcher()
model_encoder: Any = sys.modules["model.encoder"]


def run(*words: str) -> None:
    """`indexer …`, with the encoder of this process; exits with its status."""
    model_encoder.Encoder = lambda *_, **__: ENCODER
    sys.argv = ["indexer", *map(str, words)]
    indexer.cli.main()


def child(code: str, arguments: list[str], out: int, err: int) -> None:
    """The life of a child; it never returns."""
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        exec(compile(code, "child", "exec"), {"args": arguments, "encoder": ENCODER, "run": run})  # noqa: S102
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def say(word: object) -> None:
    """One line to the test."""
    print(json.dumps(word), flush=True)


def ended(pid: int) -> int:
    """The exit code of a child (minus the signal that killed it), once it has one."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


pid = 0
say("ready")
for line in sys.stdin:
    code, arguments = json.loads(line)
    if pid:
        os.waitpid(pid, 0)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "out"), Path(folder, "err")
        with paths[0].open("wb") as out, paths[1].open("wb") as err:
            pid = os.fork()
            if not pid:
                child(code, arguments, out.fileno(), err.fileno())
            say(pid)
            status = ended(pid)
        texts = [path.read_text("utf-8", errors="replace") for path in paths]
        say({"code": status, "out": texts[0], "err": texts[1]})
