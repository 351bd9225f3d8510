"""The vectors of an index in Milvus: the collection's form, filters as its expressions, and the search.

What Milvus has of a paper is its row, its vector and what filters ask for; its record and its words
stay in the index's folder (docs/milvus.md says why). A collection holds one generation and never
changes: publication makes a new one and moves the alias, which is the name in the address.
"""

import hashlib
import json
import logging
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import UserError
from data.filter import Filter, Selection
from data.names import name_words
from data.paper import Paper
from data.table import PaperTable
from indexer.milvus_address import TOKEN, Address, NotPublished
from indexer.store import MAP, Manifest
from indexer.vectors import Rows, check_queries
from model.encoder import Vectors

if TYPE_CHECKING:
    from pymilvus import MilvusClient

Answer = tuple[Vectors, Rows]
"""The scores and rows that one query found, best first."""

SCHEMA = 1
LISTED = 1024  # values of a list field; papers of more authors are let through and looked at here
LONGEST = 256  # bytes of a value
ANYONE = "*"
SECONDS = 30  # to wait for a connection


@dataclass(frozen=True)
class Kind:
    """An index of Milvus: its parameters for vectors of a dimension, and how deep it looks for k papers."""

    name: str
    build: Callable[[int], Mapping[str, Any]]
    search: Callable[[int], Mapping[str, Any]]
    most: int = 16_384  # papers that it answers at most


