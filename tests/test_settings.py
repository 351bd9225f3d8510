from pathlib import Path

import pytest

from data.errors import UserError
from indexer.settings import Settings, from_environment


def test_an_empty_environment_gives_the_defaults() -> None:
    assert from_environment({}) == Settings(Path("citemark-index"), "auto", "best", 10)


def test_every_variable_is_read() -> None:
    environment = {
        "CITEMARK_INDEX": "/elsewhere",
        "CITEMARK_DEVICE": "cpu",
        "CITEMARK_RANKING": "bm25",
        "CITEMARK_K": "7",
    }
    assert from_environment(environment) == Settings(Path("/elsewhere"), "cpu", "bm25", 7)


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
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(variable: str, value: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        from_environment({variable: value})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().k = 3  # type: ignore[misc]
