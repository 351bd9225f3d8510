"""Every format and every kind of bad file as a table of papers whose counts add up."""

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from bench import snapshot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_clean import ARXIV_RECORD, JSON

from data import corpus, formats
from data.corpus import Reading
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from data.table import PaperTable

ROOT = Path(__file__).parent.parent
RECORDS: list[dict[str, Any]] = [
    {"id": "a", "title": "First paper", "abstract": "One, \"two\"\tthree.", "authors": "Ada B; Carl D"},
    {"id": "b", "title": "Zweite Arbeit über Bäume", "abstract": "", "authors": "Ada B", "year": 2012},
    {"id": "c", "title": "Third", "abstract": "Lines\nof text.", "categories": "cs.CL", "year": 2020},
]  # fmt: skip
PAPERS = [
    Paper("a", "First paper", 'One, "two" three.', ("Ada B", "Carl D")),
    Paper("b", "Zweite Arbeit über Bäume", "", ("Ada B",), 2012),
    Paper("c", "Third", "Lines of text.", (), 2020, ("cs.CL",)),
]


def json_lines(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def table(delimiter: str) -> bytes:
    text = io.StringIO()
    names = ["ID", "Title", "abstract", "authors", "year", "Categories"]
    writer = csv.DictWriter(text, names, delimiter=delimiter)
    writer.writeheader()
    for record in RECORDS:
        writer.writerow(
            {name: record[name.lower()] for name in names if name.lower() in record},
        )
    return text.getvalue().encode()


def parquet() -> bytes:
    file = io.BytesIO()
    columns = {name: [record.get(name) for record in RECORDS] for name in set().union(*RECORDS)}
    pq.write_table(pa.table(columns | {"embedding": [[0.5]] * len(RECORDS)}), file)
    return file.getvalue()


def all_of(source: Path | str, keep: Filter | None = None, **options: Any) -> tuple[list[Paper], Reading]:
    """The papers of a source by way of a table, and the counts, which must add up."""
    folder = Path(os.environ["PYTEST_TABLES"])
    reading = corpus.write(str(source), folder / "papers.arrow", keep or Filter(), **options)
    papers = list(PaperTable(folder / "papers.arrow"))
    assert reading.accepted == len(papers)
    assert reading.read == reading.accepted + reading.rejected + reading.filtered + reading.duplicates
    assert sum(reading.reasons.values()) == reading.rejected
    return papers, reading


@pytest.fixture(autouse=True)
def _tables(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_TABLES", str(tmp_path_factory.mktemp("tables")))


def refusal(source: Path | str, **options: Any) -> str:
    """The message with which a source is refused: one line that names it."""
    with pytest.raises(UserError) as error:
        all_of(source, **options)
    message = str(error.value)
    assert "\n" not in message
    assert str(source) in message
    return message


# Formats


FORMATS: dict[str, Callable[[], bytes]] = {
    "papers.jsonl": lambda: json_lines(RECORDS),
    "papers.json": lambda: json_lines(RECORDS),
    "papers.jsonl.gz": lambda: gzip.compress(json_lines(RECORDS)),
    "papers.json.gz": lambda: gzip.compress(json_lines(RECORDS[:1])) + gzip.compress(json_lines(RECORDS[1:])),
    "papers.jsonl.zst": lambda: zstandard.compress(json_lines(RECORDS)),
    "papers.json.zst": lambda: (
        zstandard.compress(json_lines(RECORDS[:1])) + zstandard.compress(json_lines(RECORDS[1:]))
    ),
    "no-last-newline.jsonl": lambda: json_lines(RECORDS).rstrip(),
    "windows.jsonl": lambda: b"\xef\xbb\xbf" + json_lines(RECORDS).replace(b"\n", b"\r\n\r\n"),
    "papers.csv": lambda: table(","),
    "excel.csv": lambda: b"\xef\xbb\xbf" + table(","),
    "papers.csv.gz": lambda: gzip.compress(table(",")),
    "papers.csv.zst": lambda: zstandard.compress(table(",")),
    "papers.tsv": lambda: table("\t"),
    "papers.tsv.gz": lambda: gzip.compress(table("\t")),
    "papers.parquet": parquet,
    "name.with.dots.jsonl.gz": lambda: gzip.compress(json_lines(RECORDS)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_papers(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMATS[name]())
    papers, reading = all_of(path)
    assert papers == PAPERS
    assert (reading.read, reading.rejected) == (3, 0)


@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".json.zst"])
def test_arxivs_snapshot_is_read_as_published(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"arxiv-metadata-oai-snapshot{suffix}"
    content = (json.dumps(ARXIV_RECORD) + "\n").encode() + "".join(snapshot.lines(50)).encode()
    compress = {".json": bytes, ".json.gz": gzip.compress, ".json.zst": zstandard.compress}[suffix]
    path.write_bytes(compress(content))
    papers, reading = all_of(path)
    assert reading.accepted == 51
    assert papers[0].paper_id == "arxiv:0704.0001"
    assert papers[0].year == 2007
    assert all(paper.url and paper.abstract and paper.categories and paper.authors for paper in papers)


def test_parquet_of_arxivs_schema_keeps_its_nested_columns(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ARXIV_RECORD]), tmp_path / "a.parquet")
    (paper,), _ = all_of(tmp_path / "a.parquet")
    assert (paper.paper_id, paper.version, paper.year) == ("arxiv:0704.0001", 2, 2007)
    assert paper.authors[0] == "C. Balázs"


def test_a_bibtex_file_is_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "mine.bib").write_text(
        '@article{k1, title={Schr{\\"o}dinger}, author={A B and C D}, year=1926}\n@misc{bad', "utf-8"
    )
    papers, reading = all_of(tmp_path / "mine.bib", max_rejects=0.5)
    assert papers == [Paper("bib:k1", "Schrödinger", "", ("A B", "C D"), 1926)]
    assert reading.rejects[0].startswith("line 2: ")


