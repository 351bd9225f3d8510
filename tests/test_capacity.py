"""The capacity plan: its document holds what its formulas give."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLAN = ROOT / "docs" / "capacity.md"
CAPACITY = runpy.run_path(str(ROOT / "tests" / "bench" / "capacity.py"))


def test_the_tables_of_the_document_are_those_of_the_formulas() -> None:
    document = PLAN.read_text("utf-8")
    again = CAPACITY["with_tables"](document)
    assert again == document, "run: python tests/bench/capacity.py docs/capacity.md"
    assert CAPACITY["report"]() in document


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.0123456, "0.0123"), (1.5, "1.5"), (45.649, "45.6"), (999.9, "1,000"), (24_296, "24,300")],
)
def test_a_number_has_three_significant_digits(value: float, shown: str) -> None:
    assert CAPACITY["number"](value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0314, "31.4 ms"), (90, "90 s"), (7_300, "2.03 h"), (180_000, "2.08 days")]
)
def test_a_duration_is_in_the_unit_that_people_use(seconds: float, shown: str) -> None:
    assert CAPACITY["duration"](seconds) == shown


def test_memory_decides_how_many_machines_there_are() -> None:
    c = CAPACITY["c"]
    for n in CAPACITY["CORPORA"].values():
        count = CAPACITY["machines"](n, 768)
        held = n * (768 + c.words_bytes)
        assert held <= count * 0.8 * c.memory
        assert count == 1 or held > (count - 1) * 0.8 * c.memory
