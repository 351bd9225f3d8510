"""Which two records are the same paper: by arXiv id, Anthology id, DOI or title."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from data.names import NAME_SUFFIX
from data.paper import ARXIV_ID, Paper
from data.table import PaperTable

_ARXIV_DOI = re.compile(r"10\.48550/arxiv\.(?P<id>.+)", re.IGNORECASE)
_MARKUP = re.compile(r"\\[A-Za-z]+\s*|\\.")
_SHORT = 12  # letters of a title that many papers may have: Introduction, Editorial


def normal_title(title: str) -> str:
    """The letters and digits of a title, without case, accents and markup."""
    spelt = unicodedata.normalize("NFKD", _MARKUP.sub("", title)).casefold()
    return "".join(filter(str.isalnum, spelt))


def identities(paper: Paper) -> tuple[str, ...]:
    """What the paper may be known by, the surest first; the same text is the same paper.

    A title counts where it is long enough to be one paper's alone.
    """
    return _identities(paper.paper_id, paper.valid_doi, paper.title)


def _identities(paper_id: str, doi: str, title: str) -> tuple[str, ...]:
    scheme, _, name = paper_id.partition(":")
    found = []
    doi = name if scheme == "doi" else doi
    preprint = _ARXIV_DOI.fullmatch(doi)
    number = ARXIV_ID.fullmatch(name if scheme == "arxiv" else preprint["id"] if preprint else "")
    if number:
        found.append(f"arxiv:{number['id']}")
    if scheme == "acl":
        found.append(f"acl:{name.lower()}")
    if doi and not preprint:
        found.append(f"doi:{doi.lower()}")
    spelt = normal_title(title)
    return (*found, f"title:{spelt}") if len(spelt) >= _SHORT else tuple(found)


def same_paper(one: Paper, other: Paper) -> bool:
    """Whether two records are the same paper.

    An id in common decides. A title in common does where no ids of one kind differ and, as far as
    both name authors, they have one in common.
    """
    ours, theirs = identities(one), identities(other)
    shared = set(ours) & set(theirs)
    if any(not name.startswith("title:") for name in shared):
        return True
    if not shared:
        return False
    arxiv = [{name for name in names if name.startswith("arxiv:")} for names in (ours, theirs)]
    if arxiv[0] and arxiv[1]:
        return False  # each has its own
    families = [{_family(author) for author in paper.authors} for paper in (one, other)]
    return not families[0] or not families[1] or bool(families[0] & families[1])


def _family(author: str) -> str:
    words = [word for word in author.replace(",", " ").split() if not NAME_SUFFIX.fullmatch(word)]
    return normal_title(words[-1]) if words else ""


class Known:
    """A few papers, to be found again by what they are known by."""

    def __init__(self, papers: Iterable[Paper]) -> None:
        self.papers = list(papers)
        self._places: dict[str, list[int]] = {}
        for place, paper in enumerate(self.papers):
            for name in identities(paper):
                self._places.setdefault(name, []).append(place)

    def find(self, paper: Paper) -> int | None:
        """The place of the same paper, by its surest identity; None if it is not among them."""
        for name in identities(paper):
            for place in self._places.get(name, ()):
                if same_paper(self.papers[place], paper):
                    return place
        return None

    def mentions(self, names: Iterable[str]) -> bool:
        """Whether any of these identities is one of theirs."""
        return any(name in self._places for name in names)


def find_records(table: PaperTable, wanted: Sequence[Paper]) -> list[tuple[int, Paper] | None]:
    """For each paper the row and record of a corpus that is the same paper, or None.

    Reads the whole table once, in batches; an id wins over a title.
    """
    known = Known(wanted)
    rows: list[int] = []
    at = 0
    for batch in table.batches():
        columns = [batch.column(name).to_pylist() for name in ("paper_id", "doi", "title")]
        for offset, (paper_id, doi, title) in enumerate(zip(*columns, strict=True)):
            if known.mentions(_identities(paper_id, doi, title)):
                rows.append(at + offset)
        at += batch.num_rows
    records = table.take(rows) if rows else []
    corpus = Known(records)
    places = [corpus.find(paper) for paper in wanted]
    return [None if place is None else (rows[place], records[place]) for place in places]
