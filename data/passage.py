"""A typed passage as a draft of one file: its marks with their places, and what is asked for each.

Any mark of data.manuscript counts. A passage whose only marks are `[CITE]` is asked for by the contexts
of data.contexts.parse, like the same text on the command line; one with other marks, by the contexts
of a draft.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from data.clean import text as clean
from data.contexts import CITE, Context, parse
from data.manuscript import Draft, Mark, Source, parse_draft

Form = Literal["latex", "markdown"]
"""How a mark without a command of its own is filled: \\cite{key}, or [@key]."""
FORMS: tuple[Form, ...] = get_args(Form)

_FILLED: dict[Form, tuple[str, str, str]] = {
    "latex": (r"\cite{", ",", "}"),
    "markdown": ("[@", "; @", "]"),
}


def read_passage(typed: str, form: Form = "latex") -> tuple[Draft, list[Context]]:
    """The passage as a draft, and a context for each of its marks, or the whole text where it has none.

    Raises UserError for an empty text and one over data.contexts.MAX_QUERY characters.
    """
    contexts = parse(typed)
    source = Source(Path("passage.md"), "\n".join(map(clean, typed.strip().split("\n"))))
    draft = parse_draft([source])
    if any(mark.placeholder != CITE for mark in draft.marks):
        contexts = [mark.context for mark in draft.marks]
        marks = [_in_form(mark, form) for mark in draft.marks]
    else:
        places = [match.start() for match in re.finditer(re.escape(CITE), source.text)]
        pairs = zip(places, contexts, strict=bool(places))
        marks = [Mark(source, at, at + len(CITE), *_FILLED[form], CITE, (), context) for at, context in pairs]
    return replace(draft, marks=tuple(marks)), contexts


def _in_form(mark: Mark, form: Form) -> Mark:
    """The mark; where it is replaced as a whole, by the form's own command."""
    if not mark.before:
        return mark
    before, between, after = _FILLED[form]
    return replace(mark, before=before, between=between, after=after)


def around(draft: Draft) -> Iterator[str]:
    """The text of the draft's first file before, between and after its marks: one piece more than marks."""
    source, at = draft.sources[0], 0
    for mark in draft.marks:
        if mark.source is source:
            yield source.text[at : mark.start]
            at = mark.stop
    yield source.text[at:]
