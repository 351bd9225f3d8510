"""How a paper and a context become the input of encoder and reranker.

Training, indexing and search all call these functions, so that no text is ever encoded in a form
that the weights have not seen. TEXT_FORM names the functions' version; an index records it and refuses
another. What becomes of a context's marks is a property of the weights: a model folder that was trained
with another form than the default says so in its citemark.json.
"""

import json
from pathlib import Path
from typing import Literal, get_args

from data.contexts import CITE, OTHER, Context
from data.errors import UserError
from data.paper import Paper

TEXT_FORM = "1"
FORM_FILE = "citemark.json"
PAIR_FORM = "1"
CONTEXT_WORDS, BEFORE_MARK = 40, 30  # of a context, beside its paper: how many, and how many before the mark
PAPER_WORDS = 28
OWN_WORDS = 3  # fewer words before a mark say nothing of their own

Marks = Literal["drop", "cite", "keep"]
"""What a query keeps of a context's marks: neither, [CITE] alone, or [CITE] and [OTHER]."""
MARKS: tuple[Marks, ...] = get_args(Marks)
DEFAULT_MARKS: Marks = "drop"


def passage_text(paper: Paper) -> str:
    """A paper as the encoder reads it: title, then abstract."""
    return f"{paper.title}. {paper.abstract}" if paper.abstract else paper.title


def query_text(context: Context, marks: Marks = DEFAULT_MARKS, draft: Paper | None = None) -> str:
    """A context as the encoder reads it: the sentence, with those of its marks that `marks` names.

    Without its marks nothing tells the citations of a sentence apart: the words between the citation
    before and this one then stand first, once more (hit@10 of such contexts from .157 to .175 on dev).

    `draft`, the paper that is being written, is put after the sentence, so that a long one is cut first.
    """
    text = context.text
    if marks == "drop":
        own = text.partition(CITE)[0].rpartition(OTHER)[2]
        if CITE in text and OTHER in text and len(own.split()) >= OWN_WORDS:
            text = f"{own.strip()}. {text}"
        text = text.replace(CITE, " ")
    if marks != "keep":
        text = text.replace(OTHER, " ")
    if draft:
        text = f"{text} {passage_text(draft)}"
    return " ".join(text.split())


def pair_texts(context: Context, paper: Paper) -> tuple[str, str]:
    """A context and a paper as a reranker reads them together, both cut: a pair costs what it is long.

    Of the context the words around its mark, marks kept; of the paper its title and how the abstract
    begins. PAIR_FORM names the version.
    """
    words = context.text.split()
    mark = next((place for place, word in enumerate(words) if CITE in word), 0)
    start = max(0, min(mark - BEFORE_MARK, len(words) - CONTEXT_WORDS))
    return (
        " ".join(words[start : start + CONTEXT_WORDS]),
        " ".join(passage_text(paper).split()[:PAPER_WORDS]),
    )


def read_marks(folder: Path) -> Marks:
    """The form that a model folder was trained with; the default where it does not say.

    Raises UserError for a file that names no known form.
    """
    path = folder / FORM_FILE
    try:
        marks = json.loads(path.read_bytes())["marks"]
    except FileNotFoundError:
        return DEFAULT_MARKS
    except (OSError, ValueError, KeyError, TypeError):
        marks = None
    if marks not in MARKS:
        raise UserError(
            f'{path}: expected {{"marks": one of {", ".join(MARKS)}}}, found {marks!r}; fetch it again'
        )
    known: Marks = marks
    return known


def write_marks(folder: Path, marks: Marks) -> None:
    """Record in a model folder the form that its weights were trained with."""
    (folder / FORM_FILE).write_text(json.dumps({"marks": marks}) + "\n", encoding="utf-8")
