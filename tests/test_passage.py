"""Typed passages: which marks they have, what is asked for each, how they are filled."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.contexts import CITE, Context, parse
from data.errors import UserError
from data.manuscript import fill
from data.passage import around, read_passage


def test_a_passage_of_plain_marks_is_asked_like_the_command_line_asks_it() -> None:
    text = "Attention [CITE] is old. We fine-tune [CITE] with low rank [CITE]."
    draft, contexts = read_passage(text)
    assert contexts == parse(text) == [mark.context for mark in draft.marks]


def test_a_passage_without_a_mark_is_one_context_and_no_mark() -> None:
    draft, contexts = read_passage("attention for translation")
    assert contexts == [Context("attention for translation")]
    assert draft.marks == ()
    assert list(around(draft)) == ["attention for translation"]


@pytest.mark.parametrize(
    "mark", [r"\cite{}", r"\citep{?}", "[?]", "(citation needed)", r"\todo{cite}", "[@?]"]
)
def test_other_marks_count_as_marks(mark: str) -> None:
    draft, contexts = read_passage(
        f"Adam {mark} trains networks. Dropout [CITE] keeps them from fitting noise."
    )
    assert len(draft.marks) == len(contexts) == 2
    assert [context.text.count(CITE) for context in contexts] == [1, 1]


def test_a_citation_that_is_there_is_no_mark() -> None:
    draft, contexts = read_passage(r"Adam \citep{kingma2014adam} and dropout \citep{}.")
    assert len(draft.marks) == 1
    assert contexts[0].text == "Adam [OTHER] and dropout [CITE]."


def test_a_percent_sign_hides_no_mark_behind_it() -> None:
    assert len(read_passage("It gains 5% on average [CITE].")[0].marks) == 1


def test_a_mark_in_code_is_a_mark_like_on_the_command_line() -> None:
    draft, contexts = read_passage("The `[CITE]` of attention.")
    assert len(draft.marks) == len(contexts) == 1


@pytest.mark.parametrize(
    ("form", "filled"),
    [("latex", r"Adam \cite{a,b} and \citep{c}."), ("markdown", r"Adam [@a; @b] and \citep{c}.")],
)
def test_marks_are_filled_in_the_chosen_form_and_empty_commands_keep_theirs(form: str, filled: str) -> None:
    draft, _ = read_passage(r"Adam [?] and \citep{}.", form)  # type: ignore[arg-type]
    first, second = draft.marks
    assert fill(draft.sources[0], [(first, ["a", "b"]), (second, ["c"])]).text == filled


def test_lines_stay_lines() -> None:
    draft, _ = read_passage("One  paragraph [CITE].\n\nAnother [CITE]. ")
    assert list(around(draft)) == ["One paragraph ", ".\n\nAnother ", "."]


@pytest.mark.parametrize("text", ["", " \n", "[CITE]", "word " * 20_000])
def test_no_words_or_too_many_are_one_message(text: str) -> None:
    with pytest.raises(UserError):
        read_passage(text)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["[CITE]", "a b", "é", "\n", " ", "`", "$$", "\u202e", "\x00", "[", "%", "\\"]))
)
def test_every_plain_mark_is_found_whatever_stands_around_it(parts: list[str]) -> None:
    text = "word " + "".join(parts)
    try:
        draft, contexts = read_passage(text)
    except UserError:
        return
    assert len(contexts) == max(len(draft.marks), 1)
    assert len(draft.marks) == draft.sources[0].text.count(CITE)
    assert "".join(around(draft)) == draft.sources[0].text.replace(CITE, "")
