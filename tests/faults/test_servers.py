"""Promise: the servers are for this machine and its own pages alone, and say nothing of their insides.

Both are started as users start them; what is asserted is what they do, not what their settings say.
"""

import http.client
from pathlib import Path

import httpx2
import psutil
import pytest
from conftest import environment
from door_servers import running
from page_client import LAB, PATIENCE, Served, Trap, Visitor, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from indexer.guard import PAGE_HEADERS, SAFE_HEADERS

pytest_plugins = ["door_servers", "page_client"]

SECRET = "the secret of /home/somebody/index"
# Both servers import this before anything else: every search fails with what nobody else may read.
BROKEN = f"""
import indexer.search
def search(*_, **__):
    raise RuntimeError({SECRET!r})
indexer.search.Searcher.rank = search
"""
FOREIGN_HOSTS = (
    "evil.example",
    "127.0.0.1.evil.example",
    "evil.example:{port}",
    "[",
    "127.0.0.1@evil.example",
    "",
)
FOREIGN_ORIGINS = (
    "http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "file://", "http://",
    "http://127.0.0.1:{port}.evil.example", "http://localhost:{port}",
)  # fmt: skip


def with_path(folder: Path) -> str:
    """PYTHONPATH with a folder before this checkout."""
    return f"{folder}:{environment()['PYTHONPATH']}"


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def asked(address: str, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a GET with exactly these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(address), timeout=PATIENCE)
    connection.putrequest("GET", path, skip_host="host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value.format(port=port_of(address)))
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_host_is_refused(host: str, page: Served, api: httpx2.Client) -> None:
    for address, path in (
        (page.address, "/"),
        (page.address, "/_stcore/health"),
        (str(api.base_url), "/health"),
    ):
        status, body = asked(address.rstrip("/"), path, host=host)
        assert status == 400
        assert len(body) < 100


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_a_foreign_origin_is_refused(origin: str, page: Served, api: httpx2.Client) -> None:
    for address, path in (
        (page.address, "/"),
        (page.address, "/_stcore/health"),
        (str(api.base_url), "/health"),
    ):
        status, body = asked(address.rstrip("/"), path, origin=origin)
        assert (status, body) == (403, b'{"detail":"requests from other sites are refused"}')


def knock(page: Served, origin: str | None, host: str | None = None) -> int:
    """The status of a websocket's upgrade; 101 is one that was let in."""
    headers = {"Host": host} if host else {}
    stream = f"ws://127.0.0.1:{port_of(page.address)}/_stcore/stream"
    try:
        connect(stream, origin=origin, additional_headers=headers, open_timeout=PATIENCE, proxy=None).close()  # type: ignore[arg-type]
    except InvalidStatus as refused:
        return refused.response.status_code
    return 101


def test_a_websocket_is_held_to_the_same_and_nothing_is_asked_outside(page: Served, trap: Trap) -> None:
    port = port_of(page.address)
    for origin in FOREIGN_ORIGINS:
        assert knock(page, origin.format(port=port)) == 403, origin
    evil = f"evil.example:{port}"
    assert raw_upgrade(port, evil, f"http://{evil}") == 400  # its name leads here: DNS rebinding
    assert raw_upgrade(port, evil, f"http://127.0.0.1:{port}") in (400, 403)
    assert knock(page, page.address) == 101
    assert trap.visits == []  # Streamlit asks a host of Amazon for its own address, where it decides


def test_a_proxy_with_tls_is_let_in_under_its_name(page: Served) -> None:
    port, forwarded = port_of(page.address), {"X-Forwarded-Proto": "https"}
    assert raw_upgrade(port, LAB, f"https://{LAB}", **forwarded) == 101
    assert raw_upgrade(port, LAB, f"http://{LAB}", **forwarded) == 403
    assert raw_upgrade(port, LAB, "https://evil.example", **forwarded) == 403
    assert raw_upgrade(port, f"www.{LAB}", f"https://www.{LAB}", **forwarded) == 400


def raw_upgrade(port: int, host: str, origin: str, **others: str) -> int:
    """The same with a Host of one's own, which a library of websockets would not send."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.putrequest("GET", "/_stcore/stream", skip_host=True)
    for name, value in (
        ("Host", host), ("Origin", origin), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ):  # fmt: skip
        connection.putheader(name, value)
    for name, value in others.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse().status


def test_both_listen_on_the_loopback_address_alone(page: Served, api: httpx2.Client) -> None:
    ports = {port_of(page.address), port_of(str(api.base_url).rstrip("/"))}
    listening = [c.laddr for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {ip for ip, port in listening if port in ports} == {"127.0.0.1"}


def test_the_page_forbids_what_is_not_its_own(page: Served, api: httpx2.Client) -> None:
    shown = httpx2.get(page.address, timeout=PATIENCE)
    assert {name: shown.headers[name] for name in PAGE_HEADERS} == PAGE_HEADERS
    assert "access-control-allow-origin" not in shown.headers
    assert "unsafe-inline" not in PAGE_HEADERS["Content-Security-Policy"].replace(
        "style-src 'self' 'unsafe-inline'", ""
    )
    answer = api.get("/health")
    assert {name: answer.headers[name] for name in SAFE_HEADERS} == SAFE_HEADERS


def test_the_page_reports_to_nobody_and_heeds_no_other_page(page: Served) -> None:
    told = httpx2.get(f"{page.address}/_stcore/host-config", timeout=PATIENCE).json()
    assert (told["allowedOrigins"], told["metricsUrl"]) == ([], "")
    with Visitor(page.address) as visitor:
        config = visitor.told.new_session.config
        assert not config.gather_usage_stats
    agent = httpx2.post(f"{page.address}/_stcore/agent/interact", json={}, timeout=PATIENCE)
    assert agent.status_code >= 400


def test_what_is_too_large_is_refused_by_its_length(page: Served, api: httpx2.Client) -> None:
    for address, path in (
        (page.address, "/_stcore/upload_file/a/b"),
        (str(api.base_url).rstrip("/"), "/search"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port_of(address), timeout=PATIENCE)
        connection.putrequest("PUT" if "upload" in path else "POST", path)
        connection.putheader("Content-Length", str(40 * 1024 * 1024))
        connection.endheaders()
        assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    "path",
    ["/app/static/config.toml", "/../../etc/passwd", "/%2e%2e/pyproject.toml", "/.streamlit/config.toml"],
)
def test_no_file_of_the_machine_is_served(path: str, page: Served, api: httpx2.Client) -> None:
    for address in (page.address, str(api.base_url).rstrip("/")):
        status, body = asked(address, path)
        assert status in (400, 404) or body.lstrip().startswith(b"<!--"), body[:100]  # the page itself
        assert not any(word in body for word in (b"root:", b"[project]", b"maxUploadSize"))


@pytest.mark.faults
def test_a_fault_is_told_to_the_log_alone(small_index: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    with serving(small_index, tmp_path / "page", PYTHONPATH=with_path(tmp_path)) as served:
        with Visitor(served.address) as visitor:
            visitor.ask("tree search [CITE] for Go")
            sent = visitor.raw
        assert SECRET in served.log.read_text()
    assert len(sent) > 1000
    assert not any(word in sent for word in (SECRET.encode(), b"Traceback", b"RuntimeError", b"search.py"))


@pytest.mark.faults
def test_a_fault_of_the_api_is_told_to_the_log_alone(small_index: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN.replace("Searcher.rank", "Searcher.paper"))
    arguments = ("serve", "--index", small_index, "--device", "cpu", "--port", 0)
    with running(tmp_path / "api", *arguments, PYTHONPATH=with_path(tmp_path)) as (_, address):
        answer = httpx2.get(f"{address}/paper?id=x", timeout=PATIENCE)
        assert answer.status_code == 500
        assert answer.json() == {"detail": "the server failed; its log says why"}
    assert SECRET in (tmp_path / "api").read_text()
