"""The index on disk: a folder of generations, each immutable once published.

    INDEX/lock                      the one writer holds it
    INDEX/staging/                  a build in progress; what it finished is reused by the next
    INDEX/generations/000001/       a published index: manifest.json and the files it lists

A build fills `staging/next`, writes the manifest with the sha256 of every file, flushes all of it to
the disk and renames the folder to the next number: that rename is the publication. Readers open the
highest number and keep it; a crash leaves either the old generations or the new one as well. Nothing
else in the project opens these files by path.
"""

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin

from filelock import FileLock, Timeout

from data.errors import UserError

FORMAT = 1
METRIC = "inner product of unit vectors"
MAP = "map.arrow"  # of the papers; only where it was asked for, see indexer.atlas
LATER = ("vectors",)  # facts that came after the first generations of this format were written
KEPT_GENERATIONS = 2  # the current one, and the one that a reader may be opening


@dataclass(frozen=True)
class Manifest:
    """What a generation is: enough to refuse it, to describe it and to find every damaged byte."""

    papers: int
    dimension: int
    metric: str
    encoder: str
    encoder_fingerprint: str
    precision: str
    text_form: str
    source: str
    kept: dict[str, Any]
    corpus_hash: str
    created: str
    seconds: float
    reading: dict[str, Any] = field(default_factory=dict)
    vectors: dict[str, Any] = field(default_factory=dict)  # how they are searched: see indexer.kinds
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def updates(self) -> list[dict[str, Any]]:
        """The updates since the corpus was last read whole: the source, the counts and the time of each."""
        updates: list[dict[str, Any]] = self.reading.get("updates", [])
        return updates

    @property
    def mapped(self) -> bool:
        """Whether the generation has a map of its papers."""
        return MAP in self.files

    @property
    def contexts(self) -> dict[str, Any]:
        """The known citations of the build: their source and counts; empty where it had none."""
        contexts: dict[str, Any] = self.reading.get("contexts", {})
        return contexts

    def to_bytes(self) -> bytes:
        """JSON with a digest of itself, the same bytes for the same manifest."""
        return _sealed(asdict(self))

    @classmethod
    def from_bytes(cls, raw: bytes, path: Path) -> "Manifest":
        """The inverse; raises UserError for a damaged manifest and for one of another format.

        Every format is one JSON object with its `format` and, under `sha256`, the digest of the rest.
        """
        root, why = path.parents[2], "it is no manifest"
        try:
            body = json.loads(raw)
            written, found = body.pop("sha256"), _digest_of(body)
            if found != written:
                raise _damaged(path, root, _differ(found, written))
            why = "it is incomplete"
            if body["format"] != FORMAT:
                age = "an older" if body["format"] < FORMAT else "a newer"
                raise UserError(
                    f"{path} was written by {age} version of Citemark (format {body['format']}, this one "
                    f"reads {FORMAT}); {rebuild(root)}"
                )
            names = [f.name for f in fields(cls) if f.name in body or f.name not in LATER]
            manifest = cls(**{name: body[name] for name in names})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _damaged(path, root, why) from None
        whole = len(names) == len(body) and _sealed(body) == raw
        why = manifest._mistyped() if whole else "another layout"
        if why:
            raise _damaged(path, root, why)
        return manifest

    def _mistyped(self) -> str:
        """The first field whose value is of another kind than declared, or nothing."""
        for f in fields(self):
            kind, value = get_origin(f.type) or f.type, getattr(self, f.name)
            if type(value) is not kind:
                return f"{f.name} is {json.dumps(value)[:80]}, expected {getattr(kind, '__name__', kind)}"
        return ""


def _sealed(body: dict[str, Any]) -> bytes:
    return json.dumps(body | {"sha256": _digest_of(body)}, indent=1, sort_keys=True).encode()


