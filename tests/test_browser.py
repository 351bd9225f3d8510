"""The page in a real browser: `streamlit run app.py` as a user starts it, and Chromium.

Every test fails on a dialog, a script error, a request to any other host, and a traceback of the server.
Pictures of what was seen are left in tests/screenshots/.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from conftest import page_process
from page_corpus import ADAM, ATTENTION, DPO, LANDMARKS, LORA, PAYLOADS, RARE_WORD, build_index
from pybtex.database import parse_string

from data.bibliography import bibtex
from data.contexts import parse
from data.paper import Paper
from indexer.search import Searcher
from indexer.settings import Settings
from model.encoder import Encoder
from pages.parts.question import EXAMPLES
from pages.parts.side import RANKING_NAMES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SCREENSHOTS = Path(__file__).parent / "screenshots"
SENTENCE = "Neural machine translation with attention [CITE] learns to align and translate jointly."
PATIENCE = 180_000  # ms: the first search loads the encoder, on a machine that may be busy
OPENED = {"Abstract": "stText", "BibTeX": "stCode"}  # what the toggles of a hit draw
DESK, PHONE = (1200, 900), (390, 844)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH"),
]


@dataclass
class Visit:
    """A page in a browser context of its own, and what happened there that should not have."""

    page: "Page"
    faults: list[str] = field(default_factory=list)

    def rest(self) -> None:
        """Wait until the server has nothing more to say; what is clicked before may be drawn anew."""
        expect(self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible()
        expect(self.page.locator("[data-stale=true]")).to_have_count(0)

    def ask(self, text: str) -> None:
        self.rest()
        self.page.get_by_role("textbox", name="Your text").fill(text)
        self.page.get_by_role("button", name="Find papers").click()

    def choose(self, label: str, option: str) -> None:
        self.rest()
        self.page.get_by_label(label).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def press(self, name: str) -> None:
        """Press the first button of this name."""
        self.rest()
        self.page.get_by_role("button", name=name, exact=True).first.click()

    def mark(self, number: int) -> None:
        """Look at the papers of this mark."""
        self.rest()
        self.page.locator(".st-key-mark").get_by_text(str(number), exact=True).click()

    def open(self, rank: int, toggle: str) -> None:
        """Open what a hit shows on demand, and wait for it: a card being drawn anew misses a click."""
        self.rest()
        self.hit(rank).get_by_text(toggle, exact=True).click()
        expect(self.hit(rank).get_by_test_id(OPENED[toggle])).to_be_visible()
        self.rest()

    def expect_hits(self, count: int) -> None:
        """Wait until the answer has this many hits and is drawn to its end."""
        expect(self.titles).to_have_count(count)
        expect(self.page.get_by_text(re.compile("The (score|percentage) is"))).to_be_visible()
        self.rest()

    @property
    def titles(self) -> "Locator":
        return self.page.locator("[data-testid=stMarkdown] p").filter(
            has=self.page.locator("strong"), has_text=re.compile(r"^\d+\. ")
        )

    def hit(self, rank: int) -> "Locator":
        """The card of the hit of this rank in the first list."""
        cards = self.page.locator("[data-testid=stVerticalBlock]").filter(
            has=self.page.get_by_text("BibTeX", exact=True)
        )
        return cards.filter(has_text=re.compile(rf"^\s*{rank}\. ")).first

    def picture(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


Visitor = Callable[..., Visit]


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    return build_index(tmp_path_factory.mktemp("browser") / "index", encoder)


@pytest.fixture(scope="session")
def engine(index: Path, encoder: Encoder) -> Searcher:
    return Searcher(Settings(index), encoder)


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    expect.set_options(timeout=PATIENCE)
    with sync_api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@contextmanager
def serving(index: Path) -> Iterator[str]:
    """The page over this index, as a process of its own; its address."""
    with page_process(index) as (process, address):
        assert process.stdout is not None
        try:
            log = ""
            while "URL: " not in log:
                line = process.stdout.readline()
                assert line, f"the server has gone: {log}"
                log += line
            yield address
        finally:
            process.terminate()
            log += process.stdout.read()
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def address(index: Path) -> Iterator[str]:
    with serving(index) as url:
        yield url


@pytest.fixture(scope="session")
def windows(browser: "Browser") -> "Callable[[tuple[int, int], str], BrowserContext]":
    """A window of this size and colour scheme: one for all tests, which saves loading the page's scripts."""

    @cache
    def window(size: tuple[int, int], scheme: Any) -> "BrowserContext":
        viewport = sync_api.ViewportSize(width=size[0], height=size[1])
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        return context

    return window


