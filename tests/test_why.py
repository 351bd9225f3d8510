"""Why a paper was found: the sentence that shares most words with the context, and which words they are."""

from data.contexts import Context
from data.paper import Paper
from indexer.why import shared, stems, why

ABSTRACT = (
    "We present a system for images. It uses attention for translating sentences between languages. "
    "Results improve on e.g. two benchmarks."
)
PAPER = Paper("arxiv:1", "Attention for Translators", ABSTRACT)


def lit(text: str, spans: tuple[tuple[int, int], ...]) -> list[str]:
    return [text[slice(*span)] for span in spans]


def test_the_sentence_with_most_words_in_common_is_the_reason() -> None:
    found = why(Context("Translation of a sentence by attention [CITE]."), PAPER)
    assert found.sentence == "It uses attention for translating sentences between languages."
    assert lit(found.sentence, found.lit) == ["attention", "translating", "sentences"]
    assert lit(PAPER.title, found.title) == ["Attention", "Translators"]


def test_words_are_compared_by_stem_and_stop_words_do_not_count() -> None:
    assert stems("The translation of it") == stems("translating")
    assert lit("the Languages of a language", shared("the Languages of a language", stems("language"))) == [
        "Languages",
        "language",
    ]


def test_a_word_said_often_counts_once() -> None:
    paper = Paper("x", "T", "Graph graph graph graph. A graph of nodes.")
    assert why(Context("graph nodes"), paper).sentence == "A graph of nodes."


def test_of_equal_sentences_the_shorter_one_is_shown() -> None:
    paper = Paper("x", "T", "Graphs are many things to many people. Graphs help.")
    assert why(Context("graphs"), paper).sentence == "Graphs help."


def test_no_word_in_common_is_no_reason() -> None:
    found = why(Context("quokka [CITE]"), PAPER)
    assert (found.sentence, found.lit, found.title) == ("", (), ())


def test_marks_are_no_words() -> None:
    paper = Paper("x", "How to CITE OTHER work", "We cite other work.")
    assert why(Context("zebra [CITE] and [OTHER]"), paper).title == ()


def test_a_paper_without_an_abstract_has_no_sentence() -> None:
    assert why(Context("attention"), Paper("x", "Attention")).sentence == ""