def test_a_folder_is_the_sum_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(json_lines(RECORDS[:1]))
    (tmp_path / "2.csv").write_text("title,id\nSecond,b\n")
    (tmp_path / "3.bib").write_text("@book{k, title={Third}}")
    (tmp_path / "README.md").write_text("no corpus")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "4.jsonl").write_bytes(b"[]broken\n")
    assert "4.jsonl: a JSON array" in refusal(tmp_path)
    (tmp_path / "4.jsonl").write_bytes(b"broken\n")
    papers, reading = all_of(tmp_path, max_rejects=0.5)
    assert [paper.paper_id for paper in papers] == ["a", "b", "bib:k"]
    assert reading.rejects == ["4.jsonl line 1: not JSON (Expecting value)"]


def test_of_a_beir_folder_the_corpus_is_read(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_bytes(
        json_lines([{"_id": "d1", "title": "T", "text": "Body.", "metadata": {"url": "x"}}])
    )
    (tmp_path / "queries.jsonl").write_bytes(json_lines([{"_id": "q1", "title": "no", "text": "paper"}]))
    papers, _ = all_of(tmp_path)
    assert papers == [Paper("d1", "T", "Body.")]
    assert corpus.size(str(tmp_path)) == (tmp_path / "corpus.jsonl").stat().st_size


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_a_hugging_face_folder_is_read_without_a_network(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / name).write_bytes(FORMATS["papers" + Path(name).suffix]())
    papers, _ = all_of(f"hf:{folder}")
    assert papers == PAPERS
    assert all_of(f"hf:{folder}:train")[0] == PAPERS
    message = refusal(f"hf:{folder}:nosuchsplit")
    assert "split" in message
    assert corpus.state(f"hf:{folder}") is None


def test_a_name_without_hf_never_asks_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "a Hugging Face data set is hf:owner/name" in refusal("owner/name")
    assert "no such file or folder" in refusal("data/papers.jsonl")


# Bad files


def test_an_unreadable_source_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("a.pdf", "b", "c.xyz.gz", "d.parquet.gz", "e.pdf.gz", ".jsonl"):
        (tmp_path / name).write_bytes(b"x")
        assert "unknown format" in refusal(tmp_path / name)
    assert "no such file" in refusal(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty").mkdir()
    assert "no corpus file in this folder" in refusal(tmp_path / "empty")
    for name in ("x.parquet", "y.jsonl.gz", "z.json.zst"):
        (tmp_path / name).write_bytes(b"not what it says\n" * 10)
        assert "cannot be read" in refusal(tmp_path / name)
    for name in ("x.jsonl", "y.bib"):
        (tmp_path / name).write_bytes(b"")
        assert "no papers in it (it is empty)" in refusal(tmp_path / name)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_cut_compressed_file_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    content = "".join(snapshot.lines(3000)).encode()
    packed = gzip.compress(content) if suffix == ".gz" else zstandard.compress(content)
    path = tmp_path / f"cut.jsonl{suffix}"
    path.write_bytes(packed[: int(kept * len(packed))])
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_compressed_file_is_refused(tmp_path: Path, suffix: str) -> None:
    content = "".join(snapshot.lines(500)).encode()
    params = zstandard.ZstdCompressor(write_checksum=True)
    packed = bytearray(gzip.compress(content) if suffix == ".gz" else params.compress(content))
    packed[len(packed) // 2] ^= 0x10
    path = tmp_path / f"damaged.jsonl{suffix}"
    path.write_bytes(packed)
    assert "cannot be read" in refusal(path, max_rejects=1.0)


def test_a_damaged_parquet_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    rows = [{"title": f"Title {n}", "abstract": f"{n} " * 50} for n in range(2000)]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="none", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)
    assert "cannot be read" in refusal(path)


def test_a_json_array_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    path = tmp_path / "array.jsonl"
    for content in (json.dumps(RECORDS), "\n \ufeff[\n" + json.dumps(RECORDS[0]) + "\n]", "[]"):
        path.write_text(content, "utf-8")
        assert "jq -c '.[]' array.jsonl" in refusal(path)


def test_tables_without_a_title_column_are_refused_with_the_columns_they_have(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,abstract\nx,y\n")
    assert "no column 'title' in the header line ('name', 'abstract')" in refusal(tmp_path / "t.csv")
    pq.write_table(pa.table({"name": ["x"], "text": ["y"]}), tmp_path / "t.parquet")
    assert "no column 'title' (it has 'name', 'text')" in refusal(tmp_path / "t.parquet")


# Bad lines


def test_bad_lines_are_rejected_with_their_number_and_the_rest_is_kept(tmp_path: Path) -> None:
    lines = [
        json.dumps(RECORDS[0]).encode(),
        b"",
        b'{"id": "x", "title": "cut',
        b"null",
        b"[1, 2]",
        b'{"title": "\\ud800 lone \\u0000 surrogate", "id": "s\\udfff", "year": NaN}',
        b'{"title": NaN}',
        b'{"title": {"en": "x"}}',
        b'\xff\xfe{"title": "no UTF-8"}',
        b'{"title": "latin \xe9", "id": "latin"}',
        b"[" * 100_000,
        b'{"title": "' + b"x" * 200_000 + b'"}',
        b'{"title": "T", "authors": 7}',
        b'{"title": "T", "id": "two words"}',
        json.dumps(RECORDS[1]).encode(),
    ]
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\n".join(lines))
    papers, reading = all_of(path, max_rejects=1.0)
    assert [paper.title for paper in papers] == [
        "First paper", "lone surrogate", "latin \ufffd", "Zweite Arbeit über Bäume",
    ]  # fmt: skip
    assert papers[1].paper_id == "s"
    places = [int(reject.split(":")[0].removeprefix("line ")) for reject in reading.rejects]
    assert places == [3, 4, 5, 7, 8, 9, 11, 12, 13, 14]
    assert reading.reasons["no title"] == 1


def test_an_over_long_line_is_rejected_and_what_follows_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_LINE", 1000)
    path = tmp_path / "p.jsonl"
    long = json.dumps({"title": "x" * 5000}).encode()
    path.write_bytes(json_lines(RECORDS[:1]) + long + b"\n" + json_lines(RECORDS[1:]) + long)
    papers, reading = all_of(path, max_rejects=1.0)
    assert papers == PAPERS
    assert [r.split(":")[0] for r in reading.rejects] == ["line 2", "line 5"]


def test_bad_rows_of_a_table_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(
        b'title,id\nOne,1\nTwo,2,extra\n"Multi\nline",3\n,4\nN\x00UL,5\nShort\n"never closed,7\nx,8\n'
    )
    papers, reading = all_of(path, max_rejects=1.0)
    assert [paper.title for paper in papers] == ["One", "Multi line", "N UL", "Short", "never closed,7 x,8"]
    assert reading.rejects == ["line 3: more fields than the header line", "line 6: no title"]


def test_a_csv_field_without_end_costs_no_more_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_LINE", 1000)
    path = tmp_path / "p.csv"
    path.write_bytes(b'title,id\nOne,1\n"' + b"word " * 5000 + b'"\n' + b"x" * 5000 + b"\nTwo,2\n")
    papers, reading = all_of(path, max_rejects=1.0)
    assert papers[0].title == "One"
    assert papers[-1].title == "Two"
    assert any("field larger than field limit" in reject for reject in reading.rejects)


def test_one_bad_value_of_a_parquet_file_costs_one_row(tmp_path: Path) -> None:
    titles = pa.Array.from_buffers(
        pa.string(), 3, pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary()).buffers()
    )
    dates = pa.array([1, 2, 3], pa.timestamp("s"))
    pq.write_table(pa.table({"title": titles, "date": dates}), tmp_path / "p.parquet")
    papers, reading = all_of(tmp_path / "p.parquet", max_rejects=0.5)
    assert [(paper.title, paper.year) for paper in papers] == [("good", 1970), ("fine", 1970)]
    assert reading.rejects == ["row 2: an unreadable value (UnicodeDecodeError)"]


def test_too_many_rejects_fail_with_the_first_and_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(json_lines(RECORDS * 6 + [{}]))
    all_of(path, max_rejects=1 / 19)
    message = refusal(path, max_rejects=0.05)
    assert "1 of 19 records are no papers (the limit is 5%)" in message
    assert "line 19: no title" in message
    assert "--max-rejects" in message


def test_no_paper_left_says_where_they_went(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(json_lines([*RECORDS, {}]))
    message = refusal(path, keep=Filter(since=2050), max_rejects=1.0)
    assert "of 4 records 3 were filtered out, 1 rejected" in message


def test_the_list_of_rejects_is_bounded_and_reasons_are_grouped(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    bad = [{"title": "T", "id": f"not id {n}", "versions": []} for n in range(1500)]
    path.write_bytes(json_lines([*bad, RECORDS[0]]))
    _, reading = all_of(path, max_rejects=1.0)
    assert reading.rejected == 1500
    assert len(reading.rejects) == corpus.LISTED_REJECTS
    assert len(reading.reasons) == 1


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON | st.binary(max_size=60), max_size=8))
def test_no_file_of_lines_makes_the_reader_fail(tmp_path: Path, lines: list[Any]) -> None:
    path = tmp_path / "p.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join([json.dumps(RECORDS[0]).encode(), *encoded]))
    papers, _ = all_of(path, max_rejects=1.0)
    assert papers[0] == PAPERS[0]


# Filters and duplicates


@pytest.mark.parametrize(
    ("keep", "ids"),
    [
        (Filter(), "abcde"),
        (Filter(("cs",)), "ab"),
        (Filter(("cs.CL",)), "a"),
        (Filter(("cs.C",)), ""),
        (Filter(("math", "cs.LG")), "bd"),
        (Filter(since=2012), "bcd"),
        (Filter(until=2012), "ab"),
        (Filter(since=2012, until=2015), "bc"),
        (Filter(("cs",), since=2012), "b"),
        (Filter(since=0), "abcd"),
    ],
)
def test_filters_keep_categories_and_years(tmp_path: Path, keep: Filter, ids: str) -> None:
    rows = [
        {"id": "a", "title": "T", "categories": "cs.CL", "year": 2007},
        {"id": "b", "title": "T", "categories": ["stat.ML", "cs.LG"], "year": 2012},
        {"id": "c", "title": "T", "categories": "csx.CL", "year": 2015},
        {"id": "d", "title": "T", "categories": "math", "year": 2020},
        {"id": "e", "title": "T"},
    ]
    path = tmp_path / "p.jsonl"
    path.write_bytes(json_lines(rows))
    if not ids:
        assert "5 were filtered out" in refusal(path, keep=keep)
        return
    papers, reading = all_of(path, keep)
    assert "".join(paper.paper_id for paper in papers) == ids
    assert reading.filtered == 5 - len(ids)


def test_of_duplicates_the_highest_version_wins_in_any_order(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [
        {"id": f"2001.{n:05}v{version}", "title": f"T{n} of {version} {copy}", "authors_parsed": []}
        for n in range(40)
        for version in range(1, 2 + n % 3)
        for copy in range(1 + n % 2)
    ]
    rows += rows[:20]  # the same records again
    path = tmp_path / "p.jsonl"
    outcomes = set()
    for _ in range(100):
        rng.shuffle(rows)
        path.write_bytes(json_lines(rows))
        papers, reading = all_of(path)
        assert reading.duplicates == len(rows) - 40
        outcomes.add(frozenset(papers))
    assert len(outcomes) == 1
    (papers_,) = outcomes
    assert all(paper.version == 1 + int(paper.paper_id[-5:]) % 3 for paper in papers_)


def test_duplicates_far_apart_leave_every_other_paper_in_its_order(tmp_path: Path) -> None:
    rows = [{"id": f"x{n}", "title": f"T{n}"} for n in range(1000)]
    path = tmp_path / "p.jsonl"
    path.write_bytes(json_lines([*rows, rows[3], rows[999], rows[3]]))
    papers, reading = all_of(path)
    assert [paper.paper_id for paper in papers] == [row["id"] for row in rows]
    assert reading.duplicates == 3


# Progress, size and state


def test_progress_grows_to_the_size_of_the_source(tmp_path: Path) -> None:
    content = "".join(snapshot.lines(3000))
    (tmp_path / "1.jsonl").write_text(content)
    (tmp_path / "2.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    seen: list[int] = []
    all_of(tmp_path, progress=lambda done, _: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == corpus.size(str(tmp_path))
    assert len(seen) > 5


def test_the_state_of_a_source_tells_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(json_lines(RECORDS))
    before = corpus.state(str(path)), corpus.state(str(tmp_path))
    assert before == (corpus.state(str(path)), corpus.state(str(tmp_path)))
    (tmp_path / "notes.md").write_text("not read")
    assert corpus.state(str(tmp_path)) == before[1]
    path.write_bytes(json_lines(RECORDS[:2]))
    assert corpus.state(str(path)) != before[0]
    assert corpus.state(str(tmp_path)) != before[1]
    assert corpus.state(str(tmp_path / "nowhere")) is None
    assert corpus.size(str(tmp_path / "nowhere")) == 0


# Size

MEASURED = """
import json, resource, sys, time
from pathlib import Path
from data import parallel
from data.corpus import write
from data.filter import Filter
began = time.perf_counter()
reading = write(sys.argv[1], Path(sys.argv[2]), Filter())
seconds = time.perf_counter() - began
own, largest = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
peak = 1024 * (own + parallel.PROCESSES * largest)
print(json.dumps(reading.as_dict() | {"seconds": seconds, "peak": peak}))
"""


def measured(source: Path, folder: Path) -> dict[str, Any]:
    """The counts, seconds and peak memory of reading a source in a process of its own."""
    # The shell between keeps this process's own memory out of what its child inherits as a peak.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", MEASURED]
    command += [str(source), str(folder / "papers.arrow")]
    result: dict[str, Any] = json.loads(
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    )
    names = ("accepted", "rejected", "filtered", "duplicates")
    assert result["read"] == sum(result[name] for name in names)
    return result


def test_ten_thousand_records_need_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    path.write_text("".join(snapshot.lines(10_000, bad=0.01)))
    result = measured(path, tmp_path)
    assert result["read"] == 10_000
    assert 50 < result["rejected"] < 160
    assert result["peak"] < 400 << 20


@pytest.mark.slow
def test_a_million_records_of_arxivs_schema_need_at_most_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    generator = [sys.executable, str(ROOT / "tests/bench/snapshot.py"), str(path), "1000000", "--bad", "0.01"]
    subprocess.run(generator, check=True)
    result = measured(path, tmp_path)
    print(result)
    assert result["read"] == 1_000_000
    assert 9_000 < result["rejected"] < 11_000
    assert result["duplicates"] == 0
    assert result["peak"] <= 1_000_000_000
