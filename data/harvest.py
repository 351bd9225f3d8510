"""arXiv's papers by OAI-PMH (or another repository's): polite, resumable, only what changed.

    FOLDER/log/records.jsonl    one line a record or deletion, in the order in which they came
    FOLDER/log/state.json       how far each set is: the next page, the bytes of the log that count
    FOLDER/papers.jsonl         what the log comes to: each paper once, as it last was, in stable order

After each page the log is flushed and the state replaced; what a kill left behind it is cut off by
the next run, which goes on with the page after. A page that is cut short or not well-formed is asked
for again: unlike the libraries for this protocol, whose parsers mend a cut page without a word.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from filelock import FileLock, Timeout

from data.errors import UserError
from data.files import write_atomically
from data.identifiers import arxiv_id, arxiv_year, doi_in, paper_id
from data.release import release
from data.safe_xml import BadXml, name, parse, text, texts

ARXIV = "https://oaipmh.arxiv.org/oai"
DELAY = 3.0  # seconds: arXiv's terms of use ask for one request in three seconds, one at a time
FORMS = ("arXivRaw", "arXiv", "oai_dc")
MAX_PAGE = 128 << 20  # bytes; a page of arXiv's has 2 MB
_ATTEMPTS = 8
_LONGEST_WAIT = 3600.0  # seconds that a Retry-After may ask for
_RESTARTS = 3
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?")
_ARCHIVES = {"cs", "math", "stat", "eess", "econ", "q-bio", "q-fin"}  # the others are physics

_log = logging.getLogger(__name__)
logging.getLogger("stamina").setLevel(logging.ERROR)  # it names its function, not the fault

Progress = Callable[[int, int], None]
"""Called after each page with the records so far and, where the repository tells, of how many."""


@dataclass
class SetState:
    """How far the harvest of one set is."""

    since: str = ""
    until: str = ""
    token: str = ""  # of the page to ask for next; empty: none is open
    running: bool = False
    newest: str = ""  # the newest datestamp seen
    restarts: int = 0


@dataclass
class State:
    """What the next run must know."""

    url: str = ARXIV
    form: str = FORMS[0]
    contact: str = ""
    bytes: int = 0  # of the log that count
    sets: dict[str, SetState] = field(default_factory=dict)


@dataclass
class Harvest:
    """What one run brought."""

    pages: int = 0
    records: int = 0
    deleted: int = 0
    bad: list[str] = field(default_factory=list)
    papers: int = 0


@dataclass(frozen=True)
class Page:
    """One answer to ListRecords."""

    records: list[dict[str, Any]]
    bad: list[str]
    token: str
    total: int


class Refused(Exception):
    """An error of the protocol; `code` is its name there."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


class _Again(Exception):
    """A fault that may be gone at the next attempt, after `wait` seconds if the server says so."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


def harvest(
    folder: Path,
    sets: tuple[str, ...] = (),
    since: str = "",
    until: str = "",
    url: str = "",
    form: str = "",
    contact: str = "",
    delay: float = DELAY,
    progress: Progress = lambda _done, _of: None,
) -> Harvest:
    """Bring the records of `sets` into `folder` and write its papers.jsonl; what is empty is as before.

    A folder's first harvest without a set is of everything. A set that is in the folder already is
    asked only for what changed since its newest record, `since` notwithstanding; one that was
    interrupted goes on where it was.

    Raises UserError for wrong arguments, and where the repository cannot be reached or understood;
    what came until then is kept.
    """
    for option, value in (("since", since), ("until", until)):
        if value and not _is_date(value):
            raise UserError(f"--{option} is {value!r}, not a date such as 2024-01-31")
    with _locked(folder):
        state = _load(folder)
        _settle(state, folder, url, form, contact, delay)
        log = folder / "log" / "records.jsonl"
        _cut(log, state.bytes)
        wanted = tuple(set_spec(s) for s in sets) or tuple(state.sets) or ("",)
        result = Harvest()
        with Client(state.url, state.contact, delay) as client:
            for spec in wanted:
                part = state.sets.setdefault(spec, SetState(since=since))
                if not part.running:
                    _open(part, until)
                _harvest_set(client, folder, state, spec, result, progress)
        if result.records or not (folder / "papers.jsonl").exists():
            result.papers = write_papers(log, folder / "papers.jsonl")
        else:
            result.papers = _lines(folder / "papers.jsonl")
        return result


def set_spec(name_of_set: str) -> str:
    """arXiv's name of a set; a category is one too: cs.CL is cs:cs:CL, hep-th is physics:hep-th."""
    archive, dot, subject = name_of_set.partition(".")
    if not dot or ":" in name_of_set:
        return name_of_set
    return f"{archive if archive in _ARCHIVES else 'physics'}:{archive}:{subject}"


