"""A process of many readers over one index that is being replaced; test_swap.py starts it.

    python reader.py INDEX EXPECTED.json READERS follow|owner LITTLE

Every answer is held against EXPECTED, what each edition of the index gives for each question. LITTLE is
an index of few papers: what the same readers take with it is no memory of an index. It prints a line when
it is ready, reads until its stdin is closed, and prints a report, both JSON.
"""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import faiss
from sketch import Sketcher

from data.contexts import Context
from indexer.search import Hit, Searcher
from indexer.settings import Settings

QUESTIONS = (
    "A gripper [CITE]",
    "Every query is mapped [CITE] to a vector",
    "storms",
    "tree-search [CITE]",
)
RANKINGS = ("hybrid", "dense", "bm25")
SAME = "same"  # the id of a paper that every edition has, with other words


def shown(hits: Sequence[Hit]) -> list[list[Any]]:
    """What an answer is compared by."""
    return [[hit.paper.paper_id, hit.paper.title, round(hit.score, 4)] for hit in hits]


def answers(searcher: Searcher, number: int) -> list[list[Any]]:
    """The answer to one of the questions, of which there are `kinds`."""
    question, kind = divmod(number, len(RANKINGS) + 2)
    if kind < len(RANKINGS):
        return shown(searcher.search([Context(QUESTIONS[question])], 5, RANKINGS[kind])[0])
    if kind == len(RANKINGS):
        return shown(searcher.similar(SAME, 5))
    paper = searcher.paper(SAME)
    return [[paper.paper_id, paper.title, 0]]


KINDS = len(QUESTIONS) * (len(RANKINGS) + 2)


def memory(name: str) -> int:
    """Bytes of this process by one of the names in its status."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def main(root: str, expected: str, readers: int, mode: str, little: str) -> None:
    """Read until told to stop, and report."""
    faiss.omp_set_num_threads(1)
    known = json.loads(Path(expected).read_text("utf-8"))
    encoder: Any = Sketcher(dimension=known["dimension"])
    with ThreadPoolExecutor(readers) as pool:
        warm = partial(answers, Searcher(Settings(Path(little), "cpu"), encoder))
        list(pool.map(warm, [n % KINDS for n in range(10 * readers)]))
    del warm
    base, idle = memory("VmHWM"), memory("VmRSS")
    searcher = Searcher(Settings(Path(root), "cpu"), encoder, follow=mode == "follow")
    for number in range(KINDS):
        answers(searcher, number)
    one = memory("VmRSS") - idle
    stop = threading.Event()
    seen: Counter[str] = Counter()
    faults: list[str] = []
    lock = threading.Lock()
    given, last = [0] * readers, [0] * readers

    def read(number: int) -> None:
        question = number
        while not last[number]:
            last[number] = stop.is_set()  # one more, of the last index
            question = (question + 1) % KINDS
            try:
                found = answers(searcher, question)
                edition = next((e for e, kept in known["editions"].items() if kept[question] == found), None)
                fault = "" if edition else f"of no edition: question {question}, {found}"
            except Exception as error:  # whatever it is, it is what this looks for
                edition, fault = None, repr(error)
            given[number] += 1
            with lock:
                if edition:
                    seen[edition] += 1
                else:
                    faults.append(fault)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    print(json.dumps("ready"), flush=True)
    owner: Callable[[], object] = searcher.reload if mode == "owner" else lambda: None
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    while any(thread.is_alive() for thread in threads):
        try:
            owner()
        except Exception as error:
            faults.append(f"reload: {error!r}")
        time.sleep(0.05)
    report = {"answers": seen, "faults": faults[:20], "failed": len(faults), "least": min(given)}
    print(json.dumps(report | {"base": base, "one": one, "peak": memory("VmHWM") - base}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
