"""Thumbs: kept one a hit, and read back by what trains on them."""

from pathlib import Path

import pytest

from data.contexts import Context
from data.errors import UserError
from data.paper import Paper
from indexer.feedback import path_of, rate, ratings
from model.training_data import Documents, Pair, read_sources

ADAM, DROPOUT = Paper("arxiv:1412.6980", "Adam"), Paper("bib:dropout", "Dropout")
CONTEXT = Context("Trained with Adam [CITE], “as usual”.")


def test_thumbs_are_pairs_that_training_takes(tmp_path: Path) -> None:
    file = tmp_path / "index-feedback.jsonl"
    rate(file, CONTEXT, ADAM.paper_id, 1)
    rate(file, CONTEXT, DROPOUT.paper_id, 0)
    documents = Documents([ADAM, DROPOUT])
    (source,) = read_sources([str(file)], documents)
    assert source.pairs == [Pair(CONTEXT.text, "", 0, 1)]
    assert source.counts["label 0"] == 1
    (every,) = read_sources([str(file)], documents, labels_count=False)
    assert [(pair.row, pair.label) for pair in every.pairs] == [(0, 1), (1, 0)]


def test_the_last_thumb_counts_and_one_taken_back_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "thumbs.jsonl"
    rate(file, CONTEXT, "a", 1)
    rate(file, Context("another"), "a", 1)
    rate(file, CONTEXT, "a", 0)
    assert ratings(file) == {(CONTEXT.text, "a"): 0, ("another", "a"): 1}
    rate(file, CONTEXT, "a", None)
    assert ratings(file) == {("another", "a"): 1}


def test_nobody_has_rated_what_is_not_there(tmp_path: Path) -> None:
    assert ratings(tmp_path / "none.jsonl") == {}


def test_a_broken_line_costs_itself_alone(tmp_path: Path) -> None:
    file = tmp_path / "thumbs.jsonl"
    rate(file, CONTEXT, "a", 1)
    file.write_text(file.read_text() + '{"text": "half\n[1]\n')
    assert ratings(file) == {(CONTEXT.text, "a"): 1}


def test_it_lies_beside_the_index() -> None:
    assert path_of(Path("some/index")) == Path("some/index-feedback.jsonl")
    assert path_of(Path()) == Path.cwd().with_name(f"{Path.cwd().name}-feedback.jsonl")


def test_a_place_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be kept"):
        rate(tmp_path / "file" / "thumbs.jsonl", CONTEXT, "a", 1)
