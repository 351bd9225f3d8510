"""Generations on disk: publication, damage, formats, the lock."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from data.errors import UserError
from data.files import write_atomically
from indexer.store import FORMAT, KEPT_GENERATIONS, Manifest, Store, _digest_of

FLIPS, CUTS = 200, 30
HOLD = """
import sys
from pathlib import Path
from indexer.store import Store
with Store(Path(sys.argv[1])).writing():
    print("held", flush=True)
    sys.stdin.read()
"""


def manifest(**changes: object) -> Manifest:
    facts: dict[str, object] = {
        "papers": 3,
        "dimension": 2,
        "metric": "inner product",
        "encoder": "minilm",
        "encoder_fingerprint": "f00d",
        "precision": "fp32 on cpu",
        "text_form": "1",
        "source": "my papers.jsonl",
        "kept": {"categories": ["cs.CL"], "since": 2015, "until": None},
        "corpus_hash": "c0de",
        "created": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
    }
    return Manifest(**(facts | changes))  # type: ignore[arg-type]


def publish(root: Path, content: str = "content") -> Path:
    store = Store(root)
    with store.writing():
        (store.next / "words").mkdir(parents=True)
        (store.next / "papers.arrow").write_text(content)
        (store.next / "words" / "vocabulary").write_text("a b c")
        return store.publish(manifest()).path


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as refused:
        Store(root).open()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_published_is_opened_as_it_was(tmp_path: Path) -> None:
    path = publish(tmp_path / "index")
    generation = Store(tmp_path / "index").open()
    assert generation.path == path == Store(tmp_path / "index").current()
    assert (path / "papers.arrow").read_text() == "content"
    assert set(generation.manifest.files) == {"papers.arrow", "words/vocabulary"}
    assert vars(generation.manifest) == vars(manifest(files=generation.manifest.files))
    assert not (tmp_path / "index" / "staging").exists()


def test_a_new_generation_takes_over_and_old_ones_go(tmp_path: Path) -> None:
    paths = [publish(tmp_path / "index", f"content {number}") for number in range(4)]
    assert [path.name for path in paths] == ["000001", "000002", "000003", "000004"]
    kept = sorted(p.name for p in paths[0].parent.iterdir())
    assert kept == ["000003", "000004"] == [path.name for path in paths[-KEPT_GENERATIONS:]]
    assert (Store(tmp_path / "index").open().path / "papers.arrow").read_text() == "content 3"


def test_the_highest_number_is_the_newest(tmp_path: Path) -> None:
    path = publish(tmp_path / "index")
    path.rename(path.with_name("999999"))
    assert publish(tmp_path / "index", "newer").name == "1000000"
    assert Store(tmp_path / "index").open().path.name == "1000000"


def test_a_build_cut_short_before_publication_leaves_the_old_index(tmp_path: Path) -> None:
    path = publish(tmp_path / "index")
    store = Store(tmp_path / "index")
    with store.writing():
        store.next.mkdir()
        (store.next / "papers.arrow").write_text("half")
    assert store.open().path == path


def test_no_index_says_how_to_build_one(tmp_path: Path) -> None:
    for root in (tmp_path / "none", tmp_path):
        assert refusal(root) == (
            f"no index at {root}; build one with: indexer build starter --index {root} "
            "(or your own corpus instead of starter)"
        )


def harm(index: Path, root: Path) -> tuple[Path, list[Path]]:
    """A copy of the index to be harmed: its root and its files."""
    shutil.copytree(index, root)
    files = sorted(file for file in (root / "generations").rglob("*") if file.is_file())
    assert len(files) >= 7
    return root, files


def test_a_flipped_bit_in_any_file_is_detected_and_the_file_named(index: Path, tmp_path: Path) -> None:
    root, files = harm(index, tmp_path / "harmed")
    choose = random.Random(1)
    for number in range(FLIPS):
        file = files[number % len(files)]
        whole = file.read_bytes()
        place = choose.randrange(len(whole))
        harmed = bytearray(whole)
        harmed[place] ^= 1 << choose.randrange(8)
        file.write_bytes(harmed)
        assert f"{file} is damaged" in refusal(root), (file.name, place)
        file.write_bytes(whole)
    Store(root).open()


def test_every_byte_of_the_manifest_is_guarded(tmp_path: Path) -> None:
    path = publish(tmp_path / "index") / "manifest.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (place % 8, 5):  # 5 turns a letter's case
            harmed = bytearray(whole)
            harmed[place] ^= 1 << bit
            with pytest.raises(UserError, match="damaged"):
                Manifest.from_bytes(bytes(harmed), path)


def test_a_file_cut_short_or_grown_is_detected_and_named(index: Path, tmp_path: Path) -> None:
    root, files = harm(index, tmp_path / "harmed")
    choose = random.Random(2)
    for number in range(CUTS):
        file = files[number % len(files)]
        whole = file.read_bytes()
        length = (0, len(whole) - 1, choose.randrange(len(whole)))[number % 3]
        file.write_bytes(whole[:length])
        assert f"{file} is damaged" in refusal(root), (file.name, length)
        file.write_bytes(whole + b"\0")
        assert f"{file} is damaged" in refusal(root)
        file.write_bytes(whole)
    Store(root).open()


def test_a_missing_file_is_named(index: Path, tmp_path: Path) -> None:
    root, files = harm(index, tmp_path / "harmed")
    for file in files:
        whole = file.read_bytes()
        file.unlink()
        assert f"{file} is missing" in refusal(root)
        file.write_bytes(whole)


def test_the_advice_is_the_command_that_built_the_index(tmp_path: Path) -> None:
    path = publish(tmp_path / "index") / "papers.arrow"
    path.write_text("Content")
    written, found = (hashlib.sha256(text).hexdigest()[:16] for text in (b"content", b"Content"))
    assert refusal(tmp_path / "index") == (
        f"{path} is damaged (sha256 {found}, written as {written}); "
        "build the index again with: indexer build 'my papers.jsonl' "
        f"--index {tmp_path / 'index'} --encoder minilm --category cs.CL --since 2015"
    )


def with_format(path: Path, number: object) -> None:
    body = json.loads((path / "manifest.json").read_bytes()) | {"format": number, "another field": 1}
    del body["sha256"]
    body["sha256"] = _digest_of(body)
    (path / "manifest.json").write_text(json.dumps(body))


@pytest.mark.parametrize(("number", "age"), [(FORMAT - 1, "an older"), (FORMAT + 1, "a newer")])
def test_another_format_is_told_from_damage(tmp_path: Path, number: int, age: str) -> None:
    path = publish(tmp_path / "index")
    with_format(path, number)
    message = refusal(tmp_path / "index")
    assert f"was written by {age} version of Citemark (format {number}, this one reads {FORMAT})" in message
    assert f"indexer build SOURCE --index {tmp_path / 'index'}" in message


@pytest.mark.parametrize("number", ["1", None, [1], {}])
def test_a_format_that_is_no_number_is_damage(tmp_path: Path, number: object) -> None:
    path = publish(tmp_path / "index")
    with_format(path, number)
    assert "is damaged" in refusal(tmp_path / "index")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b'{"sha256": 3}', b"[" * 10])
def test_a_manifest_of_something_else_is_damage(tmp_path: Path, content: bytes) -> None:
    path = publish(tmp_path / "index")
    (path / "manifest.json").write_bytes(content)
    assert "manifest.json is damaged" in refusal(tmp_path / "index")


Start = Callable[..., "subprocess.Popen[str]"]


def held(start: Start, root: Path) -> "subprocess.Popen[str]":
    """A process that holds the writer's lock."""
    holder = start("-c", HOLD, root)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_writer_is_refused_while_the_first_lives(tmp_path: Path, start: Start) -> None:
    holder = held(start, tmp_path / "index")
    with (
        pytest.raises(UserError, match="another process is building") as refused,
        Store(tmp_path / "index").writing(),
    ):
        pass
    assert str(tmp_path / "index") in str(refused.value)
    holder.communicate(timeout=30)
    assert holder.returncode == 0
    publish(tmp_path / "index")


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, start: Start) -> None:
    holder = held(start, tmp_path / "index")
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=30)
    assert holder.returncode == -signal.SIGKILL
    publish(tmp_path / "index")


