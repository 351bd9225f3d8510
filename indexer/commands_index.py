"""The commands that build an index and say what it is: build, info and check."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indexer.options import (
    contexts_option,
    filter_options,
    index_options,
    list_rejects,
    print_json,
    rejects_option,
    settings_of,
)
from indexer.settings import KINDS, LEAST_RECALL

if TYPE_CHECKING:
    from data.filter import Filter
    from indexer.kinds import Kind
    from indexer.shards import Engine
    from indexer.store import Manifest


@click.command()
@click.argument("source")
@index_options
@click.option(
    "--encoder", default="citemark", show_default=True, help="citemark, minilm, a folder or a hub name."
)
@contexts_option
@filter_options("Keep")
@click.option(
    "--vectors",
    "kind",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help="How they are searched; auto decides by their number.",
)
@rejects_option
@click.option("--map", "with_map", is_flag=True, help="Draw a map of the papers, too, for the page.")
@click.option(
    "--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    show_default=True,
    help="What encodes: this process, or a Ray cluster.",
)
@click.option("--address", help="The Ray cluster, host:port or auto [default: one started here].")
@click.option("--workers", type=click.IntRange(1), help="Actors on it [default: one a GPU or core].")
@click.option("--shards", help="Folder or URL (s3://…) of the encoded shards [default: in the index].")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def build(
    source: str,
    index: Path | None,
    device: str | None,
    encoder: str,
    contexts: str | None,
    keep: "Filter",
    kind: "Kind",
    max_rejects: float,
    with_map: bool,
    engine: str,
    address: str | None,
    workers: int | None,
    shards: str | None,
    as_json: bool,
) -> None:
    """Build an index of SOURCE and publish it.

    SOURCE is a file (.jsonl, .json or .csv, plain, .gz or .zst; .parquet; .bib; arXiv's metadata
    snapshot as it is; dumps of OpenAlex and Semantic Scholar; the ACL Anthology's .xml; Zotero's .json
    and .rdf), a folder of them, a BEIR folder, `starter`, or a Hugging Face data set
    (hf:owner/name). With --contexts, a file of text, citing_id and cited_id, the index knows how others cite
    its papers: it ranks by that, too, and shows it. A build that was killed goes on when the same command is
    run again.
    """
    settings = settings_of(index=index, device=device)
    if engine == "local" and (address or workers):
        raise click.UsageError("--address and --workers need --engine ray")
    from indexer.build import REJECTS
    from indexer.build import build as build_index
    from indexer.build import check as check_build
    from indexer.progress import Bars
    from model.encoder import FASTEST, Encoder

    check_build(source, settings.index, contexts)
    with _engine(engine, address, settings.device, workers) as chosen, Bars() as bars:
        own = settings.device if engine == "local" else "cpu"  # a cluster's encoders are its actors'
        precision = FASTEST if engine == "local" else "auto"  # its machines need not have the fastest
        generation, reading = build_index(
            source,
            settings.index,
            Encoder(encoder, own, precision),
            keep,
            max_rejects,
            bars,
            with_map=with_map,
            contexts=contexts,
            engine=chosen,
            shards=shards,
            kind=kind,
        )
    list_rejects(reading, generation.path / REJECTS)
    manifest = generation.manifest
    if as_json:
        print_json({"index": str(settings.index), **_facts(manifest)})
        return
    fates = {n: getattr(reading, n) for n in ("accepted", "rejected", "filtered", "duplicates")}
    counts = ", ".join(f"{count:,} {name}" for name, count in fates.items() if count)
    click.echo(f"{reading.read:,} records read: {counts}")
    click.echo(f"index of {manifest.papers:,} papers at {settings.index}, in {_duration(manifest.seconds)}")


def _engine(
    name: str, address: str | None, device: str, workers: int | None
) -> AbstractContextManager["Engine"]:
    if name == "local":
        from indexer.shards import Local

        return nullcontext(Local())
    from indexer.ray_engine import LOCAL, cluster

    return cluster(address or LOCAL, device, workers)


@click.command()
@index_options
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def info(index: Path | None, device: str | None, as_json: bool) -> None:
    """Say what the index holds, what built it and how large it is."""
    settings = settings_of(index=index, device=device)
    from indexer.store import Store

    generation = Store(settings.index).open()
    facts = {"index": str(settings.index), "generation": generation.path.name}
    facts |= _facts(generation.manifest)
    if as_json:
        print_json(facts)
        return
    for name, value in _described(facts):
        click.echo(f"{name:12} {value}")


@click.command()
@index_options
def check(index: Path | None, device: str | None) -> None:
    """Compare every byte of the index with its checksums, and open its parts."""
    settings = settings_of(index=index, device=device)
    from indexer.snapshot import Snapshot
    from indexer.store import Store

    generation = Store(settings.index).open()
    Snapshot(generation, settings).load()
    manifest = generation.manifest
    size = sum(file["bytes"] for file in manifest.files.values())
    click.echo(
        f"{generation.path}: {len(manifest.files)} files, {size:,} bytes, all as they were written; "
        f"{manifest.papers:,} papers with their vectors and words; vectors are searched "
        f"{_searched(manifest.vectors)}"
    )


def _facts(manifest: "Manifest") -> dict[str, Any]:
    facts = {k: v for k, v in vars(manifest).items() if k not in ("files", "reading")}
    facts["updates"] = manifest.updates
    facts["contexts"] = manifest.contexts
    facts["bytes"] = sum(file["bytes"] for file in manifest.files.values())
    return facts | {name: manifest.reading[name] for name in ("read", "rejected", "filtered", "duplicates")}


def _described(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts as `indexer info` prints them: related ones on a line, numbers as people write them."""
    f = facts
    yield "index", f"{f['index']}, generation {int(f['generation'])}, format {f['format']}"
    yield "papers", f"{f['papers']:,}"
    yield "source", f["source"]
    fates = ", ".join(f"{f[name]:,} {name}" for name in ("rejected", "filtered", "duplicates"))
    yield "records", f"{f['read']:,} read, {fates}"
    kept = f["kept"]
    yield (
        "kept",
        ", ".join(
            [
                *kept["categories"],
                *(f"{n} {kept[n]}" for n in ("since", "until") if kept[n] is not None),
                *(f"by {name}" for name in kept.get("authors", ())),  # an older index has none
            ]
        )
        or "everything",
    )
    if f["updates"]:
        last = f["updates"][-1]
        what = f"{last['added']:,} added, {last['changed']:,} changed, {last['withdrawn']:,} withdrawn"
        yield "updated", f"from {last['source'] or 'ids to withdraw'}: {what}"
    if f["contexts"]:
        known = f["contexts"]
        yield "citations", f"{known['citations']:,} known, from {known['source']}"
    yield "encoder", f"{f['encoder']}, {f['dimension']} dimensions, {f['precision']}"
    yield "fingerprint", f"{f['encoder_fingerprint']}, text form {f['text_form']}"
    yield "metric", f["metric"]
    yield "vectors", f"searched {_searched(f['vectors'])}"
    yield "corpus hash", f["corpus_hash"]
    yield "built", f"{f['created'].replace('T', ' ').replace('+00:00', ' UTC')}, in {_duration(f['seconds'])}"
    yield "size", f"{f['bytes'] / 1e6:,.1f} MB"


def _searched(facts: dict[str, Any]) -> str:
    """How the vectors are searched, as their manifest says."""
    if facts.get("kind") != "lists":
        return "exactly"
    effort = facts["efforts"][0]
    short = "" if facts["recall"] >= LEAST_RECALL else f", below the {LEAST_RECALL} that is aimed at"
    return (
        f"by {facts['lists']:,} lists where no GPU does it: {effort['rows']:,} rows walked through, "
        f"{effort['depth']:,} compared; recall@{effort['k']} {facts['recall']:.3f} of exact search over "
        f"{facts['queries']} queries{short}"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
