"""The course of a training: loss and recall by step, as JSON and as a picture."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHOWN = ("hit@10", "R@10", "MRR", "seen", "unseen", "spearman")


def curves(history: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """The trainer's log as {"loss": {"step": […], "value": […]}, "hit@10": …}."""
    found: dict[str, dict[str, list[float]]] = {}
    for entry in history:
        for name, value in entry.items():
            name = name.removeprefix("eval_")
            if isinstance(value, int | float) and (name in ("loss", "learning_rate") or _measured(name)):
                curve = found.setdefault(name, {"step": [], "value": []})
                curve["step"].append(entry["step"])
                curve["value"].append(round(value, 6))
    return found


def _measured(name: str) -> bool:
    name = name.removeprefix("draft ")
    return name in SHOWN or name.startswith("hit@")


def save(history: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write curves.json and curves.png into the folder."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("Agg")
    found = curves(history)
    (folder / "curves.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, names, title in (
        (left, ("loss",), "training loss"),
        (right, (*SHOWN, "draft hit@10"), "retrieval on dev"),
    ):
        for name in names:
            if name in found:
                axes.plot(found[name]["step"], found[name]["value"], marker=".", label=name)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(folder / "curves.png", dpi=120)
