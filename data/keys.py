"""Citation keys: stable, of plain letters, and unique where they have to be."""

import re
import unicodedata
from collections.abc import Collection
from itertools import count
from typing import Literal, get_args

from data.names import NAME_SUFFIX, PLAIN_LETTERS
from data.paper import Paper

KeyStyle = Literal["scholar", "acl", "author-year", "alpha", "id"]
"""vaswani2017attention, vaswani-etal-2017-attention, vaswani2017, VSP+17, arxiv-1706.03762."""
KEY_STYLES: tuple[KeyStyle, ...] = get_args(KeyStyle)

MAX_PART = 40  # letters of a name or word: a key goes into the text, and into file names
_SMALL_WORDS = {
    *("a", "an", "the", "on", "of", "for", "in", "to", "and", "with", "from", "by", "at"),
    *("is", "are", "be", "do", "does", "how"),
}


def citation_key(paper: Paper, style: KeyStyle = "scholar") -> str:
    """The paper's key, from its record alone, so that it is the same at any time.

    By default it is the first author's family name, the year and the title's first word of weight,
    of a-z and 0-9 only; other styles add capitals and `-`, `+` and `.`. Two papers may have the
    same key; see unique_key.
    """
    families = [_plain(_family(author)) for author in paper.authors] or ["anonymous"]
    year, word = str(paper.year or ""), _first_word(paper.title)
    if style == "scholar":
        key = f"{families[0]}{year}{word}"
    elif style == "author-year":
        key = f"{families[0]}{year}"
    elif style == "acl":
        names = [families[0], "etal"] if len(families) > 2 else families
        key = "-".join(filter(None, [*names, year, word]))
    elif style == "alpha":
        key = _alpha(families) + year[-2:]
    else:
        key = re.sub(r"[^A-Za-z0-9.]+", "-", paper.paper_id).strip("-.")
    return key or "paper"


def unique_key(paper: Paper, taken: Collection[str], style: KeyStyle = "scholar") -> str:
    """The paper's key, with a, b, … after it while BibTeX, which ignores case, would find it `taken`.

    `taken` holds keys in lower case.
    """
    key = citation_key(paper, style)
    candidates = (key + _letters(number) for number in count())
    return next(candidate for candidate in candidates if candidate.lower() not in taken)


def _letters(number: int) -> str:
    """Nothing, a, b, …, z, aa, ab, …"""
    letters = ""
    while number:
        number, place = divmod(number - 1, 26)
        letters = chr(ord("a") + place) + letters
    return letters


def _alpha(families: list[str]) -> str:
    """The label of BibTeX's alpha style: three letters of one name, else the initials of three."""
    if len(families) == 1:
        return families[0][:3].capitalize()
    initials = "".join(family[:1].upper() for family in families[:3])
    return initials + "+" * (len(families) > 3)


def _first_word(title: str) -> str:
    words = re.findall(r"\w+", _ascii(title))
    return _plain(next((word for word in words if word not in _SMALL_WORDS), ""))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _ascii(text))[:MAX_PART]


def _ascii(text: str) -> str:
    spelt = unicodedata.normalize("NFKD", text).lower().translate(PLAIN_LETTERS)
    return spelt.encode("ascii", "ignore").decode()


def _family(name: str) -> str:
    return next((w for w in reversed(name.split()) if not NAME_SUFFIX.fullmatch(w)), name)
