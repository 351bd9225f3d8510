from pathlib import Path

import pytest

from data.errors import UserError
from indexer.settings import RANKINGS, Settings, from_environment


def test_an_empty_environment_gives_the_defaults() -> None:
    assert from_environment({}) == Settings(Path("citemark-index"), "auto", "best", 10)


def test_every_variable_is_read() -> None:
    environment = {
        "CITEMARK_INDEX": "/elsewhere",
        "CITEMARK_DEVICE": "cpu",
        "CITEMARK_RANKING": "bm25",
        "CITEMARK_K": "7",
        "CITEMARK_RANKER": "a-file",
        "CITEMARK_ENGINE": "milvus://host:19530/papers",
        "CITEMARK_RERANKER": "a-folder",
        "CITEMARK_RERANK_DEPTH": "30",
    }
    expected = Settings(
        index=Path("/elsewhere"),
        device="cpu",
        ranking="bm25",
        k=7,
        ranker=Path("a-file"),
        engine="milvus://host:19530/papers",
        reranker=Path("a-folder"),
        rerank_depth=30,
    )
    assert from_environment(environment) == expected


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("CITEMARK_DEVICE", "tpu", "'tpu', not one of auto, cpu, cuda"),
        ("CITEMARK_RANKING", "magic", "'magic', not one of best, hybrid, dense, bm25"),
        ("CITEMARK_K", "ten", "'ten', not a whole number"),
        ("CITEMARK_K", "-3", "'-3', not a whole number"),
        ("CITEMARK_K", "0", "k is 0, not between 1 and 1000"),
        ("CITEMARK_K", "1001", "k is 1001, not between 1 and 1000"),
        ("CITEMARK_INDEX", "", "CITEMARK_INDEX is empty"),
        ("CITEMARK_RERANK_DEPTH", "deep", "CITEMARK_RERANK_DEPTH is 'deep', not a whole number"),
        ("CITEMARK_RERANK_DEPTH", "301", "rerank depth is 301, not between 1 and 300"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(variable: str, value: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        from_environment({variable: value})


def test_a_reranker_reads_after_best_alone() -> None:
    folder = Path("a-folder")
    assert [Settings(ranking=ranking, reranker=folder).stage for ranking in RANKINGS] == [
        "reranked",
        "hybrid",
        "dense",
        "bm25",
    ]
    assert Settings().stage == "best"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().k = 3  # type: ignore[misc]
