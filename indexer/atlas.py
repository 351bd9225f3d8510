"""The map of a corpus: a sample of its papers as points, near each other where their vectors are.

t-SNE (van der Maaten and Hinton, 2008) by scikit-learn, which is there with the encoder. A map is a file
of its generation, drawn where it was asked for; it decides nothing about what a search finds.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.errors import UserError
from data.table import PaperTable
from indexer.shards import Progress
from indexer.store import MAP, Generation, Store
from indexer.vectors import Rows, VectorIndex, VectorSource
from model.encoder import Vectors

Points = NDArray[np.float32]
SAMPLED = 3000  # papers: more take minutes to place and hide each other
FEW = 10  # papers that t-SNE has nothing to say about
COMPONENTS = 50  # of the vectors, that t-SNE is given
PERPLEXITY = 30.0
STEPS = 1000
NEAR = 5  # sampled papers that say where another one belongs
SPREAD = 0.05  # difference of two cosines by which the nearer one counts e times as much
SCHEMA = pa.schema([("row", pa.int64()), ("x", pa.float32()), ("y", pa.float32())])
STEP = re.compile(r"Iteration (\d+)")


@dataclass(frozen=True)
class Map:
    """The sampled rows of a table of `papers` rows, in order, and their points, shape (len(rows), 2)."""

    rows: Rows
    points: Points
    papers: int


def add(root: Path, progress: Progress) -> Generation:
    """Publish the newest generation once more, with its map; one that has a map stays as it is.

    Raises UserError for an index that cannot be read, and a busy or unwritable `root`.
    """
    store = Store(root)
    if store.current() is None:
        store.open()  # says how to build one
    with store.writing():
        try:
            current = store.open()
            if current.manifest.mapped:
                return current
            store.take_over(current)
            draw(store.next, progress)
            return store.publish(current.manifest)
        except OSError as error:
            raise UserError(
                f"{root}: the map cannot be written ({error.strerror or error}); free space and run the "
                "same command again"
            ) from error


def draw(folder: Path, progress: Progress, before: Path | None = None) -> None:
    """Draw the map of the papers and vectors in the folder of a generation to come.

    The sample is the same whatever the order of the papers; where the generation in the folder `before`
    has it with the same vectors, its points stay.
    """
    ids = PaperTable(folder / "papers.arrow").ids()
    rows = sample(ids)
    vectors = VectorIndex(folder / "vectors.faiss").stored(rows)
    points = _points_of(before, [ids[row] for row in rows], vectors) if before else None
    if points is None:
        points = project(vectors, progress)
    columns = [pa.array(column) for column in (rows, points[:, 0], points[:, 1])]
    schema = SCHEMA.with_metadata({"papers": str(len(ids))})
    with pa.ipc.new_file(str(folder / MAP), schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))


def read(folder: Path) -> Map:
    """The map in the folder of a generation."""
    with pa.OSFile(str(folder / MAP)) as file:
        table = pa.ipc.open_file(file).read_all()
    rows, x, y = (np.asarray(table[name]) for name in ("row", "x", "y"))
    return Map(rows, np.column_stack([x, y]), int(table.schema.metadata[b"papers"]))


def sample(paper_ids: Sequence[str]) -> Rows:
    """SAMPLED rows in order, by digests of the ids: of a changed corpus nearly the same papers again."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in paper_ids)
    keys = np.frombuffer(b"".join(digests), np.uint64)
    return np.sort(np.argsort(keys, kind="stable")[:SAMPLED]).astype(np.int64)


def project(vectors: Vectors, progress: Progress) -> Points:
    """A point for each vector, in the middle of the map the mean of all; the same at each call."""
    if len(vectors) <= FEW:
        return _flat(vectors, 2)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    network: Any = TSNE(
        perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3),
        init="pca",
        random_state=0,
        max_iter=STEPS,
        verbose=2,
    )
    progress("map", 0, STEPS, " steps")
    # One thread: several add up in an order of their own, and the points would differ.
    with threadpool_limits(1), redirect_stdout(_Steps(progress)):
        points = network.fit_transform(_flat(vectors, min(COMPONENTS, *vectors.shape)))
    progress("map", STEPS, STEPS, " steps")
    return np.asarray(points - points.mean(axis=0), np.float32)


def place(known: Map, source: VectorSource, rows: Sequence[int]) -> Points:
    """A point for each row: its own where it is sampled, else amid the sampled papers nearest to it."""
    wanted = np.asarray(rows, np.int64)
    places = np.minimum(np.searchsorted(known.rows, wanted), len(known.rows) - 1)
    points = known.points[places].copy()
    others = np.flatnonzero(known.rows[places] != wanted)
    if len(others):
        nearness = source.stored(wanted[others]) @ source.stored(known.rows).T
        nearest = np.argsort(-nearness, axis=1, kind="stable")[:, :NEAR]
        weight = np.take_along_axis(nearness, nearest, axis=1)
        weight = np.exp((weight - weight[:, :1]) / SPREAD)[..., None]
        points[others] = (known.points[nearest] * weight).sum(axis=1) / weight.sum(axis=1)
    return points


def _flat(vectors: Vectors, dimension: int) -> Points:
    """The principal components of vectors, with zeros for those that there are not."""
    centred = vectors - vectors.mean(axis=0)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])  # else left to the machine
    components = (left * sizes * signs)[:, :dimension]
    return np.pad(components, ((0, 0), (0, dimension - components.shape[1]))).astype(np.float32)


def _points_of(folder: Path, paper_ids: list[str], vectors: Vectors) -> Points | None:
    """The points of the older map in the folder, if it is of these papers with these vectors."""
    old = read(folder)
    known = PaperTable(folder / "papers.arrow").ids()
    if [known[row] for row in old.rows] != paper_ids:
        return None
    same = np.array_equal(VectorIndex(folder / "vectors.faiss").stored(old.rows), vectors)
    return old.points if same else None


class _Steps(io.TextIOBase):
    """Takes what t-SNE prints of its steps, the only way in which it tells them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write(self, text: str) -> int:
        found = STEP.search(text)
        if found:
            self._progress("map", int(found[1]), STEPS, " steps")
        return len(text)