@pytest.fixture
def visit_at(windows: "Callable[[tuple[int, int], str], BrowserContext]") -> Iterator[Visitor]:
    """visit_at(url, size, scheme) opens the page; the faults of every visit are looked at in the end."""
    visits: list[Visit] = []

    def opened(url: str, size: tuple[int, int] = DESK, scheme: str = "light") -> Visit:
        visit = Visit(windows(size, scheme).new_page())
        visits.append(visit)
        watch(visit, url)
        visit.page.goto(url)
        expect(visit.page.get_by_role("button").first).to_be_visible()
        return visit

    yield opened
    for visit in visits:
        visit.page.close()
        assert visit.faults == []


@pytest.fixture
def visit(visit_at: Visitor, address: str) -> Visit:
    return visit_at(address)


def watch(visit: Visit, home: str) -> None:
    """Note every dialog, script error, new window and request to another host; stop the requests."""
    page, faults = visit.page, visit.faults

    def dialog(seen: Any) -> None:
        faults.append(f"dialog {seen.message}")
        seen.dismiss()

    def other(route: Any) -> None:
        faults.append(f"request to {route.request.url}")
        route.abort()

    home = home.partition("/?")[0]
    page.route(lambda url: not url.startswith(home) and not url.startswith("data:"), other)
    page.on("dialog", dialog)
    page.on("pageerror", lambda error: faults.append(f"script error {error}"))
    page.on("popup", lambda popup: faults.append(f"new window {popup.url}"))
    page.on(
        "websocket",
        lambda socket: (
            faults.append(f"websocket to {socket.url}")
            if not socket.url.startswith(home.replace("http", "ws"))
            else None
        ),
    )


def visible_text(locator: "Locator") -> str:
    """What a reader sees, without the invisible joiners of app.plain."""
    return locator.inner_text().replace("\u2060", "")


def test_a_typed_sentence_finds_its_paper(visit: Visit) -> None:
    visit.picture("empty")
    visit.ask(SENTENCE)
    visit.expect_hits(10)
    assert ATTENTION in visible_text(visit.titles.first)
    link = visit.titles.first.get_by_role("link")
    assert link.get_attribute("href") == "https://arxiv.org/abs/1409.0473"
    assert "noopener" in (link.get_attribute("rel") or "")
    card = " ".join(visible_text(visit.hit(1)).split())
    assert "Dzmitry Bahdanau, Kyunghyun Cho, Yoshua Bengio · 2014 · ICLR 2015 · arXiv 1409.0473" in card
    assert re.search(r"\d+%, (probably the one|likely|possible|a long shot)", card)
    visit.picture("one-mark")


def test_ctrl_enter_searches(visit: Visit) -> None:
    visit.rest()
    visit.page.get_by_role("textbox", name="Your text").fill(SENTENCE)
    visit.page.keyboard.press("Control+Enter")
    visit.expect_hits(10)
    assert ATTENTION in visible_text(visit.titles.first)


def test_each_of_two_marks_has_its_list(visit: Visit) -> None:
    visit.ask(EXAMPLES["Two marks"])
    visit.expect_hits(10)
    assert LORA in visible_text(visit.titles.first)
    visit.mark(2)
    expect(visit.titles.first).to_contain_text("Direct Preference")
    visit.expect_hits(10)
    assert DPO in visible_text(visit.titles.first)
    visit.picture("two-marks")