def _is_date(value: str) -> bool:
    try:
        return bool(_DATE.fullmatch(value)) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        (folder / "log").mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "log" / "lock", timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"{folder}: another harvest writes here; wait for it, arXiv allows one at a time"
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder}: the harvest cannot be written ({error.strerror or error}); free space or choose "
            "another --store and run the same command again"
        ) from error


def _settle(state: State, folder: Path, url: str, form: str, contact: str, delay: float) -> None:
    """Take what the caller says into the state, unless the folder holds something else."""
    for what, new, old in (("--url", url, state.url), ("--form", form, state.form)):
        if state.sets and new and new != old:
            raise UserError(f"{folder} holds a harvest with {what} {old}, not {new}; choose another --store")
    state.url, state.form = url or state.url, form or state.form
    state.contact = contact or state.contact
    parts = urlsplit(state.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--url is {state.url!r}, not an http address")
    if f".{parts.hostname}".endswith(".arxiv.org") and delay < DELAY:
        raise UserError(f"--delay is {delay:g} s, arXiv asks for {DELAY:g} s between requests at least")
    if re.search(r"[^\x20-\x7e]", state.contact):
        raise UserError(f"--contact is {state.contact!r}; give a plain mail or web address")


def _open(part: SetState, until: str) -> None:
    """Begin a harvest: of all, or after the first of what changed since the newest record."""
    part.since = part.newest or part.since
    part.until, part.token, part.running, part.restarts = until, "", True, 0


def _harvest_set(
    client: "Client", folder: Path, state: State, spec: str, result: Harvest, progress: Progress
) -> None:
    part = state.sets[spec]
    done, total = 0, 0
    while part.running:
        try:
            page = client.records(_query(state.form, spec, part))
        except Refused as error:
            _recover(part, error, state.url)
            _save(folder, state)
            continue
        if page.token and page.token == part.token:
            raise UserError(
                f"{state.url}: the same page again and again (token {page.token[:60]!r}); try later"
            )
        state.bytes = _append(folder / "log" / "records.jsonl", page.records)
        part.newest = max([part.newest, *(record["datestamp"] for record in page.records)])
        part.token, part.running = page.token, bool(page.token)
        _save(folder, state)
        done += len(page.records)
        result.pages += 1
        result.records += len(page.records)
        result.deleted += sum("deleted" in record for record in page.records)
        result.bad += page.bad
        total = page.total or total  # the last page may not tell
        progress(done, total)


def _query(form: str, spec: str, part: SetState) -> dict[str, str]:
    if part.token:
        return {"verb": "ListRecords", "resumptionToken": part.token}
    query = {"metadataPrefix": form, "set": spec, "from": part.since, "until": part.until}
    return {"verb": "ListRecords"} | {key: value for key, value in query.items() if value}


def _recover(part: SetState, error: Refused, url: str) -> None:
    if error.code == "noRecordsMatch":  # nothing is new
        part.token, part.running = "", False
    elif error.code == "badResumptionToken" and part.token and part.restarts < _RESTARTS:
        part.token, part.restarts = "", part.restarts + 1  # it expired: from the beginning of this part
    else:
        part.running = part.running and bool(part.token)
        raise UserError(
            f"{url} refuses the request ({error}); see `indexer harvest --help` for sets and forms"
        )


# The folder


def _load(folder: Path) -> State:
    path = folder / "log" / "state.json"
    if not path.exists():
        return State()
    try:
        raw = json.loads(path.read_bytes())
        sets = {spec: SetState(**part) for spec, part in raw.pop("sets").items()}
        return State(**raw, sets=sets)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; remove {folder} and harvest again") from None


def _save(folder: Path, state: State) -> None:
    write_atomically(folder / "log" / "state.json", json.dumps(asdict(state), indent=1).encode())


def _cut(log: Path, size: int) -> None:
    """Cut off what a killed run wrote after its last saved state."""
    have = log.stat().st_size if log.exists() else 0
    if have < size:
        raise UserError(
            f"{log} has {have:,} bytes, not {size:,}: it is damaged; remove its folder and harvest again"
        )
    if have > size:
        os.truncate(log, size)


def _append(log: Path, records: list[dict[str, Any]]) -> int:
    with log.open("ab") as file:
        file.writelines(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def write_papers(log: Path, papers: Path) -> int:
    """Each paper of the log once, as it last was, where it first was; without the deleted. How many.

    Papers keep their places, so that an index of them is encoded anew only where they changed.
    """
    first: dict[int, int] = {}  # hash of the id: place; memory holds two numbers a paper, not its id
    last: dict[int, int] = {}
    with log.open("rb") as file:
        place = 0
        for line in file:
            key = _key(line)
            first.setdefault(key, place)
            last[key] = place
            place += len(line)
    half = papers.with_name(papers.name + ".half")
    count = 0
    with log.open("rb") as file, half.open("wb") as out:
        for key in first:  # in the order of their first lines
            file.seek(last[key])
            line = file.readline()
            if not line.startswith(b'{"deleted"'):
                out.write(line)
                count += 1
        out.flush()
        os.fsync(out.fileno())
    half.replace(papers)
    return count


def _key(line: bytes) -> int:
    record = json.loads(line)
    return hash(record.get("deleted") or record["oai"])


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


# The protocol


class Client:
    """Asks an OAI-PMH repository for pages, one at a time with a pause; a context manager."""

    def __init__(self, url: str, contact: str = "", delay: float = DELAY) -> None:
        try:
            import httpx2
            import stamina
        except ImportError as error:
            raise UserError(
                f"harvesting needs {error.name}; install it with: pip install 'citemark[harvest]'"
            ) from None
        self._http, self._retries = httpx2, stamina
        agent = f"Citemark/{release()} (OAI-PMH harvester{'; ' + contact if contact else ''})"
        headers = {"User-Agent": agent, "Accept": "text/xml"} | ({"From": contact} if "@" in contact else {})
        self._client = httpx2.Client(headers=headers, timeout=120, follow_redirects=True, max_redirects=3)
        self._url, self._delay, self._last = url, delay, float("-inf")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def records(self, query: dict[str, str]) -> Page:
        """One page of ListRecords. Raises Refused, and UserError when the attempts are used up."""
        try:
            for attempt in self._retries.retry_context(
                on=self._backoff,
                attempts=_ATTEMPTS,
                timeout=None,
                wait_initial=self._delay or 0.01,
                wait_max=300,
                wait_jitter=self._delay / 3,
            ):
                with attempt:
                    return _page(self._fetch(query))
        except _Again as error:
            raise UserError(
                f"{self._url}: {error}, {_ATTEMPTS} times; run the same command later, it goes on from here"
            ) from None
        raise AssertionError("unreachable: the last attempt returns or raises")

    @staticmethod
    def _backoff(error: Exception) -> bool | float:
        if not isinstance(error, _Again):
            return False
        _log.warning("%s; asking again%s", error, "" if error.wait is None else f" in {error.wait:.0f} s")
        return True if error.wait is None else error.wait

    def _fetch(self, query: dict[str, str]) -> bytes:
        time.sleep(max(0.0, self._last + self._delay - time.monotonic()))
        try:
            with self._client.stream("GET", self._url, params=query) as response:
                content = self._body(response) if response.status_code == 200 else b""
        except self._http.TransportError as error:  # the body being cut short among them
            raise _Again(str(error) or type(error).__name__) from None
        except self._http.HTTPError as error:
            raise UserError(f"{self._url}: {error}; check --url") from None
        finally:
            self._last = time.monotonic()
        _check(response.status_code, response.headers.get("Retry-After", ""), self._url)
        return content

    def _body(self, response: Any) -> bytes:
        parts, size = [], 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > MAX_PAGE:
                raise UserError(
                    f"{self._url}: an answer of over {MAX_PAGE:,} bytes; is it an OAI-PMH repository?"
                )
        return b"".join(parts)


def _check(status: int, retry_after: str, url: str) -> None:
    if status == 200:
        return
    if status in (429, 503):
        wait = _seconds(retry_after)
        if wait is not None and wait > _LONGEST_WAIT:
            raise UserError(f"{url} asks to come back in {wait / 3600:.1f} hours; run the same command then")
        raise _Again(f"it is busy (HTTP {status})", wait)
    if status in (408, 500, 502, 504):
        raise _Again(f"it fails (HTTP {status})")
    raise UserError(f"{url} answers HTTP {status}; check --url")


def _seconds(retry_after: str) -> float | None:
    """The wait of a Retry-After, in seconds or as a date; None where it says nothing."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _page(content: bytes) -> Page:
    """A page of records. Raises _Again for XML that is cut or broken, Refused for an error in it."""
    try:
        root = parse(content)
    except BadXml as error:
        raise _Again(f"the answer is {error}") from None
    if name(root) != "OAI-PMH":
        raise _Again(f"the answer is <{name(root)[:40]}>, not <OAI-PMH>")
    for child in root:
        if name(child) == "error":
            raise Refused(child.get("code", ""), " ".join("".join(child.itertext()).split()))
    answer = next((child for child in root if name(child) == "ListRecords"), None)
    if answer is None:
        raise _Again("the answer has no <ListRecords>")
    records, bad = [], []
    for element in answer:
        if name(element) == "record":
            try:
                records.append(_record(element))
            except ValueError as error:
                bad.append(f"{_identifier(element) or 'a record'}: {error}")
    token = next((child for child in answer if name(child) == "resumptionToken"), None)
    total = "" if token is None else token.get("completeListSize", "")
    return Page(
        records,
        bad,
        "" if token is None else (token.text or "").strip(),
        int(total) if total.isdecimal() else 0,
    )


def _header(record: Element) -> Element | None:
    return next((child for child in record if name(child) == "header"), None)


def _identifier(record: Element) -> str:
    return text(_header(record), "identifier")


def _record(element: Element) -> dict[str, Any]:
    """A record as the line that is kept of it; data.clean.to_paper reads it."""
    header, oai = _header(element), _identifier(element)
    stamp = text(header, "datestamp")
    if not oai or not _is_date(stamp):
        raise ValueError(f"no identifier or no date ({stamp[:30]!r})")
    if header is not None and header.get("status") == "deleted":
        return {"deleted": oai, "datestamp": stamp}
    metadata = next((child for child in element if name(child) == "metadata"), None)
    body = next(iter(metadata), None) if metadata is not None else None
    if body is None:
        raise ValueError("no metadata")
    forms = {"arXivRaw": _arxiv_raw, "arXiv": _arxiv, "dc": _dublin_core}
    if name(body) not in forms:
        raise ValueError(f"metadata in <{name(body)[:40]}>, not one of {', '.join(FORMS)}")
    fields = forms[name(body)](body, oai, texts(header, "setSpec"))
    return {"oai": oai, "datestamp": stamp} | {key: value for key, value in fields.items() if value}


def _shared(body: Element) -> dict[str, Any]:
    names = ("id", "title", "abstract", "categories", "comments", "journal-ref", "doi", "license")
    return {field: text(body, field) for field in names}


def _arxiv_raw(body: Element, oai: str, sets: list[str]) -> dict[str, Any]:
    """The fields of arXiv's metadata snapshot, under the same names."""
    versions = [
        {"version": child.get("version", ""), "created": text(child, "date")}
        for child in body
        if name(child) == "version"
    ]
    return _shared(body) | {"authors": text(body, "authors"), "versions": versions}


def _arxiv(body: Element, oai: str, sets: list[str]) -> dict[str, Any]:
    people = next((child for child in body if name(child) == "authors"), None)
    authors = [[text(p, "keyname"), text(p, "forenames"), text(p, "suffix")] for p in people or ()]
    fields = _shared(body)
    # `created` may be the last version's date, the number tells the first's.
    year = arxiv_year(fields["id"]) or text(body, "created")
    return fields | {"arxiv_id": fields["id"], "authors_parsed": authors, "year": year}


def _dublin_core(body: Element, oai: str, sets: list[str]) -> dict[str, Any]:
    known = texts(body, "identifier")
    number = arxiv_id(oai.rpartition(":")[2]) if oai.lower().startswith("oai:arxiv.org:") else ""
    doi = next((found for value in known if (found := doi_in(value))), "")
    dates = sorted(date for date in texts(body, "date") if date)
    abstracts = [value for value in texts(body, "description") if not value.startswith("Comment")]
    return {
        "paper_id": paper_id(arxiv=number, doi=doi, other=oai),
        "title": text(body, "title"),
        "abstract": next(iter(abstracts), ""),
        "authors": texts(body, "creator"),
        "year": arxiv_year(number) or next(iter(dates), ""),
        "categories": [_category(spec) for spec in sets] if number else texts(body, "subject"),
        "doi": doi,
    }


def _category(spec: str) -> str:
    """cs:cs:CL is cs.CL, physics:hep-th is hep-th, as in arXiv's own forms."""
    parts = spec.split(":")
    return f"{parts[1]}.{parts[2]}" if len(parts) > 2 else parts[-1]