KINDS = {
    "flat": Kind("FLAT", lambda d: {}, lambda k: {}),
    "hnsw": Kind("HNSW", lambda d: {"M": 32, "efConstruction": 256}, lambda k: {"ef": max(2 * k, 256)}),
    "hnsw-sq": Kind(
        "HNSW_SQ",
        lambda d: {"M": 32, "efConstruction": 256, "sq_type": "SQ8", "refine": True, "refine_type": "FP16"},
        lambda k: {"ef": max(2 * k, 256), "refine_k": 2},
    ),
    "ivf-pq": Kind(
        "IVF_PQ",
        lambda d: {"nlist": 2048, "m": d // 2 if d % 2 == 0 else d, "nbits": 8},
        lambda k: {"nprobe": 128},
    ),
    "diskann": Kind("DISKANN", lambda d: {}, lambda k: {"search_list": max(2 * k, 200)}),
    "gpu-cagra": Kind(
        "GPU_CAGRA",
        lambda d: {"intermediate_graph_degree": 128, "graph_degree": 64, "build_algo": "NN_DESCENT"},
        lambda k: {"itopk_size": max(256, 1 << (k - 1).bit_length()), "search_width": 8},
        most=1024,
    ),
    "gpu-brute-force": Kind("GPU_BRUTE_FORCE", lambda d: {}, lambda k: {}, most=1024),
}


def kind_for(papers: int) -> str:
    """The kind for so many papers: exact as long as that is quick, in memory as long as that is bearable."""
    return "flat" if papers <= 1_000_000 else "hnsw" if papers <= 50_000_000 else "diskann"


def connect(address: Address) -> "MilvusClient":
    """A client of the server or file. Raises UserError where there is none or pymilvus is missing."""
    package, extra = ("milvus-lite", "milvus-lite") if address.local else ("pymilvus", "milvus")
    try:
        from pymilvus import MilvusClient

        if address.local:
            import milvus_lite  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("pymilvus", "milvus_lite"):
            raise
        raise UserError(
            f"{address} needs {package}, which is not installed; pip install 'citemark[{extra}]'"
        ) from None
    for name in ("pymilvus", "milvus_lite"):  # they log what they also raise, with the whole stack
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    token = os.environ.get(TOKEN, "").strip()
    with asking(address):
        return MilvusClient(address.uri, token=token, db_name=address.database, timeout=SECONDS)


@contextmanager
def asking(address: Address) -> Iterator[None]:
    """Turns what Milvus refuses into one line with its address."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        reason = " ".join(str(error.message).split())
        hint = "; no other process may have the file open" if reason == "Open local milvus failed" else ""
        raise UserError(f"{address}: {reason}{hint}") from error


def content(manifest: Manifest) -> str:
    """A digest of all that a generation answers from: one collection has one content."""
    digests = {name: file["sha256"] for name, file in manifest.files.items() if name != MAP}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:12]


def properties(manifest: Manifest, address: Address) -> dict[str, str]:
    """What a collection says of itself, so that another index, encoder or text form is refused."""
    return {
        "citemark.schema": str(SCHEMA),
        "citemark.name": address.collection,
        "citemark.encoder": manifest.encoder_fingerprint,
        "citemark.text_form": manifest.text_form,
        "citemark.corpus": manifest.corpus_hash,
        "citemark.content": content(manifest),
    }


def current(client: "MilvusClient", address: Address) -> str | None:
    """The collection that the address's name stands for now. Raises UserError if it is no alias."""
    if address.collection in client.list_collections():
        raise UserError(f"{address} is a collection of its own, not made by publish; choose another name")
    if not client.has_collection(address.collection):
        return None
    return str(client.describe_alias(address.collection)["collection_name"])


# Fields and filters. A list field holds every value that a filter may ask for, so that each condition
# is one look-up of whole values.


def category_keys(categories: Iterable[str]) -> list[str]:
    """The categories with all they belong to: `cs.CL` is in `cs.CL` and `cs`."""
    found: dict[str, None] = {}
    for category in categories:
        parts = category.split(".")
        found |= dict.fromkeys(_short(".".join(parts[:n])) for n in range(1, len(parts) + 1))
    return list(found)[:LISTED]


def author_keys(names: Iterable[str]) -> list[str]:
    """The family names, alone and after the first letter of each given name: `bengio`, `y bengio`."""
    found: dict[str, None] = {}
    for name in names:
        *given, family = name_words(name) or [""]
        found |= dict.fromkeys([_short(family), *(_short(f"{word[0]} {family}") for word in given)])
    return list(found) if len(found) <= LISTED else [ANYONE]


def _short(value: str) -> str:
    return value.encode()[:LONGEST].decode(errors="ignore")


def fields(paper: Paper) -> dict[str, Any]:
    """What filters ask of a paper; a year of 0 is none."""
    return {
        "year": paper.year or 0,
        "categories": category_keys(paper.categories),
        "authors": author_keys(paper.authors),
    }


def expression(keep: Filter) -> str:
    """The filter as Milvus takes it. Of authors it may let more pass, which `keeps` tells apart."""
    parts = []
    if keep.since is not None or keep.until is not None:
        parts.append(f"year >= {max(keep.since or 1, 1)}")
    if keep.until is not None:
        parts.append(f"year <= {keep.until}")
    if keep.categories:
        parts.append(f"array_contains_any(categories, {_literal(map(_short, keep.categories))})")
    if keep.authors:
        anyone = f"array_contains_any(authors, {_literal([ANYONE])})"
        named = (f"array_contains_all(authors, {_literal(author_keys([name]))})" for name in keep.authors)
        parts.append(f"({' or '.join([*named, anyone])})")
    return " and ".join(parts)


def _literal(values: Iterable[str]) -> str:
    return json.dumps(list(values), ensure_ascii=False)


class MilvusVectors:
    """The vectors of one generation in Milvus: what `indexer.vectors.VectorIndex` is on one machine.

    Raises NotPublished unless the collection holds just this generation.
    """

    def __init__(self, address: Address, manifest: Manifest, papers: PaperTable, index: Path) -> None:
        self.address, self.dimension = address, manifest.dimension
        self._papers = papers
        self._client = connect(address)
        with asking(address):
            self._collection = _checked(self._client, address, manifest, index)
            built = self._client.describe_index(self._collection, "vector")["index_type"]
        self._kind = next((kind for kind in KINDS.values() if kind.name == built), KINDS["flat"])

    def __len__(self) -> int:
        return len(self._papers)

    def search(self, queries: Vectors, k: int, keep: Selection | None = None) -> tuple[Vectors, Rows]:
        """The k nearest rows of each query: (scores, rows), best first, -1 where fewer were found.

        With `keep`, only rows that pass its filter.
        """
        check_queries(queries, self.dimension)
        k = min(k, len(self))
        if keep is None or not keep.filter.authors:
            return _table(self._ask(queries, k, keep), k)
        asked = k
        while True:
            answers = self._ask(queries, asked, keep)
            passing = [self._passing(answer, keep.filter) for answer in answers]
            short = any(len(p[1]) < k and len(a[1]) == asked for p, a in zip(passing, answers, strict=True))
            if not short or asked >= self._kind.most:
                return _table(passing, k)
            asked = min(4 * asked, self._kind.most)

    def _ask(self, queries: Vectors, k: int, keep: Selection | None) -> list[Answer]:
        if not len(queries):
            return []
        params = {**self._kind.search(k), **dict(self.address.params)}
        with asking(self.address):
            answers = self._client.search(
                self._collection,
                data=list(np.ascontiguousarray(queries, np.float32)),
                limit=k,
                filter="" if keep is None else expression(keep.filter),
                search_params={"metric_type": "IP", "params": params},
            )
        return [(np.array(a.distances, np.float32), np.array(a.ids, np.int64)) for a in answers]

    def _passing(self, answer: Answer, keep: Filter) -> Answer:
        scores, rows = answer
        passes = [keep.keeps(paper) for paper in self._papers.take(rows.tolist())]
        places = np.flatnonzero(passes)
        return scores[places], rows[places]

    def stored(self, rows: Sequence[int] | Rows) -> Vectors:
        """The vectors of these rows, shape (len(rows), dimension)."""
        wanted = sorted({int(row) for row in rows})
        with asking(self.address):
            found = self._client.get(self._collection, wanted, ["vector"]) if wanted else []
        if len(found) != len(wanted):
            raise UserError(f"{self.address} has {len(found)} of {len(wanted)} papers; publish it again")
        vectors = {entity["row"]: entity["vector"] for entity in found}
        return np.array([vectors[int(row)] for row in rows], np.float32).reshape(len(rows), self.dimension)

    def score(self, query: Vectors, rows: Sequence[int]) -> Vectors:
        """The inner products of one query, shape (dimension,), with these rows, shape (len(rows),)."""
        return np.asarray(self.stored(rows) @ query)


def _checked(client: "MilvusClient", address: Address, manifest: Manifest, index: Path) -> str:
    """The collection's own name, once all that it says of itself is what the index says."""
    publish = shlex.join(["indexer", "publish", "--index", str(index), "--to", str(address)])
    name = current(client, address)
    if name is None:
        raise NotPublished(f"nothing was published at {address}; do it with: {publish}")
    theirs = client.describe_collection(name)["properties"]
    for key, ours in properties(manifest, address).items():
        if theirs.get(key) != ours:
            what = key.removeprefix("citemark.").replace("_", " ")
            raise NotPublished(
                f"{address} holds {what} {theirs.get(key)}, the index {ours}; publish it with: {publish}"
            )
    return name


def _table(answers: Sequence[Answer], k: int) -> tuple[Vectors, Rows]:
    """The best k of each answer as two arrays, as wide as the longest."""
    width = min(k, max((len(rows) for _, rows in answers), default=k))
    scores = np.full((len(answers), width), -np.inf, np.float32)
    rows = np.full((len(answers), width), -1, np.int64)
    for number, (found_scores, found) in enumerate(answers):
        count = min(k, len(found))
        scores[number, :count], rows[number, :count] = found_scores[:count], found[:count]
    return scores, rows
