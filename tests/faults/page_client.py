"""The page's server as users start it, and visitors that speak Streamlit's own protocol over websockets."""

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import httpx2
import pytest
from conftest import ROOT, environment
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

LAB = "cite.lab.example"
PATIENCE = 600  # seconds: the first search loads the encoder, on a machine that may be busy


@dataclass(frozen=True)
class Served:
    """A running page: its process, its address, and the file that its output goes to."""

    process: "subprocess.Popen[bytes]"
    address: str
    log: Path


@contextmanager
def serving(index: Path, log: Path, *prefix: str, **variables: str) -> Iterator[Served]:
    """`streamlit run app.py` over this index, on a free port; `prefix` is a command that starts it."""
    command = [*prefix, sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", "0"]
    settings = {"CITEMARK_INDEX": str(index), "OMP_NUM_THREADS": "1", **variables}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(**settings), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        address = ""
        while not address:
            shown = log.read_text()
            assert process.poll() is None, shown
            address = next((word for word in shown.split() if word.startswith("http://")), "")
            time.sleep(0.1)
        httpx2.get(f"{address.rstrip('/')}/_stcore/health", timeout=PATIENCE)  # it says so before it serves
        yield Served(process, address.rstrip("/"), log)
    finally:
        process.terminate()
        process.wait(60)


def shown(markdown: str) -> str:
    """What a reader sees of a text that app.plain made."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown).replace("\u2060", "")


@dataclass
class Drawn:
    """What the page drew in one run."""

    texts: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)
    toggles: int = 0
    seconds: float = 0.0


class Visitor:
    """A browser's session without the browser: `ask` types a text, presses the button, awaits the end."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        self._socket: ClientConnection = connect(
            address.replace("http", "ws", 1) + "/_stcore/stream",
            subprotocols=[Subprotocol("streamlit")],
            origin=address,  # type: ignore[arg-type]
            additional_headers=headers,
            open_timeout=PATIENCE,
            ping_interval=None,  # browsers do not ask whether a server that is slow is still there
            max_size=None,
            proxy=None,
        )
        self._kept: dict[str, ForwardMsg] = {}
        self._text = self._button = self._query = ""
        self.raw = b""
        """All that the server sent."""
        self.told = ForwardMsg()
        """What it said of the session: see NewSession in Streamlit's protocol."""
        self.first = self._run(BackMsg())

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, text: str) -> Drawn:
        """The page after this text was searched."""
        message = BackMsg()
        states = message.rerun_script.widget_states.widgets
        states.add(id=self._text, string_value=text)
        states.add(id=self._button, trigger_value=True)
        return self._run(message)

    def after(self, message: bytes | str) -> bytes:
        """All that the server sends after this message until it ends the session."""
        left = []
        with suppress(ConnectionClosed):
            self._socket.send(message)
            while True:
                left.append(bytes(self._socket.recv(PATIENCE)))
        return b"".join(left)

    def _run(self, message: BackMsg) -> Drawn:
        message.rerun_script.query_string = self._query  # of the address, as a browser keeps it
        begin, drawn = time.monotonic(), Drawn()
        self._socket.send(message.SerializeToString())
        while True:
            found = self._next()
            kind = found.WhichOneof("type")
            if kind == "delta":
                self._draw(found, drawn)
            if kind == "page_info_changed":
                self._query = found.page_info_changed.query_string
            if kind == "new_session":
                self.told = found
            if kind == "script_finished" and found.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                drawn.seconds = time.monotonic() - begin
                return drawn

    def _next(self) -> ForwardMsg:
        data = self._socket.recv(PATIENCE)
        assert isinstance(data, bytes)
        self.raw += data
        message = ForwardMsg.FromString(data)
        if message.WhichOneof("type") == "ref_hash":
            return self._kept[message.ref_hash]
        if message.metadata.cacheable:
            self._kept[message.hash] = message
        return message

    def _draw(self, message: ForwardMsg, drawn: Drawn) -> None:
        element = message.delta.new_element
        kind = element.WhichOneof("type")
        if kind == "markdown":
            drawn.texts.append(element.markdown.body)
        elif kind == "alert":
            drawn.alerts.append(element.alert.body)
        elif kind == "exception":
            drawn.exceptions.append(element.exception.message)
        elif kind == "checkbox":
            drawn.toggles += element.checkbox.label == "Abstract"  # one for each hit
        elif kind == "text_area":
            self._text = element.text_area.id
        elif kind == "button" and element.button.is_form_submitter:
            self._button = element.button.id


class Trap:
    """A web proxy that only counts who comes: a server that looks for the outside world comes here."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.visits: list[bytes] = []
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                visitor, _ = self._listening.accept()
            except OSError:
                return
            with visitor:
                self.visits.append(visitor.recv(1000))

    def close(self) -> None:
        self._listening.close()


@pytest.fixture(scope="session")
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


@pytest.fixture(scope="session")
def page(small_index: Path, trap: Trap, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page, known as LAB too, which would reach the outside world through the trap.

    It ranks by words, so that it need not load an encoder first.
    """
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), trap.address)
    log = tmp_path_factory.mktemp("page") / "log"
    names = {"STREAMLIT_SERVER_ALLOWED_HOSTS": f"127.0.0.1 localhost {LAB}"}
    with serving(small_index, log, **proxies, **names, no_proxy="", CITEMARK_RANKING="bm25") as served:
        yield served
