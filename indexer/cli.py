"""The `indexer` command: results on stdout, progress and faults on stderr.

Exit codes: 0 done, 1 a fault the user can mend (one line), 2 wrong usage, 130 interrupted. The heavy
modules are imported inside the commands, so that `--help` answers at once.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import UserError
from indexer.commands_corpora import contexts as contexts_command
from indexer.commands_corpora import harvest, split
from indexer.commands_doors import lsp, mcp, serve
from indexer.commands_draft import audit, cite, export
from indexer.commands_fit import fit
from indexer.commands_map import draw_map
from indexer.commands_milvus import publish
from indexer.commands_update import update
from indexer.options import (
    contexts_option,
    draft_options,
    engine_option,
    filter_options,
    index_options,
    list_rejects,
    print_json,
    rejects_option,
    settings_of,
)
from indexer.settings import KINDS, LEAST_RECALL, RANKINGS, STAGES, Settings

if TYPE_CHECKING:
    from data.filter import Filter
    from data.paper import Paper
    from indexer.kinds import Kind
    from indexer.search import Hit
    from indexer.shards import Engine
    from indexer.store import Manifest


class _Commands(click.Group):
    """Turns a UserError of any command into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character is no fault
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except UserError as error:
            line = "".join(c if c.isprintable() else "?" for c in str(error))  # it may quote a bad file
            click.echo(f"indexer: {line}", err=True)
            sys.exit(1)
        except (KeyboardInterrupt, click.Abort):
            resumes = ctx.invoked_subcommand in ("build", "update", "harvest", "publish")
            kept = "; the same command goes on from here" if resumes else ""
            click.echo(f"\nindexer: interrupted{kept}", err=True)
            sys.exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="citemark", prog_name="indexer")
def main() -> None:
    """Build, search and measure an index of papers to cite.

    A first round: `indexer build starter`, then `indexer search "… [CITE] …"`.

    Defaults come from the environment: CITEMARK_INDEX (citemark-index), CITEMARK_DEVICE (auto),
    CITEMARK_RANKING (best), CITEMARK_RANKER (the one that ships), CITEMARK_K (10), CITEMARK_ENGINE (local).
    """


@main.command()
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
        generation, reading = build_index(
            source,
            settings.index,
            Encoder(
                encoder, own, FASTEST if engine == "local" else "auto"
            ),  # a cluster's machines need not have it
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


@main.command()
@click.argument("text")
@index_options
@engine_option
@click.option("-k", type=click.IntRange(1, 1000), help="Papers to list [default: 10].")
@click.option("--ranking", type=click.Choice(RANKINGS), help="[default: best]")
@filter_options("Only")
@draft_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def search(
    text: str,
    index: Path | None,
    device: str | None,
    engine: str | None,
    k: int | None,
    ranking: str | None,
    keep: "Filter",
    draft: "Paper | None",
    as_json: bool,
) -> None:
    """List the papers for each [CITE] of TEXT (`-` reads it from stdin); without a mark, for TEXT."""
    settings = settings_of(index=index, device=device, engine=engine, k=k, ranking=ranking)
    from data.contexts import parse

    contexts = parse(_stdin() if text == "-" else text)
    from indexer.answers import answer
    from indexer.search import Searcher

    searcher = Searcher(settings)
    answers = searcher.search(contexts, keep=keep, draft=draft)
    if as_json:
        print_json(answer(searcher, contexts, answers))
        return
    for number, (context, hits) in enumerate(zip(contexts, answers, strict=True)):
        if len(contexts) > 1:
            click.echo(("\n" if number else "") + context.text)
        if searcher.nothing_fits(hits):
            click.echo("     nothing in this corpus fits well; the nearest are:")
        for hit in hits:
            click.echo(_line(hit))
        if not hits:
            click.echo(_nothing(settings, keep), err=True)


@main.command()
@click.argument("contexts")
@index_options
@engine_option
@click.option("--ranking", "rankings", multiple=True, type=click.Choice(STAGES), help="[default: all]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for run, qrels and report.")
@click.option("--trained", help="Contexts that the encoder was trained on: what they cite is measured apart.")
@click.option("--inductive", is_flag=True, help="Only papers of the citing paper's year or before.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def evaluate(
    contexts: str,
    index: Path | None,
    device: str | None,
    engine: str | None,
    rankings: tuple[str, ...],
    out: Path | None,
    trained: str | None,
    inductive: bool,
    as_json: bool,
) -> None:
    """Measure recall on CONTEXTS: a .parquet or .jsonl file of text, citing_id, cited_id, or a BEIR
    folder. `starter` is the starter corpus's own set."""
    settings = settings_of(index=index, device=device, engine=engine)
    from data.contexts import read_queries
    from data.corpus import STARTER

    path = str(STARTER.parent / "contexts.jsonl") if contexts == "starter" else contexts
    queries, reading = read_queries(path)
    from indexer import report as shown
    from indexer.evaluate import evaluate as measure
    from indexer.evaluate import rows_for
    from indexer.overview import evaluation_of
    from indexer.progress import Bars
    from indexer.search import Searcher

    list_rejects(reading)
    out = out or evaluation_of(settings.index)
    searcher = Searcher(settings)
    with Bars() as bars:
        report = measure(
            searcher,
            queries,
            rankings or rows_for(searcher, queries),
            out,
            contexts,
            {cited for query in read_queries(trained)[0] for cited in query.cited_ids} if trained else None,
            inductive,
            bars,
        )
    shown.write(out / "report.html", report)
    if as_json:
        print_json(report.as_dict())
    else:
        click.echo("\n".join(shown.table(report)))
        click.echo(f"report.html, report.json, run and qrels are in {out}")


@main.command()
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


@main.command()
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
        f"by {facts['lists']:,} lists: {effort['rows']:,} rows walked through, {effort['depth']:,} compared; "
        f"recall@{effort['k']} {facts['recall']:.3f} of exact search over {facts['queries']} queries{short}"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _nothing(settings: Settings, keep: "Filter") -> str:
    if settings.ranking != "bm25":
        return "no paper passes the filter"
    which = "no paper that passes the filter" if keep else "no paper"
    return f"{which} shares a word with the text; try --ranking best"


def _line(hit: "Hit") -> str:
    """A hit as two lines of text."""
    paper = hit.paper
    who = ", ".join(paper.authors) if len(paper.authors) <= 2 else f"{paper.authors[0]} et al."
    facts = [who, str(paper.year or ""), paper.url or paper.paper_id]
    from indexer.answers import score_of

    return f"{hit.rank:3}  {score_of(hit):>6}  {paper.title}\n{'':13}" + "  ".join(f for f in facts if f)


def _stdin() -> str:
    """The text on stdin, as far as no query is longer."""
    return sys.stdin.buffer.read(1 << 20).decode("utf-8", errors="replace")


main.add_command(fit)
main.add_command(serve)
main.add_command(mcp)
main.add_command(lsp)
main.add_command(cite)
main.add_command(audit)
main.add_command(export)
main.add_command(harvest)
main.add_command(update)
main.add_command(draw_map)
main.add_command(contexts_command, "contexts")
main.add_command(split)
main.add_command(publish)
