"""The page without a browser: what it draws for each thing that a user can do."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from page_corpus import ADAM, ATTENTION, DPO, EUROPARL, LORA, NOT_LINKED, PAYLOADS, RARE_WORD, build_index
from pybtex.database import parse_string
from streamlit.testing.v1 import AppTest

from app import EXAMPLES, RANKING_NAMES, plain
from data.bibliography import bibtex
from data.contexts import MAX_QUERY, parse
from indexer.build import build
from indexer.search import LEXICAL_WEIGHT, Hit, Searcher
from indexer.settings import RANKINGS, Settings
from model.encoder import Encoder

APP = str(Path(__file__).parent.parent / "app.py")
SENTENCE = "Neural machine translation with attention [CITE] learns to align and translate jointly."
PATIENCE = 120  # seconds: the first search loads the encoder

Opener = Callable[[Path], AppTest]


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    return build_index(tmp_path_factory.mktemp("page") / "index", encoder)


@pytest.fixture(scope="session")
def engine(index: Path, encoder: Encoder) -> Searcher:
    return Searcher(Settings(index), encoder)


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Opener:
    def opened(index: Path) -> AppTest:
        monkeypatch.setenv("CITEMARK_INDEX", str(index))
        return AppTest.from_file(APP, default_timeout=PATIENCE).run()

    return opened


@pytest.fixture
def page(open_page: Opener, index: Path) -> AppTest:
    return open_page(index)


def ask(page: AppTest, text: str) -> AppTest:
    page.text_area(key="text").set_value(text)
    page.button[0].click().run()
    assert not page.exception
    return page


def shown(hit: Hit) -> str:
    """The beginning of what the page draws for a hit."""
    title = f"**{plain(hit.paper.title)}**"
    return f"{hit.rank}\\. " + (f"[{title}]({hit.paper.url})" if hit.paper.url else title)


def drawn(page: AppTest) -> list[str]:
    """The same of the page, in its order."""
    return [m.value.split("  \n")[0] for m in page.markdown if re.match(r"\d+\\\. ", m.value)]


def scores(page: AppTest) -> list[float]:
    return [float(found[1]) for m in page.markdown if (found := re.search(r"gray-badge\[(.+)\]$", m.value))]


def flip(page: AppTest, title: str, label: str) -> None:
    """Open or close the abstract or the BibTeX of a hit."""
    place = next(n for n, line in enumerate(drawn(page)) if plain(title) in line)
    toggle = [toggle for toggle in page.toggle if toggle.label == label][place]
    toggle.set_value(not toggle.value).run()


def test_a_sentence_lists_the_papers_that_the_searcher_finds(page: AppTest, engine: Searcher) -> None:
    ask(page, SENTENCE)
    hits = engine.search(parse(SENTENCE))[0]
    assert hits[0].paper.title == ATTENTION
    assert drawn(page) == [shown(hit) for hit in hits]
    assert scores(page) == [round(hit.score, 2) for hit in hits]
    assert scores(page) == sorted(scores(page), reverse=True)


def test_a_hit_shows_authors_year_venue_and_identifier(page: AppTest) -> None:
    ask(page, SENTENCE)
    facts = next(m.value for m in page.markdown if plain(ATTENTION) in m.value)
    assert (
        "Dzmitry Bahdanau, Kyunghyun Cho, Yoshua Bengio · 2014 · ICLR 2015 · arXiv 1409.0473"
        in facts.replace("\\", "")
    )


def test_a_long_list_of_authors_is_cut(page: AppTest) -> None:
    ask(page, "Low-rank adaptation of large language models [CITE].")
    facts = next(m.value for m in page.markdown if plain(LORA) in m.value)
    assert "Zeyuan Allen\\-Zhu et al\\. · 2021" in facts


@pytest.mark.parametrize(
    ("sentence", "title", "url"),
    [
        (SENTENCE, ATTENTION, "https://arxiv.org/abs/1409.0473"),
        (
            "The proceedings of the European Parliament [CITE].",
            EUROPARL,
            "https://aclanthology.org/2005.mtsummit-papers.11/",
        ),
    ],
)
def test_a_title_links_to_the_paper(page: AppTest, sentence: str, title: str, url: str) -> None:
    ask(page, sentence)
    assert any(f"[**{plain(title)}**]({url})" in line for line in drawn(page))


def test_a_paper_without_an_address_is_not_linked(page: AppTest) -> None:
    ask(page, "Fieldwork on the quagga [CITE].")
    assert f"1\\. **{plain(NOT_LINKED)}**" == drawn(page)[0]


def test_the_number_of_results_is_chosen_by_the_user(page: AppTest) -> None:
    ask(page, SENTENCE)
    assert len(drawn(page)) == 10
    before = drawn(page)
    page.selectbox[0].set_value(5).run()
    assert drawn(page) == before[:5]
    page.selectbox[0].set_value(50).run()
    assert drawn(page)[:10] == before
    assert len(drawn(page)) == 50


def test_the_number_of_results_of_the_environment_is_the_first_choice(
    open_page: Opener, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CITEMARK_K", "7")
    assert len(drawn(ask(open_page(index), SENTENCE))) == 7


@pytest.mark.parametrize("ranking", RANKINGS)
def test_each_ranking_is_the_searchers(page: AppTest, engine: Searcher, ranking: str) -> None:
    page.selectbox[1].set_value(ranking).run()
    assert RANKING_NAMES[ranking] in page.selectbox[1].options
    ask(page, SENTENCE)
    hits = engine.search(parse(SENTENCE), 10, ranking)[0]
    assert drawn(page) == [shown(hit) for hit in hits]
    assert scores(page) == [round(hit.score, 2) for hit in hits]


def test_the_parts_of_a_score_add_up_as_they_are_shown(page: AppTest) -> None:
    ask(page, SENTENCE)
    sums = [re.findall(r"\d\.\d\d", m.value) for m in page.markdown if "meaning" in m.value]
    assert len(sums) == 10
    for meaning, words, score in sums:
        assert float(meaning) + float(words) == pytest.approx(float(score))
    assert any(f"plus up to {LEXICAL_WEIGHT} for the words" in caption.value for caption in page.caption)
    assert max(float(words) for _, words, _ in sums) == pytest.approx(LEXICAL_WEIGHT, abs=0.011)


def test_the_abstract_is_shown_on_demand(page: AppTest, engine: Searcher) -> None:
    ask(page, SENTENCE)
    abstract = engine.search(parse(SENTENCE))[0][0].paper.abstract
    assert abstract not in [t.value for t in page.text]
    flip(page, ATTENTION, "Abstract")
    assert [t.value for t in page.text] == [abstract]
    flip(page, ATTENTION, "Abstract")
    assert not page.text


def test_a_missing_abstract_is_said_to_be_missing(page: AppTest) -> None:
    ask(page, "Fieldwork on the quagga [CITE].")
    flip(page, NOT_LINKED, "Abstract")
    assert [t.value for t in page.text] == ["The index has no abstract of this paper."]


def test_the_bibtex_of_a_hit_is_the_records(page: AppTest, engine: Searcher) -> None:
    ask(page, SENTENCE)
    assert not page.code
    flip(page, ATTENTION, "BibTeX")
    (code,) = page.code
    assert code.value == bibtex(engine.search(parse(SENTENCE))[0][0].paper).strip()
    (entry,) = parse_string(code.value, "bibtex").entries.values()
    assert entry.fields["eprint"].strip("{}") == "1409.0473"


def test_a_text_without_a_mark_is_the_query_and_the_page_says_so(page: AppTest, engine: Searcher) -> None:
    text = "Attention for neural machine translation"
    ask(page, text)
    assert [info.value for info in page.info] == [
        "There is no `[CITE]` in the text, so all of it is the query."
    ]
    assert drawn(page) == [shown(hit) for hit in engine.search(parse(text))[0]]


def test_a_text_with_one_mark_needs_no_notice(page: AppTest) -> None:
    ask(page, SENTENCE)
    assert not page.info
    assert not page.subheader


def test_two_marks_get_a_list_each(page: AppTest) -> None:
    ask(page, EXAMPLES["Two marks"])
    assert [s.value for s in page.subheader] == ["Citation 1 of 2", "Citation 2 of 2"]
    lines = drawn(page)
    assert len(lines) == 20
    assert plain(LORA) in lines[0]
    assert plain(DPO) in lines[10]


def test_the_context_of_each_mark_is_shown_with_the_mark_in_colour(page: AppTest) -> None:
    ask(page, "First one [CITE] and second one [CITE] of machine translation.")
    contexts = [m.value for m in page.markdown if "blue-badge" in m.value]
    assert contexts == [
        "First one :blue-badge[CITE] and second one :gray-badge[CITE] of machine translation\\.",
        "First one :gray-badge[CITE] and second one :blue-badge[CITE] of machine translation\\.",
    ]


def test_the_same_paper_may_stand_in_two_lists(page: AppTest) -> None:
    ask(page, "Adam [CITE]. Adam [CITE].")
    assert sum(plain(ADAM) in line for line in drawn(page)) == 2


@pytest.mark.parametrize(("example", "title"), [("Translation", ATTENTION), ("Optimiser", ADAM)])
def test_an_example_fills_the_text_and_is_searched(page: AppTest, example: str, title: str) -> None:
    page.pills(key="example").set_value(example).run()
    assert page.text_area(key="text").value == EXAMPLES[example]
    assert plain(title) in drawn(page)[0]


def test_an_example_can_be_chosen_twice(page: AppTest) -> None:
    page.pills(key="example").set_value("Optimiser").run()
    ask(page, SENTENCE)
    page.pills(key="example").set_value("Optimiser").run()
    assert plain(ADAM) in drawn(page)[0]


@pytest.mark.parametrize("text", ["", "   \n", "[CITE]", "[CITE] [OTHER] ."])
def test_a_text_without_words_is_one_message(page: AppTest, text: str) -> None:
    ask(page, text)
    assert len(page.error) == 1
    assert "empty" in page.error[0].value
    assert not drawn(page)


def test_a_text_that_is_too_long_is_one_message_with_both_numbers(page: AppTest) -> None:
    ask(page, "word " * MAX_QUERY)
    (error,) = page.error
    assert f"{MAX_QUERY:,}" in error.value.replace("\\", "")
    assert f"{5 * MAX_QUERY:,}" in error.value.replace("\\", "")


def test_an_error_is_gone_after_the_next_search(page: AppTest) -> None:
    ask(page, "")
    ask(page, SENTENCE)
    assert not page.error
    assert drawn(page)


def test_words_that_no_paper_has_are_said_to_find_nothing(page: AppTest) -> None:
    page.selectbox[1].set_value("bm25").run()
    ask(page, "xyzzyplugh [CITE]")
    assert not drawn(page)
    assert [info.value for info in page.info] == ["No paper of the index shares a word with this text."]


def test_without_an_index_the_page_says_how_to_build_one(open_page: Opener, tmp_path: Path) -> None:
    page = open_page(tmp_path / "my index")
    assert not page.exception
    assert not page.error
    assert not page.text_area
    assert page.code[0].value == f"indexer build starter --index '{tmp_path}/my index'"


def test_the_command_for_the_default_index_is_short(
    open_page: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_page(Settings().index).code[0].value == "indexer build starter"


def test_an_index_that_was_built_meanwhile_is_found_when_looking_again(
    open_page: Opener, tmp_path: Path, index: Path
) -> None:
    page = open_page(tmp_path / "later")
    shutil.copytree(index, tmp_path / "later")
    page.button[0].click().run()
    assert drawn(ask(page, SENTENCE))


def test_a_newer_index_is_taken_up_without_a_restart(
    open_page: Opener, tmp_path: Path, index: Path, encoder: Encoder
) -> None:
    root = tmp_path / "rebuilt"
    shutil.copytree(index, root)
    page = ask(open_page(root), SENTENCE)
    assert len(drawn(page)) == 10
    source = tmp_path / "one.jsonl"
    source.write_text(json.dumps({"id": "bib:only", "title": "The Only Paper"}) + "\n")
    build(str(source), root, encoder)
    page.run()
    assert drawn(page) == ["1\\. **The Only Paper**"]
    assert page.caption[0].value.startswith("1 paper on this machine")


def test_a_damaged_index_is_one_message_that_names_the_file(
    open_page: Opener, tmp_path: Path, index: Path
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(index, root)
    (file,) = root.rglob("vectors.faiss")
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    page = open_page(root)
    assert not page.exception
    assert not page.text_area
    (error,) = page.error
    assert f"{file} is damaged" in error.value.replace("\\", "")
    assert "indexer build" in error.value


@pytest.mark.parametrize(
    ("name", "value"),
    [("CITEMARK_K", "many"), ("CITEMARK_RANKING", "best"), ("CITEMARK_DEVICE", "abacus")],
)
def test_a_bad_setting_is_one_message_with_its_value(
    open_page: Opener, index: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    page = open_page(index)
    assert not page.exception
    (error,) = page.error
    assert value in error.value


def test_an_identifier_that_is_none_makes_no_link(page: AppTest) -> None:
    page.selectbox[1].set_value("bm25").run()
    page.selectbox[0].set_value(50).run()
    ask(page, f"The {RARE_WORD} [CITE].")
    lines = drawn(page)
    assert len(lines) == len(PAYLOADS)
    addresses = [found[1] for line in lines if (found := re.search(r"(?<!\\)\]\((.*)\)$", line))]
    assert len(addresses) >= len(PAYLOADS) // 2
    assert all(re.fullmatch(r"https://aclanthology\.org/P18-1\d{3}/", url) for url in addresses)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_plain_text_loses_nothing(payload: str) -> None:
    escaped = plain(payload)
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped).replace("\u2060", "") == " ".join(payload.split())
    assert not re.search(r"(?<!\\)(?:\\\\)*(?![\\])[!-/:-@\[-`{-~]", re.sub(r"\\.", "", escaped))


def test_an_option_in_a_command_can_be_copied() -> None:
    assert "\u2060" not in plain("indexer build SOURCE --index /tmp/x -k 3 (arXiv:1409.0473)")
