"""The commands that get corpora and contexts at their sources: harvest, contexts and split."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import UserError
from indexer.commands_update import told
from indexer.options import index_options, print_json, settings_of
from indexer.settings import beside

if TYPE_CHECKING:
    from data.citing import Catalogue, Document
    from data.clean import Rejected
    from data.harvest import Harvest

_FORMS = ("arXivRaw", "arXiv", "oai_dc")  # as data.harvest has them, which --help has no need to load


@click.command()
@click.option("--set", "sets", multiple=True, help="cs, math, physics:hep-th, cs.CL …; may be repeated.")
@click.option("--since", default="", metavar="DATE", help="What changed on this day (2024-01-31) or later.")
@click.option("--until", default="", metavar="DATE", help="What changed on this day or earlier.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Folder of the records [default: INDEX-harvest]."
)
@click.option("--contact", default="", help="Your mail address, sent with each request. CITEMARK_CONTACT.")
@click.option("--form", type=click.Choice(_FORMS), help="Metadata form [default: arXivRaw].")
@click.option("--url", default="", help="An OAI-PMH repository [default: arXiv's].")
@click.option(
    "--delay", type=click.FloatRange(0), default=3.0, show_default=True, help="Seconds between requests."
)
@index_options
@click.option(
    "--encoder", help="citemark, minilm, a folder or a hub name [default: the index's, else citemark]."
)
@click.option("--no-index", is_flag=True, help="Only bring the records.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def harvest(
    sets: tuple[str, ...],
    since: str,
    until: str,
    store: Path | None,
    contact: str,
    form: str | None,
    url: str,
    delay: float,
    index: Path | None,
    device: str | None,
    encoder: str | None,
    no_index: bool,
    as_json: bool,
) -> None:
    """Bring arXiv's papers by OAI-PMH and build the index of them.

    Run again without --set or --since it asks only for what changed since, and updates the index: new
    and changed papers are encoded, deleted ones withdrawn. A harvest that was interrupted goes on where
    it was. Dates are those of the last change of a record, since arXiv offers no others: an old paper
    with a new version comes too.

    The records stay in STORE/papers.jsonl, which `indexer build` reads. One request at a time, with
    arXiv's pause of three seconds between them: all of arXiv takes some hours.
    """
    settings = settings_of(index=index, device=device)
    from data.harvest import harvest as bring
    from indexer.progress import Bars

    store = store or beside(settings.index, "-harvest")
    contact = contact or os.environ.get("CITEMARK_CONTACT", "")
    with Bars() as bars:
        result = bring(
            store,
            sets,
            since,
            until,
            url,
            form or "",
            contact,
            delay,
            lambda done, total: bars("harvesting", done, total, " records"),
        )
    for bad in result.bad[:10]:
        click.echo(f"rejected {bad}", err=True)
    report: dict[str, Any] = {"store": str(store), "harvest": vars(result), "papers": result.papers}
    if not as_json:
        click.echo(_told(result, store))
    if not no_index:
        report["index"] = str(settings.index)
        report["built"] = _updated(store, settings.index, encoder, settings.device, result, as_json)
    if as_json:
        print_json(report)


def _told(result: "Harvest", store: Path) -> str:
    if not result.records:
        return f"nothing new; {result.papers:,} papers in {store}"
    return (
        f"{result.records:,} records in {result.pages:,} pages, {result.deleted:,} of them deletions; "
        f"{result.papers:,} papers in {store}"
    )


def _updated(
    store: Path, index: Path, encoder: str | None, device: str, result: "Harvest", quiet: bool
) -> bool:
    """Bring the index to what the store has, unless nothing is new since it was made.

    An index of another encoder, or one that cannot be read, is built anew.
    """
    from indexer.progress import Bars
    from indexer.store import Store

    papers = store / "papers.jsonl"
    if not result.papers:
        raise UserError(
            f"{store} holds no papers yet, so there is nothing to build; choose another --set or --since"
        )
    built = Store(index).current()
    if built and (built / "manifest.json").stat().st_mtime_ns > papers.stat().st_mtime_ns:
        return False
    has = _encoder_of(index)
    with Bars() as bars:
        if has and (encoder is None or has in (encoder, str(Path(encoder).resolve()))):
            from indexer.update import Change, update

            generation, counts, _ = update(
                index, Change(str(papers), whole=True), progress=bars, device=device
            )
            changed, said = bool(counts), f"{told(counts)}; "
        else:
            from indexer.build import build, check

            check(str(papers), index)
            from model.encoder import CITEMARK, Encoder

            generation, _ = build(str(papers), index, Encoder(encoder or CITEMARK, device), progress=bars)
            changed, said = True, ""
    if changed and not quiet:
        click.echo(f"{said}index of {generation.manifest.papers:,} papers at {index}")
    return changed


def _encoder_of(index: Path) -> str | None:
    """The encoder of an index that can be updated."""
    from indexer.store import Store

    try:
        return Store(index).open().manifest.encoder
    except UserError:
        return None


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--corpus", required=True, help="The papers that can be cited: what `indexer build` takes.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("contexts.parquet"),
    show_default=True,
    help="File.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def contexts(sources: tuple[Path, ...], corpus: str, out: Path, as_json: bool) -> None:
    """Collect the citing contexts of the papers in SOURCES for training and evaluation.

    SOURCES are LaTeX sources (a folder of one paper, an arXiv .tar.gz, or a folder of many of either) or
    files of S2ORC or unarXive (JSON lines, .gz or .zst). Each reference is joined to a paper of the
    corpus; the counts and a sample of the joins go beside OUT, as .report.json and .report.txt.
    """
    from data.citing import extract

    if out.suffix != ".parquet":
        raise UserError(f"--out is {out}, not a .parquet file")
    missing = next((source for source in sources if not source.exists()), None)
    if missing:
        raise UserError(f"{missing}: no such file or folder")
    report = extract(_documents(sources), _catalogue(corpus), out)
    facts = report.as_dict()
    out.with_suffix(".report.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), "utf-8")
    out.with_suffix(".report.txt").write_text("\n".join(report.lines()) + "\n", "utf-8")
    for reject in report.rejects[:10]:
        click.echo(f"rejected {reject}", err=True)
    if not report.contexts:
        raise UserError(
            f"{sources[0]}: no context of a paper in the corpus; {out.with_suffix('.report.txt')} tells why"
        )
    if as_json:
        print_json(facts)
    else:
        click.echo(
            "\n".join(line for line in report.lines() if not line.startswith("\n")).partition("  reference")[
                0
            ]
        )


def _catalogue(source: str) -> "Catalogue":
    from data import corpus
    from data.citing import Catalogue
    from data.filter import Filter
    from data.table import PaperTable

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "papers.arrow"
        corpus.write(source, table, Filter())
        return Catalogue(PaperTable(table))


def _documents(sources: tuple[Path, ...]) -> Iterator[tuple[str, "Document | Rejected"]]:
    from data.latex_tree import is_latex, latex_documents
    from data.parsed_papers import parsed_documents

    for source in sources:
        files = [] if is_latex(source) and source.is_file() else _json_files(source)
        if files:
            for file in files:
                yield from parsed_documents(file)
        else:
            yield from latex_documents(source)


def _json_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return [f for f in sorted(source.iterdir()) if ".jsonl" in f.suffixes and f.is_file()]


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for train, dev and test.")
@click.option(
    "--by", type=click.Choice(("paper", "year")), default="paper", show_default=True, help="What decides."
)
@click.option("--dev", type=float, default=0.1, show_default=True, help="Share of the citing papers.")
@click.option("--test", type=float, default=0.1, show_default=True, help="Share of the citing papers.")
@click.option("--dev-year", type=int, help="First year of dev; what is older is train.")
@click.option("--test-year", type=int, help="First year of test.")
@click.option("--seed", type=int, default=0, show_default=True, help="For another draw.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def split(
    source: Path,
    out: Path,
    by: str,
    dev: float,
    test: float,
    dev_year: int | None,
    test_year: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Split the contexts file SOURCE into train, dev and test without leaks, by citing paper or by year.

    No citing paper is in two parts, nor two papers that share a sentence.
    """
    from data import splits

    if by == "year" and (dev_year is None or test_year is None):
        raise click.UsageError("--by year needs --dev-year and --test-year")
    rows = splits.read_rows(source)
    if by == "year":
        result = splits.by_year(rows, dev_year or 0, test_year or 0)
    else:
        result = splits.by_paper(rows, dev, test, seed)
    splits.write(result, out)
    counts = result.as_dict()
    (out / "report.json").write_text(json.dumps(counts, indent=1), "utf-8")
    if as_json:
        print_json(counts)
        return
    for name in splits.PARTS:
        part = counts[name]
        click.echo(
            f"{name:6} {part['contexts']:,} contexts of {part['citing_papers']:,} citing papers, "
            f"{part['cited_papers']:,} cited papers"
        )
    for reason, count in counts["left_out"].items():
        click.echo(f"left out {count:,} {reason}")
