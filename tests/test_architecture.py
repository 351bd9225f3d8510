"""The rooms: what may import what, and what a light command must not load."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("data", "model", "indexer", "app")  # each may import itself and those before it
HEAVY = ("torch", "faiss", "streamlit", "datasets", "pyarrow", "transformers", "sentence_transformers", "ray")


def sources() -> list[Path]:
    found = [*ROOT.glob("*.py"), *ROOT.glob("pages/**/*.py")]
    for room in ROOMS[:-1]:
        found += (ROOT / room).rglob("*.py")
    return sorted(found)


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first if first in ROOMS else "app"


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of every import of a file, those inside of functions included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            own = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            yield node.lineno, ".".join(part for part in (own, node.module or "") if part)


def test_the_rooms_are_there() -> None:
    assert {room_of(path) for path in sources()} == set(ROOMS)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    allowed = ROOMS[: ROOMS.index(room_of(path)) + 1]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for line, module in imported(path)
        if module.split(".")[0] in (*ROOMS, "tests") and module.split(".")[0] not in allowed
    ]
    assert not wrong


def test_nothing_is_called_utils() -> None:
    names = {part.lower() for path in sources() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not names & {"utils", "util", "helpers", "misc", "common"}


@pytest.mark.parametrize("module", ["indexer.cli", "indexer.settings", "data.paper", "data.errors"])
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True).stdout
    loaded = set(json.loads(shown))
    assert module in loaded
    banned = set(HEAVY) - ({"pyarrow"} if module == "data.paper" else set())  # it holds the Arrow schema
    assert not loaded & banned


# Arguments by which a library would run code that came as data, or show text as markup.
FORBIDDEN = {
    *("trust_remote_code", "allow_pickle", "unsafe_allow_html", "unsafe_allow_javascript"),
    *("allow_dangerous_deserialization", "shell", "unsafe"),
}


def unsafe(source: str) -> list[str]:
    """The forbidden arguments of a source, as `line: name`; given as False they are allowed."""
    words = [
        word for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) for word in node.keywords
    ]
    return [f"{word.value.lineno}: {word.arg}" for word in words if lets_in(word)]


def lets_in(word: ast.keyword) -> bool:
    value = word.value.value if isinstance(word.value, ast.Constant) else ...
    return (word.arg in FORBIDDEN and value is not False) or (
        word.arg == "weights_only" and value is not True
    )


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_argument_lets_code_in(path: Path) -> None:
    assert unsafe(path.read_text("utf-8")) == []


def test_the_rule_sees_what_it_forbids() -> None:
    for argument in sorted(FORBIDDEN):
        assert unsafe(f"f(1, {argument}=True)") == [f"1: {argument}"]
        assert unsafe(f"f(1, {argument}=setting)") == [f"1: {argument}"]
        assert unsafe(f"f(1, {argument}=False)") == []
    assert unsafe("torch.f(x, weights_only=False)") == ["1: weights_only"]


def test_only_the_cluster_engine_knows_ray() -> None:
    users = {path.name for path in sources() for _, module in imported(path) if module.split(".")[0] == "ray"}
    assert users == {"ray_engine.py"}


def test_only_the_page_knows_streamlit_and_only_the_vectors_know_faiss() -> None:
    users = {
        name: {str(path.relative_to(ROOT)) for path in sources() for _, module in imported(path)
               if module.split(".")[0] == name}
        for name in ("streamlit", "faiss")
    }  # fmt: skip
    assert all(room_of(ROOT / path) == "app" for path in users["streamlit"])
    assert all(room_of(ROOT / path) == "indexer" for path in users["faiss"])
