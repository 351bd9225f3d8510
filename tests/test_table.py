"""Papers on disk: any row, any slice, in batches that are all full but the last."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from data.paper import Paper, to_batch
from data.table import BATCH, PaperTable, PaperWriter


def papers(count: int) -> list[Paper]:
    return [Paper(f"x{n}", f"Title {n}", authors=(f"A{n}",) * (n % 3), version=n) for n in range(count)]


def written(path: Path, members: list[Paper]) -> PaperTable:
    with PaperWriter(path) as writer:
        for paper in members:
            writer.add(paper)
    assert writer.count == len(members)
    return PaperTable(path)


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH, 3 * BATCH + 7])
def test_what_was_written_is_read_in_its_order(tmp_path: Path, count: int) -> None:
    members = papers(count)
    table = written(tmp_path / "t", members)
    assert len(table) == count
    assert list(table) == members
    assert table.ids() == [paper.paper_id for paper in members]
    assert [batch.num_rows for batch in table.batches()][:-1] == [BATCH] * (max(0, count - 1) // BATCH)


@pytest.mark.parametrize("sizes", [(0,), (1, 0, 3), (BATCH,), (BATCH - 1, 2, 3 * BATCH), (700, 700, 700)])
def test_batches_of_any_size_are_cut_to_full_ones_between_papers(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    members = papers(sum(sizes) + len(sizes))
    rest = list(members)
    with PaperWriter(tmp_path / "t") as writer:
        for size in sizes:
            writer.add(rest.pop(0))
            writer.add_batch(to_batch(rest[:size]))
            del rest[:size]
    table = PaperTable(tmp_path / "t")
    assert writer.count == len(table) == len(members)
    assert list(table) == members
    assert all(batch.num_rows == BATCH for batch in list(table.batches())[:-1])


def test_rows_and_slices_are_those_of_a_list(tmp_path: Path) -> None:
    members = papers(3 * BATCH + 7)
    table = written(tmp_path / "t", members)
    rng = random.Random(0)
    rows = [rng.randrange(len(members)) for _ in range(200)] * 2
    assert table.take(rows) == [members[row] for row in rows]
    assert table[BATCH] == members[BATCH]
    assert table.take([]) == []
    for start in (0, 1, BATCH - 1, BATCH, 2 * BATCH + 5, len(members), len(members) + BATCH):
        for length in (-300, 0, 1, BATCH, 2 * BATCH + 1, 5 * BATCH):
            stop = max(0, start + length)
            assert table.slice(start, stop) == members[start:stop], (start, stop)


@pytest.mark.parametrize("row", [-1, 5, 10**9])
def test_a_row_outside_the_table_is_an_error(tmp_path: Path, row: int) -> None:
    table = written(tmp_path / "t", papers(5))
    with pytest.raises(IndexError, match=f"row {row} of a table of 5 papers"):
        table.take([0, row])


def test_a_file_that_was_not_finished_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "t"
    written(path, papers(2 * BATCH))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(pa.ArrowInvalid):
        PaperTable(path)


def test_an_error_while_writing_is_passed_on(tmp_path: Path) -> None:
    def fail() -> None:
        with PaperWriter(tmp_path / "t") as writer:
            writer.add(papers(1)[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(PaperTable(tmp_path / "t")) == 0  # what was pending is not there
