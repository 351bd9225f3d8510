"""The settings of one command: flag, else environment (CITEMARK_…), else default.

The flags and the environment are read by the CLI (see indexer.cli); the page has only the
environment, which `from_environment` reads.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.errors import UserError
from indexer.milvus_address import is_address, parse

DEVICES = ("auto", "cpu", "cuda")
RANKINGS = ("best", "hybrid", "dense", "bm25")
DRAFT = "+draft"  # ends the name of a stage in which the citing papers' records are given as drafts
RERANKED = "reranked"  # the stage after `best`
STAGES = ("bm25", "dense", "hybrid", "evidence", "best", f"best{DRAFT}", RERANKED)
"""What an evaluation compares: words; vectors; both; with known citations; ranked; with the draft; ranked and
its first hits read again."""
KINDS = ("auto", "exact", "lists")  # of indexes of vectors: see indexer.kinds
LEAST_RECALL = 0.99  # of exact search, that an approximate index is made to reach
LOCAL = "local"


@dataclass(frozen=True)
class Settings:
    """Where the index lies and how it is searched."""

    index: Path = Path("citemark-index")
    device: str = "auto"
    ranking: str = "best"
    k: int = 10
    ranker: Path | None = None  # a file of `indexer fit`; the one that ships where there is none
    engine: str = LOCAL  # what holds the vectors: this machine, or an address of Milvus
    reranker: Path | None = None  # a folder of python -m model.train_reranker, which reads after `best`
    rerank_depth: int = 20  # hits that it reads

    def __post_init__(self) -> None:
        for name, value, known in (
            ("device", self.device, DEVICES),
            ("ranking", self.ranking, RANKINGS),
        ):
            if value not in known:
                raise UserError(f"{name} is {value!r}, not one of {', '.join(known)}")
        if is_address(self.engine):
            parse(self.engine)
        elif self.engine != LOCAL:
            raise UserError(f"engine is {self.engine!r}, not {LOCAL} and no address of Milvus (milvus://…)")
        if not 1 <= self.k <= 1000:
            raise UserError(f"k is {self.k}, not between 1 and 1000")
        if not 1 <= self.rerank_depth <= 300:
            raise UserError(f"rerank depth is {self.rerank_depth}, not between 1 and 300")

    @property
    def stage(self) -> str:
        """Which of the STAGES answers: the ranking, and after `best` the reranker where there is one."""
        return RERANKED if self.reranker and self.ranking == "best" else self.ranking


def beside(index: Path, ending: str) -> Path:
    """A path next to the index's folder: its name with an ending, such as `-evaluation`."""
    folder = index if index.name else index.resolve()
    return folder.with_name(folder.name + ending)


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from CITEMARK_INDEX, _DEVICE, _RANKING, _RANKER, _RERANKER, _RERANK_DEPTH, _K and _ENGINE."""
    default = Settings()

    def number(name: str, otherwise: int) -> int:
        value = environment.get(name, str(otherwise))
        if not value.isdecimal():
            raise UserError(f"{name} is {value!r}, not a whole number")
        return int(value)

    def path(name: str) -> Path | None:
        return Path(environment[name]) if environment.get(name) else None

    if environment.get("CITEMARK_INDEX") == "":
        raise UserError("CITEMARK_INDEX is empty; name a folder or unset it")
    return Settings(
        index=Path(environment.get("CITEMARK_INDEX", default.index)),
        device=environment.get("CITEMARK_DEVICE", default.device),
        ranking=environment.get("CITEMARK_RANKING", default.ranking),
        k=number("CITEMARK_K", default.k),
        ranker=path("CITEMARK_RANKER"),
        engine=environment.get("CITEMARK_ENGINE", default.engine),
        reranker=path("CITEMARK_RERANKER"),
        rerank_depth=number("CITEMARK_RERANK_DEPTH", default.rerank_depth),
    )
