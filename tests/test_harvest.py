"""The harvest against a real server on loopback that speaks OAI-PMH, with the faults of real ones."""

import email.utils
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import Result
from conftest import environment

from data import corpus, harvest
from data.corpus import Reading
from data.errors import UserError
from data.harvest import set_spec
from data.paper import Paper

Answer = tuple[int, dict[str, str], bytes]
OAI = '<?xml version="1.0" encoding="UTF-8"?>\n<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/">'
OAI += "<responseDate>2026-11-20T00:00:00Z</responseDate><request>http://x</request>"


def raw(number: str, title: str, date: str = "Mon, 1 Jan 2024 10:00:00 GMT") -> str:
    return (
        f'<arXivRaw xmlns="http://arxiv.org/OAI/arXivRaw/"><id>{number}</id><submitter>Ada B</submitter>'
        f'<version version="v1"><date>{date}</date><size>10kb</size><source_type>D</source_type></version>'
        f'<version version="v2"><date>Fri, 2 Feb 2024 10:00:00 GMT</date></version><title>{title}</title>'
        "<authors>Ada B. Castro and Chen Ito</authors><categories>cs.CL cs.LG</categories>"
        "<doi>10.1000/x</doi><license>http://creativecommons.org/licenses/by/4.0/</license>"
        "<abstract>  About\n  it. </abstract></arXivRaw>"
    )


def arxiv(number: str, title: str) -> str:
    return (
        f'<arXiv xmlns="http://arxiv.org/OAI/arXiv/"><id>{number}</id><created>2026-08-30</created><authors>'
        "<author><keyname>Balázs</keyname><forenames>C.</forenames><affiliation>X</affiliation></author>"
        "<author><keyname>King</keyname><forenames>Martin</forenames><suffix>Jr</suffix></author></authors>"
        f"<title>{title}</title><categories>hep-ph</categories><journal-ref>Phys.Rev.</journal-ref>"
        "<abstract>About it.</abstract></arXiv>"
    )


def dublin_core(number: str, title: str) -> str:
    return (
        '<oai_dc:dc xmlns:oai_dc="http://www.openarchives.org/OAI/2.0/oai_dc/" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title>'
        "<dc:creator>Castro, Ada</dc:creator><dc:creator>Ito, Chen</dc:creator>"
        "<dc:subject>Computer Science - Computation and Language</dc:subject>"
        "<dc:description>Comment: 10 pages</dc:description><dc:description>About it.</dc:description>"
        f"<dc:date>2026-02-02</dc:date><dc:identifier>http://arxiv.org/abs/{number}</dc:identifier></oai_dc:dc>"
    )


class Repository:
    """What the server has, what it was asked, and what it answers instead when a test says so."""

    def __init__(self) -> None:
        self.records: dict[str, tuple[str, str, str, bool]] = {}  # number: datestamp, set, title, deleted
        self.page = 3
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.open = 0
        self.most_open = 0
        self.form: Callable[[str, str], str] = raw
        self.faults: dict[int, Callable[[bytes], Answer]] = {}  # by the number of the request
        self.slow = 0.0
        self.url = ""

    def add(
        self, number: str, stamp: str, title: str = "", *, deleted: bool = False, group: str = "cs:cs:CL"
    ) -> None:
        self.records[number] = (stamp, group, title or f"Paper {number}", deleted)

    def answer(self, query: dict[str, str]) -> bytes:
        if query.get("verb") != "ListRecords":
            return self.error("badVerb")
        start = 0
        if "resumptionToken" in query:
            asked = json.loads(query["resumptionToken"])
            if asked.get("expired"):
                return self.error("badResumptionToken")
            start, query = asked["start"], asked
        elif query.get("metadataPrefix") not in harvest.FORMS:
            return self.error("cannotDisseminateFormat")
        wanted = [
            (number, *record)
            for number, record in self.records.items()
            if f"{record[1]}:".startswith(f"{query['set']}:" if query.get("set") else "")
            and query.get("from", "") <= record[0] <= query.get("until", "9")
        ]
        if not wanted:
            return self.error("noRecordsMatch")
        body = "".join(self.record(*record) for record in wanted[start : start + self.page])
        if start + self.page < len(wanted):
            token = {k: v for k, v in query.items() if k in ("set", "from", "until")} | {
                "start": start + self.page
            }
            text = json.dumps(token).replace("&", "&amp;").replace("<", "&lt;")
            body += (
                f'<resumptionToken completeListSize="{len(wanted)}" cursor="{start}">{text}</resumptionToken>'
            )
        elif start:
            body += "<resumptionToken/>"
        return f"{OAI}<ListRecords>{body}</ListRecords></OAI-PMH>".encode()

    def record(self, number: str, stamp: str, group: str, title: str, deleted: bool) -> str:
        status = ' status="deleted"' if deleted else ""
        header = (
            f"<header{status}><identifier>oai:arXiv.org:{number}</identifier><datestamp>{stamp}</datestamp>"
            f"<setSpec>{group}</setSpec></header>"
        )
        metadata = "" if deleted else f"<metadata>{self.form(number, title)}</metadata>"
        return f"<record>{header}{metadata}</record>"

    @staticmethod
    def error(code: str) -> bytes:
        return f'{OAI}<error code="{code}">no</error></OAI-PMH>'.encode()


