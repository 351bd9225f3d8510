"""Mutation check of the promises: `make mutants`, or `python tests/faults/mutants.py [WORD …]`.

A check that cannot fail is worth nothing. For every `[[mutant]]` of mutants.toml the text `old` of a file
is replaced by `new`, which breaks the promise on purpose, in a copy of the tree; the named test must then
fail. Words given on the command line choose the mutants whose promise, file or test contains one of them.

Exit status 1: a mutant survived, its test did not pass without it, or `old` does not occur exactly once.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TABLE = Path(__file__).with_name("mutants.toml")
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "citemark-index*", "screenshots", "node_modules")
SECONDS = 600  # a mutant that hangs is one that was noticed
PYTEST = ("-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", "-m", "faults or not faults")


@dataclass(frozen=True)
class Mutant:
    """One deliberate break: in `file`, `old` becomes `new`, and `test` (a pytest node) must notice."""

    promise: str
    file: str
    old: str
    new: str
    test: str

    def fault(self, root: Path = ROOT) -> str:
        """Why the entry is of no use, or nothing."""
        path, test = root / self.file, root / self.test.partition("::")[0]
        if not path.is_file() or not test.is_file():
            return f"there is no {path if not path.is_file() else test}"
        count = path.read_text("utf-8").count(self.old)
        return "" if count == 1 else f"`old` occurs {count} times in {self.file}: {self.old[:60]!r}"

    def apply(self, root: Path) -> str:
        """Break the file below `root`; the text that it had."""
        path = root / self.file
        text = path.read_text("utf-8")
        path.write_text(text.replace(self.old, self.new), "utf-8")
        return text


def mutants(table: Path = TABLE) -> list[Mutant]:
    """The table of mutants."""
    return [Mutant(**entry) for entry in tomllib.loads(table.read_text("utf-8"))["mutant"]]


def tested(root: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    """pytest's exit status for these tests in that tree (None: it took too long), and its last line."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        shown = subprocess.run(
            [sys.executable, *PYTEST, *tests], cwd=root, env=environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"no end after {SECONDS} s"
    lines = shown.stdout.strip().splitlines() or shown.stderr.strip().splitlines() or [""]
    return shown.returncode, lines[-1]


def unbroken(root: Path, tests: Sequence[str]) -> dict[str, str]:
    """Of the tests that do not pass in the tree as it is, why each does not; together they start once."""
    if not tests:
        return {}
    status, last = tested(root, tests)
    if status == 0 and "skipped" not in last:
        return {}
    if len(tests) > 1:
        return {name: why for test in tests for name, why in unbroken(root, [test]).items()}
    return {tests[0]: f"skipped here: {last}" if status == 0 else f"its test fails without it: {last}"}


def verdict(mutant: Mutant, root: Path) -> str:
    """killed, survived, or what is wrong."""
    text = mutant.apply(root)
    try:
        status, last = tested(root, [mutant.test])
    finally:
        (root / mutant.file).write_text(text, "utf-8")
    if status == 0:
        return "SURVIVED"
    return "killed" if status in (1, None) else f"its test did not run: {last}"


def main(words: Sequence[str]) -> int:
    """Try the mutants, one line each."""
    chosen = [
        mutant
        for mutant in mutants()
        if not words or any(word in f"{mutant.promise} {mutant.file} {mutant.test}" for word in words)
    ]
    bad = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = Path(folder) / "tree"
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for hidden in (".streamlit", ".ci"):
            shutil.copytree(ROOT / hidden, root / hidden)
        at_fault = unbroken(root, sorted({mutant.test for mutant in chosen if not mutant.fault()}))
        for mutant in chosen:
            found = mutant.fault() or at_fault.get(mutant.test) or verdict(mutant, root)
            bad += found != "killed" and not found.startswith("skipped")
            print(f"{found:9} | {mutant.promise} | {mutant.file} | {mutant.test}", flush=True)
    print(f"{len(chosen)} mutants, {bad} not killed")
    return int(bad > 0 or not chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
