"""A process that has loaded everything and forks a child for each job; proof.py talks to it.

A job is a line of JSON on stdin: [Python code, [arguments]]. The answers are lines of JSON: the child's
process id, and when it has ended, its exit code and what it wrote.
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


say("ready")
for line in sys.stdin:
    code, arguments = json.loads(line)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "out"), Path(folder, "err")
        with paths[0].open("wb") as out, paths[1].open("wb") as err:
            pid = os.fork()
            if not pid:
                child(code, arguments, out.fileno(), err.fileno())
            say(pid)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = [path.read_text("utf-8", errors="replace") for path in paths]
        say({"code": status, "out": texts[0], "err": texts[1]})