def test_quick_clicks_end_at_the_last_mark_and_a_reload_stays_there(visit: Visit) -> None:
    """Five marks of five kinds; the address keeps which one is looked at."""
    visit.ask(
        r"Attention \cite{} changed translation. Adam [CITE] trains networks, residual links [?] make them "
        "deep, dropout (citation needed) regularises, and low-rank updates [@?] adapt."
    )
    visit.expect_hits(10)
    expect(visit.page.locator(".st-key-mark button")).to_have_count(5)
    for number in (5, 1, 4, 3, 2):
        visit.page.locator(".st-key-mark").get_by_text(str(number), exact=True).click()
    expect(visit.titles.first).to_contain_text("Adam")
    visit.expect_hits(10)
    expect(visit.page.get_by_role("button", name="Cite at 2", exact=True)).to_have_count(10)
    visit.page.reload()
    expect(visit.titles.first).to_contain_text("Adam")
    visit.expect_hits(10)
    expect(visit.page.get_by_role("button", name="Cite at 2", exact=True)).to_have_count(10)


def test_a_basket_becomes_a_text_and_a_bib_file(visit: Visit) -> None:
    visit.ask(EXAMPLES["Two marks"])
    visit.expect_hits(10)
    visit.press("Cite at 1")
    expect(visit.page.get_by_role("button", name="Cited at 1")).to_have_count(1)
    visit.mark(2)
    expect(visit.titles.first).to_contain_text("Direct Preference")
    visit.press("Cite at 2")
    visit.rest()
    visit.page.get_by_role("button", name="Basket: 2").click()
    expect(visit.page.get_by_text(r"\cite{hu2021lora}")).to_be_visible()
    visit.picture("basket")
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="BibTeX", exact=True).last.click()
    assert download.value.suggested_filename == "citemark.bib"
    entries = parse_string(Path(download.value.path()).read_text("utf-8"), "bibtex").entries
    assert list(entries) == ["hu2021lora", "rafailov2023direct"]


def test_years_narrow_the_list_and_stand_in_the_address(visit: Visit) -> None:
    visit.ask(SENTENCE)
    visit.expect_hits(10)
    field = visit.page.get_by_label("To year")
    field.fill("2014")
    field.press("Enter")
    expect(visit.page.get_by_text("only until 2014")).to_be_visible()
    visit.rest()
    assert all(
        int(year) <= 2014 for year in re.findall(r" · ((?:19|20)\d\d) · ", visit.page.inner_text("body"))
    )
    assert "until=2014" in visit.page.url
    visit.picture("filters")


def test_a_draft_comes_back_with_its_keys(visit: Visit, tmp_path: Path) -> None:
    draft = tmp_path / "main.tex"
    draft.write_text("\\begin{document}\nAdam \\citep{} trains all networks.\n\\end{document}\n")
    visit.rest()
    visit.page.get_by_text("Upload a draft", exact=True).click()
    visit.page.locator("[data-testid=stMain] input[type=file]").set_input_files(draft)
    visit.expect_hits(10)
    assert ADAM in visible_text(visit.titles.first)
    visit.press("Cite at 1")
    visit.rest()
    visit.picture("draft")
    visit.page.get_by_role("button", name="Basket: 1").click()
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Draft: main.tex").click()
    text = Path(download.value.path()).read_text("utf-8")
    assert text == draft.read_text().replace("{}", "{kingma2014adam}")


def test_a_search_is_shared_by_its_address_and_gone_back_to(visit: Visit, visit_at: Visitor) -> None:
    visit.ask(SENTENCE)
    visit.expect_hits(10)
    other = visit_at(visit.page.url)
    other.expect_hits(10)
    assert ATTENTION in visible_text(other.titles.first)
    other.ask(EXAMPLES["Optimiser"])
    expect(other.titles.first).to_contain_text("Adam")
    other.rest()
    other.page.go_back()
    expect(other.titles.first).to_contain_text("Neural Machine")


def test_the_page_on_the_index_draws_its_plots(visit: Visit) -> None:
    visit.rest()
    visit.page.get_by_role("link", name="The index").click()
    expect(visit.page.get_by_role("heading", name="Papers by year")).to_be_visible()
    expect(visit.page.locator("[data-testid=stVegaLiteChart] :is(canvas, svg.marks)")).to_have_count(2)
    visit.rest()
    visit.picture("index")


