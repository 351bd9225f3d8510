"""Everything that a user does, in one process tree, whose every connection is written down.

    python walled.py INDEX FOLDER [page]    in a network of its own too: unshare -rn python walled.py …

It prints one JSON object: what answered, and each address outside of the loopback interface that any of
the processes tried to reach or to look up.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import httpx2
from conftest import environment
from door_servers import running
from page_client import PATIENCE, Visitor, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

SENTENCE = "Self-play with tree search [CITE] masters Go and chess."
# Python tells a hook of every connection and every look-up of a name, of any library's.
HOOK = """
import os, sys
LOCAL = ("127.", "::1", "localhost", "0.0.0.0")
def seen(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = str(arguments[0] or "127.0.0.1")
    elif event == "socket.sendto" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    else:
        return
    if not host.startswith(LOCAL):
        with open(os.environ["WALLED_LOG"], "a") as log:
            log.write(f"{event} {host}\\n")
sys.addaudithook(seen)
"""


def loopback_up() -> None:
    """Bring up the loopback interface of a new network (as `ip link set lo up` does)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(control, 0x8914, request)  # SIOCSIFFLAGS


def outside_answers() -> bool:
    """Whether there is any way out of this network."""
    return len(Path("/proc/net/route").read_text().splitlines()) > 1


def main(index: Path, folder: Path, page_alone: bool) -> None:
    """Search by the command, view the page and search on it, be visited by a foreign page, ask the API."""
    (folder / "sitecustomize.py").write_text(HOOK)
    log = folder / "outside"
    log.touch()
    os.environ |= {"WALLED_LOG": str(log)}
    path = f"{folder}:{environment()['PYTHONPATH']}"
    if os.environ.get("WALLED_NETWORK"):
        loopback_up()
    done: dict[str, object] = {"outside answers": outside_answers()}
    probe = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    subprocess.run(
        [sys.executable, "-c", probe],
        env=environment(PYTHONPATH=path),
        stderr=subprocess.DEVNULL,
        check=False,
    )
    done["the hook sees"] = log.read_text()
    log.write_text("")
    ranking = "bm25" if page_alone else "hybrid"  # words need no encoder
    with serving(index, folder / "page", PYTHONPATH=path, CITEMARK_RANKING=ranking) as page:
        done["page"] = httpx2.get(page.address, timeout=PATIENCE).status_code
        with Visitor(page.address) as visitor:
            done["hits"] = visitor.ask(SENTENCE).toggles
        try:
            connect(
                page.address.replace("http", "ws") + "/_stcore/stream",
                origin="http://evil.example",
                proxy=None,
            )  # type: ignore[arg-type]
        except InvalidStatus as refused:
            done["foreign page"] = refused.response.status_code
    if not page_alone:
        searched = subprocess.run(
            [sys.executable, "-m", "indexer", "search", SENTENCE, "--index", str(index), "--json"],
            env=environment(PYTHONPATH=path), stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        done["command"] = len(json.loads(searched.stdout)["contexts"][0]["hits"])
        with running(folder / "api", "serve", "--index", index, "--port", 0, PYTHONPATH=path) as (_, address):
            done["api"] = httpx2.post(
                f"{address}/search", json={"text": SENTENCE}, timeout=PATIENCE
            ).status_code
    done["tried"] = log.read_text().splitlines()
    print(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), "page" in sys.argv[3:])
