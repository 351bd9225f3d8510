"""Author lists as people write them, as names `Given Family`."""

import re

NAME_SUFFIX = re.compile(r"(?:jr|sr|ii|iii|iv)\.?", re.IGNORECASE)
"""What may follow a family name: `Jr.`, `III`."""
_SUFFIX_PART = re.compile(rf",\s*({NAME_SUFFIX.pattern})(?=\s*(?:[,;&]|and\b|$))", re.IGNORECASE)
_INITIALS = re.compile(r"(?:[A-Z]\.?[ -]?){1,4}")
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