@pytest.fixture
def repository() -> Iterator[Repository]:
    shown = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.open += 1
            shown.most_open = max(shown.most_open, shown.open)
            shown.times.append(time.monotonic())
            shown.headers.append(dict(self.headers))
            query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
            shown.asked.append(query)
            time.sleep(shown.slow)
            content = shown.answer(query)
            fault = shown.faults.pop(len(shown.asked), None)
            status, headers, content = fault(content) if fault else (200, {}, content)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            shown.open -= 1

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shown.url = f"http://127.0.0.1:{server.server_port}/oai"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield shown
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(repository: Repository, tmp_path: Path) -> Callable[..., harvest.Harvest]:
    def run(*sets: str, **options: Any) -> harvest.Harvest:
        options = {"url": repository.url, "delay": 0.0} | options
        return harvest.harvest(tmp_path / "store", sets, **options)

    return run


Run = Callable[..., harvest.Harvest]


def papers(store: Path) -> list[Paper]:
    reading = Reading()
    found = list(corpus.read(str(store), reading))
    assert reading.rejected == 0
    return found


def ids(store: Path) -> list[str]:
    return [paper.paper_id for paper in papers(store)]


def ten(repository: Repository) -> list[str]:
    for number in range(10):
        repository.add(f"2401.{number:05}", f"2024-01-{number + 10}")
    return [f"arxiv:2401.{number:05}" for number in range(10)]


def in_order(query: dict[str, str]) -> int:
    return int(json.loads(query.get("resumptionToken", '{"start": 0}')).get("start", -1))


# What comes in


def test_pages_are_followed_to_the_end(run: Run, repository: Repository, tmp_path: Path) -> None:
    expected = ten(repository)
    seen: list[tuple[int, int]] = []
    result = run("cs", since="2024-01-01", progress=lambda done, of: seen.append((done, of)))
    assert (result.pages, result.records, result.papers, result.bad) == (4, 10, 10, [])
    assert seen == [(3, 10), (6, 10), (9, 10), (10, 10)]
    assert ids(tmp_path / "store") == expected
    assert repository.asked[0] == {
        "verb": "ListRecords",
        "metadataPrefix": "arXivRaw",
        "set": "cs",
        "from": "2024-01-01",
    }
    assert set(repository.asked[1]) == {"verb", "resumptionToken"}


