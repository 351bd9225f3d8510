"""The audit of a draft: citations that fit badly, facts without any, and what is wrong in its .bib file.

It points at places to look at; it does not judge. The corpus knows only its own papers, and the
search is no better than its recall (see `indexer evaluate`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from data.contexts import Context
from data.library import Bibliography, Entry
from data.manuscript import Citation, Draft, Sentence
from data.matching import find_records, normal_title
from data.paper import Paper
from indexer.ranked import Ranked
from indexer.search import Hit, Searcher
from indexer.snapshot import Snapshot

FIT_RANK = 1000  # a cited paper that stands lower than this fits its sentence badly; see docs/drafts.md
YEARS_APART = 2  # from preprint to journal; more is an error
SAME_TITLE = 0.9  # share of letters (difflib's ratio) from which two spellings are one title
LIKE_TITLE = 0.75  # and from which one may be meant for the other
BETTER = 3  # candidates that are listed
FEWEST_WORDS = 6  # of a sentence that states a fact

_CLAIM = re.compile(
    r"\b(?:(?:has|have) (?:\w+ly )?(?:been|become|shown|achieved|proven|demonstrated|attracted|proposed|led)"
    r"|(?:is|are|was|were) (?:\w+ly )?(?:known|introduced|proposed|shown|established|believed|considered)"
    r"|(?:is|are) (?:widely|commonly|typically|generally)"
    r"|(?:recent|prior|previous|earlier|existing|related|several|many|some|numerous|other|most) (?:\w+ )?"
    r"(?:works?|stud(?:y|ies)|research|approaches|methods|papers?|authors|results?|efforts?|advances|techniques)"
    r"|researchers|the literature|state[- ]of[- ]the[- ]art|studies (?:show|suggest|have|find)|et al"
    r"|according to|it (?:is|was|has been) (?:well )?(?:known|shown|argued|found|observed))\b",
    re.IGNORECASE,
)
_OWN = re.compile(
    r"\b(?:we|our|ours|us|this (?:paper|work|section|article|study|thesis|chapter)|section|figure|fig|table"
    r"|algorithm|appendix|theorem|lemma|equation)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Misfit:
    """A cited paper that stands low among the candidates for its sentence, and those that lead."""

    citation: Citation
    key: str
    paper: Paper
    better: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that states a fact of others and cites nothing, with candidates."""

    sentence: Sentence
    candidates: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """An entry that differs from the corpus: `what` is title, year, id or absent."""

    entry: Entry
    library: Bibliography
    what: str
    record: Paper | None

    def __str__(self) -> str:
        ours, record = self.entry.paper, self.record
        if record is None:
            return "no record of the corpus"
        values = {
            "title": (ours.title, record.title),
            "year": (ours.year, record.year),
            "id": (ours.paper_id, record.paper_id),
        }
        mine, theirs = values[self.what]
        return f"{self.what} {mine!r}, in the corpus {theirs!r} ({record.paper_id})"


@dataclass(frozen=True, slots=True)
class Audit:
    """What there is to look at. `judged` citations have a record, so that their fit could be measured."""

    misfits: tuple[Misfit, ...]
    claims: tuple[Claim, ...]
    undefined: tuple[tuple[Citation, str], ...]
    uncited: tuple[tuple[Bibliography, Entry], ...]
    faults: tuple[Fault, ...]
    broken: tuple[str, ...]
    judged: int
    citations: int
    marks: int


def audit(draft: Draft, libraries: Sequence[Bibliography], searcher: Searcher) -> Audit:
    """Audit a draft against its .bib files and the corpus of the searcher."""
    searcher.reload()
    snapshot = searcher.snapshot
    entries = [(library, entry) for library in libraries for entry in library.entries]
    found = find_records(snapshot.papers, [entry.paper for _, entry in entries])
    records = {entry.key: match for (_, entry), match in zip(entries, found, strict=True) if match}
    misfits, judged = _misfits(draft, records, searcher, snapshot)
    cited = {key for citation in draft.citations for key in citation.keys} | set(draft.listed)
    known = {key for library in libraries for key in library.keys}
    return Audit(
        misfits=tuple(misfits),
        claims=tuple(_claims(draft, searcher)),
        undefined=tuple((c, key) for c in draft.citations for key in c.keys if key not in known),
        uncited=tuple(pair for pair in entries if pair[1].key not in cited and "*" not in cited),
        faults=tuple(_faults(entries, found, searcher)),
        broken=tuple(f"{library.path}: {reject}" for library in libraries for reject in library.rejects),
        judged=judged,
        citations=sum(len(citation.keys) for citation in draft.citations),
        marks=len(draft.marks),
    )


