"""The reranker over a ranking: every row gets its own pair's logit."""

from pathlib import Path

import numpy as np

from data.contexts import Context
from data.table import PaperTable
from indexer.rerank import reranked
from indexer.search import Searcher
from indexer.settings import Settings
from model.encoder import Encoder
from model.reranker import Reranker, headed


def test_each_row_gets_the_logit_of_its_pair(small_index: Path, tiny: Encoder, tmp_path: Path) -> None:
    headed(Encoder(tiny.name, "cpu", "fp32")).save_pretrained(str(tmp_path / "new"), create_model_card=False)
    reranker = Reranker(str(tmp_path / "new"), "cpu", "fp32")
    contexts = [Context("Graphs are learned [CITE]."), Context("As [OTHER] and [CITE] say.")]
    searcher = Searcher(Settings(index=small_index), tiny)
    papers: PaperTable = searcher.snapshot.papers
    rows = searcher.rank(contexts, 5, "dense").rows.copy()
    rows[1, 3:] = -1
    logits = reranked(reranker, contexts, rows, papers)
    assert logits.shape == rows.shape
    assert np.isneginf(logits[1, 3:]).all()
    for query, place in ((0, 0), (0, 4), (1, 2)):
        paper = papers[int(rows[query, place])]
        assert np.isclose(logits[query, place], reranker.score([contexts[query]], [paper])[0], atol=1e-4)
