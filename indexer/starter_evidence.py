"""What ships of how others cite the papers of the starter corpus: vectors, and nobody's sentence.

The file holds, for one encoder, the mean of the vectors of the contexts that cite each paper and some of
those vectors, in 8 bits. `python -m indexer.starter_evidence CONTEXTS` makes it where real citations lie.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from data.contexts import Citation
from data.corpus import STARTER
from data.errors import UserError
from data.files import read_shipped
from indexer.evidence import Known
from model.encoder import Vectors

FILE = STARTER.parent / "evidence.safetensors"
SHA256 = "ba483a0a12308beab2b25a2c1e84a3444d618bddb4d2c0e4b45fa6a6e19f3876"
KEPT = 8  # contexts of a paper, at most


def load(fingerprint: str) -> Known | None:
    """The known citations of the starter corpus; None for an encoder other than that of the file.

    Raises UserError where the file is missing or is not the one that was shipped.
    """
    from safetensors import safe_open
    from safetensors.numpy import load as read

    raw = read_shipped(FILE, SHA256, "install citemark again")
    with safe_open(FILE, "np") as file:
        told = file.metadata()
    if told["encoder"] != fingerprint:
        return None
    tensors = read(raw)
    ids: list[str] = json.loads(told["ids"])
    kept = tensors["kept"].astype(np.int64)
    citations = [Citation(cited, "", "") for cited in np.repeat(ids, kept).tolist()]
    return Known(
        ids,
        tensors["cited"].astype(np.int64),
        kept,
        _unit(tensors["profiles"]),
        tensors["norms"].astype(np.float64),
        citations,
        _unit(tensors["contexts"]),
    )


def pack(known: Known, fingerprint: str) -> bytes:
    """The file's bytes: of each paper's contexts KEPT at most, evenly drawn."""
    from safetensors.numpy import save

    starts = np.cumsum(known.kept) - known.kept
    rows = [
        start + np.unique(np.linspace(0, count - 1, min(count, KEPT)).round().astype(np.int64))
        for start, count in zip(starts.tolist(), known.kept.tolist(), strict=True)
    ]
    tensors: dict[str, NDArray[Any]] = {
        "cited": known.cited.astype(np.int32),
        "kept": np.array([len(r) for r in rows], np.int32),
        "norms": known.norms.astype(np.float32),
        "profiles": _bytes(known.profiles),
        "contexts": _bytes(known.vectors[np.concatenate(rows)]),
    }
    return save(tensors, {"ids": json.dumps(known.ids), "encoder": fingerprint})


def _bytes(vectors: Vectors) -> NDArray[np.int8]:
    return np.asarray((127 * vectors / np.abs(vectors).max(axis=1, keepdims=True)).round(), np.int8)


def _unit(stored: NDArray[np.int8]) -> Vectors:
    vectors = stored.astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@click.command()
@click.argument("contexts")
@click.option("--index", type=click.Path(path_type=Path), required=True, help="One of the starter corpus.")
@click.option("--out", type=click.Path(path_type=Path), default=FILE, show_default=True)
def main(contexts: str, index: Path, out: Path) -> None:
    """Make the file from a file of CONTEXTS; prints the digest that SHA256 has to be."""
    from tempfile import TemporaryDirectory

    from data.table import PaperTable
    from indexer import evidence
    from indexer.progress import Bars
    from indexer.store import Store
    from model.encoder import Encoder

    try:
        generation = Store(index).open()
        encoder = Encoder(generation.manifest.encoder)
        found, _ = evidence.read(contexts)
        there = set(PaperTable(generation.path / "papers.arrow").ids())
        every = [citation for citation in found if citation.cited_id in there]
        with TemporaryDirectory() as folder, Bars() as bars:
            known = evidence.known(every, evidence.encoded(every, encoder, Path(folder), bars))
    except UserError as error:
        raise click.ClickException(str(error)) from None
    raw = pack(known, encoder.fingerprint)
    out.write_bytes(raw)
    click.echo(f"{len(every):,} citations of {len(known.ids):,} papers")
    click.echo(f"{out}: {len(raw):,} bytes, sha256 {hashlib.sha256(raw).hexdigest()}")


if __name__ == "__main__":
    main()