def _misfits(
    draft: Draft, records: dict[str, tuple[int, Paper]], searcher: Searcher, snapshot: Snapshot
) -> tuple[list[Misfit], int]:
    judged = [c for c in draft.citations if any(key in records for key in c.keys)]
    if not judged:
        return [], 0
    ranked = searcher.rank([c.context for c in judged], FIT_RANK, searcher.settings.stage, snapshot)
    own = normal_title(draft.title)
    misfits, count = [], 0
    for number, citation in enumerate(judged):
        rows = ranked.rows[number].tolist()
        cited = {key: records[key] for key in citation.keys if key in records}
        count += len(cited)
        ours = {row for row, _ in cited.values()}
        for key, (row, paper) in cited.items():
            # A corpus no larger than FIT_RANK has no badly fitting papers; half of it is a fair limit then.
            limit = min(FIT_RANK, max(len(snapshot.papers) // 2, 1))
            if row not in rows[:limit]:
                better = _leaders(ranked, number, ours, own, snapshot)
                misfits.append(Misfit(citation, key, paper, better))
    return misfits, count


def _leaders(ranked: Ranked, number: int, cited: set[int], own: str, snapshot: Snapshot) -> tuple[Hit, ...]:
    """The best candidates of a context but what it cites and the draft itself."""
    places = [p for p, row in enumerate(ranked.rows[number].tolist()) if row >= 0 and row not in cited]
    places = places[: BETTER + 1]
    papers = snapshot.papers.take([int(ranked.rows[number, place]) for place in places])
    hits = [
        Hit(place + 1, paper, float(ranked.scores[number, place]), None, None)
        for place, paper in zip(places, papers, strict=True)
        if not own or normal_title(paper.title) != own
    ]
    return tuple(hits[:BETTER])


def _claims(draft: Draft, searcher: Searcher) -> Iterator[Claim]:
    found = [sentence for sentence in draft.sentences if states_fact(sentence.text, draft.abstract)]
    own = normal_title(draft.title)
    hits = searcher.search([Context(sentence.text) for sentence in found], BETTER + 1) if found else []
    for sentence, candidates in zip(found, hits, strict=True):
        others = [hit for hit in candidates if not own or normal_title(hit.paper.title) != own]
        yield Claim(sentence, tuple(others[:BETTER]))


def states_fact(sentence: str, abstract: str = "") -> bool:
    """Whether a sentence speaks of what others found: by its phrases, and not of the draft's own work."""
    return (
        len(sentence.split()) >= FEWEST_WORDS
        and bool(_CLAIM.search(sentence))
        and not _OWN.search(sentence)
        and sentence not in abstract
    )


def _faults(
    entries: Sequence[tuple[Bibliography, Entry]],
    found: Sequence[tuple[int, Paper] | None],
    searcher: Searcher,
) -> Iterator[Fault]:
    unmatched = [pair for pair, match in zip(entries, found, strict=True) if match is None]
    contexts = [Context(entry.paper.title) for _, entry in unmatched]
    near = (
        dict(zip(map(id, unmatched), searcher.search(contexts, 1, "bm25"), strict=True)) if contexts else {}
    )
    for pair, match in zip(entries, found, strict=True):
        library, entry = pair
        if match is None:
            yield _unmatched(library, entry, near[id(pair)])
            continue
        record = match[1]
        if _alike(entry.paper.title, record.title) < SAME_TITLE:
            yield Fault(entry, library, "title", record)
        years = (entry.paper.year, record.year)
        if years[0] and years[1] and abs(years[0] - years[1]) > YEARS_APART:
            yield Fault(entry, library, "year", record)


def _unmatched(library: Bibliography, entry: Entry, near: Sequence[Hit]) -> Fault:
    """What the nearest record by its title says of an entry that has none."""
    likeness = _alike(entry.paper.title, near[0].paper.title) if near else 0.0
    if likeness < LIKE_TITLE:
        return Fault(entry, library, "absent", None)
    return Fault(entry, library, "id" if likeness >= SAME_TITLE else "title", near[0].paper)


def _alike(one: str, other: str) -> float:
    return SequenceMatcher(None, normal_title(one), normal_title(other), autojunk=False).ratio()


def report(result: Audit) -> Iterator[str]:
    """The audit as lines of text."""
    known = f"{result.judged} of {result.citations} cited papers are in the corpus"
    yield f"{known}; {result.marks} mark{'s' * (result.marks != 1)} without a citation"
    yield from _part("citations that fit their sentence badly", result.misfits, _misfit_lines)
    yield from _part("sentences that state a fact and cite nothing", result.claims, _claim_lines)
    yield from _part("keys without an entry", result.undefined, lambda u: [f"{u[0].place}  {u[1]}"])
    yield from _part("entries that differ from the corpus", _of(result, absent=False), _fault_lines)
    yield from _part("entries that match no record of the corpus", _of(result, absent=True), _fault_lines)
    yield from _part("entries never cited", result.uncited, lambda u: [_entry(*u)])
    yield from _part("entries that cannot be read", result.broken, lambda line: [line])


def _of(result: Audit, *, absent: bool) -> list[Fault]:
    return [fault for fault in result.faults if (fault.what == "absent") is absent]


def _part(title: str, items: Sequence[Any], lines: Any) -> Iterator[str]:
    if items:
        yield f"\n{title} ({len(items)})"
        for item in items:
            yield from (f"  {line}" for line in lines(item))


def _entry(library: Bibliography, entry: Entry) -> str:
    return f"{library.path}:{entry.place.removeprefix('line ')}  {entry.key}  {entry.paper.title}"


def _misfit_lines(misfit: Misfit) -> list[str]:
    head = f"{misfit.citation.place}  {misfit.key}: {misfit.paper.title}"
    return [head, f"  {misfit.citation.context.text}", *map(_candidate, misfit.better)]


def _claim_lines(claim: Claim) -> list[str]:
    return [f"{claim.sentence.place}  {claim.sentence.text}", *map(_candidate, claim.candidates)]


def _fault_lines(fault: Fault) -> list[str]:
    head = _entry(fault.library, fault.entry)
    return [head] if fault.record is None else [head, f"  {fault}"]


def _candidate(hit: Hit) -> str:
    year = f", {hit.paper.year}" if hit.paper.year else ""
    return f"    {hit.score:6.3f}  {hit.paper.title}{year}  {hit.paper.url or hit.paper.paper_id}"


def as_dict(result: Audit) -> dict[str, Any]:
    """For JSON."""

    def cited(citation: Citation) -> dict[str, Any]:
        return {"place": citation.place, "text": citation.context.text}

    def entry(library: Bibliography, found: Entry) -> dict[str, Any]:
        return {"file": str(library.path), "place": found.place, "key": found.key, "title": found.paper.title}

    return {
        "citations": result.citations,
        "judged": result.judged,
        "marks": result.marks,
        "misfits": [
            {**cited(m.citation), "key": m.key, "paper_id": m.paper.paper_id, "title": m.paper.title,
             "better": [hit.as_dict() for hit in m.better]}
            for m in result.misfits
        ],
        "claims": [
            {"place": c.sentence.place, "text": c.sentence.text,
             "candidates": [hit.as_dict() for hit in c.candidates]}
            for c in result.claims
        ],
        "undefined": [{**cited(citation), "key": key} for citation, key in result.undefined],
        "uncited": [entry(*pair) for pair in result.uncited],
        "faults": [
            {**entry(f.library, f.entry), "what": f.what, "detail": str(f),
             "paper_id": f.record.paper_id if f.record else None}
            for f in result.faults
        ],
        "broken": list(result.broken),
    }  # fmt: skip