def test_the_map_lights_the_hits_and_opens_a_paper(visit: Visit, engine: Searcher) -> None:
    visit.ask(SENTENCE)
    visit.expect_hits(10)
    first = engine.search(parse(SENTENCE))[0][0]
    tooltip = point_at(visit, shown_map(visit))
    expect(tooltip).to_contain_text(first.paper.title)
    visit.picture("map")
    visit.page.mouse.down()
    visit.page.mouse.up()
    expect(visit.page.get_by_text(first.paper.abstract)).to_be_visible()
    visit.press("More like this")
    expect(visit.page.get_by_text("Papers like")).to_be_visible()
    visit.expect_hits(10)
    (similar, *_) = engine.similar(first.paper.paper_id)
    assert similar.paper.title in visible_text(visit.titles.first)


def test_the_map_shows_hostile_papers_as_they_are(visit_at: Visitor, address: str, engine: Searcher) -> None:
    text = f"The {RARE_WORD} [CITE]."
    visit = visit_at(f"{address}/?{urlencode({'ranking': RANKING_NAMES['bm25'], 'q': text})}", PHONE)
    visit.expect_hits(10)
    tooltip = point_at(visit, shown_map(visit))
    titles = {hit.paper.title for hit in engine.search(parse(text), 10, "bm25")[0]}
    assert any(title in visible_text(tooltip) for title in titles)
    visit.page.mouse.down()
    visit.page.mouse.up()
    expect(visit.page.get_by_role("button", name="More like this")).to_be_visible()
    visit.rest()
    assert visit.page.evaluate("window.pwned === undefined")
    assert injected(visit) == []
    assert too_wide(visit) == []


def shown_map(visit: Visit) -> "Locator":
    """Go to the map, and the point of the best hit when it is drawn: a few papers are drawn as SVG."""
    visit.rest()
    visit.page.get_by_role("link", name="The map").click()
    expect(visit.page.get_by_role("heading", name="The map")).to_be_visible()
    ranks = visit.page.locator("svg.marks [aria-roledescription='text mark']")
    expect(ranks).to_have_count(10)
    visit.rest()
    return ranks.last


def point_at(visit: Visit, point: "Locator") -> "Locator":
    """Move the pointer over a point, which lies under its rank; what is then said of it."""
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tooltip = visit.page.locator("#vg-tooltip-element.visible")
    expect(tooltip).to_be_visible()
    return tooltip


@pytest.mark.parametrize(
    ("example", "title", "count"),
    [("Translation", ATTENTION, 10), ("Optimiser", ADAM, 10), ("Two marks", LORA, 10)],
)
def test_an_example_fills_the_text_and_is_searched(
    visit: Visit, example: str, title: str, count: int
) -> None:
    visit.rest()
    visit.page.get_by_text(example, exact=True).click()
    visit.expect_hits(count)
    assert title in visible_text(visit.titles.first)
    expect(visit.page.get_by_role("textbox", name="Your text")).to_have_value(EXAMPLES[example])


def test_an_abstract_opens_and_closes(visit: Visit, engine: Searcher) -> None:
    visit.ask(SENTENCE)
    visit.expect_hits(10)
    abstract = visit.page.get_by_text(engine.search(parse(SENTENCE))[0][0].paper.abstract, exact=True)
    expect(abstract).to_have_count(0)
    visit.open(1, "Abstract")
    expect(abstract).to_be_visible()
    visit.picture("abstract")
    visit.hit(1).get_by_text("Abstract", exact=True).click()
    expect(abstract).to_have_count(0)


def test_bibtex_is_shown_and_stays_while_another_opens(visit: Visit, engine: Searcher) -> None:
    visit.ask(SENTENCE)
    visit.expect_hits(10)
    hits = engine.search(parse(SENTENCE))[0]
    for rank in (1, 2):
        visit.open(rank, "BibTeX")
        expect(visit.page.get_by_test_id("stCode")).to_have_count(rank)
    codes = visit.page.get_by_test_id("stCode").locator("code").all_inner_texts()
    assert [code.strip() for code in codes] == [bibtex(hit.paper).strip() for hit in hits[:2]]
    visit.picture("bibtex")


def test_a_text_without_a_mark_is_searched_as_it_is(visit: Visit) -> None:
    visit.ask("attention for machine translation")
    visit.expect_hits(10)
    assert ATTENTION in visible_text(visit.titles.first)
    visit.picture("no-mark")


