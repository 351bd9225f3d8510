"""Author lists as people write them, as names `Given Family`, and which names are one author's."""

import re
import unicodedata
from collections.abc import Sequence

NAME_SUFFIX = re.compile(r"(?:jr|sr|ii|iii|iv)\.?", re.IGNORECASE)
"""What may follow a family name: `Jr.`, `III`."""
_SUFFIX_PART = re.compile(rf",\s*({NAME_SUFFIX.pattern})(?=\s*(?:[,;&]|and\b|$))", re.IGNORECASE)
_INITIALS = re.compile(r"(?:[A-Z]\.?[ -]?){1,4}")
PLAIN_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "ß": "ss", "æ": "ae", "œ": "oe", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
)
"""What accents and strokes leave of the letters that Unicode does not take apart."""
_NOBODY = ("", "others", "et al", "et al.")


def split_names(line: str) -> list[str]:
    """The names of an author list in one line.

    Known are lists with semicolons, BibTeX's `and`, commas (`A B, C D and E F`), families first with
    any of them (`Family, Given and Family, Given`, `Family, G., Family, G.`) and a list printed by
    Python (`['A B', 'C D']`).
    """
    line = _SUFFIX_PART.sub(r" \1", line)
    if line.startswith("["):
        names = re.split(r"""['"], ?['"]""", line.strip("[] '\""))
    elif ";" in line:
        names = line.split(";")
    else:
        parts = re.split(r"(?:,? and | & )", line)
        names = parts if _families_first(parts) else [n for part in parts for n in _by_commas(part)]
    return [given_first(name) for name in names if name.strip(" ,").lower() not in _NOBODY]


def _families_first(parts: list[str]) -> bool:
    """Whether every part is one name `Family, Given`."""
    if any(part.count(",") != 1 for part in parts):
        return False
    # Alone, `Vaswani, Ashish` is one name and `Jan Vogt, Ann Lee` are two.
    return len(parts) > 1 or not all(" " in name.strip() for name in parts[0].split(","))


def _by_commas(part: str) -> list[str]:
    pieces = [piece.strip() for piece in part.split(",")]
    initials = [bool(_INITIALS.fullmatch(piece)) for piece in pieces]
    if initials == [False, True] * (len(pieces) // 2):
        return [f"{family}, {given}" for family, given in zip(pieces[::2], pieces[1::2], strict=True)]
    return pieces


def given_first(name: str) -> str:
    """`Family, Given` as `Given Family`; `Family, Jr., Given` as `Given Family Jr.`."""
    family, _, given = _SUFFIX_PART.sub(r" \1", name).partition(",")
    return f"{given.strip(' ,')} {family.strip()}".strip()


def name_words(name: str) -> list[str]:
    """The words of a name for comparison: given names first, no case, no accents, no `Jr.`.

    `Łukasz Kaiser` and `KAISER, Lukasz` are [lukasz, kaiser], `Jean-Pierre O’Neil` has four words.
    """
    line = given_first(name)
    if not line.isascii():
        letters = unicodedata.normalize("NFKD", line).casefold().translate(PLAIN_LETTERS)
        line = "".join(letter for letter in letters if not unicodedata.combining(letter))
    words = re.findall(r"[^\W_]+", line.casefold())
    return words[:-1] if len(words) > 1 and NAME_SUFFIX.fullmatch(words[-1]) else words


def same_author(wanted: Sequence[str], name: Sequence[str]) -> bool:
    """Whether a name is the wanted one, both as `name_words` gives them.

    The last words, of the family name, are equal. The words wanted before it stand before it in the
    name too, in their order, of which either may be an initial: `Bengio`, `Y. Bengio` and
    `Yoshua Bengio` are all found as `Yoshua Bengio` and as `Y. Bengio`, but `Samy Bengio` is not.
    """
    if not wanted or wanted[-1:] != name[-1:]:
        return False
    rest = iter(name[:-1])
    return all(any(_alike(word, other) for other in rest) for word in wanted[:-1])


def _alike(one: str, other: str) -> bool:
    return one == other or (1 in (len(one), len(other)) and one[0] == other[0])
