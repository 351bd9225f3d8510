"""The weights that ship with the project: what training added to the embedded base, in thirteen megabytes.

A fine-tuned query encoder is its base and a difference. The file keeps the differences of its layers'
matrices in 8 bits with a scale for each row, those of its vectors and the documents' adapter in half
precision. Word vectors are the base's. Half precision for all would be 23 MB with the same recall;
differences of low rank are smaller and lose some: of hit@10 .515 on dev, .504 is left with rank 64
(6.6 MB) and .490 with rank 32 (3.9 MB).

`python -m model.shipped FOLDER…` makes the file from folders that `python -m model.train` wrote with
`--frozen-documents --document-adapter N --freeze-words` and the default base.
"""

import hashlib
from collections.abc import Sequence
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
SHA256 = "a1ab43012fdbdc69d00c734e046ac166457a224d46bcddec8b46506fc8cd848e"
STRENGTH = 1.0
"""On dev hit@10 is .505 with it, and .283 for papers that training does not cite; .482 and .292 with .7."""
QUERY_PART, DOCUMENT_PART, WORDS, SCALE = "query.", "document.", "embeddings.", ".scale"


def load(base: "SentenceTransformer") -> "SentenceTransformer":
    """The base with the shipped weights added.

    Raises UserError where the file is missing or is not the one that was shipped.
    """
    raw = read_shipped(FILE, SHA256, "install citemark again, or build and search with --encoder minilm")
    return _joined(base, raw)


def marks() -> Marks:
    """The text form that the weights were trained with."""
    from safetensors import safe_open

    with safe_open(FILE, "pt") as file:
        return cast(Marks, file.metadata()["marks"])


def digest(raw: bytes) -> str:
    """What SHA256 has to be for a file of these bytes."""
    return hashlib.sha256(raw).hexdigest()


def _joined(base: "SentenceTransformer", raw: bytes) -> "SentenceTransformer":
    """A model of two branches: the base with a file's differences for queries, its adapter for documents."""
    import torch
    from safetensors.torch import load as read
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Module, Router

    from model.adapter import Adapter

    tensors = {name: tensor.float() for name, tensor in read(raw).items()}
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


def pack(folders: Sequence[Path], strength: float = STRENGTH) -> bytes:
    """The file's bytes for one trained model folder, or for several, which become one model.

    Of several trainings from one base the mean of the queries' weights ranks better than each (arXiv
    2203.05482), at the cost of one. Their adapters stand side by side in one network, whose hidden units are
    those of all of them. It moves the documents by `strength` times the mean of what they were trained to:
    weights between the base's and the trained ones keep more of what the base does well (arXiv 2109.01903).

    Raises UserError for a folder that was trained in another way.
    """
    import torch
    from safetensors.torch import save

    from model.encoder import MINILM_FILES, Encoder
    from model.text import read_marks

    base = dict(_network([Encoder("minilm", "cpu", "fp32").model[0]]).named_parameters())
    trained = [_trained(folder, base) for folder in folders]
    forms = {read_marks(folder) for folder in folders}
    if len(forms) > 1:
        raise UserError(
            f"{folders[0]}: the folders were trained with different --marks; give such of one form"
        )
    tensors = {}
    for name in base:
        change = torch.stack([changes[name] for changes, _ in trained]).mean(dim=0)
        if not change.any():
            continue
        if change.ndim == 2:
            scale = change.abs().amax(dim=1, keepdim=True).clamp_min(1e-8) / 127
            tensors[f"{QUERY_PART}{name}{SCALE}"] = scale
            tensors[f"{QUERY_PART}{name}"] = (change / scale).round().to(torch.int8)
        else:
            tensors[f"{QUERY_PART}{name}"] = change.half()
    each = strength / len(trained)
    adapters = [adapter for _, adapter in trained]
    joined = {
        "up.weight": torch.cat([a["up.weight"] for a in adapters]),
        "up.bias": torch.cat([a["up.bias"] for a in adapters]),
        "down.weight": torch.cat([a["down.weight"] * each for a in adapters], dim=1),
        "down.bias": torch.stack([a["down.bias"] * each for a in adapters]).sum(dim=0),
    }
    tensors |= {f"{DOCUMENT_PART}{name}": part.half().contiguous() for name, part in joined.items()}
    return save(tensors, {"marks": forms.pop(), "base": MINILM_FILES["model.safetensors"]})


def write_folder(raw: bytes, form: Marks, folder: Path) -> None:
    """Write what `pack` made as a model folder: an encoder as it would ship, beside the one that does."""
    from model.encoder import Encoder
    from model.text import write_marks

    model = _joined(Encoder("minilm", "cpu", "fp32").model, raw)
    model.save_pretrained(str(folder), create_model_card=False)
    write_marks(folder, form)


def _trained(folder: Path, base: "dict[str, Any]") -> "tuple[dict[str, Tensor], dict[str, Tensor]]":
    """What training added to the parameters of the base, and the weights of its adapter."""
    from safetensors.torch import load_file

    from model.adapter import from_dense

    try:
        query = load_file(folder / "query_0_Transformer" / "model.safetensors")
        dense = [load_file(folder / f"document_{n}_Dense" / "model.safetensors") for n in (3, 4)]
    except OSError as error:
        raise UserError(
            f"{folder}: {error}; give a folder of model.train with --frozen-documents --document-adapter N"
        ) from None
    changes = {name: query[name] - before.detach() for name, before in base.items()}
    if any(change.any() for name, change in changes.items() if name.startswith(WORDS)):
        raise UserError(f"{folder}: its word vectors were trained; train with --freeze-words")
    return changes, from_dense(*dense)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--strength", type=click.FloatRange(0, 1), default=STRENGTH, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=FILE, show_default=True)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Write a model folder instead, for --encoder."
)
def main(folders: tuple[Path, ...], strength: float, out: Path, folder: Path | None) -> None:
    """Make the file of weights from trained model FOLDERS, the mean of several; prints the digest that
    SHA256 has to be."""
    from model.text import read_marks

    try:
        raw = pack(folders, strength)
        if folder:
            write_folder(raw, read_marks(folders[0]), folder)
            return
    except UserError as error:
        raise click.ClickException(str(error)) from None
    out.write_bytes(raw)
    click.echo(f"{out}: {len(raw):,} bytes, sha256 {digest(raw)}")


if __name__ == "__main__":
    main()