def test_an_empty_text_is_one_message(visit: Visit) -> None:
    visit.ask("  ")
    expect(visit.page.get_by_role("alert")).to_have_count(1)
    expect(visit.page.get_by_role("alert")).to_contain_text("empty")
    visit.picture("empty-text")


def test_the_number_of_results_follows_the_choice(visit: Visit) -> None:
    visit.ask(SENTENCE)
    visit.expect_hits(10)
    visit.choose("Number of results", "5")
    visit.expect_hits(5)


def test_hostile_papers_are_shown_as_they_are(visit: Visit, engine: Searcher) -> None:
    visit.choose("Number of results", "50")
    visit.choose("Ranking", RANKING_NAMES["bm25"])
    visit.ask(f"The {RARE_WORD} [CITE].")
    visit.expect_hits(len(PAYLOADS))
    (hits,) = engine.search(parse(f"The {RARE_WORD} [CITE]."), 50, "bm25")
    assert len(hits) == len(PAYLOADS)
    for toggle, opened in OPENED.items():
        buttons = visit.page.get_by_text(toggle, exact=True)
        expect(buttons).to_have_count(len(PAYLOADS))
        for count, button in enumerate(buttons.all(), 1):
            button.click()  # one at a time: a card that is drawn anew under the pointer misses its click
            expect(visit.page.get_by_test_id(opened)).to_have_count(count)
    for hit in hits:
        shown_as_it_is(visit, hit.rank, hit.paper)
    assert visit.page.evaluate("window.pwned === undefined")
    assert visit.page.url.count("/") == 3  # it has gone nowhere
    assert injected(visit) == []
    visit.picture("hostile")


def shown_as_it_is(visit: Visit, rank: int, paper: Paper) -> None:
    card = visit.hit(rank)
    title, facts = visible_text(visit.titles.nth(rank - 1)).split("\n")
    assert title == f"{rank}. {paper.title}"
    assert facts.startswith(", ".join(paper.authors[:4]))
    links = [link.get_attribute("href") for link in card.get_by_role("link").all()]
    assert links == ([paper.url] if paper.url else [])
    assert card.get_by_test_id("stText").inner_text() == paper.abstract
    assert card.locator("code").inner_text().strip() == bibtex(paper).strip()


def injected(visit: Visit) -> list[str]:
    """Elements and attributes in the page's body that only a paper's text could have made."""
    found: list[str] = visit.page.locator("[data-testid=stMain]").evaluate(
        """main => [...main.querySelectorAll('*')].filter(e =>
            e.matches('script,img,iframe,object,embed,video,audio,base,meta,link,style,details,math,table,' +
                      'li,blockquote,hr,del,u,sup,.katex,[role=img],.stMarkdownShimmer')
            && !e.closest('button')
            || [...e.attributes].some(a => /^on/.test(a.name) || /javascript:|evil/.test(a.value)
                                           && !['aria-label', 'class'].includes(a.name)))
            .map(e => e.outerHTML.slice(0, 200))"""
    )
    return found


def test_a_hostile_text_of_the_user_is_shown_as_it_is(visit: Visit) -> None:
    text = (
        "<img src=x onerror=alert(1)> :material_home: ![i](http://evil.example/i.png) [CITE] $x$ **b** [CITE]"
    )
    visit.ask(text)
    visit.expect_hits(10)
    echo = (
        visit.page.locator("p").filter(has=visit.page.locator(".stMarkdownBadge"), has_text="onerror").first
    )
    assert visible_text(echo) == text.replace("[CITE]", "1", 1).replace("[CITE]", "2")
    assert injected(visit) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_never_scrolls_sideways(visit_at: Visitor, address: str, scheme: str) -> None:
    visit = visit_at(address, PHONE, scheme)
    visit.rest()
    assert too_wide(visit) == []
    visit.picture(f"narrow-empty-{scheme}")
    visit.ask(f"{EXAMPLES['Two marks']} {'x' * 300} [CITE]")
    visit.expect_hits(10)
    for toggle in OPENED:
        visit.open(1, toggle)
    assert too_wide(visit) == []
    visit.picture(f"narrow-{scheme}")


