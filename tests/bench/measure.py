"""What every row of the bench is measured with: medians of single calls, memory, the machine's own limits."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Row = dict[str, Any]
K = 100
PATIENCE = 60.0  # seconds of single queries


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its answer."""
    began = time.perf_counter()
    answer = call()
    return time.perf_counter() - began, answer


def one_by_one(search: Callable[[Vectors], Rows], queries: Vectors) -> tuple[Row, Rows]:
    """Milliseconds of single queries (p50, p99), and what they find; a few are asked first, unmeasured.

    As many are asked as PATIENCE allows, of slow searches not all.
    """
    for query in queries[:3]:
        search(query[None])
    seconds, rows = [], []
    for query in queries:
        taken, found = timed(lambda query=query: search(query[None]))
        seconds.append(taken)
        rows.append(found)
        if sum(seconds) > PATIENCE:
            break
    return {
        "p50_ms": 1e3 * np.median(seconds),
        "p99_ms": 1e3 * np.quantile(seconds, 0.99),
        "timed": len(seconds),
    }, np.concatenate(rows)


def recall(found: Rows, exact: Rows) -> float:
    """The mean share of the exact answers that were found, of the first queries."""
    return float(np.mean([np.isin(e, f).mean() for f, e in zip(found, exact[: len(found)], strict=True)]))


def memory() -> Row:
    """Megabytes of this process: its own, and those of mapped files, which the system may take back."""
    sizes = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile"):
            sizes[name] = int(value.split()[0]) / 1e3
    return {"own_mb": sizes["RssAnon"], "mapped_mb": sizes["RssFile"]}


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The p of seconds = c * size ** p that fits best."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def limits() -> Row:
    """What the machine can do at most: FLOP/s of a matrix product, bytes a second read from memory."""
    import torch

    found: Row = {"threads": torch.get_num_threads()}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(2048, 2048).to(kind) for _ in range(2))
        torch.mm(a, b)
        best = min(timed(lambda a=a, b=b: torch.mm(a, b))[0] for _ in range(5))
        found[f"{name}_gflops"] = 2 * 2048**3 / best / 1e9
    much = torch.ones(1 << 28)  # 1 GB of floats
    found["read_gb_s"] = much.nbytes / min(timed(much.sum)[0] for _ in range(3)) / 1e9
    return found
