"""`indexer serve`, `indexer mcp` and `indexer lsp`: the doors for programs, agents and editors."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from data.errors import UserError
from indexer.options import index_options, search_options, settings_of

PARTS = {
    *("fastapi", "uvicorn", "starlette", "prometheus_client", "pydantic", "mcp", "mcp_types", "anyio"),
    *("pygls", "lsprotocol"),
}


Command = Callable[..., Any]


@contextmanager
def _installed(command: str) -> Iterator[None]:
    """Says what to install where the door's packages are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] not in PARTS:
            raise
        raise UserError(
            f"`indexer {command}` needs {error.name}, which is not installed; pip install 'citemark[doors]'"
        ) from None


def _token() -> str:
    """The secret of CITEMARK_TOKEN: a flag would show it to everyone on the machine."""
    return os.environ.get("CITEMARK_TOKEN", "").strip()


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="indexer: %(message)s")


def _port(default: int) -> Callable[[Command], Command]:
    kind = click.IntRange(0, 65535)
    return click.option("--port", type=kind, default=default, show_default=True, help="0: any free one.")


_host = click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")


@click.command()
@index_options
@search_options
@_host
@_port(8600)
@click.option("--allow-host", "names", multiple=True, help="Another name of this server; may be repeated.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Searches at a time.")
@click.option("--queue", type=click.IntRange(1), default=128, show_default=True, help="Requests at a time.")
def serve(
    index: Path | None,
    device: str | None,
    searching: dict[str, Any],
    host: str,
    port: int,
    names: tuple[str, ...],
    workers: int,
    queue: int,
) -> None:
    """Serve the index over HTTP: search, batch, paper, similar, cite, health, metrics.

    The API describes itself at /openapi.json. With CITEMARK_TOKEN set, requests must send it
    (Authorization: Bearer …). A newer index is taken up by itself.
    """
    settings = settings_of(index=index, device=device, **searching)
    with _installed("serve"):
        from indexer.guard import listen, run
        from indexer.serve import ServeSettings, create_app
    serving = ServeSettings(host, port, _token(), workers, queue, names)
    from indexer.search import Searcher

    _log_to_stderr()
    searcher = Searcher(settings, follow=False)
    listening = listen(host, port)
    papers = searcher.snapshot.manifest.papers
    click.echo(f"{papers:,} papers on http://{_address(listening.getsockname())} (/openapi.json)", err=True)
    run(create_app(searcher, serving), listening)


@click.command()
@index_options
@search_options
@click.option("--http", is_flag=True, help="Serve streamable HTTP at /mcp instead of stdin and stdout.")
@_host
@_port(8601)
def mcp(
    index: Path | None, device: str | None, searching: dict[str, Any], http: bool, host: str, port: int
) -> None:
    """Serve agents by MCP: suggest_citations, find_papers, get_bibtex.

    With --http and CITEMARK_TOKEN set, requests must send it (Authorization: Bearer …).
    """
    settings = settings_of(index=index, device=device, **searching)
    with _installed("mcp"):
        from indexer.guard import listen, open_to_others, run
        from indexer.mcp_server import create_server, http_app
    from indexer.search import Searcher

    _log_to_stderr()
    if http:
        open_to_others(host, _token())
    server = create_server(Searcher(settings))
    if not http:
        server.run("stdio")
        return
    listening = listen(host, port)
    click.echo(f"MCP on http://{_address(listening.getsockname())}/mcp", err=True)
    run(http_app(server, host, _token()), listening)


@click.command()
@index_options
@search_options
def lsp(index: Path | None, device: str | None, searching: dict[str, Any]) -> None:
    """Serve an editor by the language server protocol, over stdin and stdout.

    docs/doors.md has the set-up for VS Code, Neovim and Emacs.
    """
    settings = settings_of(index=index, device=device, **searching)
    with _installed("lsp"):
        from indexer.lsp import create_server
    from indexer.search import Searcher

    _log_to_stderr()
    create_server(Searcher(settings)).start_io()


def _address(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
