"""What every door answers with, in the form of JSON: the same for the command, HTTP and agents."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from data.bibliography import bibtex
from data.contexts import Context
from data.library import keys_for
from data.paper import Paper
from indexer.search import Hit, Searcher


def score_of(hit: Hit) -> str:
    """The score as people read it: a probability in percent, any other as a number."""
    return f"{hit.score:.3f}" if hit.probability is None else f"{hit.probability:.1%}"


def answer(searcher: Searcher, contexts: Sequence[Context], found: Sequence[Sequence[Hit]]) -> dict[str, Any]:
    """The contexts of a text with the hits of each."""
    return {
        "contexts": [
            {
                "text": context.text,
                "nothing_fits": searcher.nothing_fits(hits),
                "hits": [hit.as_dict() for hit in hits],
            }
            for context, hits in zip(contexts, found, strict=True)
        ]
    }


def record(paper: Paper) -> dict[str, Any]:
    """A record of the corpus and its address."""
    return asdict(paper) | {"url": paper.url}


def entries(papers: Sequence[Paper]) -> list[dict[str, str]]:
    """The BibTeX entries of papers, of which no two have one key; the same paper has the same entry."""
    keys = keys_for(papers, ())
    return [
        {"paper_id": paper.paper_id, "key": key, "bibtex": bibtex(paper, key)}
        for paper, key in ((paper, keys[paper.paper_id]) for paper in papers)
    ]
