"""The `indexer` command: results on stdout, progress and faults on stderr.

Exit codes: 0 done, 1 a fault the user can mend (one line), 2 wrong usage, 130 interrupted. The heavy
modules are imported inside the commands, so that `--help` answers at once.
"""

import sys
from io import TextIOWrapper
from typing import Any

import click

from data.errors import UserError
from indexer.commands_corpora import contexts as contexts_command
from indexer.commands_corpora import harvest, split
from indexer.commands_doors import lsp, mcp, serve
from indexer.commands_draft import audit, cite, export
from indexer.commands_evaluate import evaluate, fit
from indexer.commands_index import build, check, info
from indexer.commands_map import draw_map
from indexer.commands_milvus import publish
from indexer.commands_search import search
from indexer.commands_update import update


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
    CITEMARK_RANKING (best), CITEMARK_RANKER (the one that ships), CITEMARK_RERANKER (none),
    CITEMARK_RERANK_DEPTH (20), CITEMARK_K (10), CITEMARK_ENGINE (local).
    """


for command in (
    build,
    search,
    evaluate,
    info,
    check,
    fit,
    serve,
    mcp,
    lsp,
    cite,
    audit,
    export,
    harvest,
    update,
    draw_map,
    split,
    publish,
):
    main.add_command(command)
main.add_command(contexts_command, "contexts")
