"""What the trainings of encoder and reranker share: the base, checkpoints, lines of progress, CPU speed."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from data.errors import UserError
from model import curves
from model.encoder import Encoder

CHECKPOINTS = "checkpoints"
RECORD = "training.json"

Progress = Callable[[str, int, int, str], None]


def load_base(name: str, device: str, precision: str) -> Encoder:
    """The base's encoder. Raises UserError."""
    try:
        return Encoder(name, device, precision)
    except UserError as error:
        raise UserError(str(error).replace("--encoder", "--base")) from error


def spare_cpu(model: nn.Module) -> None:
    """Train at nearly twice the speed on a CPU.

    There the fused attention's gradients take twice the time of plain matrix products, and drawing the
    random numbers of the attention's dropout takes as long as the attention.
    """
    for name, module in model.named_modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation("eager")
        elif name.endswith("attention.self.dropout"):
            cast(nn.Dropout, module).p = 0.0


def last_checkpoint(out: Path, resume: bool) -> str | None:
    """The checkpoint to go on from. Raises UserError where a finished or another training is in the way."""
    folder = out / CHECKPOINTS
    found = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if resume and not found:
        raise UserError(f"{out}: no checkpoint to resume from; train without --resume")
    if not resume and out.exists() and any(out.iterdir()):
        raise UserError(
            f"{out} is not empty; choose another --out, or go on from its checkpoint with --resume"
        )
    return cast(str | None, found)


def record(out: Path, resume: bool, facts: dict[str, Any]) -> None:
    """Write down what is trained, or compare it with what was written before a resumption.

    Raises UserError where they differ, or `out` cannot be written.
    """
    facts = json.loads(json.dumps(facts))
    path = out / RECORD
    if resume:
        try:
            known = json.loads(path.read_bytes())
        except (OSError, ValueError):
            raise UserError(
                f"{path} is missing or damaged; train without --resume, in another --out"
            ) from None
        for name, value in facts.items():
            if known.get(name) != value:
                raise UserError(
                    f"{path}: this training began with {name} {known.get(name)}, not {value}; "
                    "resume with the same flags and data, or train in another --out"
                )
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error})") from error


class Watch(TrainerCallback):  # type: ignore[misc]
    """Lines of progress on stderr, curves on disk, and an evaluation of the last step."""

    def __init__(self, folder: Path, batch: int, evaluates: bool) -> None:
        self._folder = folder
        self._batch = batch
        self._evaluates = evaluates
        self._began, self._first = time.monotonic(), 0
        self._step_began, self._training = 0.0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began, self._first = time.monotonic(), state.global_step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step_began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self._training += time.monotonic() - self._step_began
        if state.global_step >= state.max_steps:
            control.should_evaluate = self._evaluates
            control.should_save = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            self._say(f"loss {logs['loss']:.3f}, lr {logs['learning_rate']:.1e}, {self._pace(state)}", state)
        elif "eval_hit@10" in logs:
            shown = ("hit@10", "R@10", "MRR", "seen", "unseen", "spearman", "draft hit@10")
            found = [f"{name} {logs[f'eval_{name}']:.3f}" for name in shown if f"eval_{name}" in logs]
            self._say(", ".join(found), state)
            curves.save(state.log_history, self._folder)

    def _say(self, words: str, state: Any) -> None:
        print(f"step {state.global_step}/{state.max_steps}: {words}", file=sys.stderr, flush=True)

    def _pace(self, state: Any) -> str:
        """Examples a second of training alone, and the time left with evaluations as they came."""
        done, seconds = state.global_step - self._first, time.monotonic() - self._began
        left = (state.max_steps - state.global_step) * seconds / max(done, 1)
        return f"{done * self._batch / max(self._training, 1e-9):.0f} examples/s, {left / 60:.0f} min left"
