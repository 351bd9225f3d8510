"""Publication of an index's newest generation in Milvus, where a cluster searches it.

    NAME_<content>_<kind>    a collection for each generation and kind of index
    NAME                     the alias that readers ask for: it moves when the new collection is whole

A publication that was killed leaves the old one as it is and goes on where it stopped. The collection
that the alias stood for before is kept, for the readers that still have it open; older ones go.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError
from data.table import PaperTable
from indexer.milvus import (
    KINDS,
    LISTED,
    LONGEST,
    asking,
    connect,
    content,
    current,
    fields,
    kind_for,
    properties,
)
from indexer.milvus_address import Address
from indexer.shards import Progress
from indexer.store import Manifest, Store
from indexer.vectors import VectorIndex

if TYPE_CHECKING:
    from pymilvus import MilvusClient

BATCH = 2048  # papers a request: 3 MB at 384 dimensions, of the 64 MB that Milvus takes
LOOKS = 1.0  # seconds between two looks at an index that is being built


@dataclass(frozen=True)
class Publication:
    """What was published where; `sent` papers now, the rest by an earlier run."""

    collection: str
    kind: str
    papers: int
    sent: int
    seconds: float


def publish(index: Path, address: Address, kind: str | None, progress: Progress) -> Publication:
    """Send the newest generation of an index to Milvus and make it the one that searches see.

    `kind` is one of indexer.milvus.KINDS, by the number of papers where it is None. What is there
    already is not sent again. Raises UserError for a damaged index, and for whatever Milvus refuses.
    """
    began = time.monotonic()
    generation = Store(index).open()
    manifest = generation.manifest
    kind = kind or kind_for(manifest.papers)
    collection = f"{address.collection}_{content(manifest)}_{kind.replace('-', '_')}"
    client = connect(address)
    sent = 0
    with asking(address):
        before = current(client, address)
        if before != collection:
            if not _begun(client, collection):
                _create(client, address, collection, manifest, kind)
            sent = _send(client, collection, generation.path, progress)
            _settle(client, address, collection, manifest.papers, progress)
            (client.alter_alias if before else client.create_alias)(collection, address.collection)
            _drop_others(client, address, {collection, before})
    return Publication(collection, kind, manifest.papers, sent, round(time.monotonic() - began, 1))


def _begun(client: "MilvusClient", collection: str) -> bool:
    """Whether an earlier run made the collection; one that it left without its index is dropped."""
    from pymilvus.client.types import LoadState

    if not client.has_collection(collection):
        return False
    loaded = bool(client.get_load_state(collection)["state"] == LoadState.Loaded)
    if not loaded:
        client.drop_collection(collection)
    return loaded


def _create(client: "MilvusClient", address: Address, collection: str, manifest: Manifest, kind: str) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("row", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=manifest.dimension)
    schema.add_field("year", DataType.INT32)
    for name in ("categories", "authors"):
        schema.add_field(
            name, DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=LISTED, max_length=LONGEST
        )
    indexes = client.prepare_index_params()
    build = dict(KINDS[kind].build(manifest.dimension))
    indexes.add_index("vector", KINDS[kind].name, "vector", metric_type="IP", params=build)
    for name in ("year",) if address.local else ("year", "categories", "authors"):  # Lite has none for lists
        indexes.add_index(name, "INVERTED", name)
    client.create_collection(
        collection, schema=schema, index_params=indexes, properties=properties(manifest, address)
    )


def _send(client: "MilvusClient", collection: str, generation: Path, progress: Progress) -> int:
    """Send what the collection lacks; the number sent.

    Batches go in order and each is answered, so of an interrupted run only the last can be there in
    part: it is sent again, over what is there.
    """
    papers = PaperTable(generation / "papers.arrow")
    vectors = VectorIndex(generation / "vectors.faiss")
    there = _count(client, collection)
    start = there // BATCH * BATCH
    for first in range(start, len(papers), BATCH):
        progress("sending", first, len(papers), " papers")
        batch = list(_entities(papers, vectors, first, min(first + BATCH, len(papers))))
        (client.upsert if there and first == start else client.insert)(collection, batch)
    progress("sending", len(papers), len(papers), " papers")
    return len(papers) - start


def _entities(papers: PaperTable, vectors: VectorIndex, start: int, stop: int) -> Iterator[dict[str, Any]]:
    stored = vectors.stored(range(start, stop))
    for row, (paper, vector) in enumerate(zip(papers.slice(start, stop), stored, strict=True), start):
        yield {"row": row, "vector": vector, **fields(paper)}


def _settle(
    client: "MilvusClient", address: Address, collection: str, papers: int, progress: Progress
) -> None:
    """Wait until every paper is there and indexed."""
    client.flush(collection)
    while True:
        state: Mapping[str, Any] = client.describe_index(collection, "vector")
        waiting = int(state.get("pending_index_rows", 0))
        progress("indexing", max(papers - waiting, 0), papers, " papers")
        if not waiting:
            break
        time.sleep(LOOKS)
    count = _count(client, collection)
    if count != papers:
        raise UserError(
            f"{address}: {collection} has {count:,} papers, the index {papers:,}; drop it in Milvus and "
            "publish again"
        )


def _count(client: "MilvusClient", collection: str) -> int:
    answer = client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")
    return int(answer[0]["count(*)"])


def _drop_others(client: "MilvusClient", address: Address, kept: set[str | None]) -> None:
    """Drop the collections of older publications and of those that were given up."""
    ours = re.compile(rf"{re.escape(address.collection)}_[0-9a-f]{{12}}_[a-z_]+")
    for name in client.list_collections():
        if name not in kept and ours.fullmatch(name):
            mark = client.describe_collection(name)["properties"].get("citemark.name")
            if mark == address.collection:
                client.drop_collection(name)
