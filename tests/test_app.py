"""The page without a browser: what it draws for each thing that a user can do."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from page_corpus import ADAM, ATTENTION, DPO, EUROPARL, LORA, NOT_LINKED, PAYLOADS, RARE_WORD, build_index
from pybtex.database import parse_string
from streamlit.testing.v1 import AppTest

from data.bibliography import bibtex
from data.contexts import MAX_QUERY, parse
from data.filter import Filter
from indexer import feedback
from indexer.build import build
from indexer.candidates import LEXICAL_WEIGHT, PROFILE_WEIGHT, UNLEARNED_WEIGHT
from indexer.jobs import Job
from indexer.search import Hit, Searcher
from indexer.settings import RANKINGS, Settings
from indexer.update import Change, update
from model.encoder import Encoder
from model.training_data import read_documents, read_sources
from pages.map import NAMED, OTHER, with_colours
from pages.parts.question import EXAMPLES, PILLS
from pages.parts.search import explained
from pages.parts.shown import lit, plain, scored
from pages.parts.side import RANKING_NAMES
from pages.parts.state import IN_ADDRESS
from pages.parts.work import jobs

APP = str(Path(__file__).parent.parent / "app.py")
SENTENCE = "Neural machine translation with attention [CITE] learns to align and translate jointly."
TWO = "Adam [CITE] trains all networks. Low-rank updates [CITE] adapt the language model."
PATIENCE = 300  # seconds: the first search loads the encoder
FIND = "Find papers"

Opener = Callable[..., AppTest]


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    return build_index(tmp_path_factory.mktemp("page") / "index", encoder)


@pytest.fixture(scope="session")
def engine(index: Path, encoder: Encoder) -> Searcher:
    return Searcher(Settings(index), encoder)


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Opener:
    def opened(index: Path, **address: str) -> AppTest:
        monkeypatch.setenv("CITEMARK_INDEX", str(index))
        page = AppTest.from_file(APP, default_timeout=PATIENCE)
        for name, value in address.items():
            page.query_params[name] = value
        return page.run()

    return opened


@pytest.fixture
def page(open_page: Opener, index: Path) -> AppTest:
    return open_page(index)


def press(page: AppTest, label: str, place: int = 0) -> AppTest:
    """Press the button of this label, of several the one at this place."""
    [button for button in page.button if button.label == label][place].click().run()
    assert not page.exception
    return page


def ask(page: AppTest, text: str) -> AppTest:
    page.text_area(key="text").set_value(text)
    return press(page, FIND)


def shown(hit: Hit) -> str:
    """The beginning of what the page draws for a hit."""
    title = f"**{plain(hit.paper.title)}**"
    return f"{hit.rank}\\. " + (f"[{title}]({hit.paper.url})" if hit.paper.url else title)


def drawn(page: AppTest) -> list[str]:
    """The same of the page, in its order."""
    return [m.value.split("  \n")[0] for m in page.markdown if re.match(r"\d+\\\. ", m.value)]


def scores(page: AppTest) -> list[float]:
    """As they are shown: a number, or a probability in percent."""
    asked = re.compile(r"(?:score|meaning|BM25) (?P<number>-?[\d.]+)|(?P<percent>\d+)%")
    shown = [bar.text.replace("under 1%", "0%") for bar in page.get("progress")]
    found = filter(None, map(asked.search, shown))
    return [float(m["number"]) if m["number"] else float(m["percent"]) / 100 for m in found]


def flip(page: AppTest, title: str, label: str) -> None:
    """Open or close the abstract or the BibTeX of a hit."""
    place = next(n for n, line in enumerate(drawn(page)) if plain(title) in line)
    toggle = [toggle for toggle in page.toggle if toggle.label == label][place]
    toggle.set_value(not toggle.value).run()


def cite(page: AppTest, title: str, mark: int | None = None) -> None:
    """Choose a hit for the mark that is looked at."""
    place = next(n for n, line in enumerate(drawn(page)) if plain(title) in line)
    press(page, "Keep" if mark is None else f"Cite at {mark}", place)


def upload(page: AppTest, label: str, name: str, content: str) -> None:
    """Give a file to the uploader of this label."""
    (field,) = [f for f in page.get("file_uploader") if f.label == label]
    field.set_value((name, content.encode(), "text/plain")).run()
    assert not page.exception


def chosen(page: AppTest) -> list[str]:
    """The keys of the basket's papers, in its order."""
    found = [re.fullmatch(r":gray-badge\[(.+?)\]", m.value) for m in page.markdown]
    return [match[1] for match in found if match]


