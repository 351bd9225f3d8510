"""The reranker: a cross-encoder, which reads a context and a paper together and says how well they fit.

An encoder has to say everything about a paper in one vector before it knows the question; a reranker sees
both texts at once and knows more, at a forward pass for each pair. It is for the first few dozen of a
ranking.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.contexts import Context
from data.errors import UserError, first_line
from data.paper import Paper
from model.encoder import (
    MINILM,
    Encoder,
    Vectors,
    computes_bf16,
    fingerprint,
    model_files,
    refuse_pickles,
)
from model.text import PAIR_FORM, pair_texts

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder
    from torch import nn

MAX_TOKENS = 160  # of a pair whose words are unusual; most have 90
HEAD = "2.linear"  # the last layer of `headed`, which computes in full precision


class Reranker:
    """Pairs of context and paper to logits.

    `name` is a folder that `python -m model.train_reranker` wrote; only safetensors weights are loaded,
    and no code that comes with a model is run. `device` and `precision` are those of an Encoder.

    Raises UserError where the model cannot be loaded.
    """

    def __init__(self, name: str, device: str = "auto", precision: str = "auto") -> None:
        import torch

        found = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = found if device == "auto" else device
        self.name = str(Path(name).resolve())
        self._model = _load(name, self.device)
        self._model.eval()
        self.fingerprint = fingerprint(self._model, f"pair {PAIR_FORM}")
        """Digest (hex, 64 bits) of weights, tokenizer and text form: equal ones give equal logits."""
        if precision == "auto":
            precision = "bf16" if computes_bf16(self.device) else "fp32"
        self.precision = precision
        if precision == "bf16":
            self._model.to(torch.bfloat16)
        self._batch = 256 if self.device == "cuda" else 8  # small batches of equal length waste nothing

    def score(self, contexts: Sequence[Context], papers: Sequence[Paper]) -> Vectors:
        """The logit of each pair (contexts[i], papers[i]), shape (pairs,), float32.

        Logits of one context can be compared; a difference of d says e^d to 1 for the higher one.
        """
        pairs = [pair_texts(context, paper) for context, paper in zip(contexts, papers, strict=True)]
        if not pairs:
            return np.zeros(0, np.float32)
        try:
            logits = self._model.predict(pairs, batch_size=self._batch, show_progress_bar=False)
        except Exception as error:  # the libraries raise whatever the model's files and the device cause
            raise UserError(
                f"the reranker {self.name} cannot score ({first_line(error)}); fetch its files again or "
                "use another one"
            ) from error
        logits = np.asarray(logits, np.float32)
        if logits.shape != (len(pairs),) or not np.isfinite(logits).all():
            raise UserError(
                f"the reranker {self.name} gave logits of shape {logits.shape} for {len(pairs)} pairs, or "
                "some that are not finite; use another one"
            )
        return logits


def headed(base: Encoder) -> "CrossEncoder":
    """A new reranker: the transformer of an encoder, and the cosine of what it makes of the two texts.

    Raises UserError for an encoder that is no single transformer, or cannot tell two texts apart.
    """
    from sentence_transformers.base.modules import Dense, Transformer
    from torch import nn, ones, zeros

    from model.comparison import Comparison

    transformer = base.model[0]
    names = getattr(getattr(transformer, "tokenizer", None), "model_input_names", ())
    if not isinstance(transformer, Transformer) or "token_type_ids" not in names:
        raise UserError(
            f"a reranker cannot begin from {base.name}: it needs one transformer that tells two texts apart, "
            f"as BERT does; use {MINILM} or the folder of another model"
        )
    head = Dense(
        base.dimension,
        1,
        activation_function=nn.Identity(),
        init_weight=ones(1, base.dimension),
        init_bias=zeros(1),
        module_output_name="scores",
    )
    return _assembled([transformer, Comparison(), head], base.device)


def _assembled(modules: "list[nn.Module]", device: str) -> "CrossEncoder":
    from sentence_transformers import CrossEncoder
    from torch import nn

    model: CrossEncoder = CrossEncoder(
        modules=modules, device=device, activation_fn=nn.Identity(), keep_in_fp32_modules=[HEAD]
    )
    model.max_seq_length = min(MAX_TOKENS, model.max_seq_length or MAX_TOKENS)
    return model


def _load(name: str, device: str) -> "CrossEncoder":
    if not Path(name).is_dir():
        raise UserError(
            f"--reranker {name}: no such model folder; train one with python -m model.train_reranker"
        )
    refuse_pickles(f"--reranker {name}", model_files(Path(name)))
    from sentence_transformers.base.modules import Dense, Transformer

    from model.comparison import Comparison

    try:
        transformer = Transformer.load(name, local_files_only=True, model_kwargs={"use_safetensors": True})
        head = Dense.load(name, subfolder="2_Dense", local_files_only=True)
        return _assembled([transformer, Comparison(), head], device)
    except Exception as error:  # the libraries raise whatever the files or the config cause
        raise UserError(
            f"--reranker {name}: the model cannot be loaded ({first_line(error)}); give a folder that "
            "python -m model.train_reranker wrote"
        ) from error
