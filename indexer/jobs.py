"""A command of the CLI at work as a process of its own, for the page that started it.

The page stays free to search: the command builds a new generation beside the one being searched.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

KEPT_LINES = 20


@dataclass(frozen=True, slots=True)
class Step:
    """How far the command is: `done` of `total` (0: not known) units of a stage."""

    stage: str
    done: int
    total: int
    unit: str

    @property
    def share(self) -> float:
        """Between 0 and 1; 0 where the total is not known."""
        return min(self.done / self.total, 1.0) if self.total else 0.0


class Job:
    """`indexer ARGUMENTS`, started now. It outlives the page that shows it, and dies with the server."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = tuple(arguments)
        self.began = time.monotonic()
        self.step: Step | None = None
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "indexer", *arguments],
            env={**os.environ, "CITEMARK_PROGRESS": "json"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether it is still at work, or has last lines that were not read."""
        return self._process.poll() is None or self._reader.is_alive()

    @property
    def code(self) -> int | None:
        """Its exit status: 0 done, 130 interrupted; None while it runs."""
        return None if self.running else self._process.returncode

    @property
    def said(self) -> list[str]:
        """The last lines that it printed, its progress aside."""
        return list(self._lines)

    def stop(self) -> None:
        """Interrupt it, as Ctrl-C does: what is finished is kept for the next time."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        self._process.wait(seconds)
        self._reader.join()
        return self._process.returncode

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            step = _step(line)
            if step:
                self.step = step
            elif line.strip():
                self._lines.append(line.rstrip())


def _step(line: str) -> Step | None:
    try:
        fields = json.loads(line)
        return Step(str(fields["stage"]), int(fields["done"]), int(fields["total"]), str(fields["unit"]))
    except (ValueError, KeyError, TypeError):
        return None
