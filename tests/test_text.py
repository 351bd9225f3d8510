from data.contexts import Context
from data.paper import Paper
from model.text import passage_text, query_text


def test_a_paper_is_its_title_and_its_abstract() -> None:
    assert passage_text(Paper("a", "On trees", "We plant them.")) == "On trees. We plant them."


def test_a_paper_without_an_abstract_is_its_title_alone() -> None:
    assert passage_text(Paper("a", "On trees")) == "On trees"


def test_what_is_no_text_of_the_paper_does_not_enter() -> None:
    bare = Paper("a", "On trees", "We plant them.")
    full = Paper("b", "On trees", "We plant them.", ("Ada Ito",), 2020, ("cs.CL",), "Journal", "10.1/x")
    assert passage_text(bare) == passage_text(full)


def test_a_context_loses_its_marks_and_the_spaces_around_them() -> None:
    context = Context("Attention [CITE] beats recurrence [OTHER], as [OTHER] show.")
    assert query_text(context) == "Attention beats recurrence , as show."


def test_a_context_without_marks_is_unchanged() -> None:
    assert query_text(Context("Attention beats recurrence.")) == "Attention beats recurrence."


def test_the_marks_of_one_sentence_make_different_queries() -> None:
    first = Context("We train with Adam [CITE] and a dropout of one half [OTHER].")
    second = Context("We train with Adam [OTHER] and a dropout of one half [CITE].")
    whole = "We train with Adam and a dropout of one half ."
    assert query_text(first) == f"We train with Adam. {whole}"
    assert query_text(second) == f"and a dropout of one half. {whole}"


def test_too_few_words_before_a_mark_do_not_stand_first() -> None:
    assert query_text(Context("Adam [CITE], SGD [OTHER] and others.")) == "Adam , SGD and others."


def test_other_citations_alone_change_nothing() -> None:
    assert query_text(Context("We train as in [OTHER] with care.")) == "We train as in with care."
