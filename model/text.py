"""How a paper and a context become the encoder's input.

Training, indexing and search all call these two functions, so that no text is ever encoded in a form
that the weights have not seen. TEXT_FORM names the form; an index records it and refuses another.
"""

from data.contexts import CITE, OTHER, Context
from data.paper import Paper

TEXT_FORM = "1"


def passage_text(paper: Paper) -> str:
    """A paper as the encoder reads it: title, then abstract."""
    return f"{paper.title}. {paper.abstract}" if paper.abstract else paper.title


def query_text(context: Context) -> str:
    """A context as the encoder reads it: the sentence without its marks."""
    return " ".join(context.text.replace(CITE, " ").replace(OTHER, " ").split())
