"""What is known of the candidates of a context."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_corpus

from data.contexts import Context
from indexer.build import build
from indexer.search import Searcher
from indexer.settings import Settings
from model.encoder import Encoder

CONTEXTS = [
    Context("Residual convolutional models [CITE] find objects."),
    Context("A protein of each amino acid [CITE]."),
    Context("xyzzy [CITE]"),
]


def facts(papers: list[dict[str, Any]], encoder: Encoder, folder: Path) -> list[dict[str, list[float]]]:
    """For each context the features of every candidate, by its id."""
    folder.mkdir()
    build(str(write_corpus(folder / "corpus.jsonl", papers)), folder / "index", encoder)
    searcher = Searcher(Settings(folder / "index", "cpu"), encoder)
    ids = searcher.snapshot.papers.ids()
    pools = searcher.pools(CONTEXTS, 10, searcher.snapshot)
    return [{ids[row]: f.tolist() for row, f in zip(p.rows, p.features(), strict=True)} for p in pools]


def test_the_order_of_the_corpus_says_nothing(
    papers: list[dict[str, Any]], tiny: Encoder, tmp_path: Path
) -> None:
    forth = facts(papers, tiny, tmp_path / "forth")
    back = facts(papers[::-1], tiny, tmp_path / "back")
    for one, other in zip(forth, back, strict=True):
        assert one.keys() == other.keys()
        for paper_id, features in one.items():
            assert features == pytest.approx(other[paper_id], abs=1e-4), paper_id


def test_every_candidate_has_its_words_counted(
    papers: list[dict[str, Any]], tiny: Encoder, tmp_path: Path
) -> None:
    build(str(write_corpus(tmp_path / "corpus.jsonl", papers)), tmp_path / "index", tiny)
    searcher = Searcher(Settings(tmp_path / "index", "cpu"), tiny)
    text = CONTEXTS[0].text
    for pool in searcher.pools(CONTEXTS[:1], 10, searcher.snapshot):
        [matches] = searcher.snapshot.words.matches([text])
        np.testing.assert_allclose(pool.bm25, matches.scores[pool.rows], atol=1e-5)
        assert (pool.title > 0).any()
