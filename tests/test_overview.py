"""What the page on an index tells: its counts, its files, its last evaluation."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from indexer.measures import CUTOFFS
from indexer.overview import counts, evaluation_of, last_evaluation, searched, storage
from indexer.search import Searcher
from indexer.store import Store


def test_papers_are_counted_by_year_and_category(searcher: Searcher, papers: list[dict[str, Any]]) -> None:
    found = counts(searcher.snapshot.papers)
    assert found.years == dict(sorted(Counter(paper["year"] for paper in papers).items()))
    assert found.categories == Counter(c for paper in papers for c in paper["categories"])
    assert found.no_year == 0
    assert list(found.categories.values()) == sorted(found.categories.values(), reverse=True)


def test_storage_is_every_byte_of_the_index(index: Path) -> None:
    generation = Store(index).open()
    sizes = storage(generation.manifest)
    assert set(sizes) == {"records", "authors", "vectors", "words"}
    files = [f for f in generation.path.rglob("*") if f.is_file() and f.name != "manifest.json"]
    assert sum(sizes.values()) == sum(f.stat().st_size for f in files)


def test_the_files_of_known_citations_are_one_part() -> None:
    files = {"evidence/papers.arrow": {"bytes": 1}, "evidence/vectors.faiss": {"bytes": 2}}
    manifest: Any = SimpleNamespace(files=files)
    assert storage(manifest) == {"known citations": 3}


def test_how_the_vectors_are_searched_is_said_with_its_recall(index: Path) -> None:
    manifest = Store(index).open().manifest
    assert "recall against an exact search is 1" in searched(manifest)
    lists: Any = SimpleNamespace(vectors={"kind": "lists", "recall": 0.98765, "queries": 1256})
    assert "recall against an exact search is 0.988, measured with 1,256 queries" in searched(lists)


def test_the_last_evaluation_is_found_beside_the_index(tmp_path: Path) -> None:
    index = tmp_path / "index"
    assert last_evaluation(index) is None
    folder = evaluation_of(index)
    assert folder == tmp_path / "index-evaluation"
    folder.mkdir()
    means = {f"hit@{k}": k / 1000 for k in CUTOFFS} | {"MRR": 0.2, "nDCG@10": 0.1}
    report = {"rows": [{"name": "bm25", **means, "seconds": 2.0}], "queries": 9, "contexts": 10}
    (folder / "report.json").write_text(json.dumps(report | {"papers": 5, "source": "starter"}))
    measured = last_evaluation(index)
    assert measured is not None
    assert measured.table() == [{"ranking": "bm25", **means}]
    assert measured.curve()["k"] == list(CUTOFFS)
    assert measured.curve()["share"] == [means[f"hit@{k}"] for k in CUTOFFS]


def test_a_report_that_is_none_is_no_evaluation(tmp_path: Path) -> None:
    folder = evaluation_of(tmp_path / "index")
    folder.mkdir()
    (folder / "report.json").write_text("[]")
    assert last_evaluation(tmp_path / "index") is None
