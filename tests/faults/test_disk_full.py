"""A full disk: said beforehand where it can be known, one line where it happens, the old index unharmed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import write_corpus
from proof import Nursery, Proof, tries
from sketch import Sketcher

from data.errors import UserError
from indexer import lexical, room
from indexer.build import build
from indexer.kinds import Kind
from indexer.store import Generation, Manifest, Store
from indexer.update import Change, update

pytest_plugins = ["proof"]

# On a file system of so many bytes: an old index, a build of a larger one over it, and what is left.
CROWDED = """
import json, os, shutil, subprocess
from pathlib import Path
from indexer.store import Store

disk, size, old, source, blind = args
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=True)
root = Path(disk, "index")
shutil.copytree(old, root)
if blind == "blind":
    import indexer.room
    indexer.room.check = lambda *_: None
with open(Path(disk).with_name("said"), "w+b") as said:
    child = os.fork()
    if not child:
        os.dup2(said.fileno(), 1), os.dup2(said.fileno(), 2)
        run("build", source, "--index", root)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said.seek(0)
    text = said.read().decode()
opened = Store(root).open()  # every byte of it is checked
print(json.dumps([status, text, opened.path.name]))
subprocess.run(["umount", "--lazy", disk], check=True)
"""


def peak(source: Path, old: Path, sketch: Any, folder: Path) -> int:
    """The bytes that the two indexes and the work between them take."""
    build(str(source), folder / "index", sketch)
    made = sum(file.stat().st_size for file in (folder / "index" / "generations").rglob("*"))
    return sum(file.stat().st_size for file in old.rglob("*")) + 4 * made


@pytest.mark.parametrize("blind", ["seeing", "blind"])
@pytest.mark.parametrize("count", tries(5, 20))
def test_a_disk_that_is_too_small_is_one_line_and_the_old_index_stays(
    count: int,
    blind: str,
    corpus_file: Path,
    sketched: Path,
    sketch: Any,
    nursery: Nursery,
    tmp_path: Path,
    proof: Proof,
) -> None:
    """`blind` builds without looking at the room first, as when another program takes it meanwhile."""
    if not nursery.mounts:
        pytest.skip("this user may not mount a file system")
    (tmp_path / "disk").mkdir()
    least = sum(-(-f.stat().st_size // 4096) * 4096 for f in sketched.rglob("*") if f.is_file()) + 65536
    most = 2 * peak(corpus_file, sketched, sketch, tmp_path)
    outcomes = {"whole": 0, "foreseen": 0, "met": 0}
    for number in range(count):
        size = least + (most - least) * number**2 // (count - 1) ** 2  # close together where it is tight
        code, out, err = nursery.run(CROWDED, tmp_path / "disk", size, sketched, corpus_file, blind)
        assert code == 0, err
        status, text, generation = json.loads(out)
        lines = [line for line in text.splitlines() if line.startswith("indexer: ")]
        one_line = len(lines) == 1 and "Traceback" not in text and "--index" in lines[0]
        whole = (status, generation) == (0, "000002")
        refused = (status, generation) == (1, "000001") and one_line
        proof.check(whole or refused, f"{size:,} bytes: exit {status}, {generation}, {text[-500:]}")
        foreseen = "the index needs about" in text
        outcomes["whole" if whole else "foreseen" if foreseen else "met"] += 1
    proof.note = ", ".join(f"{count} {name}" for name, count in outcomes.items())
    assert outcomes["met" if blind == "blind" else "foreseen"]
    assert outcomes["whole"]
    proof.end(f"disk full ({blind})", count)


def test_the_room_is_asked_for_before_anything_is_encoded(
    corpus_file: Path, sketch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage._replace(free=30_000))
    monkeypatch.setattr(Sketcher, "encode_papers", lambda *_: pytest.fail("encoded"))
    with pytest.raises(UserError, match=r"needs about 0\.\d MB more and its disk has 0\.0 MB free"):
        build(str(corpus_file), tmp_path / "index", sketch)


@pytest.mark.parametrize("kind", ["exact", "lists"])
def test_the_room_that_is_asked_for_is_what_a_build_takes(
    corpus_file: Path, sketch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """Not less, else a build still runs into the wall; not much more, else it is refused for nothing."""
    asked, grown = noted(tmp_path / "index" / "staging", monkeypatch)
    build(str(corpus_file), tmp_path / "index", sketch, kind=kind)
    assert 0.98 * grown() <= asked[0] <= 1.3 * grown()


@pytest.mark.parametrize("kind", ["exact", "lists"])
def test_the_room_that_is_asked_for_is_what_an_update_takes(
    papers: list[dict[str, Any]],
    corpus_file: Path,
    sketch: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
) -> None:
    build(str(corpus_file), tmp_path / "index", sketch, kind=kind)
    some = [paper | {"abstract": f"Changed. {paper['title']} and more"} for paper in papers[:40]]
    new = [paper | {"id": f"new-{n}"} for n, paper in enumerate(papers[:40])]
    asked, grown = noted(tmp_path / "index" / "staging", monkeypatch)
    update(tmp_path / "index", Change(str(write_corpus(tmp_path / "more.jsonl", some + new))), sketch)
    assert 0.98 * grown() <= asked[0] <= 1.3 * grown()


def test_the_room_for_an_update_is_asked_for_before_anything_is_encoded(
    papers: list[dict[str, Any]],
    corpus_file: Path,
    sketch: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, _ = build(str(corpus_file), tmp_path / "index", sketch)
    source = write_corpus(tmp_path / "more.jsonl", [papers[0] | {"id": "new"}])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage._replace(free=30_000))
    monkeypatch.setattr(Sketcher, "encode_papers", lambda *_: pytest.fail("encoded"))
    said = r"needs about \d\.\d MB more and its disk has 0\.0 MB free"
    with pytest.raises(UserError, match=said) as refused:
        update(tmp_path / "index", Change(str(source)), sketch)
    assert "\n" not in str(refused.value)
    assert Store(tmp_path / "index").current() == before.path


def noted(staging: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], Callable[[], int]]:
    """The bytes that were asked for, and a function that tells how much the staging folder grew since."""
    asked: list[int] = []
    taken: list[int] = []
    check, mapped, publish = room.check, lexical._mapped, Store.publish

    def note() -> None:
        taken.append(sum(file.stat().st_size for file in staging.rglob("*") if file.is_file()))

    def checked(folder: Path, need: int, remedy: str) -> None:
        asked.append(need)
        note()
        check(folder, need, remedy)

    def allotted(path: Path, *arguments: Any) -> Any:  # when the postings are there twice
        made = mapped(path, *arguments)
        note()
        return made

    def published(store: Store, manifest: Manifest) -> Generation:
        note()
        return publish(store, manifest)

    monkeypatch.setattr(room, "check", checked)
    monkeypatch.setattr(lexical, "_mapped", allotted)
    monkeypatch.setattr(Store, "publish", published)
    return asked, lambda: max(taken) - taken[0]
