"""Updates against builds of the same papers, what they encode, refuse and survive."""

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import Maker, write_corpus

import indexer.update
from data.contexts import Context
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from data.table import PaperTable
from indexer import lexical
from indexer.build import build
from indexer.search import Searcher
from indexer.settings import RANKINGS, Settings
from indexer.store import Store
from indexer.update import Change, Counts, update
from model.encoder import Encoder, Vectors

Papers = list[dict[str, Any]]
Invoke = Callable[..., Result]
TEXTS = (
    "Recurrent acoustic models [CITE] turn each utterance into text.",
    "models",
    "novel lakes of protein",
)
ODDS = {"abstract": "Novel lakes of federated protein models.", "version": 3}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the papers that were encoded, in order."""
    ids: list[str] = []
    real = Encoder.encode_papers

    def noted(self: Encoder, papers: Sequence[Paper]) -> Vectors:
        ids.extend(paper.paper_id for paper in papers)
        return real(self, papers)

    monkeypatch.setattr(Encoder, "encode_papers", noted)
    return ids


@pytest.fixture
def root(small_index: Path, tmp_path: Path) -> Path:
    """A copy of the index of every tenth paper."""
    return Path(shutil.copytree(small_index, tmp_path / "index"))


@pytest.fixture
def small(papers: Papers) -> Papers:
    """The papers of that index."""
    return papers[::10]


def numbers(counts: Counts) -> dict[str, int]:
    return {name: count for name, count in vars(counts).items() if count}


def same_answers(root: Path, corpus: Papers, encoder: Encoder, folder: Path) -> None:
    """Whether the index answers as one that is built anew of this corpus: papers, places and scores."""
    built, _ = build(str(write_corpus(folder / "anew.jsonl", corpus)), folder / "anew", encoder)
    updated = Store(root).open()
    assert list(PaperTable(updated.path / "papers.arrow")) == list(PaperTable(built.path / "papers.arrow"))
    one, other = (Searcher(Settings(path, "cpu"), encoder) for path in (root, folder / "anew"))
    contexts = [Context(text) for text in TEXTS]
    for ranking in RANKINGS:
        ours, theirs = one.rank(contexts, 1000, ranking), other.rank(contexts, 1000, ranking)
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        # Which papers are encoded together moves a vector's last bit.
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=0 if ranking == "bm25" else 2e-3)


def test_added_changed_and_withdrawn_papers_answer_as_in_a_build_anew(
    root: Path, small: Papers, papers: Papers, tiny: Encoder, tmp_path: Path, encoded: list[str]
) -> None:
    changed = [small[3] | ODDS, small[9] | {"authors": ["Ann Lee"]}]
    source = write_corpus(tmp_path / "delta.jsonl", [papers[1], *changed, small[5], papers[2]])
    generation, counts, _ = update(root, Change(str(source), remove=(small[0]["id"],)), tiny)
    assert numbers(counts) == {"added": 2, "changed": 2, "withdrawn": 1, "unchanged": 27, "encoded": 3}
    assert encoded == [small[3]["id"], papers[1]["id"], papers[2]["id"]]
    assert generation.path == Store(root).current()
    corpus = [*small[1:3], changed[0], *small[4:9], changed[1], *small[10:], papers[1], papers[2]]
    same_answers(root, corpus, tiny, tmp_path)


def test_a_whole_source_withdraws_what_it_lacks(
    root: Path, small: Papers, papers: Papers, tiny: Encoder, tmp_path: Path, encoded: list[str]
) -> None:
    corpus = [*small[2:20], small[20] | ODDS, *small[21:], papers[1]]
    source = write_corpus(tmp_path / "whole.jsonl", corpus)
    generation, counts, _ = update(root, Change(str(source), whole=True), tiny)
    assert numbers(counts) == {"added": 1, "changed": 1, "withdrawn": 2, "unchanged": 27, "encoded": 2}
    assert encoded == [small[20]["id"], papers[1]["id"]]
    assert (generation.manifest.source, generation.manifest.updates) == (str(source), [])
    same_answers(root, corpus, tiny, tmp_path)


def test_updates_follow_on_each_other(
    root: Path, small: Papers, papers: Papers, tiny: Encoder, tmp_path: Path
) -> None:
    corpus = list(small)
    for step in range(1, 4):
        corpus = [*corpus[1:], papers[step]]
        corpus[step] = corpus[step] | {"title": f"Novel lakes, part {step}", "version": step}
        source = write_corpus(tmp_path / f"delta-{step}.jsonl", [corpus[step], papers[step]])
        gone = ({p["id"] for p in small} - {p["id"] for p in corpus}) & set(PaperTable(table(root)).ids())
        update(root, Change(str(source), remove=tuple(gone)), tiny)
    same_answers(root, corpus, tiny, tmp_path)
    manifest = Store(root).open().manifest
    assert [Path(made["source"]).name for made in manifest.updates] == [f"delta-{n}.jsonl" for n in (1, 2, 3)]
    assert manifest.papers == len(corpus)


def table(root: Path) -> Path:
    return Store(root).open().path / "papers.arrow"


def test_nothing_new_publishes_nothing_and_encodes_nothing(
    root: Path, small: Papers, small_corpus: Path, tmp_path: Path, encoded: list[str]
) -> None:
    before = Store(root).open()
    for change in (
        Change(str(small_corpus)),
        Change(str(small_corpus), whole=True),
        Change(remove=("nobody",)),
    ):
        generation, counts, _ = update(root, change)
        assert (generation, not counts) == (before, True)
        assert counts.unchanged == len(small)
    assert encoded == []
    assert Store(root).open() == before


def test_a_paper_that_no_longer_passes_the_index_s_filter_is_withdrawn_and_a_new_one_not_taken(
    small: Papers, papers: Papers, small_corpus: Path, tiny: Encoder, tmp_path: Path
) -> None:
    keep = Filter(("cs",), since=2005)
    build(str(small_corpus), tmp_path / "index", tiny, keep)
    passing = [paper for paper in small if paper["categories"][0].startswith("cs.") and paper["year"] >= 2005]
    delta = [passing[2] | {"year": 1999}, papers[1] | {"year": 1999}, papers[9] | {"categories": ["cs.CL"]}]
    _, counts, _ = update(tmp_path / "index", Change(str(write_corpus(tmp_path / "d.jsonl", delta))), tiny)
    assert numbers(counts) == {"added": 1, "withdrawn": 1, "unchanged": len(passing) - 1, "encoded": 1}
    same_answers(tmp_path / "index", [*passing[:2], *passing[3:], delta[2]], tiny, tmp_path)


def test_an_older_version_that_would_not_pass_the_filter_withdraws_nothing(
    small: Papers, small_corpus: Path, tiny: Encoder, tmp_path: Path
) -> None:
    build(str(small_corpus), tmp_path / "index", tiny, Filter(since=2005))
    passing = next(paper for paper in small if paper["year"] >= 2005)
    for version, year in ((2, passing["year"]), (1, 1999)):
        source = write_corpus(tmp_path / "delta.jsonl", [passing | {"version": version, "year": year}])
        _, counts, _ = update(tmp_path / "index", Change(str(source)), tiny)
    assert (counts.older, counts.withdrawn) == (1, 0)


def test_an_older_version_changes_nothing_but_in_a_whole_source(
    root: Path, small: Papers, tiny: Encoder, tmp_path: Path
) -> None:
    new = write_corpus(tmp_path / "new.jsonl", [small[3] | ODDS])
    update(root, Change(str(new)), tiny)
    old = write_corpus(tmp_path / "old.jsonl", small)
    _, counts, _ = update(root, Change(str(old)), tiny)
    assert numbers(counts) == {"unchanged": len(small), "older": 1}
    _, counts, _ = update(root, Change(str(old), whole=True), tiny)
    assert numbers(counts) == {"changed": 1, "unchanged": len(small) - 1, "encoded": 1}
    same_answers(root, small, tiny, tmp_path)


def test_another_encoder_is_refused_with_both_and_the_command(
    root: Path, small_corpus: Path, make_model: Maker, papers: Papers, tmp_path: Path
) -> None:
    other = Encoder(str(make_model("bert", 32, seed=5)), "cpu")
    before = Store(root).current()
    with pytest.raises(UserError) as refused:
        update(root, Change(str(write_corpus(tmp_path / "d.jsonl", papers[1:2]))), other)
    fingerprint = Store(root).open().manifest.encoder_fingerprint
    for part in (fingerprint, other.fingerprint, f"indexer build {small_corpus}", "\n"):
        assert (part in str(refused.value)) == (part != "\n")
    assert Store(root).current() == before


def test_a_change_that_leaves_nothing_is_refused(root: Path, small: Papers) -> None:
    with pytest.raises(UserError, match="withdraws every paper"):
        update(root, Change(remove=tuple(paper["id"] for paper in small)))


def test_what_cannot_be_updated_is_one_line(
    root: Path, small_index: Path, tmp_path: Path, small_corpus: Path
) -> None:
    with pytest.raises(UserError, match=r"no index at .*build one with"):
        update(tmp_path / "none", Change(str(small_corpus)))
    with pytest.raises(UserError, match="no such file"):
        update(root, Change(str(tmp_path / "none.jsonl")))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"title": "A title"}\n{"no": "title"}\n')
    with pytest.raises(UserError, match="1 of 2 records are no papers"):
        update(root, Change(str(bad)))
    with Store(root).writing(), pytest.raises(UserError, match="another process is building"):
        update(root, Change(str(small_corpus)))
    assert Store(root).open().manifest == Store(small_index).open().manifest


# Updates with small shards, says what it has done and then waits for the signal.
SLOW_UPDATE = """
import sys, time
from pathlib import Path
from indexer.update import Change, update
from model.encoder import Encoder

