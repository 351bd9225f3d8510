"""The doors as processes and their clients, started once for all tests that knock at them."""

import asyncio
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from conftest import environment
from lsprotocol import types as lsp
from mcp import Client, StdioServerParameters
from pygls.lsp.client import LanguageClient

T = TypeVar("T")
QUIET = {"OMP_NUM_THREADS": "1"}


@contextmanager
def running(log: Path, *arguments: object, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`indexer …` as a process, and the address that it says it listens on."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "indexer", *map(str, arguments)],
            env=environment(**QUIET, **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        address = None
        while address is None:
            assert process.poll() is None, log.read_text()
            address = re.search(r"http://[^\s/]+", log.read_text())
            time.sleep(0.05)
        if arguments[0] == "serve":  # it listens before it has loaded the encoder
            httpx2.get(f"{address[0]}/health", timeout=300)
        yield process, address[0]
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def api(small_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of `indexer serve` with its defaults, over the small index."""
    log = tmp_path_factory.mktemp("api") / "log"
    arguments = ("serve", "--index", small_index, "--device", "cpu", "--port", 0)
    with running(log, *arguments) as (_, address), httpx2.Client(base_url=address, timeout=60) as client:
        yield client


class Loop:
    """An event loop in a thread, in which clients stay connected from test to test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(300)

    def close(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


class Agent:
    """The MCP SDK's own client, connected to a server; `call` gives a tool's structured answer."""

    def __init__(self, loop: Loop, server: Any) -> None:
        self._loop, self._server = loop, server
        self.client: Client

    async def _stay(self, ready: asyncio.Event, leave: asyncio.Event) -> None:
        async with Client(self._server) as self.client:
            ready.set()
            await leave.wait()

    def __enter__(self) -> "Agent":
        async def enter() -> tuple[asyncio.Task[None], asyncio.Event]:
            ready, leave = asyncio.Event(), asyncio.Event()
            task = asyncio.create_task(self._stay(ready, leave))
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            return task, leave

        self._task, self._leave = self._loop.run(enter())
        return self

    def __exit__(self, *_: object) -> None:
        async def leave() -> None:
            self._leave.set()
            await self._task

        self._loop.run(leave())

    def ask(self, name: str, **arguments: Any) -> Any:
        """A tool's whole result."""
        return self._loop.run(self.client.call_tool(name, arguments))

    def call(self, name: str, **arguments: Any) -> Any:
        """A tool's structured answer."""
        result = self.ask(name, **arguments)
        assert not result.is_error, result.content
        return result.structured_content

    def tools(self) -> list[Any]:
        """What the server offers."""
        return list(self._loop.run(self.client.list_tools()).tools)


@pytest.fixture(scope="session")
def agent(small_index: Path, loop: Loop) -> Iterator[Agent]:
    """An agent that started `indexer mcp` over stdio."""
    arguments = ["-m", "indexer", "mcp", "--index", str(small_index), "--device", "cpu"]
    server = StdioServerParameters(command=sys.executable, args=arguments, env=environment(**QUIET))
    with Agent(loop, server) as agent:
        yield agent


class Editor:
    """An LSP client over stdio that started `indexer lsp`."""

    def __init__(self, loop: Loop, index: Path) -> None:
        self._loop = loop
        self.client = LanguageClient("an-editor", "1")
        self.diagnostics: dict[str, list[lsp.Diagnostic]] = {}
        self.edits: list[lsp.WorkspaceEdit] = []
        self._told = threading.Condition()
        self._versions: dict[str, int] = {}

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def told(params: lsp.PublishDiagnosticsParams) -> None:
            with self._told:
                self.diagnostics[params.uri] = list(params.diagnostics)
                self._told.notify_all()

        @self.client.feature(lsp.WORKSPACE_APPLY_EDIT)
        def apply(params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
            self.edits.append(params.edit)
            return lsp.ApplyWorkspaceEditResult(applied=True)

        arguments = ("-m", "indexer", "lsp", "--index", str(index), "--device", "cpu")
        loop.run(self.client.start_io(sys.executable, *arguments, env=environment(**QUIET)))
        edits = lsp.WorkspaceEditClientCapabilities(
            document_changes=True, resource_operations=[lsp.ResourceOperationKind.Create]
        )
        workspace = lsp.WorkspaceClientCapabilities(apply_edit=True, workspace_edit=edits)
        able = lsp.ClientCapabilities(workspace=workspace)
        self.server = loop.run(self.client.initialize_async(lsp.InitializeParams(able)))
        self._do(lambda: self.client.initialized(lsp.InitializedParams()))

    def _do(self, work: Callable[[], T]) -> T:
        async def done() -> T:
            return work()

        return self._loop.run(done())

    def open(self, path: Path) -> str:
        """Open a file; its address."""
        uri, text = path.as_uri(), path.read_bytes().decode()
        self._versions[uri] = 1
        item = lsp.TextDocumentItem(uri, "latex", 1, text)
        self._do(lambda: self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item)))
        return uri

    def change(self, uri: str, text: str) -> None:
        """Replace the text of an open file."""
        self._versions[uri] += 1
        document = lsp.VersionedTextDocumentIdentifier(version=self._versions[uri], uri=uri)
        whole = lsp.TextDocumentContentChangeWholeDocument(text)
        params = lsp.DidChangeTextDocumentParams(document, [whole])
        self._do(lambda: self.client.text_document_did_change(params))

    def marks(self, uri: str, count: int) -> list[lsp.Diagnostic]:
        """The diagnostics of a file, once there are as many."""
        with self._told:
            in_time = self._told.wait_for(lambda: len(self.diagnostics.get(uri, [None] * 99)) == count, 60)
            assert in_time, self.diagnostics
            return self.diagnostics[uri]

    def actions(self, uri: str, place: lsp.Range) -> list[lsp.CodeAction]:
        """The quick fixes of a place."""
        params = lsp.CodeActionParams(lsp.TextDocumentIdentifier(uri), place, lsp.CodeActionContext([]))
        found = self._loop.run(self.client.text_document_code_action_async(params)) or []
        return [action for action in found if isinstance(action, lsp.CodeAction)]

    def complete(self, uri: str, line: int, character: int) -> list[lsp.CompletionItem]:
        """The completions at a place."""
        at = lsp.Position(line, character)
        params = lsp.CompletionParams(lsp.TextDocumentIdentifier(uri), at)
        found = self._loop.run(self.client.text_document_completion_async(params))
        assert isinstance(found, lsp.CompletionList)
        return list(found.items)

    def hover(self, uri: str, line: int, character: int) -> str | None:
        """What is shown over a place."""
        at = lsp.Position(line, character)
        found = self._loop.run(
            self.client.text_document_hover_async(lsp.HoverParams(lsp.TextDocumentIdentifier(uri), at))
        )
        return found.contents.value if found else None  # type: ignore[union-attr]

    def execute(self, command: lsp.Command) -> list[lsp.WorkspaceEdit]:
        """Run a command of the server; the edits that it asked for."""
        self.edits.clear()
        params = lsp.ExecuteCommandParams(command.command, arguments=command.arguments)
        self._loop.run(self.client.workspace_execute_command_async(params))
        return list(self.edits)

    def close(self) -> None:
        """Leave as editors do."""

        async def leave() -> None:
            await self.client.shutdown_async(None)
            self.client.exit(None)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.client.stop(), 20)

        self._loop.run(leave())


@pytest.fixture(scope="session")
def editor(small_index: Path, loop: Loop) -> Iterator[Editor]:
    editor = Editor(loop, small_index)
    yield editor
    editor.close()


@pytest.fixture
def own_index(small_index: Path, tmp_path: Path) -> Path:
    """A copy of the small index, to be built again."""
    shutil.copytree(small_index, tmp_path / "own")
    return tmp_path / "own"
