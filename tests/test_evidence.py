"""Known citations: kept with the index, compared with a query, left out for their own paper."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import write_corpus

from data.contexts import Citation, Context, unmarked
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from data.table import PaperTable
from indexer import evidence, lexical, starter_evidence
from indexer.build import build
from indexer.evidence import Evidence
from indexer.search import Searcher
from indexer.settings import Settings
from indexer.store import Store
from indexer.update import Change, update
from model.encoder import Encoder

WORDS = ("stormy clouds", "a robot's gripper", "anonymous learning", "Go and chess", "protein folding")


def made_up_citations(papers: Sequence[dict[str, Any]]) -> list[Citation]:
    """Of every third paper one to four citations, by a few citing papers."""
    return [
        Citation(paper["id"], f"citing-{(number + n) % 5}", f"As {WORDS[(number + n) % 5]} show [CITE], {n}.")
        for number, paper in enumerate(papers)
        if number % 3 == 0
        for n in range(number % 4 + 1)
    ]


def write_citations(path: Path, citations: Sequence[Citation]) -> Path:
    lines = [
        json.dumps({"text": c.text, "citing_id": c.citing_id, "cited_id": c.cited_id}) for c in citations
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def few(papers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return papers[::5]


@pytest.fixture(scope="module")
def citations(few: list[dict[str, Any]]) -> list[Citation]:
    return made_up_citations(few)


@pytest.fixture(scope="module")
def cited_index(
    few: list[dict[str, Any]],
    citations: list[Citation],
    tiny: Encoder,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("cited")
    elsewhere = Citation("not here", "citing-0", "Of a paper [CITE] that the corpus lacks.")
    contexts = write_citations(folder / "contexts.jsonl", [*citations, elsewhere])
    build(str(write_corpus(folder / "c.jsonl", few)), folder / "index", tiny, contexts=str(contexts))
    return folder / "index"


@pytest.fixture(scope="module")
def cited(cited_index: Path, tiny: Encoder) -> Searcher:
    return Searcher(Settings(cited_index, "cpu"), tiny)


def evidence_of(searcher: Searcher) -> Evidence:
    found = searcher.snapshot.evidence
    assert found
    return found


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("without", ["", "citing-2", "citing-4"])
def test_what_is_said_is_what_the_contexts_say(
    without: str, cited: Searcher, citations: list[Citation], tiny: Encoder
) -> None:
    query = tiny.encode_contexts([Context("Clouds and storms [CITE].")])[0]
    draft = tiny.encode_papers([Paper("", "Chess", "by learning")])[0]
    found = evidence_of(cited)
    ids = cited.snapshot.papers.ids()
    rows = np.arange(len(ids))
    worded = found.worded(["Go and chess learning"])[0]
    said = found.say(query, rows, worded, draft, without)
    for row, paper_id in enumerate(ids):
        mine = [c for c in citations if c.cited_id == paper_id and c.citing_id != without]
        assert said.cited[row] == len(mine)
        if not mine:
            assert said.profile[row] == said.nearest[row] == said.words[row] == said.draft[row] == 0
            continue
        vectors = tiny.encode_contexts([Context(c.text) for c in mine])
        assert said.profile[row] == pytest.approx(unit(vectors.mean(axis=0)) @ query, abs=2e-3)
        assert said.draft[row] == pytest.approx(unit(vectors.mean(axis=0)) @ draft, abs=2e-3)
        assert said.nearest[row] == pytest.approx((vectors @ query).max(), abs=2e-3)


def test_words_are_the_bm25_of_the_best_context(
    cited: Searcher, citations: list[Citation], tmp_path: Path
) -> None:
    ordered = sorted(citations, key=lambda c: c.cited_id)
    lexical.write(tmp_path / "words", [[unmarked(c.text) for c in ordered]])
    text = "Anonymous learning of chess"
    scores, places = lexical.LexicalIndex(tmp_path / "words").search([text], len(ordered))
    best: dict[str, float] = {}
    for score, place in zip(scores[0].tolist(), places[0].tolist(), strict=True):
        best[ordered[place].cited_id] = max(score, best.get(ordered[place].cited_id, 0.0))
    found = evidence_of(cited)
    rows = np.arange(len(cited.snapshot.papers))
    said = found.say(np.zeros(32, np.float32), rows, found.worded([text])[0])
    expected = [best.get(paper_id, 0.0) for paper_id in cited.snapshot.papers.ids()]
    np.testing.assert_allclose(said.words, expected, rtol=1e-5)
    assert max(expected) > 0


def test_a_context_never_helps_to_answer_itself(cited: Searcher, citations: list[Citation]) -> None:
    """The leak that would make every evaluation look good: a text finds the paper that it cites."""
    own = next(c for c in citations if c.citing_id == "citing-2")
    alone = [c for c in citations if c.cited_id == own.cited_id and c.citing_id == own.citing_id]
    known = cited.search([Context(own.text)], 100, "best")[0]
    ours = next(hit for hit in known if hit.paper.paper_id == own.cited_id)
    assert any(c.text == own.text for c in ours.cited_like)
    assert ours.profile
    others = cited.search([Context(own.text)], 100, "best", draft=Paper(own.citing_id, ""))[0]
    theirs = next(hit for hit in others if hit.paper.paper_id == own.cited_id)
    assert theirs.cited == ours.cited - len(alone)
    assert all(c.citing_id != own.citing_id for c in theirs.cited_like)
    assert theirs.score < ours.score


def test_the_draft_itself_is_no_candidate(cited: Searcher) -> None:
    paper = cited.snapshot.papers[4]
    found = cited.search([Context(f"{paper.title} [CITE]")], 100, "best", draft=paper)[0]
    assert paper.paper_id not in {hit.paper.paper_id for hit in found}
    assert len(found) == len(cited.snapshot.papers) - 1


def test_a_filter_holds_for_what_is_known_by_its_citations(cited: Searcher) -> None:
    keep = Filter(since=2010)
    for hit in cited.search([Context("Go and chess [CITE]")], 100, "best", keep)[0]:
        assert (hit.paper.year or 0) >= 2010


def test_the_manifest_tells_what_is_known(cited_index: Path, citations: list[Citation]) -> None:
    contexts = Store(cited_index).open().manifest.contexts
    assert contexts["citations"] == len(citations)
    assert contexts["of_other_papers"] == 1


def test_an_update_adds_citations_and_keeps_those_that_are_known(
    few: list[dict[str, Any]], citations: list[Citation], tiny: Encoder, tmp_path: Path
) -> None:
    corpus = str(write_corpus(tmp_path / "c.jsonl", few))
    half = len(citations) // 2
    first, last = (
        str(write_citations(tmp_path / name, part))
        for name, part in (("a.jsonl", citations[:half]), ("b.jsonl", citations[half - 3 :]))
    )
    build(corpus, tmp_path / "grown", tiny, contexts=first)
    _, counts, _ = update(tmp_path / "grown", Change(contexts=last), tiny)
    assert counts.citations == len(citations) - half
    assert not update(tmp_path / "grown", Change(contexts=last), tiny)[1]
    whole = str(write_citations(tmp_path / "all.jsonl", citations))
    build(corpus, tmp_path / "at-once", tiny, contexts=whole)
    grown, at_once = (
        Searcher(Settings(tmp_path / name, "cpu"), tiny).search([Context("Go [CITE]")], 60, "best")[0]
        for name in ("grown", "at-once")
    )
    assert [hit.paper.paper_id for hit in grown] == [hit.paper.paper_id for hit in at_once]
    np.testing.assert_allclose([h.score for h in grown], [h.score for h in at_once], atol=1e-3)
    assert [hit.cited for hit in grown] == [hit.cited for hit in at_once]


def test_an_update_of_papers_keeps_the_citations_of_those_that_stay(
    few: list[dict[str, Any]], citations: list[Citation], tiny: Encoder, tmp_path: Path
) -> None:
    contexts = str(write_citations(tmp_path / "contexts.jsonl", citations))
    build(str(write_corpus(tmp_path / "c.jsonl", few)), tmp_path / "index", tiny, contexts=contexts)
    gone = citations[0].cited_id
    update(tmp_path / "index", Change(remove=(gone,)), tiny)
    searcher = Searcher(Settings(tmp_path / "index", "cpu"), tiny)
    found = {hit.paper.paper_id: hit for hit in searcher.search([Context("Go [CITE]")], 100, "best")[0]}
    assert gone not in found
    for paper_id, hit in found.items():
        assert hit.cited == sum(c.cited_id == paper_id for c in citations)


def test_a_killed_build_encodes_no_context_twice(
    citations: list[Citation], tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "PORTION", 8)
    progress: list[int] = []
    whole = evidence.encoded(citations, tiny, tmp_path / "a", lambda *_: None)

    class Killed(Exception):
        pass

    def dies(stage: str, done: int, total: int, unit: str) -> None:
        progress.append(done)
        if done >= 16:
            raise Killed

    with pytest.raises(Killed):
        evidence.encoded(citations, tiny, tmp_path / "b", dies)
    asked: list[int] = []
    real = tiny.encode_contexts
    monkeypatch.setattr(tiny, "encode_contexts", lambda c: asked.append(len(c)) or real(c))
    again = evidence.encoded(citations, tiny, tmp_path / "b", lambda *_: None)
    np.testing.assert_array_equal(again, whole)
    assert sum(asked) == len({c.text for c in citations}) - 16


def test_parts_of_different_sizes_are_refused(cited_index: Path, tmp_path: Path) -> None:
    source = Store(cited_index).open().path
    (tmp_path / "e").mkdir()
    for file in (source / "evidence").iterdir():
        if file.is_file():
            (tmp_path / "e" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "e" / "vectors.faiss").write_bytes((source / "evidence" / "profiles.faiss").read_bytes())
    with pytest.raises(UserError, match="its parts are not of one size"):
        Evidence(tmp_path / "e", PaperTable(source / "papers.arrow"))


def test_what_ships_for_the_starter_corpus_is_for_one_encoder() -> None:
    assert starter_evidence.load("another encoder") is None
    shipped = starter_evidence.load(Encoder("citemark", "cpu").fingerprint)
    assert shipped
    assert shipped.cited.sum() > 5000
    assert len(shipped.citations) == shipped.kept.sum() == len(shipped.vectors)
    assert not any(c.text or c.citing_id for c in shipped.citations)  # nobody's sentence
    np.testing.assert_allclose(np.linalg.norm(shipped.profiles, axis=1), 1, atol=1e-3)


def test_a_changed_file_of_the_starter_corpus_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bytearray(starter_evidence.FILE.read_bytes())
    raw[-1] ^= 1
    (tmp_path / "e").write_bytes(raw)
    monkeypatch.setattr(starter_evidence, "FILE", tmp_path / "e")
    with pytest.raises(UserError, match="has sha256"):
        starter_evidence.load("any")


def test_what_is_packed_comes_back(
    citations: list[Citation], tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = tiny.encode_contexts([Context(c.text) for c in citations])
    known = evidence.known(citations, vectors)
    file = tmp_path / "packed"
    file.write_bytes(starter_evidence.pack(known, "f"))
    monkeypatch.setattr(starter_evidence, "FILE", file)
    monkeypatch.setattr(starter_evidence, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    back = starter_evidence.load("f")
    assert back
    assert back.ids == known.ids
    assert back.cited.tolist() == known.cited.tolist()
    np.testing.assert_allclose(back.profiles, known.profiles, atol=0.02)


def test_the_command_keeps_citations_and_shows_them(
    few: list[dict[str, Any]],
    citations: list[Citation],
    tiny_folder: Path,
    invoke: Callable[..., Result],
    tmp_path: Path,
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", few)
    contexts = write_citations(tmp_path / "contexts.jsonl", citations)
    options = ("--index", tmp_path / "index")
    built = invoke("build", corpus, "--encoder", tiny_folder, "--contexts", contexts, *options)
    assert built.exit_code == 0, built.stderr
    assert f"{len(citations):,} known, from {contexts}" in invoke("info", *options).stdout
    draft = ("--draft-title", "Games", "--draft-abstract", "We play Go.")
    found = invoke("search", "Go and chess [CITE].", "-k", "60", "--json", *draft, *options)
    assert found.exit_code == 0, found.stderr
    hits = json.loads(found.stdout)["contexts"][0]["hits"]
    for hit in hits:
        of_it = [c for c in citations if c.cited_id == hit["paper_id"]]
        assert hit["cited"] == len(of_it)
        assert {like["text"] for like in hit["cited_like"]} <= {c.text for c in of_it}
        assert len(hit["cited_like"]) == min(2, len({c.citing_id for c in of_it}))


def test_contexts_that_are_not_there_stop_a_build_before_it_begins(
    small_corpus: Path, invoke: Callable[..., Result], tmp_path: Path
) -> None:
    asked = ("build", small_corpus, "--contexts", tmp_path / "none.jsonl", "--index", tmp_path / "index")
    result = invoke(*asked)
    assert result.exit_code == 1
    assert result.stderr == f"indexer: {tmp_path / 'none.jsonl'}: no such file or folder\n"
