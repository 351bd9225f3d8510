"""The table of mutants stays true while the code moves: see mutants.py, which tries them."""

import ast

import pytest
from mutants import ROOT, Mutant, mutants

TABLE = mutants()


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: f"{mutant.promise}-{mutant.file}")
def test_a_mutant_still_fits_its_file_and_has_its_test(mutant: Mutant) -> None:
    assert mutant.fault() == ""
    assert mutant.new != mutant.old
    path, _, name = mutant.test.partition("::")
    functions = [n.name for n in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
                 if isinstance(n, ast.FunctionDef)]  # fmt: skip
    assert name.partition("[")[0] in functions
