"""Generates a file like arXiv's metadata snapshot: its schema and field lengths, invented content.

python tests/bench/snapshot.py OUT.json 1000000 --bad 0.01 --seed 0

OUT may end in .gz. Bad lines are spread over the file: cut short, no JSON, no title, no id, wrong types.
"""

import argparse
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SYLLABLES = [a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "ion", "al")]
CATEGORIES = ("cs.CL", "cs.LG", "cs.CV", "stat.ML", "math.AG", "hep-th", "astro-ph.GA", "quant-ph")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
RARE = ("naïve", 'Schr\\"odinger', "$\\alpha$", "$k$-means", "\u2013", "β-decay", "Poincar\\'e", "O(n^2)")


def vocabulary(rng: random.Random, size: int = 20_000) -> list[str]:
    """Invented words, the frequent first."""
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(size)]


def record(number: int, words: list[str], rng: random.Random) -> dict[str, Any]:
    """One record of the snapshot's schema; its id follows from its number."""
    year, month = 2007 + number // 10_000 // 12 % 18, number // 10_000 % 12
    first = f"Mon, {1 + number % 28} {MONTHS[month]} {year} 12:00:{number % 60:02d} GMT"
    authors = [[w.title() for w in rng.choices(words, k=2)] + [""] for _ in range(rng.randint(1, 6))]
    return {
        "id": f"{year % 100:02d}{month + 1:02d}.{number % 10_000 + 1:05d}",
        "submitter": " ".join(authors[0][:2]),
        "authors": ", ".join(f"{given} {family}" for family, given, _ in authors),
        "title": _wrapped(prose(words, rng, 10), 75).capitalize(),
        "comments": rng.choice((None, "12 pages, 4 figures", "Accepted at a workshop")),
        "journal-ref": rng.choice((None, None, "Phys.Rev.D76:013009,2007")),
        "doi": rng.choice((None, None, f"10.1103/PhysRevD.{number}")),
        "report-no": None,
        "categories": " ".join(rng.sample(CATEGORIES, rng.randint(1, 3))),
        "license": "http://arxiv.org/licenses/nonexclusive-distrib/1.0/",
        "abstract": "  " + _wrapped(prose(words, rng, rng.randint(90, 210)), 78) + "\n",
        "versions": [{"version": f"v{v}", "created": first} for v in range(1, rng.randint(2, 4))],
        "update_date": f"{year + rng.randint(0, 2)}-11-26",
        "authors_parsed": authors,
    }


def prose(words: list[str], rng: random.Random, count: int) -> str:
    """So many words, few of them frequent; one text in three has accents, mathematics or LaTeX."""
    picked = [words[int(len(words) * rng.random() ** 4)] for _ in range(count)]
    if rng.random() < 1 / 3:
        for place in range(rng.randint(0, 30), count, 30):
            picked[place] = rng.choice(RARE)
    return " ".join(picked)


def _wrapped(text: str, width: int) -> str:
    """Line breaks about every `width` characters, as arXiv's fields have them."""
    lines, start = [], 0
    while len(text) - start > width:
        end = text.rfind(" ", start, start + width)
        lines.append(text[start:end])
        start = end + 1
    return "\n  ".join([*lines, text[start:]])


def bad_line(good: dict[str, Any], rng: random.Random) -> str:
    """A line that no reader can make a paper of."""
    whole = json.dumps(good)
    return rng.choice(
        (
            whole[: len(whole) // 2],
            "null",
            "<html>503 Service Unavailable</html>",
            json.dumps(good | {"title": " \n "}),
            json.dumps(good | {"title": None}),
            json.dumps(good | {"id": "not an id"}),
            json.dumps(good | {"title": {"en": "A title"}}),
            json.dumps(good | {"abstract": ["several", "parts"]}),
        )
    )


def lines(count: int, bad: float = 0.0, seed: int = 0) -> Iterator[str]:
    """The lines of a snapshot of `count` records, the share `bad` of them bad."""
    rng = random.Random(seed)
    words = vocabulary(rng)
    for number in range(count):
        good = record(number, words, rng)
        yield (bad_line(good, rng) if rng.random() < bad else json.dumps(good)) + "\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--bad", type=float, default=0.01, help="share of bad lines")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with gzip.open(args.out, "wt") if args.out.suffix == ".gz" else args.out.open("w") as file:
        file.writelines(lines(args.count, args.bad, args.seed))


if __name__ == "__main__":
    main()