def test_a_record_of_arxivraw_is_the_paper_of_the_snapshot(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    repository.add("2401.00001", "2024-03-01", "A &lt; B: on Erd\\H{o}s")
    run()
    assert papers(tmp_path / "store") == [
        Paper(
            "arxiv:2401.00001",
            "A < B: on Erdős",
            "About it.",
            ("Ada B. Castro", "Chen Ito"),
            2024,
            ("cs.CL", "cs.LG"),
            "",
            "10.1000/x",
            2,
        )
    ]


def test_a_record_of_arxivs_own_form(run: Run, repository: Repository, tmp_path: Path) -> None:
    repository.form = arxiv
    repository.add("hep-ph/9901001", "2024-03-01", "Title")
    run(form="arXiv")
    (paper,) = papers(tmp_path / "store")
    assert paper.authors == ("C. Balázs", "Martin King Jr")
    assert (paper.paper_id, paper.year, paper.venue) == ("arxiv:hep-ph/9901001", 1999, "Phys.Rev.")


def test_a_record_of_dublin_core(run: Run, repository: Repository, tmp_path: Path) -> None:
    repository.form = dublin_core
    repository.add("2401.00001", "2024-03-01", "Title")
    run(form="oai_dc")
    assert papers(tmp_path / "store") == [
        Paper("arxiv:2401.00001", "Title", "About it.", ("Ada Castro", "Chen Ito"), 2024, ("cs.CL",))
    ]


def test_sets_and_dates_are_asked_for(run: Run, repository: Repository, tmp_path: Path) -> None:
    repository.add("2401.00001", "2024-01-01", group="cs:cs:CL")
    repository.add("2401.00002", "2024-01-02", group="math:math:CO")
    repository.add("2401.00003", "2024-01-03", group="physics:hep-th")
    repository.add("2401.00004", "2024-01-09", group="cs:cs:CL")
    run("cs.CL", "math", until="2024-01-05")
    assert ids(tmp_path / "store") == ["arxiv:2401.00001", "arxiv:2401.00002"]
    assert [query["set"] for query in repository.asked] == ["cs:cs:CL", "math"]
    names = ("cs", "cs.CL", "astro-ph.CO", "cs:cs:LG", "")
    assert [set_spec(name) for name in names] == ["cs", "cs:cs:CL", "physics:astro-ph:CO", "cs:cs:LG", ""]


def test_the_second_run_asks_only_from_the_newest_date(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    expected = ten(repository)
    run("cs", since="2024-01-01")
    repository.asked.clear()
    repository.add("2401.00003", "2024-02-01", "Title of the second version")
    repository.add("2401.00005", "2024-02-02", deleted=True)
    repository.add("2402.00001", "2024-02-03")
    result = run()
    assert repository.asked[0] == {
        "verb": "ListRecords",
        "metadataPrefix": "arXivRaw",
        "set": "cs",
        "from": "2024-01-19",
    }
    assert (result.deleted, result.papers) == (1, 10)
    expected.remove("arxiv:2401.00005")
    assert ids(tmp_path / "store") == [*expected, "arxiv:2402.00001"]
    assert papers(tmp_path / "store")[3].title == "Title of the second version"


def test_a_deleted_record_that_comes_back_is_a_paper_again(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    repository.add("2401.00001", "2024-01-01", deleted=True)
    repository.add("2401.00002", "2024-01-01")
    run()
    assert ids(tmp_path / "store") == ["arxiv:2401.00002"]
    repository.add("2401.00001", "2024-01-02")
    run()
    assert ids(tmp_path / "store") == ["arxiv:2401.00001", "arxiv:2401.00002"]


def test_nothing_new_is_no_fault_and_leaves_the_papers_as_they_are(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    ten(repository)
    run()
    before = (tmp_path / "store" / "papers.jsonl").stat().st_mtime_ns
    repository.records.clear()
    result = run()
    assert (result.records, result.papers) == (0, 10)
    assert (tmp_path / "store" / "papers.jsonl").stat().st_mtime_ns == before


# Faults


def fail(status: int, **headers: str) -> Callable[[bytes], Answer]:
    return lambda _: (status, {k.replace("_", "-"): v for k, v in headers.items()}, b"busy")


FAULTS: dict[str, Callable[[bytes], Answer]] = {
    "503 with seconds": fail(503, Retry_After="0"),
    "503 with a date": fail(503, Retry_After=email.utils.formatdate(0, usegmt=True)),
    "503 with nonsense": fail(503, Retry_After="soon"),
    "429": fail(429),
    "500": fail(500),
    "body cut short": lambda body: (200, {"Content-Length": str(len(body) + 100)}, body),
    "page cut short": lambda body: (200, {}, body[: len(body) // 2]),
    "page cut after a record": lambda body: (200, {}, body[: body.index(b"</record>") + 9]),
    "not XML": lambda _: (200, {}, b"<html><p>Rate exceeded</html>"),
    "another document": lambda _: (200, {}, b"<html></html>"),
    "nothing": lambda _: (200, {}, b""),
    "entities": lambda body: (200, {}, b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + body.partition(b"?>")[2]),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("request_number", [1, 3])
def test_a_page_that_fails_once_is_asked_for_again(
    run: Run, repository: Repository, tmp_path: Path, fault: str, request_number: int
) -> None:
    expected = ten(repository)
    repository.faults[request_number] = FAULTS[fault]
    assert run("cs").records == 10
    assert ids(tmp_path / "store") == expected
    assert len(repository.asked) == 5
    assert repository.asked[request_number] == repository.asked[request_number - 1]


def test_retry_after_is_obeyed(run: Run, repository: Repository) -> None:
    ten(repository)
    repository.faults[2] = fail(503, Retry_After="1")
    run()
    assert repository.times[2] - repository.times[1] >= 1


def test_a_retry_after_of_hours_is_told_not_slept(run: Run, repository: Repository) -> None:
    repository.faults[1] = fail(503, Retry_After="7200")
    with pytest.raises(UserError, match=r"asks to come back in 2\.0 hours"):
        run()


def test_a_fault_that_stays_is_one_line_and_the_next_run_goes_on(
    run: Run, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harvest, "_ATTEMPTS", 3)
    expected = ten(repository)
    repository.faults |= dict.fromkeys((3, 4, 5), FAULTS["page cut short"])
    with pytest.raises(
        UserError, match=r"no well-formed XML .* 3 times; run the same command later"
    ) as error:
        run("cs")
    assert "\n" not in str(error.value)
    assert len(repository.asked) == 5
    assert run().records == 4
    assert [in_order(query) for query in repository.asked[5:]] == [6, 9]
    assert ids(tmp_path / "store") == expected


def test_characters_that_xml_forbids_are_taken_out(run: Run, repository: Repository, tmp_path: Path) -> None:
    repository.add("2401.00001", "2024-01-01", "A\x0bB&#x1;C")
    repository.faults[1] = lambda body: (200, {}, body.replace(b"About", b"Ab\xffout"))
    run()
    (paper,) = papers(tmp_path / "store")
    assert (paper.title, paper.abstract) == ("A B C", "Ab\ufffdout it.")
    assert len(repository.asked) == 1


def test_a_bad_record_is_named_and_the_rest_of_the_page_kept(
    run: Run, repository: Repository, tmp_path: Path
) -> None:
    expected = ten(repository)
    repository.faults[1] = lambda body: (
        200,
        {},
        re.sub(rb"(?s)<metadata>.*?</metadata>", b"", body, count=1),
    )
    assert run().bad == ["oai:arXiv.org:2401.00000: no metadata"]
    assert ids(tmp_path / "store") == expected[1:]


def test_an_expired_token_begins_the_part_again(run: Run, repository: Repository, tmp_path: Path) -> None:
    expected = ten(repository)
    repository.faults[3] = lambda _: (200, {}, repository.error("badResumptionToken"))
    assert run("cs", since="2024-01-01").records == 6 + 10
    assert repository.asked[3] == repository.asked[0]
    assert ids(tmp_path / "store") == expected


def test_a_token_that_never_works_ends_in_one_line(run: Run, repository: Repository) -> None:
    ten(repository)
    for n in range(2, 20, 2):
        repository.faults[n] = lambda _: (200, {}, repository.error("badResumptionToken"))
    with pytest.raises(UserError, match="badResumptionToken"):
        run()
    assert len(repository.asked) < 10


def test_a_repository_that_gives_the_same_page_for_ever_is_left(run: Run, repository: Repository) -> None:
    ten(repository)
    token = b'<resumptionToken>{"start": 3}</resumptionToken></ListRecords>'
    for n in (2, 3):
        repository.faults[n] = lambda body: (
            200,
            {},
            re.sub(rb"<resumptionToken.*", token + b"</OAI-PMH>", body, flags=re.DOTALL),
        )
    with pytest.raises(UserError, match="the same page again"):
        run()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda _: (404, {}, b""), "HTTP 404; check --url"),
        (lambda _: (200, {}, Repository.error("badArgument")), "refuses the request"),
        (lambda body: (200, {}, body + b" " * 2000), "over 1,500 bytes"),
        (lambda _: (302, {"Location": "/oai?a=b"}, b""), None),
    ],
)
def test_answers_that_no_attempt_mends(
    run: Run,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[bytes], Answer],
    message: str | None,
) -> None:
    monkeypatch.setattr(harvest, "MAX_PAGE", 1500)
    repository.add("2401.00001", "2024-01-01")
    repository.faults[1] = fault
    if message is None:
        repository.faults |= dict.fromkeys(range(1, 9), fault)
    with pytest.raises(UserError, match=message or "redirect") as error:
        run()
    assert repository.url in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unreachable_repository_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "_ATTEMPTS", 2)
    with pytest.raises(UserError, match=r"2 times; run the same command later"):
        harvest.harvest(tmp_path, url="http://127.0.0.1:9/oai", delay=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"since": "2024-13-01"}, "--since"),
        ({"until": "yesterday"}, "--until"),
        ({"url": "file:///etc/passwd"}, "not an http address"),
        ({"url": "https://oaipmh.arxiv.org/oai", "delay": 1.0}, "arXiv asks for 3 s"),
        ({"contact": "a\r\nHost: b"}, "--contact"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_asked(
    run: Run, repository: Repository, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(**options)
    assert not repository.asked


# Manners


def test_one_request_at_a_time_with_a_pause_and_a_contact(run: Run, repository: Repository) -> None:
    ten(repository)
    run(delay=0.2, contact="ada@example.org")
    assert repository.most_open == 1
    pauses = [b - a for a, b in zip(repository.times, repository.times[1:], strict=False)]
    assert min(pauses) >= 0.2
    assert all(
        h["From"] == "ada@example.org" and "ada@example.org" in h["User-Agent"] for h in repository.headers
    )
    run()
    assert repository.headers[-1]["From"] == "ada@example.org"


def test_arxivs_published_delay_is_the_default() -> None:
    assert harvest.DELAY == 3
    assert "oaipmh.arxiv.org" in harvest.ARXIV


# The folder


def test_two_harvests_do_not_write_into_one_folder(run: Run, repository: Repository, tmp_path: Path) -> None:
    ten(repository)
    repository.slow = 0.3
    first = threading.Thread(target=run)
    first.start()
    while not repository.asked:
        time.sleep(0.01)
    with pytest.raises(UserError, match="another harvest"):
        run()
    first.join()
    assert len(ids(tmp_path / "store")) == 10


def test_a_folder_holds_one_repository_and_form(run: Run, repository: Repository) -> None:
    ten(repository)
    run()
    for options in ({"form": "arXiv"}, {"url": "http://127.0.0.1:9/"}):
        with pytest.raises(UserError, match="choose another --store"):
            run(**options)


def test_a_damaged_folder_is_told(run: Run, repository: Repository, tmp_path: Path) -> None:
    ten(repository)
    run()
    log = tmp_path / "store" / "log"
    log.joinpath("records.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match=r"records\.jsonl has 0 bytes"):
        run()
    log.joinpath("state.json").write_text("{")
    with pytest.raises(UserError, match=r"state\.json is damaged"):
        run()


def test_what_a_kill_left_half_written_is_cut_off(run: Run, repository: Repository, tmp_path: Path) -> None:
    expected = ten(repository)
    run()
    with (tmp_path / "store" / "log" / "records.jsonl").open("ab") as log:
        log.write(b'{"oai": "oai:arXiv.org:2401.9')
    repository.add("2402.00001", "2024-02-01")
    run()
    assert ids(tmp_path / "store") == [*expected, "arxiv:2402.00001"]


def test_a_harvest_that_is_killed_again_and_again_asks_for_no_page_twice_but_the_last(
    repository: Repository, tmp_path: Path
) -> None:
    expected = ten(repository)
    repository.page, repository.slow = 1, 0.05
    code = (
        "import sys; from pathlib import Path; from data.harvest import harvest; "
        "harvest(Path(sys.argv[1]), ('cs',), url=sys.argv[2], delay=0)"
    )
    store, kills = tmp_path / "store", 0
    for stop_after in (2, 5, 8, 100):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(store), repository.url], env=environment()
        )
        while process.poll() is None and len(repository.asked) < stop_after:
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 3
    assert process.returncode == 0
    assert ids(store) == expected
    assert [in_order(query) for query in repository.asked] == sorted(
        in_order(query) for query in repository.asked
    )
    assert len(repository.asked) <= 10 + 2 * kills


# The command


def test_the_command_harvests_builds_and_updates_the_index(
    repository: Repository, tmp_path: Path, tiny_folder: Path, invoke: Callable[..., Result]
) -> None:
    ten(repository)
    index = tmp_path / "index"
    words = ["harvest", "--url", repository.url, "--delay", 0, "--index", index, "--encoder", tiny_folder]
    first = invoke(*words, "--set", "cs", "--since", "2024-01-01", "--contact", "ada@example.org")
    assert first.exit_code == 0, first.output
    assert "10 records in 4 pages" in first.output
    assert "index of 10 papers" in first.output
    repository.add("2402.00001", "2024-02-01")
    repository.add("2401.00000", "2024-02-01", deleted=True)
    second = invoke(*words, "--json")
    assert second.exit_code == 0, second.output
    report = json.loads(second.stdout)
    assert (report["harvest"]["deleted"], report["papers"]) == (1, 10)
    repository.add("2401.00001", "2024-02-02", title="Another title")
    third = invoke(*words)
    assert "1 changed, 1 encoded; index of 10 papers" in third.output
    repository.records.clear()
    fourth = invoke(*words)
    assert fourth.exit_code == 0
    assert "nothing new" in fourth.output


def test_without_the_extra_the_command_says_what_to_install(
    invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stamina", None)
    result = invoke("harvest", "--store", tmp_path / "store", "--url", "http://127.0.0.1:9/oai", "--no-index")
    assert result.exit_code == 1
    assert "pip install 'citemark[harvest]'" in result.output