def test_a_narrow_screen_holds_hostile_papers(visit_at: Visitor, address: str) -> None:
    visit = visit_at(f"{address}/?{urlencode({'k': 50, 'ranking': RANKING_NAMES['bm25']})}", PHONE)
    visit.ask(f"The {RARE_WORD} [CITE].")
    visit.expect_hits(len(PAYLOADS))
    assert too_wide(visit) == []


def too_wide(visit: Visit) -> list[str]:
    """What makes the page wider than the screen."""
    found: list[str] = visit.page.evaluate(
        """() => [document.documentElement, ...document.querySelectorAll('[data-testid=stMain] *')]
            .filter(e => e.scrollWidth > innerWidth || e.getBoundingClientRect().right > innerWidth)
            .map(e => e.outerHTML.slice(0, 200))"""
    )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_are_readable(visit_at: Visitor, address: str, scheme: str) -> None:
    visit = visit_at(address, scheme=scheme)
    visit.ask(EXAMPLES["Two marks"])
    visit.expect_hits(10)
    for toggle in OPENED:
        visit.open(1, toggle)
    background = visit.page.locator("[data-testid=stApp]").evaluate(
        "e => getComputedStyle(e).backgroundColor"
    )
    assert (luminance(background) > 0.5) == (scheme == "light")
    ratios = visit.page.locator("[data-testid=stMain]").evaluate(CONTRASTS)
    assert {"Find papers", "Abstract", "1", "2", "Cite at 1"} <= {text for text, _ in ratios}
    assert [f"{text}: {ratio:.2f}" for text, ratio in ratios if ratio < 4.5] == []
    visit.picture(scheme)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_chosen_is_readable_in_both_themes(visit_at: Visitor, address: str, scheme: str) -> None:
    visit = visit_at(f"{address}/?{urlencode({'q': SENTENCE, 'category': 'cs.CL'})}", scheme=scheme)
    expect(visit.titles.first).to_be_visible()
    visit.press("Cite at 1")
    expect(visit.page.get_by_role("button", name="Cited at 1")).to_be_visible()
    visit.rest()
    ratios = visit.page.locator("[data-testid=stApp]").evaluate(CONTRASTS)
    assert {"cs.CL", "Cited at 1"} <= {text for text, _ in ratios}
    assert [f"{text}: {ratio:.2f}" for text, ratio in ratios if ratio < 4.5] == []
    visit.picture(f"chosen-{scheme}")


def luminance(colour: str) -> float:
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# The contrast ratio (WCAG 2) of every element that has text of its own, as it is seen: colours blended over
# what is below, and with the opacity of what the element is in. What cannot be used now may be pale.
CONTRASTS = """main => {
  const parse = c => { const v = c.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const over = (top, below) => below.map((b, i) => i < 3 ? top[i] * top[3] + b * (1 - top[3]) : 1);
  const below = e => e ? over(parse(getComputedStyle(e).backgroundColor), below(e.parentElement))
                       : [255, 255, 255, 1];
  const opacity = e => e ? getComputedStyle(e).opacity * opacity(e.parentElement) : 1;
  const ink = e => parse(getComputedStyle(e).color).map((v, i) => i < 3 ? v : v * opacity(e));
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  return [...main.querySelectorAll('*')].filter(e => e.getClientRects().length
      && !e.closest('label:has(:disabled)')
      && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
    const ground = below(e), a = light(over(ink(e), ground)), b = light(ground);
    return [e.textContent.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
}"""


def test_the_first_run_leads_to_a_search(visit_at: Visitor, index: Path, tmp_path: Path) -> None:
    root = tmp_path / "index"
    with serving(root) as url:
        visit = visit_at(url)
        expect(visit.page.get_by_text(f"indexer build starter --index {root}")).to_be_visible()
        visit.picture("first-run")
        shutil.copytree(index, root)
        visit.press("Look again")
        papers = LANDMARKS + 1 + len(PAYLOADS)
        visit.ask(SENTENCE)
        visit.expect_hits(10)
        expect(visit.page.get_by_text(f"{papers} papers searched in")).to_be_visible()
        assert ATTENTION in visible_text(visit.titles.first)
