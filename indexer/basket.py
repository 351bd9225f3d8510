"""The basket: papers that a reader chose for the marks of a text, and what is written with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.exports import export_keyed
from data.keys import KeyStyle
from data.library import Bibliography, keys_for, parse_bibliography, with_entries
from data.manuscript import Draft, Source, fill, source_of
from data.paper import Paper

NEW_BIB = Path("citemark.bib")


@dataclass(frozen=True, slots=True)
class Basket:
    """Pairs of a mark's number (from 0; None: no mark of the text at hand) and a paper chosen for it."""

    chosen: tuple[tuple[int | None, Paper], ...] = ()

    def has(self, mark: int | None, paper: Paper) -> bool:
        """Whether the paper is chosen for the mark."""
        return any((number, p.paper_id) == (mark, paper.paper_id) for number, p in self.chosen)

    def flipped(self, mark: int | None, paper: Paper) -> "Basket":
        """With the paper chosen for the mark, or, where it is, without."""
        if self.has(mark, paper):
            same = (mark, paper.paper_id)
            return Basket(tuple((n, p) for n, p in self.chosen if (n, p.paper_id) != same))
        return Basket((*self.chosen, (mark, paper)))

    def without(self, paper: Paper) -> "Basket":
        """Without the paper, whatever it was chosen for."""
        return Basket(tuple((n, p) for n, p in self.chosen if p.paper_id != paper.paper_id))

    def loose(self) -> "Basket":
        """For another text: the papers stay, their marks are gone."""
        return Basket(tuple((None, paper) for paper in self.papers))

    def at(self, mark: int | None) -> tuple[Paper, ...]:
        """The papers chosen for a mark."""
        return tuple(paper for number, paper in self.chosen if number == mark)

    @property
    def papers(self) -> tuple[Paper, ...]:
        """Every paper once, in the order of choice."""
        return tuple({paper.paper_id: paper for _, paper in self.chosen}.values())


@dataclass(frozen=True)
class Written:
    """What the basket becomes: the draft's files with keys at their marks, and the references as files.

    `keys` are by paper_id. `bib` is the reader's own .bib file with the new entries at its end, where
    there is one; `ris` and `csl_json` hold all papers of the basket.
    """

    sources: tuple[Source, ...]
    keys: dict[str, str]
    bib: Source
    ris: str
    csl_json: str


def empty_library() -> Bibliography:
    """A .bib file that is not there yet."""
    return parse_bibliography(source_of(NEW_BIB, b""))


def write(
    basket: Basket,
    draft: Draft | None,
    libraries: Sequence[Bibliography] = (),
    style: KeyStyle = "scholar",
) -> Written:
    """The draft and the references as the basket has them. Nothing is written to the disk.

    A paper that a library has is cited by the key that it has there, and is not added to it.
    Raises UserError where the first library cannot take new entries.
    """
    libraries = libraries or [empty_library()]
    keys = keys_for(basket.papers, libraries, style)
    known = {key for library in libraries for key in library.keys}
    keyed = [(paper, keys[paper.paper_id]) for paper in basket.papers]
    new = [(paper, key) for paper, key in keyed if key not in known]
    filled = [
        (mark, [keys[paper.paper_id] for paper in basket.at(number)])
        for number, mark in enumerate(draft.marks if draft else ())
        if basket.at(number)
    ]
    return Written(
        sources=tuple(
            fill(source, [(mark, names) for mark, names in filled if mark.source is source])
            for source in (draft.sources if draft else ())
        ),
        keys=keys,
        bib=with_entries(libraries[0], new) if new else libraries[0].source,
        ris=export_keyed(keyed, "ris"),
        csl_json=export_keyed(keyed, "csl-json"),
    )


def known_as(paper: Paper, libraries: Sequence[Bibliography]) -> str | None:
    """The key under which one of the libraries has the paper."""
    return next(filter(None, (library.key_of(paper) for library in libraries)), None)
