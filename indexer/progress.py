"""Progress of long work as bars on stderr, each stage with its rate and the time left."""

import sys
from types import TracebackType

from tqdm import tqdm


class Bars:
    """A progress callback (stage, done, total, unit) that draws one bar a stage; a context manager."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: tqdm | None = None

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """Show that `done` of `total` (0: not known) units of the stage are done."""
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
