"""The weights that ship with the project: what training added to the embedded base, in twelve megabytes.

A fine-tuned query encoder is its base and a difference. The file keeps the differences of its layers'
matrices in 8 bits with a scale for each row, those of its vectors and the documents' adapter in half
precision. Word vectors are the base's. Half precision for all would be 23 MB with the same recall;
differences of low rank are smaller and lose some: of hit@10 .515 on dev, .504 is left with rank 64
(6.6 MB) and .490 with rank 32 (3.9 MB).

`python -m model.shipped FOLDER` makes the file from a folder that `python -m model.train` wrote with
`--frozen-documents --document-adapter N --freeze-words` and the default base.
"""

import hashlib
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from data.errors import UserError
from data.files import read_shipped
from model.text import Marks

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

FILE = Path(__file__).parent / "weights" / "citemark.safetensors"
SHA256 = "a9d60283f130798f32eafe51ad3b1acdb2172c2778e676085aad6846de055428"
STRENGTH = 0.7  # on dev: hit@10 .526 to .515 overall, .255 to .281 for papers that training does not cite
QUERY_PART, DOCUMENT_PART, WORDS, SCALE = "query.", "document.", "embeddings.", ".scale"


def load(base: "SentenceTransformer") -> "SentenceTransformer":
    """The base with the shipped weights added.

    Raises UserError where the file is missing or is not the one that was shipped.
    """
    from safetensors.torch import load as read

    raw = read_shipped(FILE, SHA256, "install citemark again, or build and search with --encoder minilm")
    return _joined(base, {name: tensor.float() for name, tensor in read(raw).items()})


def marks() -> Marks:
    """The text form that the weights were trained with."""
    from safetensors import safe_open

    with safe_open(FILE, "pt") as file:
        return cast(Marks, file.metadata()["marks"])


def digest(raw: bytes) -> str:
    """What SHA256 has to be for a file of these bytes."""
    return hashlib.sha256(raw).hexdigest()


def _joined(base: "SentenceTransformer", tensors: dict[str, "Tensor"]) -> "SentenceTransformer":
    """A model of two branches: the base with the differences for queries, with the adapter for documents."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Module, Router

    from model.adapter import Adapter

    document = [cast(Module, module) for module in base.children()]
    words = {id(p): p for name, p in _network(document).named_parameters() if name.startswith(WORDS)}
    query = deepcopy(document, dict(words))  # both branches share these
    with torch.no_grad():
        for name, parameter in _network(query).named_parameters():
            parameter += _difference(tensors, QUERY_PART + name)
    adapter = Adapter(*reversed(tensors[f"{DOCUMENT_PART}up.weight"].shape))
    adapter.load_state_dict(
        {n.removeprefix(DOCUMENT_PART): t for n, t in tensors.items() if n.startswith(DOCUMENT_PART)}
    )
    router = Router.for_query_document(query, [*document, *adapter.as_dense()])
    model = SentenceTransformer(modules=[router], device=str(base.device))
    model.max_seq_length = base.max_seq_length
    return model


def _network(branch: list[Any]) -> Any:
    """The transformer of a branch, whose parameters are named as in its files."""
    return branch[0].auto_model


def _difference(tensors: dict[str, "Tensor"], name: str) -> Any:
    """What training added to a parameter; 0 where it was left alone."""
    if name not in tensors:
        return 0.0
    return tensors[name] * tensors.get(f"{name}{SCALE}", 1.0)


def pack(folder: Path, strength: float = STRENGTH) -> bytes:
    """The file's bytes for a trained model folder.

    The adapter moves the documents by `strength` times what it was trained to: weights between the base's
    and the trained ones keep more of what the base does well (arXiv 2109.01903).

    Raises UserError for a folder that was trained in another way.
    """
    import torch
    from safetensors.torch import load_file, save

    from model.adapter import from_dense
    from model.encoder import MINILM_FILES, Encoder
    from model.text import read_marks

    base = dict(_network([Encoder("minilm", "cpu", "fp32").model[0]]).named_parameters())
    try:
        query = load_file(folder / "query_0_Transformer" / "model.safetensors")
        dense = [load_file(folder / f"document_{n}_Dense" / "model.safetensors") for n in (3, 4)]
    except OSError as error:
        raise UserError(
            f"{folder}: {error}; give a folder of model.train with --frozen-documents --document-adapter N"
        ) from None
    tensors = {}
    for name, before in base.items():
        change = query[name] - before.detach()
        if not change.any():
            continue
        if name.startswith(WORDS):
            raise UserError(f"{folder}: its word vectors were trained; train with --freeze-words")
        if change.ndim == 2:
            scale = change.abs().amax(dim=1, keepdim=True).clamp_min(1e-8) / 127
            tensors[f"{QUERY_PART}{name}{SCALE}"] = scale
            tensors[f"{QUERY_PART}{name}"] = (change / scale).round().to(torch.int8)
        else:
            tensors[f"{QUERY_PART}{name}"] = change.half()
    for name, tensor in from_dense(*dense).items():
        part = tensor * strength if name.startswith("down") else tensor
        tensors[f"{DOCUMENT_PART}{name}"] = part.half().contiguous()
    return save(tensors, {"marks": read_marks(folder), "base": MINILM_FILES["model.safetensors"]})


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--strength", type=click.FloatRange(0, 1), default=STRENGTH, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=FILE, show_default=True)
def main(folder: Path, strength: float, out: Path) -> None:
    """Make the file of weights from a trained model FOLDER; prints the digest that SHA256 has to be."""
    try:
        raw = pack(folder, strength)
    except UserError as error:
        raise click.ClickException(str(error)) from None
    out.write_bytes(raw)
    click.echo(f"{out}: {len(raw):,} bytes, sha256 {digest(raw)}")


if __name__ == "__main__":
    main()