def test_readers_need_no_lock(tmp_path: Path, start: Start) -> None:
    path = publish(tmp_path / "index")
    holder = held(start, tmp_path / "index")
    assert Store(tmp_path / "index").open().path == path
    holder.communicate(timeout=30)


def test_a_second_writer_leaves_the_work_of_the_first_alone(tmp_path: Path, start: Start) -> None:
    holder = held(start, tmp_path / "index")
    shard = tmp_path / "index" / "staging" / "shard"
    shard.write_text("encoded")
    with pytest.raises(UserError), Store(tmp_path / "index").writing():
        pass
    assert shard.read_text() == "encoded"
    holder.communicate(timeout=30)


def refused_writing(root: Path) -> str:
    with pytest.raises(UserError) as refused, Store(root).writing():
        pass
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "index"):
        assert refused_writing(root).startswith(f"{root}: an index cannot be written here (")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc on this system")
def test_a_folder_that_takes_no_files_is_refused() -> None:
    assert "cannot be written here" in refused_writing(Path("/proc/index"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    assert "cannot be written here (permission denied)" in refused_writing(tmp_path / "closed" / "index")


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "project" / "staging").mkdir(parents=True)
    (tmp_path / "project" / "staging" / "work").write_text("of a year")
    assert "holds other files" in refused_writing(tmp_path / "project")
    assert (tmp_path / "project" / "staging" / "work").read_text() == "of a year"
    assert [p.name for p in (tmp_path / "project").iterdir()] == ["staging"]


def test_an_empty_folder_may_become_an_index(tmp_path: Path) -> None:
    publish(tmp_path)
    Store(tmp_path).open()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"first")
    (tmp_path / "file.half").mkdir()  # in the way of the second
    with pytest.raises(OSError, match=r"file\.half"):
        write_atomically(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
