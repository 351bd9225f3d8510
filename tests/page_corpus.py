"""What the tests of the page search: well-known papers, some without an address, some hostile."""

import json
from pathlib import Path
from typing import Any

from data.corpus import STARTER
from indexer.build import build
from model.encoder import Encoder

ATTENTION = "Neural Machine Translation by Jointly Learning to Align and Translate"
ADAM = "Adam: A Method for Stochastic Optimization"
LORA = "LoRA: Low-Rank Adaptation of Large Language Models"
DPO = "Direct Preference Optimization: Your Language Model is Secretly a Reward Model"
EUROPARL = "Europarl: A Parallel Corpus for Statistical Machine Translation"
NOT_LINKED = "Quagga Fieldwork Without an Address"
LANDMARKS = 60
RARE_WORD = "quokka"  # in the abstract of every hostile paper and nowhere else

PAYLOADS = (
    "<script>window.pwned = 1; alert(1)</script>",
    '<img src="http://evil.example/x.png" onerror="alert(1)">',
    "![alt](http://evil.example/pixel.png)",
    "[click](javascript:alert(1))",
    '<a href="javascript:alert(1)" onclick="alert(1)">here</a>',
    "<svg/onload=alert(1)><animate onbegin=alert(1) attributeName=x>",
    '<iframe src="http://evil.example/"></iframe><object data="http://evil.example/o"></object>',
    r"$\href{javascript:alert(1)}{x}$ $$\includegraphics{http://evil.example/y.png}$$ $a_b^2$",
    ":material/home: :material_home: :streamlit: :smile: :+1:",
    ':red[red] :blue-badge[b] :small[s] :shimmer[s] :color[c]{foreground="red"} ::note[x] :::box',
    "https://evil.example/path www.evil.example WWW.EVIL.EXAMPLE user@evil.example mailto:a@evil.example",
    "`code` ```mermaid graph TD``` ~~~sh rm~~~",
    "# heading",
    "- list * list + list 1. list 1) list [x] task",
    "> quote | a | b | --- | ===",
    "**bold** __bold__ *it* _it_ ~~gone~~ <u>u</u> ^sup^ ==mark==",
    "&lt;script&gt; &amp; &#60;img src=x&#62; &#x3c;b&#x3e; &nbsp;",
    "<style>body { display: none }</style><link rel=stylesheet href=http://evil.example/s.css>",
    "[^1] [^1]: note [ref] [ref]: http://evil.example/r <http://evil.example/auto>",
    "](http://evil.example/early) **]( [](http://evil.example/empty)",
    "a trailing backslash \\",
    "{{7*7}} ${7*7} <%= 7*7 %> #{7*7} %s {0}",
    "x" * 300,
    "A -> B <- C <-> D -- E >= F <= G ~= H",
    '<base href="http://evil.example/"><meta http-equiv="refresh" content="0;url=http://evil.example/">',
    "<details open ontoggle=alert(1)>x</details><math><mtext></mtext></math><video src=x onerror=alert(1)>",
    "\u202egnp.exe\u202c \u2066isolated\u2069 \u200bzero\u200dwidth",
)


def build_index(root: Path, encoder: Encoder) -> Path:
    """An index with its map, of LANDMARKS papers, one without an address, and one for each of PAYLOADS."""
    source = root.with_suffix(".jsonl")
    source.write_text("".join(json.dumps(record) + "\n" for record in records()), encoding="utf-8")
    build(str(source), root, encoder, with_map=True)
    return root


def records() -> list[dict[str, Any]]:
    """The corpus."""
    wanted = {ATTENTION, ADAM, LORA, DPO, EUROPARL}
    with (STARTER / "landmarks.jsonl").open(encoding="utf-8") as lines:
        known = [json.loads(line) for line in lines]
    known.sort(key=lambda record: record["title"] not in wanted)
    plain = {
        "id": "bib:quagga",
        "title": NOT_LINKED,
        "authors": ["Ann Author"],
        "year": 1999,
        "abstract": "",
    }
    return [*known[:LANDMARKS], plain, *(hostile(n, payload) for n, payload in enumerate(PAYLOADS))]


def hostile(number: int, payload: str) -> dict[str, Any]:
    """A paper with the payload in each of its texts; every other one in its identifier too."""
    linked = number % 2 == 0
    return {
        "id": f"acl:P18-1{number:03}" if linked else f"arxiv:1801.0{number:04}](javascript:alert({number}))",
        "title": payload,
        "authors": [payload, "Mallory"],
        "venue": payload,
        "year": 2018,
        "doi": payload,
        "categories": [payload],
        "abstract": f"{RARE_WORD} {payload} {number}",
    }