def _digest_of(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _differ(found: object, written: object) -> str:
    return f"sha256 {str(found)[:16]}, written as {str(written)[:16]}"


def _damaged(path: Path, root: Path, why: str, manifest: Manifest | None = None) -> UserError:
    state = f"damaged ({why})" if path.exists() else "missing"
    return UserError(f"{path} is {state}; {rebuild(root, manifest)}")


def rebuild(root: Path, manifest: Manifest | None = None) -> str:
    """The advice to build the index again, with the command that built it where the manifest tells."""
    words = build_arguments(root, manifest) if manifest else ["build", "SOURCE", "--index", str(root)]
    updates = [made["source"] for made in manifest.updates if made["source"]] if manifest else []
    after = f", then update it with {' and '.join(updates)}" if updates else ""
    return f"build the index again with: {shlex.join(['indexer', *words])}{after}"


def build_arguments(root: Path, manifest: Manifest) -> list[str]:
    """The arguments of the `indexer` command that built the index."""
    words = ["build", manifest.source, "--index", str(root), "--encoder", manifest.encoder]
    if manifest.vectors.get("asked", "auto") != "auto":
        words += ["--vectors", manifest.vectors["asked"]]
    for category in manifest.kept.get("categories", ()):
        words += ["--category", category]
    for name in ("since", "until"):
        if manifest.kept.get(name) is not None:
            words += [f"--{name}", str(manifest.kept[name])]
    if manifest.contexts:
        words += ["--contexts", manifest.contexts["source"]]
    for author in manifest.kept.get("authors", ()):
        words += ["--author", author]
    return [*words, *["--map"] * manifest.mapped]


@dataclass(frozen=True)
class Generation:
    """A published index, verified: its folder and its manifest."""

    path: Path
    manifest: Manifest


def must_fit(generation: Generation, root: Path, fingerprint: str, name: str, text_form: str) -> None:
    """Raise UserError for an encoder other than the one that the generation was built with."""
    manifest = generation.manifest
    for what, ours, theirs in (
        ("encoder", fingerprint, manifest.encoder_fingerprint),
        ("text form", text_form, manifest.text_form),
    ):
        if ours != theirs:
            raise UserError(
                f"{generation.path} was built with {what} {theirs} ({manifest.encoder}), this is "
                f"{ours} ({name}); {rebuild(root, manifest)}"
            )


class Store:
    """The folder of an index."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = root / "staging"
        self._generations = root / "generations"

    def current(self) -> Path | None:
        """The folder of the newest published generation, or None. Cheap: safe to ask before a query."""
        numbers = self._numbers()
        return self._generations / numbers[-1] if numbers else None

    def open(self) -> Generation:
        """The newest generation, after every byte of it was checked against its manifest.

        Raises UserError if there is none, if it is damaged, or if another format wrote it.
        """
        for _ in range(10):  # a writer may remove an old generation between the listing and the reading
            path = self.current()
            if path is None:
                raise UserError(
                    f"no index at {self.root}; build one with: "
                    f"{shlex.join(['indexer', 'build', 'starter', '--index', str(self.root)])} "
                    "(or your own corpus instead of starter)"
                )
            try:
                return self._verified(path)
            except UserError:
                if path == self.current():
                    raise
        raise UserError(f"{self.root} changes faster than it can be read; try again")

    def _verified(self, path: Path) -> Generation:
        manifest_path = path / "manifest.json"
        try:
            manifest = Manifest.from_bytes(manifest_path.read_bytes(), manifest_path)
        except OSError:
            raise _damaged(manifest_path, self.root, "it cannot be read") from None
        with ThreadPoolExecutor() as pool:
            for name, digest in zip(
                manifest.files, pool.map(lambda n: _digest(path / n), manifest.files), strict=True
            ):
                if digest != manifest.files[name]["sha256"]:
                    why = _differ(digest, manifest.files[name]["sha256"])
                    raise _damaged(path / name, self.root, why, manifest)
        return Generation(path, manifest)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writer's lock, which the system frees when its holder dies.

        Raises UserError when another process holds it, the folder cannot be written, or it holds
        files that are no index's.
        """
        lock = FileLock(self.root / "lock")
        try:
            self._own()
            lock.acquire(blocking=False)
            self.staging.mkdir(exist_ok=True)
        except Timeout:
            raise UserError(
                f"another process is building {self.root}; wait for it, or use another --index"
            ) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(
                f"{self.root}: an index cannot be written here ({reason}); choose another --index"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _own(self) -> None:
        """Make the index's folders; refuse a folder of other things, of which `staging` might be one."""
        if self.root.is_dir() and not self._generations.is_dir() and any(self.root.iterdir()):
            raise UserError(f"{self.root} holds other files; give --index a new or empty folder")
        self._generations.mkdir(parents=True, exist_ok=True)
        sync(self.root)

    @property
    def next(self) -> Path:
        """Where a build puts the files of the generation to come."""
        return self.staging / "next"

    def take_over(self, generation: Generation) -> None:
        """Put a generation's files into `next`: as they never change, by links where the disk has these."""
        shutil.rmtree(self.next, ignore_errors=True)
        for name in generation.manifest.files:
            source, target = generation.path / name, self.next / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(source)
            except OSError:
                shutil.copyfile(source, target)

    def publish(self, manifest: Manifest) -> Generation:
        """Make `next` the newest generation; the manifest's `files` is filled in here."""
        names = sorted(str(f.relative_to(self.next)) for f in self.next.rglob("*") if f.is_file())
        names = [n for n in names if n != "manifest.json"]
        listed = {
            n: {"bytes": (self.next / n).stat().st_size, "sha256": _digest(self.next / n)} for n in names
        }
        whole = Manifest(**(vars(manifest) | {"files": listed}))
        (self.next / "manifest.json").write_bytes(whole.to_bytes())
        for file in (*self.next.rglob("*"), self.next):
            sync(file)
        numbers = self._numbers()
        target = self._generations / f"{int(numbers[-1] if numbers else 0) + 1:06d}"
        self.next.rename(target)
        sync(self._generations)
        with suppress(OSError):  # a reader finds the whole of an old generation or nothing
            for old in self._numbers()[:-KEPT_GENERATIONS]:
                (self._generations / old).rename(self.staging / f"old-{old}")
        shutil.rmtree(self.staging, ignore_errors=True)
        return Generation(target, whole)

    def _numbers(self) -> list[str]:
        try:
            return sorted((p.name for p in self._generations.iterdir() if p.name.isdecimal()), key=int)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"{self._generations} cannot be read ({error.strerror})") from None


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
