"""Why a paper was found, as far as words tell: the sentence of its abstract closest to the context.

Words are compared by the stems that BM25 compares, so that what is lit is what counted.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from data.contexts import Context, unmarked
from data.paper import Paper

Spans = tuple[tuple[int, int], ...]

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\[\"'($])")
_WORD = re.compile(r"\b\w\w+\b")  # as bm25s cuts a text into words


@dataclass(frozen=True, slots=True)
class Why:
    """A sentence of the abstract, and the spans in it and in the title of words that the context has too.

    The sentence is empty where no sentence shares a word.
    """

    sentence: str
    lit: Spans
    title: Spans


def why(context: Context, paper: Paper) -> Why:
    """What the words of the context and of the paper have in common.

    Of two sentences that share as many different words, the shorter one says it.
    """
    wanted = stems(unmarked(context.text))
    best, most = "", (0, 0)
    lit: Spans = ()
    for sentence in _SENTENCE.split(paper.abstract):
        spans = shared(sentence, wanted)
        count = len(stems(" ".join(sentence[slice(*span)] for span in spans)))
        if count and (count, -len(sentence)) > most:
            best, lit, most = sentence, spans, (count, -len(sentence))
    return Why(best, lit, shared(paper.title, wanted))


def stems(text: str) -> frozenset[str]:
    """The stems of the text's words, stop words aside."""
    return frozenset(stem for _, stem in _stemmed(text))


def shared(text: str, wanted: Collection[str]) -> Spans:
    """The spans of the text's words whose stem is wanted."""
    return tuple(span for span, stem in _stemmed(text) if stem in wanted)


def _stemmed(text: str) -> Iterator[tuple[tuple[int, int], str]]:
    stemmer = Stemmer.Stemmer("english")
    for match in _WORD.finditer(text):
        word = match[0].lower()
        if word not in STOPWORDS_EN:
            yield match.span(), stemmer.stemWord(word)
