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
        if stage != self._stage or self._bar is None:
            self.close()
            self._stage = stage
            self._bar = tqdm(
                desc=stage,
                total=total or None,
                unit=unit,
                unit_scale=True,
                file=sys.stderr,
                mininterval=0.5 if sys.stderr.isatty() else 10,
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar being shown."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Bars":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
