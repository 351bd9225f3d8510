"""The vectors of documents that stay as they are, encoded once and kept on disk."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.paper import Paper
from model.encoder import Encoder
from model.text import passage_text

SHARD = 2048  # documents; a kill costs at most the encoding of so many

Progress = Callable[[str, int, int, str], None]


def document_vectors(
    encoder: Encoder, papers: Sequence[Paper], folder: Path, progress: Progress
) -> NDArray[np.float16]:
    """Unit vectors of the papers, shape (len(papers), dimension).

    Shards are kept in `folder` under a digest of the encoder's fingerprint and the texts, so that the
    next training with the same encoder and corpus, or the rest of a killed one, finds them.
    Raises UserError where the folder cannot be written.
    """
    parts = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(papers), SHARD):
            members = papers[start : start + SHARD]
            parts.append(_shard(encoder, members, folder))
            progress("document vectors", start + len(members), len(papers), " papers")
    except OSError as error:
        raise UserError(
            f"{folder}: the document vectors cannot be kept ({error.strerror or error}); give --vectors"
        ) from error
    return np.concatenate(parts)


def _shard(encoder: Encoder, members: Sequence[Paper], folder: Path) -> NDArray[np.float16]:
    key = hashlib.sha256(f"{encoder.fingerprint} {encoder.precision}".encode())
    for paper in members:
        key.update(passage_text(paper).encode() + b"\0")
    file = folder / f"{key.hexdigest()[:24]}.npy"
    try:
        kept = np.load(file, allow_pickle=False)
        if kept.shape == (len(members), encoder.dimension) and np.isfinite(kept).all():
            return np.asarray(kept, np.float16)
    except (FileNotFoundError, ValueError, EOFError):
        pass  # not there, or cut short by a kill
    vectors = encoder.encode_papers(members).astype(np.float16)
    half = file.with_suffix(".half")
    with half.open("wb") as stream:
        np.save(stream, vectors)
    half.replace(file)
    return vectors
