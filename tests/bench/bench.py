"""Everything about speed, beside what a user would write by hand: docs/bench.json and docs/bench.png.

    python tests/bench/bench.py                                # make bench: 100,000 and 500,000 vectors
    python tests/bench/bench.py --sizes 100000 500000 3000000  # an hour or two, 12 GB of disk and memory
    python tests/bench/bench.py --only encode read             # some parts

Each row is measured in a process of its own, one after another, and kept as soon as it is there: a bench
that was stopped goes on when the same command is run again. `--again` begins anew. The vectors are those of
an index (the starter's, unless --index says another) with noise: see corpus_of_vectors.py.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import plot
import rows_of_builds
import rows_of_queries
import rows_of_search
from measure import Row, limits

ROOT = Path(__file__).parents[2]
SIZES = (100_000, 500_000)
PARTS = ("limits", "encode", "search", "query", "update", "read")


def names(sizes: list[int], parts: list[str]) -> Iterator[str]:
    """The rows in their order: a part, and what it measures."""
    if "limits" in parts:
        yield "limits"
    if "encode" in parts:
        yield from (f"encode/{way}" for way in rows_of_builds.WAYS)
    if "search" in parts:
        for size in sizes:
            yield from (f"search/{size}/{engine}" for engine in rows_of_search.engines(size))
    if "query" in parts:
        for size in sizes:
            yield from (f"query/{size}/{ranking}" for ranking in rows_of_queries.RANKINGS)
            yield f"filter/{size}"
    if "update" in parts:
        yield "update"
    if "read" in parts:
        yield "read"


def measured(name: str, index: Path, work: Path) -> Row:
    """One row, measured in this process."""
    part, *which = name.split("/")
    if part == "limits":
        return limits()
    if part == "encode":
        return rows_of_builds.encode(index, work, which[0])
    if part == "search":
        return rows_of_search.search(index, work, int(which[0]), which[1])
    if part == "filter":
        return rows_of_queries.filters(index, work, int(which[0]))
    if part == "query":
        return rows_of_queries.query(index, work, int(which[0]), which[1])
    return rows_of_builds.update(index, work) if part == "update" else rows_of_builds.read(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of vectors")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--index", type=Path, default=ROOT / "citemark-index", help="whose papers")
    parser.add_argument("--work", type=Path, default=ROOT / "bench-work", help="a folder for what is large")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench.json")
    parser.add_argument("--again", action="store_true", help="measure what was measured before, too")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.work.mkdir(exist_ok=True)
    if asked.row:
        print(json.dumps(measured(asked.row, asked.index, asked.work)))
        return
    done: dict[str, Row] = {}
    if asked.out.exists():
        done = json.loads(asked.out.read_text("utf-8"))["rows"]
    wanted = list(names(asked.sizes, asked.only))
    for name in wanted:
        if name in done and not asked.again:
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--row", name, "--index", asked.index, "--work", asked.work]
        ran = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
        if ran.returncode:
            print(f"{name} failed", file=sys.stderr)
            continue
        done[name] = json.loads(ran.stdout.splitlines()[-1])
        about = {"rows": done, "noise": rows_of_search.NOISE, "k": rows_of_search.K}
        asked.out.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    print("\n".join(plot.table(done)))
    plot.draw(done, asked.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
