"""The basket: what is chosen for which mark, and the text and files that come of it."""

import json
from pathlib import Path

import rispy
from pybtex.database import parse_string

from data.library import parse_bibliography
from data.manuscript import source_of
from data.paper import Paper
from data.passage import read_passage
from indexer.basket import NEW_BIB, Basket, known_as, write

TITLE = "Adam: A Method for Stochastic Optimization"
ADAM = Paper("arxiv:1412.6980", TITLE, authors=("D. P. Kingma",), year=2014)
LORA = Paper("arxiv:2106.09685", "LoRA: Low-Rank Adaptation", authors=("Edward J. Hu",), year=2021)
TEXT = "We train with Adam [CITE] and adapt [CITE]."


def test_choosing_twice_is_taking_back() -> None:
    basket = Basket().flipped(0, ADAM).flipped(1, ADAM).flipped(1, LORA)
    assert basket.at(1) == (ADAM, LORA)
    assert basket.papers == (ADAM, LORA)
    assert basket.flipped(1, ADAM).at(1) == (LORA,)
    assert basket.flipped(1, ADAM).has(0, ADAM)
    assert basket.without(ADAM).chosen == ((1, LORA),)


def test_for_another_text_the_papers_stay_without_their_marks() -> None:
    basket = Basket().flipped(0, ADAM).flipped(1, ADAM).flipped(1, LORA).loose()
    assert basket.chosen == ((None, ADAM), (None, LORA))


def test_the_text_has_keys_whose_entries_are_in_every_file() -> None:
    draft, _ = read_passage(TEXT)
    written = write(Basket().flipped(0, ADAM).flipped(1, LORA).flipped(1, ADAM), draft)
    assert written.sources[0].text == (
        r"We train with Adam \cite{kingma2014adam} and adapt \cite{hu2021lora,kingma2014adam}."
    )
    assert written.bib.path == NEW_BIB
    keys = ["kingma2014adam", "hu2021lora"]
    assert list(parse_string(written.bib.text, "bibtex").entries) == keys
    assert [entry["id"] for entry in rispy.loads(written.ris)] == keys
    assert [item["id"] for item in json.loads(written.csl_json)] == keys


def test_a_mark_without_a_choice_stays_as_it_is() -> None:
    draft, _ = read_passage(TEXT)
    assert write(Basket().flipped(1, LORA), draft).sources[0].text == TEXT[:-7] + r"\cite{hu2021lora}."


def test_two_papers_of_one_key_get_two_keys() -> None:
    twin = Paper("bib:twin", "Adam and Eve", authors=("D. P. Kingma",), year=2014)
    written = write(Basket().flipped(None, ADAM).flipped(None, twin), read_passage("adam")[0])
    assert written.keys == {ADAM.paper_id: "kingma2014adam", twin.paper_id: "kingma2014adama"}


def test_a_paper_of_the_readers_library_keeps_its_key_and_is_not_added() -> None:
    library = parse_bibliography(
        source_of(Path("refs.bib"), b"@misc{adam15, title={Adam: A Method for Stochastic Optimization}}\n")
    )
    draft, _ = read_passage(TEXT)
    written = write(Basket().flipped(0, ADAM).flipped(1, LORA), draft, [library])
    assert r"\cite{adam15}" in written.sources[0].text
    assert written.bib.path == Path("refs.bib")
    assert list(parse_string(written.bib.text, "bibtex").entries) == ["adam15", "hu2021lora"]
    assert known_as(ADAM, [library]) == "adam15"
    assert known_as(LORA, [library]) is None


def test_the_style_of_the_keys_is_the_readers() -> None:
    written = write(Basket().flipped(0, ADAM), read_passage(TEXT)[0], style="id")
    assert written.keys[ADAM.paper_id] == "arxiv-1412.6980"


def test_an_empty_basket_writes_nothing_new() -> None:
    written = write(Basket(), read_passage(TEXT)[0])
    assert written.sources[0].text == TEXT
    assert (written.bib.text, written.ris, json.loads(written.csl_json)) == ("", "", [])
