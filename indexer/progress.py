"""Progress of long work on stderr: bars, each stage with its rate and the time left.

With CITEMARK_PROGRESS=json in the environment it is JSON lines of stage, done, total (0: not known) and
unit instead, for the program that started the command.
"""

import json
import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

EVERY = 0.25  # seconds between two lines of one stage


class Bars:
    """A progress callback (stage, done, total, unit) that draws one bar a stage; a context manager."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: tqdm | None = None
        self._lines = os.environ.get("CITEMARK_PROGRESS") == "json"
        self._written = 0.0

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """Show that `done` of `total` (0: not known) units of the stage are done."""
        if self._lines:
            self._line(stage, done, total, unit)
            return
        if stage != self._stage:
            self.close()
            self._stage = stage
            self._bar = tqdm(
                desc=stage,
                total=total or None,
                initial=done,  # so that the rate counts what was done since
                unit=unit,
                unit_scale=not 0 < total < 10_000,
                file=sys.stderr,
                mininterval=0.5 if sys.stderr.isatty() else 10,
            )
        if self._bar is None:
            return  # a stage that was at its end already
        self._bar.update(done - self._bar.n)
        if total and done >= total:
            self.close()

    def _line(self, stage: str, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if stage != self._stage or done >= total or now - self._written >= EVERY:
            line = {"stage": stage, "done": done, "total": total, "unit": unit.strip()}
            print(json.dumps(line), file=sys.stderr, flush=True)
            self._stage, self._written = stage, now

    def close(self) -> None:
        """End the bar being shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "Bars":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
