"""The FAISS index of a corpus's vectors: exact, half precision on disk and in memory, GPU or CPU."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from model.encoder import Vectors

Rows = NDArray[np.int64]
MAX_GPU_K = 2048


def write(path: Path, dimension: int, blocks: Iterable[Vectors]) -> int:
    """Write an exact inner-product index of the vectors, as 16-bit floats; the number written.

    Raises UserError for a block of another dimension or with a value that is not finite, which
    FAISS itself would take without a word and lose.
    """
    index = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != dimension:
            raise UserError(f"vectors of shape {block.shape} for an index of {dimension} dimensions")
        if not np.isfinite(block).all():
            raise UserError("a vector with a value that is not finite; encode the corpus again")
        index.add(np.ascontiguousarray(block, np.float32))
    with path.open("wb") as file:  # FAISS's own writer closes a file that met a full disk without a word
        try:
            writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined]  # not in its stubs
            faiss.write_index(index, writer)
        except RuntimeError as error:
            raise OSError(f"{path.name}: FAISS could not write {index.ntotal:,} vectors") from error
    return int(index.ntotal)


class VectorIndex:
    """The vectors of one generation, ready to be searched.

    On a GPU that FAISS sees the vectors are copied to it (`device` auto or cuda); the scores agree
    with the CPU's within float error. Raises UserError for `cuda` where there is none.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        gpus = getattr(faiss, "get_num_gpus", int)()
        if device == "cuda" and not gpus:
            raise UserError(
                "device is cuda, but faiss sees no GPU; use --device cpu, or install the gpu extra: "
                "pip uninstall faiss-cpu; pip install 'citemark[gpu]'"
            )
        stored: Any = faiss.read_index(str(path))
        self._stored = stored  # owns the memory that _halves looks at
        self._index: Any = stored
        self.dimension = int(stored.d)
        self._count = int(stored.ntotal)
        codes = faiss.rev_swig_ptr(stored.codes.data(), stored.codes.size())
        self._halves = codes.view(np.float16).reshape(self._count, self.dimension)
        self.device = "cuda" if gpus and device != "cpu" else "cpu"
        if self.device == "cuda":
            self._to_gpu()

    def __len__(self) -> int:
        return self._count

    def _to_gpu(self) -> None:
        config = faiss.GpuIndexFlatConfig()
        config.useFloat16 = True
        self._resources = faiss.StandardGpuResources()
        on_gpu = faiss.GpuIndexFlatIP(self._resources, self.dimension, config)
        for start in range(0, self._count, 1 << 18):
            on_gpu.add(self._halves[start : start + (1 << 18)].astype(np.float32))
        self._index = on_gpu

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Rows]:
        """The k nearest rows of each query by inner product: (scores, rows), best first.

        Both have shape (len(queries), min(k, len(self))). Raises UserError for queries of another
        dimension or not finite, or a k that the device cannot answer.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise UserError(f"queries of shape {queries.shape} for an index of {self.dimension} dimensions")
        if not np.isfinite(queries).all():
            raise UserError("a query vector with a value that is not finite; use another encoder")
        k = min(k, self._count)
        if self.device == "cuda" and k > MAX_GPU_K:
            raise UserError(f"k is {k}; a GPU index answers at most {MAX_GPU_K}")
        scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        return scores, rows

    def stored(self, rows: Sequence[int]) -> Vectors:
        """The vectors of these rows as the index holds them, shape (len(rows), dimension)."""
        return self._halves[np.asarray(rows, np.int64)].astype(np.float32)

    def score(self, query: Vectors, rows: Sequence[int]) -> Vectors:
        """The inner products of one query, shape (dimension,), with these rows, shape (len(rows),)."""
        return np.asarray(self._halves[np.asarray(rows, np.int64)].astype(np.float32) @ query)