source, root, folder, stop, count = sys.argv[1:]

def progress(stage, done, total, unit):
    if stage == stop and done >= int(count):
        print(stage, done, flush=True)
        time.sleep(600)

update(Path(root), Change(source), Encoder(folder, "cpu", "fp32"), progress=progress, shard=16)
"""


@pytest.mark.parametrize(("stage", "count", "left"), [("encoding", 32, 8), ("words", 0, 0)])
def test_an_update_that_was_killed_leaves_the_old_index_and_goes_on(
    stage: str,
    count: int,
    left: int,
    root: Path,
    small: Papers,
    papers: Papers,
    tiny: Encoder,
    tiny_folder: Path,
    tmp_path: Path,
    start: Callable[..., "subprocess.Popen[str]"],
    encoded: list[str],
) -> None:
    before = Store(root).open()
    new = [paper for paper in papers if paper not in small][:40]
    source = write_corpus(tmp_path / "delta.jsonl", new)
    child = start("-c", SLOW_UPDATE, source, root, tiny_folder, stage, count)
    assert child.stdout is not None
    assert child.stdout.readline().startswith(stage), child.communicate(timeout=60)[1]
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    assert Store(root).open() == before
    update(root, Change(str(source)), tiny, shard=16)
    assert len(encoded) == left
    same_answers(root, [*small, *new], tiny, tmp_path)


def test_many_rows_are_compared_in_chunks(
    root: Path, small: Papers, papers: Papers, tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer.update, "CHUNK", 4)
    source = write_corpus(tmp_path / "delta.jsonl", [*papers[1:8], *(p | ODDS for p in small[::3])])
    update(root, Change(str(source)), tiny)
    corpus = [p | ODDS if n % 3 == 0 else p for n, p in enumerate(small)]
    same_answers(root, [*corpus, *papers[1:8]], tiny, tmp_path)


def test_an_index_without_the_counts_of_words_gets_them(
    root: Path, small: Papers, papers: Papers, tiny: Encoder, tmp_path: Path
) -> None:
    with Store(root).writing():
        store, old = Store(root), Store(root).open()
        shutil.copytree(old.path, store.next)
        for name in ("counts.npy", "lengths.npy"):
            (store.next / "words" / name).unlink()
        bare = store.publish(old.manifest).path / "words"
    assert not lexical.is_updatable(bare)
    update(root, Change(str(write_corpus(tmp_path / "d.jsonl", papers[1:3]))), tiny)
    assert lexical.is_updatable(Store(root).open().path / "words")
    same_answers(root, [*small, *papers[1:3]], tiny, tmp_path)


# The command


def test_the_command_tells_what_became_of_the_papers(
    root: Path, small: Papers, papers: Papers, tmp_path: Path, invoke: Invoke
) -> None:
    source = write_corpus(tmp_path / "delta.jsonl", [papers[1], small[3] | ODDS])
    (tmp_path / "gone.txt").write_text(f"{small[0]['id']}\n\n{small[1]['id']}\n")
    flags = ("--index", root, "--device", "cpu", "--remove", tmp_path / "gone.txt", "--remove", "nobody")
    result = invoke("update", source, *flags)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "1 added, 1 changed, 2 withdrawn, 2 encoded, 1 to withdraw unknown",
        f"index of 29 papers at {root}",
    ]
    again = invoke("update", source, "--index", root, "--json")
    facts = json.loads(again.stdout)
    assert (facts["added"], facts["changed"], facts["unchanged"], facts["papers"]) == (0, 0, 29, 29)
    assert "nothing new" in invoke("update", source, "--index", root).stdout
    assert "updated" in invoke("info", "--index", root).stdout


@pytest.mark.parametrize("arguments", [[], ["--whole"], ["--whole", "--remove", "x"]])
def test_an_update_with_nothing_is_wrong_usage(arguments: list[str], invoke: Invoke) -> None:
    result = invoke("update", *arguments)
    assert result.exit_code == 2
    assert "give a SOURCE, or --remove or --contexts alone" in result.stderr