def downloads(page: AppTest) -> list[str]:
    return [button.label for button in page.get("download_button")]


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


def test_nothing_moves_when_what_was_found_is_drawn_again(page: AppTest) -> None:
    def places() -> list[tuple[int, str]]:
        return [(place, child.type) for place, child in page.main.children.items()]

    ask(page, SENTENCE)
    before = places()
    assert len(before) > 10
    page.run()
    assert places() == before


def test_the_number_of_results_is_chosen_by_the_user(page: AppTest) -> None:
    ask(page, SENTENCE)
    assert len(drawn(page)) == 10
    before = drawn(page)
    page.selectbox(key="k").set_value(5).run()
    assert drawn(page) == before[:5]
    page.selectbox(key="k").set_value(50).run()
    assert drawn(page)[:10] == before
    assert len(drawn(page)) == 50


def test_the_number_of_results_of_the_environment_is_the_first_choice(
    open_page: Opener, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CITEMARK_K", "7")
    assert len(drawn(ask(open_page(index), SENTENCE))) == 7


@pytest.mark.parametrize("ranking", RANKINGS)
def test_each_ranking_is_the_searchers(page: AppTest, engine: Searcher, ranking: str) -> None:
    page.selectbox(key="ranking").set_value(ranking).run()
    assert RANKING_NAMES[ranking] in page.selectbox(key="ranking").options
    ask(page, SENTENCE)
    hits = engine.search(parse(SENTENCE), 10, ranking)[0]
    assert drawn(page) == [shown(hit) for hit in hits]
    assert scores(page) == [round(hit.score, 2) for hit in hits]


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


@pytest.mark.parametrize(("example", "title"), [("Translation", ATTENTION), ("Optimiser", ADAM)])
def test_an_example_fills_the_text_and_is_searched(page: AppTest, example: str, title: str) -> None:
    page.pills(key="example").set_value(example).run()
    assert page.text_area(key="text").value == EXAMPLES[example]
    assert plain(title) in drawn(page)[0]


@pytest.mark.parametrize("text", ["", "   \n", "[CITE]", "[CITE] [OTHER] ."])
def test_a_text_without_words_is_one_message(page: AppTest, text: str) -> None:
    ask(page, text)
    (error,) = page.error
    assert error.value.startswith("The text is empty")
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
    page.selectbox(key="ranking").set_value("bm25").run()
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
    press(page, "Look again")
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
    assert any(caption.value.startswith("1 paper searched") for caption in page.caption)


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
    raw[-1] ^= 1
    file.write_bytes(raw)
    press(page, "Look again")
    assert drawn(ask(page, SENTENCE))


@pytest.mark.parametrize(
    ("name", "value"),
    [("CITEMARK_K", "many"), ("CITEMARK_RANKING", "magic"), ("CITEMARK_DEVICE", "abacus")],
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
    page.selectbox(key="ranking").set_value("bm25").run()
    page.selectbox(key="k").set_value(50).run()
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


def test_a_probability_is_shown_as_it_is_and_in_words(page: AppTest, engine: Searcher) -> None:
    ask(page, SENTENCE)
    hits = engine.search(parse(SENTENCE))[0]
    bars = page.get("progress")
    for bar, hit in zip(bars, hits, strict=True):
        assert hit.probability is not None
        assert bar.value == pytest.approx(100 * hit.probability, abs=1)
        least = hit.probability < 0.005
        assert ("under 1%, " if least else f"{hit.probability:.0%}, ") in bar.text
    assert any("is the probability" in caption.value for caption in page.caption)


def test_a_hit_shows_how_others_cite_it(
    open_page: Opener, index: Path, encoder: Encoder, tmp_path: Path
) -> None:
    """By the words that they share with the text, and as it is: a citing sentence is data, too."""
    shutil.copytree(index, tmp_path / "index")
    texts = [
        "Alignment is learned by attention [CITE], <b>bold</b> [x](http://evil.example).",
        "Rain [CITE].",
    ]
    rows = [{"text": t, "citing_id": f"c{n}", "cited_id": "arxiv:1409.0473"} for n, t in enumerate(texts)]
    contexts = tmp_path / "contexts.jsonl"
    contexts.write_text("\n".join(map(json.dumps, rows)) + "\n")
    update(tmp_path / "index", Change(contexts=str(contexts)), encoder)
    page = open_page(tmp_path / "index")
    ask(page, SENTENCE)
    place = next(n for n, m in enumerate(page.markdown) if plain(ATTENTION) in m.value)
    assert "2 known citations" in page.markdown[place].value
    likes = [m.value for m in page.markdown if "cited like this" in m.value]
    assert len(likes) == 2
    assert ":blue-background[attention]" in likes[0]
    assert plain("<b>bold</b>") in likes[0]
    assert plain("[x](http://evil.example)") in likes[0]
    assert "Rain" in likes[1]


def test_it_is_said_when_nothing_fits(
    page: AppTest, engine: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(page, SENTENCE)
    assert not [info for info in page.info if "Nothing in this corpus fits well" in info.value]
    monkeypatch.setattr(Searcher, "nothing_fits", lambda *_: True)
    ask(page, SENTENCE + " Again.")
    assert [info for info in page.info if "Nothing in this corpus fits well" in info.value]


def test_the_parts_of_a_score_add_up_as_they_are_shown(page: AppTest) -> None:
    page.selectbox(key="ranking").set_value("hybrid").run()
    ask(page, SENTENCE)
    sums = [re.findall(r"\d\.\d\d", bar.text) for bar in page.get("progress")]
    assert len(sums) == 10
    for score, meaning, words in sums:
        assert float(meaning) + float(words) == pytest.approx(float(score))
    assert any(f"plus up to {LEXICAL_WEIGHT} for the words" in caption.value for caption in page.caption)
    assert max(float(words) for *_, words in sums) == pytest.approx(LEXICAL_WEIGHT, abs=0.011)


def test_what_citations_add_is_no_word(engine: Searcher) -> None:
    """Where no ranker fits the encoder, known citations are a part of the sum."""
    paper = engine.snapshot.papers[0]
    share, said = scored(Hit(1, paper, 0.9, dense=0.5, bm25=0.5, profile=0.4))
    assert said == "score 0.90 = meaning 0.50 + words 0.10 + citations 0.30"
    assert share == pytest.approx(0.9 / (1 + UNLEARNED_WEIGHT + PROFILE_WEIGHT))
    with_citations = explained("best", Hit(1, paper, 0.9, dense=0.5, bm25=0.5, profile=0.4))
    assert "Known citations add" in with_citations
    assert "Known citations add" not in explained("hybrid", Hit(1, paper, 0.6, dense=0.5, bm25=0.5))
    assert explained("best", Hit(1, paper, 0.6, probability=0.6, profile=0.4)).startswith("The percentage")
    assert scored(Hit(1, paper, 0.6, dense=0.5, bm25=0.5))[1] == "score 0.60 = meaning 0.50 + words 0.10"


def test_the_bar_is_the_share_of_the_best_score_there_can_be(page: AppTest, engine: Searcher) -> None:
    page.selectbox(key="ranking").set_value("hybrid").run()
    ask(page, SENTENCE)
    best = engine.search(parse(SENTENCE), 10, "hybrid")[0][0].score / (1 + UNLEARNED_WEIGHT)
    assert page.get("progress")[0].value == pytest.approx(100 * best, abs=1)


def test_the_words_in_common_are_lit_in_the_closest_sentence(page: AppTest) -> None:
    ask(page, SENTENCE)
    reason = next(m.value for m in page.markdown if m.value.startswith(":small[…"))
    assert ":blue-background[translation]" in reason.lower()


def test_how_long_it_took_is_said(page: AppTest) -> None:
    ask(page, SENTENCE)
    assert any(re.fullmatch(r"\d+ papers searched in [\d,\\]+ ms", c.value) for c in page.caption)


def test_a_text_without_a_mark_is_searched_as_it_is(page: AppTest, engine: Searcher) -> None:
    text = "Attention for neural machine translation"
    ask(page, text)
    assert drawn(page) == [shown(hit) for hit in engine.search(parse(text))[0]]
    assert not page.pills


def test_a_text_with_one_mark_has_nothing_to_choose_from(page: AppTest) -> None:
    ask(page, SENTENCE)
    assert not page.info
    assert not page.pills


def test_the_list_of_each_mark_is_a_click_away(page: AppTest) -> None:
    ask(page, EXAMPLES["Two marks"])
    assert page.pills(key="mark").options == ["1", "2"]
    assert plain(LORA) in drawn(page)[0]
    page.pills(key="mark").set_value(2).run()
    assert plain(DPO) in drawn(page)[0]
    assert len(drawn(page)) == 10


@pytest.mark.parametrize("mark", [r"\cite{}", "[?]", "(citation needed)"])
def test_other_marks_are_marks(page: AppTest, mark: str) -> None:
    ask(page, TWO.replace("[CITE]", mark, 1))
    assert page.pills(key="mark").options == ["1", "2"]
    assert plain(ADAM) in drawn(page)[0]


def test_the_text_is_shown_with_its_marks_numbered(page: AppTest) -> None:
    ask(page, TWO)
    line = "Adam :blue-badge[1] trains all networks\\. Low\\-rank updates :gray-badge[2] adapt"
    assert any(m.value.startswith(line) for m in page.markdown)
    page.pills(key="mark").set_value(2).run()
    turned = line.replace("blue", "?").replace("gray", "blue").replace("?", "gray")
    assert any(m.value.startswith(turned) for m in page.markdown)


def test_many_marks_are_chosen_from_a_list(page: AppTest) -> None:
    ask(page, "Adam [CITE]. " * (PILLS + 1))
    assert not page.pills
    assert len(page.selectbox(key="mark").options) == PILLS + 1


def test_another_text_begins_with_its_first_mark(page: AppTest) -> None:
    ask(page, TWO)
    page.pills(key="mark").set_value(2).run()
    ask(page, EXAMPLES["Two marks"])
    assert page.pills(key="mark").value == 1


def test_examples_are_there_until_the_first_search(page: AppTest) -> None:
    assert page.pills(key="example").options == list(EXAMPLES)
    ask(page, SENTENCE)
    assert not page.pills


# The basket


def test_what_is_cited_stands_in_the_text_and_in_the_files(page: AppTest) -> None:
    ask(page, TWO)
    assert not downloads(page)
    cite(page, ADAM, 1)
    page.pills(key="mark").set_value(2).run()
    cite(page, LORA, 2)
    text = r"Adam \cite{kingma2014adam} trains all networks. Low-rank updates \cite{hu2021lora} adapt"
    assert page.code[0].value.startswith(text)
    assert chosen(page) == ["kingma2014adam", "hu2021lora"]
    assert downloads(page) == ["BibTeX", "RIS", "CSL-JSON"]
    assert any(":green-badge[:material/check: 1]" in m.value for m in page.markdown)


def test_a_paper_is_taken_out_as_it_was_put_in(page: AppTest) -> None:
    ask(page, TWO)
    cite(page, ADAM, 1)
    press(page, ":green[Cited at 1]")
    assert not chosen(page)
    cite(page, ADAM, 1)
    press(page, "Remove")
    assert not chosen(page)


def test_keys_and_marks_take_the_chosen_form(page: AppTest) -> None:
    ask(page, TWO)
    cite(page, ADAM, 1)
    page.selectbox(key="style").set_value("id").run()
    page.selectbox(key="form").set_value("markdown").run()
    assert page.code[0].value.startswith("Adam [@arxiv-1412.6980] trains")


def test_the_basket_outlives_its_text(page: AppTest) -> None:
    ask(page, TWO)
    cite(page, ADAM, 1)
    ask(page, SENTENCE)
    assert len(chosen(page)) == 1
    assert r"\cite{" not in page.code[0].value


def test_the_basket_outlives_an_error(page: AppTest) -> None:
    ask(page, TWO)
    cite(page, ADAM, 1)
    ask(page, "")
    assert page.error
    assert len(chosen(page)) == 1
    assert downloads(page) == ["BibTeX", "RIS", "CSL-JSON"]


def test_a_search_without_a_mark_keeps_papers(page: AppTest) -> None:
    ask(page, "Adam")
    cite(page, ADAM)
    assert len(chosen(page)) == 1
    assert not page.code


def test_a_paper_of_the_readers_library_is_said_to_be_there(page: AppTest) -> None:
    upload(page, "Your .bib file", "refs.bib", f"@misc{{adam15, title={{{ADAM}}}}}\n")
    ask(page, TWO)
    assert [m.value for m in page.markdown if "already in your library as adam15" in m.value]
    cite(page, ADAM, 1)
    assert page.code[0].value.startswith(r"Adam \cite{adam15} trains")


def test_a_broken_library_is_said_to_be_broken(page: AppTest) -> None:
    upload(page, "Your .bib file", "refs.bib", "@misc{a, title={A Title of a Paper}}\n@misc{b, year=2}\n")
    assert any("1 cannot be read" in caption.value for caption in page.caption)


# A draft

DRAFT = r"""\documentclass{article}
\title{A Draft}
\begin{document}
Adam \citep{} trains all networks.
Low-rank updates [CITE] adapt the language model.
\bibliography{refs}
\end{document}
"""


def with_draft(page: AppTest, name: str, content: str) -> None:
    page.segmented_control(key="mode").set_value("Upload a draft").run()
    (field,) = [f for f in page.get("file_uploader") if f.label.startswith("The files of your draft")]
    field.set_value([(name, content.encode(), "text/plain")]).run()
    assert not page.exception


def test_a_draft_is_answered_and_comes_back_with_its_keys(page: AppTest) -> None:
    with_draft(page, "main.tex", DRAFT)
    assert page.pills(key="mark").options == ["1", "2"]
    assert plain(ADAM) in drawn(page)[0]
    assert any("main\\.tex\\:4" in m.value for m in page.markdown)
    cite(page, ADAM, 1)
    page.pills(key="mark").set_value(2).run()
    cite(page, LORA, 2)
    assert downloads(page) == ["Draft: main.tex", "BibTeX", "RIS", "CSL-JSON"]


def test_a_draft_without_marks_is_said_to_have_none(page: AppTest) -> None:
    with_draft(page, "notes.md", "# Notes\n\nNothing to cite here.\n")
    assert [info.value for info in page.info] == ["The draft has no mark that wants a citation."]


def test_a_draft_that_is_no_text_is_one_message(page: AppTest) -> None:
    with_draft(page, "main.tex", "a\0b")
    (error,) = page.error
    assert "no text" in error.value


# Filters


def test_years_categories_and_authors_narrow_the_list(page: AppTest, engine: Searcher) -> None:
    ask(page, SENTENCE)
    page.number_input(key="since").set_value(2015).run()
    page.number_input(key="until").set_value(2019).run()
    page.multiselect(key="category").set_value(["cs.CL"]).run()
    keep = Filter(("cs.CL",), 2015, 2019)
    assert drawn(page) == [shown(hit) for hit in engine.search(parse(SENTENCE), keep=keep)[0]]
    assert any("only 2015 to 2019, cs.CL" in c.value.replace("\\", "") for c in page.caption)


def test_an_author_is_found_by_the_family_name(page: AppTest) -> None:
    page.text_input(key="author").set_value("bahdanau").run()
    ask(page, SENTENCE)
    assert len(drawn(page)) >= 1
    assert all("Bahdanau" in m.value for m in page.markdown if re.match(r"\d+\\\. ", m.value))


def test_filters_that_nothing_passes_are_said_to_be_the_reason(page: AppTest) -> None:
    ask(page, SENTENCE)
    before = drawn(page)
    page.number_input(key="since").set_value(2900).run()
    page.multiselect(key="category").set_value(["cs.CL"]).run()
    page.text_input(key="author").set_value("Bahdanau").run()
    (info,) = page.info
    assert info.value.replace("\\", "") == (
        "No paper passes the filters: only from 2900 on, cs.CL, by Bahdanau."
    )
    press(page, "Search without filters")
    assert drawn(page) == before
    assert not {"since", "category", "author"} & set(page.query_params)


def test_only_papers_before_the_drafts_year(page: AppTest, engine: Searcher) -> None:
    ask(page, SENTENCE)
    page.number_input(key="draft year").set_value(2015).run()
    page.toggle(key="before").set_value(True).run()
    keep = Filter(until=2014)
    assert drawn(page) == [shown(hit) for hit in engine.search(parse(SENTENCE), keep=keep)[0]]


def test_the_draft_itself_is_left_out(page: AppTest) -> None:
    page.text_input(key="draft title").set_value(ATTENTION.upper()).run()
    ask(page, SENTENCE)
    assert len(drawn(page)) == 10
    assert plain(ATTENTION) not in " ".join(drawn(page))
    assert drawn(page)[0].startswith("1\\. ")


# More like this, thumbs, the address


def test_more_like_a_hit_and_back(page: AppTest, engine: Searcher) -> None:
    ask(page, SENTENCE)
    before = drawn(page)
    press(page, "More like this")
    paper = engine.search(parse(SENTENCE))[0][0].paper
    assert drawn(page) == [shown(hit) for hit in engine.similar(paper.paper_id)]
    assert page.query_params["like"] == paper.paper_id
    press(page, "Back to the results")
    assert drawn(page) == before


def test_thumbs_are_off_until_they_are_turned_on(page: AppTest, index: Path) -> None:
    ask(page, SENTENCE)
    assert not page.get("feedback")
    assert not feedback.path_of(index).exists()


def test_a_thumb_is_data_for_training(open_page: Opener, tmp_path: Path, index: Path) -> None:
    root = tmp_path / "index"
    shutil.copytree(index, root)
    page = open_page(root)
    page.toggle(key="keep thumbs").set_value(True).run()
    ask(page, SENTENCE)
    page.get("feedback")[0].set_value(1).run()
    page.get("feedback")[1].set_value(0).run()
    documents = read_documents(str(index.with_suffix(".jsonl")))
    (source,) = read_sources([str(feedback.path_of(root))], documents)
    assert [(pair.context, documents.papers[pair.row].title) for pair in source.pairs] == [
        (SENTENCE, ATTENTION)
    ]
    assert source.counts["label 0"] == 1


def test_a_search_is_in_the_address_and_the_address_is_a_search(
    open_page: Opener, index: Path, page: AppTest
) -> None:
    ask(page, SENTENCE)
    assert page.query_params["q"] == SENTENCE
    shared = open_page(index, q=SENTENCE)
    assert shared.text_area(key="text").value == SENTENCE
    assert drawn(shared) == drawn(page)


def test_going_back_in_the_address_goes_back_in_the_search(page: AppTest) -> None:
    ask(page, SENTENCE)
    first = drawn(page)
    ask(page, TWO)
    page.query_params["q"] = SENTENCE
    page.run()
    assert drawn(page) == first
    del page.query_params["q"]
    page.run()
    assert page.pills(key="example")


def test_a_long_text_stays_out_of_the_address(page: AppTest) -> None:
    ask(page, "translation " * (IN_ADDRESS // 12 + 1))
    assert "q" not in page.query_params
    assert drawn(page)


def test_a_paper_that_the_index_lacks_is_one_message(open_page: Opener, index: Path) -> None:
    page = open_page(index, like="bib:nobody")
    (error,) = page.error
    assert "nobody" in error.value


def test_what_is_lit_is_shown_as_it_is() -> None:
    assert lit("a *b* c", ((3, 4),)) == r"a \*:blue-background[b]\* c"


# The index


@pytest.fixture
def about(open_page: Opener) -> Callable[[Path], AppTest]:
    def opened(index: Path) -> AppTest:
        page = open_page(index).switch_page("pages/corpus.py").run()
        assert not page.exception
        return page

    return opened


def test_the_index_says_what_it_is(about: Callable[[Path], AppTest], index: Path, engine: Searcher) -> None:
    page = about(index)
    facts = {metric.label: metric.value for metric in page.metric}
    assert facts["Papers"] == str(len(engine.snapshot.papers))
    assert facts["Built"] == engine.snapshot.manifest.created[:10]
    assert any("recall against an exact search" in value for value in page.table[0].value["value"])
    assert page.code[0].value == f"indexer evaluate starter --index {index}"


def test_each_plot_says_which_axis_counts_papers(about: Callable[[Path], AppTest], index: Path) -> None:
    specs = [json.loads(chart.proto.spec)["encoding"] for chart in about(index).get("vega_lite_chart")]
    assert [(s["x"]["title"], s["x"]["type"], s["y"]["title"], s["y"]["type"]) for s in specs] == [
        ("Year", "ordinal", "Papers", "quantitative"),
        ("Papers", "quantitative", None, "ordinal"),
    ]


def test_the_last_evaluation_is_shown(about: Callable[[Path], AppTest], tmp_path: Path, index: Path) -> None:
    root = tmp_path / "measured"
    shutil.copytree(index, root)
    folder = tmp_path / "measured-evaluation"
    folder.mkdir()
    means: dict[str, Any] = {f"hit@{k}": 0.5 for k in (1, 5, 10, 50, 300)}
    report = {"source": "mine", "contexts": 3, "papers": 9, "rows": [{"name": "bm25", **means}]}
    (folder / "report.json").write_text(json.dumps(report))
    page = about(root)
    assert page.dataframe[0].value["ranking"].tolist() == ["bm25"]
    assert any("3 contexts of mine over 9 papers" in m.value for m in page.markdown)


def test_a_rebuild_works_beside_the_searches(
    about: Callable[[Path], AppTest], tmp_path: Path, small_corpus: Path, tiny: Encoder
) -> None:
    root = tmp_path / "rebuilt"
    build(str(small_corpus), root, tiny)
    page = about(root)
    press(page, "Rebuild")
    job = jobs()[str(root)]
    assert isinstance(job, Job)
    assert Searcher(Settings(root), tiny).search(parse("attention"))[0]
    assert job.wait(PATIENCE) == 0
    page = about(root)
    assert any("index of 30 papers" in success.value for success in page.success)
    assert Searcher(Settings(root), tiny).snapshot.path.name == "000002"


def test_a_build_that_fails_says_why(about: Callable[[Path], AppTest], tmp_path: Path, tiny: Encoder) -> None:
    source, root = tmp_path / "gone.jsonl", tmp_path / "index"
    source.write_text(json.dumps({"id": "bib:only", "title": "The Only Paper"}) + "\n")
    build(str(source), root, tiny)
    source.unlink()
    press(about(root), "Rebuild")
    jobs()[str(root)].wait(PATIENCE)
    (error,) = about(root).error
    assert "gone" in error.value


# The map


@pytest.fixture
def chart_of() -> Callable[[AppTest], tuple[dict[str, Any], list[dict[str, Any]]]]:
    """chart_of(page) goes to the map and gives its specification and its rows."""

    def opened(page: AppTest) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        page.switch_page("pages/map.py").run()
        assert not page.exception
        (chart,) = page.get("vega_lite_chart")
        data = chart.proto.data.data or chart.proto.datasets[0].data.data
        return json.loads(chart.proto.spec), pa.ipc.open_stream(data).read_all().to_pylist()

    return opened


def test_the_map_shows_every_paper_and_lights_none_before_a_search(
    page: AppTest, engine: Searcher, chart_of: Callable[..., Any]
) -> None:
    spec, rows = chart_of(page)
    assert [row["title"] for row in rows] == [paper.title for paper in engine.snapshot.papers]
    assert all(row["rank"] is None for row in rows)
    assert {field["field"] for field in spec["encoding"]["tooltip"]} >= {"title", "year"}
    assert any("88 papers. Points near each other" in caption.value for caption in page.caption)


def test_the_hits_of_the_mark_that_was_looked_at_are_lit(
    page: AppTest, engine: Searcher, chart_of: Callable[..., Any]
) -> None:
    ask(page, EXAMPLES["Two marks"])
    page.pills(key="mark").set_value(2).run()
    hits = engine.search(parse(EXAMPLES["Two marks"]))[1]
    _, rows = chart_of(page)
    lit = {row["rank"]: row for row in rows if row["rank"] is not None}
    assert {rank: row["title"] for rank, row in lit.items()} == {hit.rank: hit.paper.title for hit in hits}
    where = {row["row"]: (row["x"], row["y"]) for row in rows if row["rank"] is None}
    assert all(where[row["row"]] == (row["x"], row["y"]) for row in lit.values())
    listed = [m.value for m in page.markdown if re.match(r"\d+\\. ", m.value)]
    assert [line.split(" :small")[0] for line in listed] == [shown(hit) for hit in hits]


def test_a_text_that_is_gone_is_lit_no_more(page: AppTest, chart_of: Callable[..., Any]) -> None:
    ask(page, SENTENCE)
    del page.query_params["q"]
    page.run()
    _, rows = chart_of(page)
    assert all(row["rank"] is None for row in rows)


def test_points_are_coloured_by_category_or_year(page: AppTest, chart_of: Callable[..., Any]) -> None:
    spec, rows = chart_of(page)
    assert spec["layer"][0]["encoding"]["color"]["field"] == "category"
    assert {row["category"] for row in rows} <= set(spec["layer"][0]["encoding"]["color"]["scale"]["domain"])
    page.segmented_control(key="colour").set_value("Year").run()
    (chart,) = page.get("vega_lite_chart")
    assert json.loads(chart.proto.spec)["layer"][0]["encoding"]["color"]["field"] == "year"


def test_all_but_the_largest_categories_have_one_colour() -> None:
    names = [f"c{n}" for n in range(NAMED + 3) for _ in range(n + 1)] + [""]
    found = with_colours(names)
    assert sorted(set(found) - {OTHER}) == sorted(f"c{n}" for n in range(3, NAMED + 3))
    assert all(was == now for was, now in zip(names, found, strict=True) if now != OTHER)
    assert found[-1] == OTHER


def test_a_map_is_drawn_from_the_page(
    open_page: Opener, tmp_path: Path, small_index: Path, chart_of: Callable[..., Any]
) -> None:
    root = shutil.copytree(small_index, tmp_path / "index")
    page = open_page(root).switch_page("pages/map.py").run()
    assert not page.get("vega_lite_chart")
    press(page, "Draw the map")
    assert jobs()[str(root)].wait(PATIENCE) == 0
    _, rows = chart_of(open_page(root))
    assert len(rows) == 30
