"""A build that is killed half way: its shards are used again, and what comes out is the same."""

import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import write_corpus
from proof import Nursery, Proof, tries

from data.table import PaperTable
from indexer.store import Store
from indexer.vectors import VectorIndex

pytest_plugins = ["proof"]

# Builds, dies after so many shards (0: not at all), and says how many it encoded and how many it kept.
BUILD = """
import os, signal
from pathlib import Path
from indexer import build, shards

source, root, size, last = args[0], Path(args[1]), int(args[2]), int(args[3])
encoded, write = 0, shards.Folder.write

def saved(*arguments):
    global encoded
    made = write(*arguments)
    encoded += 1
    if encoded == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return made

shards.Folder.write = saved
build.build(source, root, encoder, shard=size)
print(encoded)
"""


@pytest.mark.parametrize(("papers_a_shard"), tries(16, 4))
def test_a_build_killed_half_way_uses_its_shards_again(
    papers_a_shard: int,
    papers: list[dict[str, object]],
    nursery: Nursery,
    tmp_path: Path,
    proof: Proof,
) -> None:
    source = write_corpus(tmp_path / "corpus.jsonl", papers)
    shards = -(-len(papers) // papers_a_shard)
    half = shards // 2
    code, _, _ = nursery.run(BUILD, source, tmp_path / "killed", papers_a_shard, half)
    assert code == -signal.SIGKILL
    finished = list((tmp_path / "killed" / "staging" / "shards").glob("*.parquet"))
    assert len(finished) == half
    code, out, err = nursery.run(BUILD, source, tmp_path / "killed", papers_a_shard, 0)
    assert code == 0, err
    reused = shards - int(out)
    for number in range(half):
        proof.check(number < reused or reused >= 0.95 * half, f"{reused} of {half} finished shards reused")
    code, _, err = nursery.run(BUILD, source, tmp_path / "whole", papers_a_shard, 0)
    assert code == 0, err
    resumed, whole = (Store(tmp_path / name).open().path for name in ("killed", "whole"))
    ids = [PaperTable(path / "papers.arrow").ids() for path in (resumed, whole)]
    vectors = [VectorIndex(path / "vectors.faiss").stored(range(300)) for path in (resumed, whole)]
    assert ids[0] == ids[1] == [paper["id"] for paper in papers]
    assert np.array_equal(vectors[0], vectors[1])
    proof.note = f"{reused} of {half} finished shards reused"
    proof.end("resume", half)
