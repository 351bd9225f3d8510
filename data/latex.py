"""LaTeX's accents in plain text, as arXiv's and BibTeX's fields have them, as letters."""

import re
import unicodedata

_MARKS = dict(
    zip(
        "`'^~=u.\"rHvckdb",
        "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327\u0328\u0323\u0331",
        strict=True,
    )
)
_LETTERS = {"o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "ss": "ß", "i": "i", "j": "j", "aa": "å", "AA": "Å"}
_LETTERS |= {"ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ"}
_COMMAND = re.compile(
    r"""\\(?:(?:(?P<sign>[`'^~=."])\s*|(?P<name>[urHvckdb])(?:\s+|(?=\{)))"""
    r"(?:\{\\?(?P<braced>[A-Za-z])\s*\}|\\(?P<dotless>[ij])(?![A-Za-z])\s*|(?P<bare>[A-Za-z]))"
    r"|(?P<letter>ss|ae|AE|oe|OE|aa|AA|[oOlLij])(?![A-Za-z])(?:\{\}|\s+)?"
    r"|\\)"  # a line break, so that its second backslash starts no command
)
_BRACED = re.compile(r"\{([^\x00-\x7f])\}")


def decode_accents(text: str) -> str:
    r"""The text with `Schr\"odinger`, `Erd{\H o}s` and `\O rsted` spelt out; mathematics is kept as it is."""
    if "\\" not in text:
        return text
    parts = text.split("$")
    parts[::2] = [_decode(part) if "\\" in part else part for part in parts[::2]]
    return "$".join(parts)


def _decode(text: str) -> str:
    decoded = _COMMAND.sub(_letter, text)
    return _BRACED.sub(r"\1", decoded) if "{" in decoded else decoded


def _letter(match: re.Match[str]) -> str:
    accent = match["sign"] or match["name"]
    if accent:
        base = match["braced"] or match["dotless"] or match["bare"]
        return unicodedata.normalize("NFC", base + _MARKS[accent])
    return _LETTERS.get(match["letter"], match[0])
