"""The manuscript pass: suggestions, choices by key, and files written with nothing but the marks changed."""

import difflib
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pybtex.database
import pytest
from click.testing import Result
from conftest import ROOT, environment
from drafts import MARKDOWN, REFERENCES, write_draft, write_landmarks, write_markdown

from data.errors import UserError
from indexer.build import build
from indexer.cite import Choice, Suggestion, accept_above, changes, choose, open_draft, suggest, write
from indexer.search import Searcher
from indexer.settings import Settings
from model.encoder import Encoder

Invoke = Callable[..., Result]
EXPECTED = {  # the first paper for each mark of the LaTeX draft that has its words to itself
    "main.tex:20": "arxiv:1412.6980",
    "main.tex:31": "arxiv:1312.6114",
    "introduction.tex:5": "doi:10.1109/CVPR.2016.90",
}


@pytest.fixture(scope="session")
def landmarks(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the landmarks; searched by words, since the tiny encoder's vectors mean nothing."""
    root = tmp_path_factory.mktemp("landmarks")
    build(str(write_landmarks(root / "corpus.jsonl")), root / "index", tiny)
    return root / "index"


@pytest.fixture
def words(landmarks: Path) -> Searcher:
    return Searcher(Settings(index=landmarks, ranking="bm25"))


@pytest.fixture
def run(invoke: Invoke, landmarks: Path) -> Invoke:
    """The command on the landmarks, ranked by words."""

    def cite(*arguments: object) -> Result:
        return invoke("cite", *arguments, "--index", landmarks, "--ranking", "bm25")

    return cite


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def removed_and_added(old: bytes, new: bytes) -> list[tuple[bytes, bytes]]:
    """What two files differ in, character by character."""
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [(old[a:b], new[c:d]) for kind, a, b, c, d in blocks if kind != "equal"]


def test_every_mark_gets_papers_and_none_that_its_command_cites(words: Searcher, tmp_path: Path) -> None:
    draft, libraries = open_draft(write_draft(tmp_path))
    suggestions = suggest(draft, libraries, words, 3)
    assert all(len(s.hits) <= 3 for s in suggestions)
    first = {s.mark.place.split("/")[-1]: s.hits[0].paper.paper_id for s in suggestions}
    assert {place: first[place] for place in EXPECTED} == EXPECTED
    beside = next(s for s in suggestions if s.mark.beside)
    assert "arxiv:1706.03762" not in [hit.paper.paper_id for hit in beside.hits]


def test_only_papers_that_pass_the_filter_are_suggested(run: Invoke, tmp_path: Path) -> None:
    main = write_draft(tmp_path)
    marks = json.loads(run(main, "--until", "2016", "--json").stdout)["marks"]
    years = [hit["year"] for mark in marks for hit in mark["hits"]]
    assert years
    assert max(years) <= 2016
    assert run(main, "--until", "1900").exit_code == 0


def test_a_draft_is_cited_in_a_batch_and_only_its_marks_change(run: Invoke, tmp_path: Path) -> None:
    main = write_draft(tmp_path)
    (tmp_path / "main.tex").chmod(0o640)
    before = contents(tmp_path)
    shown = run(main, "--accept-above", "0.5", "--write")
    assert shown.exit_code == 0, shown.output
    after = contents(tmp_path)
    for name in before:
        assert after[f"{name}.bak"] == before[name]
    assert set(after) == set(before) | {f"{name}.bak" for name in before}
    assert stat.S_IMODE((tmp_path / "main.tex").stat().st_mode) == 0o640

    assert after["main.tex"] == before["main.tex"].replace(
        b"Sec.~2]{TODO}", b"Sec.~2]{kingma2014adam}"
    ).replace(b"dropout \\seecite{}", b"dropout \\seecite{hinton2012improving}").replace(
        b"\\todo{cite}", b"\\citep{kingma2013auto}"
    )
    introduction = after["sections/introduction.tex"]
    assert b"na\xefvely put.\r\n" in introduction
    assert b"\\citet{devlin2019bert} pre-trained" in introduction
    assert b"connections \\citep{resnet} ease" in introduction  # the key that the .bib file has
    assert b"\n" not in introduction.replace(b"\r\n", b"")

    library = after["references.bib"]
    assert library.startswith(REFERENCES.encode())
    keys = list(pybtex.database.parse_string(library.decode(), "bibtex").entries)
    assert len(keys) == len({key.lower() for key in keys})
    assert keys[:2] == ["vaswani2017attention", "resnet"]
    assert {"kingma2014adam", "kingma2013auto", "hinton2012improving", "devlin2019bert"} <= set(keys)
    titles = [
        e.fields["title"] for e in pybtex.database.parse_string(library.decode(), "bibtex").entries.values()
    ]
    assert sum("esidual" in title for title in titles) == 1


def test_a_second_round_finds_nothing_to_do(run: Invoke, tmp_path: Path) -> None:
    main = write_draft(tmp_path)
    run(main, "--accept-above", "0", "--write")
    done = contents(tmp_path)
    again = run(main, "--accept-above", "0", "--write")
    assert again.exit_code == 0
    assert "no mark" in again.output
    assert contents(tmp_path) == done


def test_a_markdown_draft_is_cited(run: Invoke, tmp_path: Path) -> None:
    paper = write_markdown(tmp_path)
    shown = run(paper, "--accept-above", "0", "--write", "--key-style", "acl")
    assert shown.exit_code == 0, shown.output
    text = paper.read_text()
    changed = removed_and_added(MARKDOWN.encode(), paper.read_bytes())
    assert b"".join(old for old, _ in changed).strip(b"[CITE](OD)?") == b""
    assert "representations [see @devlin-chang-2019-bert, p. 4].\n\n@resnet ease" in text
    assert "dropout [@hinton-2012-improving]." in text
    assert "The mark is `[CITE]`. <!-- [@?] is commented out --> A [cite](https://x.org/a) is a link." in text


def test_without_write_nothing_changes_and_the_diff_is_shown(run: Invoke, tmp_path: Path) -> None:
    main = write_draft(tmp_path)
    before = contents(tmp_path)
    shown = run(main, "--accept-above", "0.5")
    assert contents(tmp_path) == before
    lines = shown.stdout.splitlines()
    minus = [line for line in lines if line.startswith("-") and not line.startswith("---")]
    assert minus
    assert all(any(mark in line for mark in ("TODO", "{}", "todo", "?", "[")) for line in minus)
    assert "+  title = {{Adam}" in shown.stdout.replace("\t", "  ") or "Adam" in shown.stdout
    assert "add --write to write this" in shown.stderr
    listed = run(main, "-k", "2")
    assert contents(tmp_path) == before
    assert "in references.bib as resnet" in listed.stdout
    assert "8 marks; add --write to be asked about each" in listed.stderr


def test_the_result_as_json(run: Invoke, tmp_path: Path) -> None:
    main = write_draft(tmp_path)
    shown = run(main, "--json", "-k", "2", "--accept-above", "0.5")
    answer = json.loads(shown.stdout)
    assert answer["draft"]["title"] == "Citer: Where a Citation Belongs"
    assert len(answer["marks"]) == 8
    mark = answer["marks"][0]
    assert (Path(mark["file"]).name, mark["line"], mark["mark"]) == ("main.tex", 20, "TODO")
    assert mark["hits"][0]["paper_id"] == "arxiv:1412.6980"
    assert mark["hits"][0]["key"] is None
    assert len(mark["hits"]) == 2
    assert main.read_text()[mark["start"] : mark["stop"]] == "TODO"
    assert {row["paper_ids"][0] for row in answer["accepted"]} >= {"arxiv:1412.6980", "acl:N19-1423"}
    assert answer["backups"] == []
    assert any(line.startswith("+") and "kingma2014adam" in line for line in answer["changes"])


def test_a_placeholder_that_is_a_key_is_a_citation(words: Searcher, tmp_path: Path) -> None:
    main = tmp_path / "main.tex"
    main.write_text(r"As shown \cite{key} and \cite{missing}. \bibliography{b}")
    (tmp_path / "b.bib").write_text("@misc{key, title={A title}}")
    draft, libraries = open_draft(main)
    assert [s.mark.placeholder for s in suggest(draft, libraries, words)] == ["missing"]


def test_the_draft_itself_is_not_suggested(words: Searcher, tmp_path: Path) -> None:
    main = tmp_path / "main.tex"
    main.write_text(r"\title{Attention is all you need} Self-attention for images without recurrence [CITE].")
    draft, libraries = open_draft(main)
    (suggestion,) = suggest(draft, libraries, words)
    assert suggestion.hits
    assert all(hit.paper.paper_id != "arxiv:1706.03762" for hit in suggestion.hits)


def test_a_mark_without_words_gets_no_paper(words: Searcher, tmp_path: Path) -> None:
    main = tmp_path / "main.tex"
    main.write_text("[CITE]\n\nSelf-attention [CITE].")
    draft, libraries = open_draft(main)
    assert [bool(s.hits) for s in suggest(draft, libraries, words)] == [False, True]


@pytest.fixture
def suggestions(words: Searcher, tmp_path: Path) -> list[Suggestion]:
    draft, libraries = open_draft(write_draft(tmp_path))
    return suggest(draft, libraries, words, 3)


def chosen(suggestions: list[Suggestion], keys: str) -> tuple[list[Choice], list[str], list[str]]:
    """The choices of a person who presses these keys, what was shown, and what was opened."""
    pressed, shown, opened = iter(keys), list[str](), list[str]()
    choices = choose(suggestions, [], lambda: next(pressed), shown.append, opened.append)
    assert list(pressed) == []
    return choices, shown, opened


def test_one_key_accepts_and_one_skips(suggestions: list[Suggestion]) -> None:
    choices, _, _ = chosen(suggestions[:3], "1s1")
    assert [(c.mark, c.papers) for c in choices] == [
        (suggestions[0].mark, (suggestions[0].hits[0].paper,)),
        (suggestions[2].mark, (suggestions[2].hits[0].paper,)),
    ]


def test_several_papers_back_and_finish(suggestions: list[Suggestion]) -> None:
    choices, _, _ = chosen(suggestions, "+1+12" + "1b3" + "q")
    assert [len(choice.papers) for choice in choices] == [2, 1]
    assert choices[1].papers == (suggestions[1].hits[2].paper,)


def test_a_paper_is_opened_or_read_before_it_is_chosen(suggestions: list[Suggestion]) -> None:
    choices, shown, opened = chosen(suggestions[:1], "o1a1x9\r")
    assert opened == ["https://arxiv.org/abs/1412.6980"]
    assert any("stochastic objectives" in line for line in shown)
    assert sum(line.startswith("1-9 accept") for line in shown) == 3  # at first, after x and after 9
    assert choices == []


def test_files_that_changed_meanwhile_are_left_alone(words: Searcher, tmp_path: Path) -> None:
    main = write_draft(tmp_path)
    draft, libraries = open_draft(main)
    choices = accept_above(suggest(draft, libraries, words), 0)
    made = changes(draft, libraries, choices)
    (tmp_path / "sections" / "method.tex").write_text("the author went on")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"method\.tex was changed since it was read"):
        write(made)
    assert contents(tmp_path) == before


def test_older_backups_are_kept_and_links_stay_links(words: Searcher, tmp_path: Path) -> None:
    real = tmp_path / "real.tex"
    real.write_text("Self-attention without recurrence [CITE]. \\bibliography{new}")
    (tmp_path / "real.tex.bak").write_text("older")
    link = tmp_path / "main.tex"
    link.symlink_to(real)
    draft, libraries = open_draft(link)
    backups = write(changes(draft, libraries, accept_above(suggest(draft, libraries, words), 0)))
    assert backups == [tmp_path / "real.tex.bak2"]
    assert link.is_symlink()
    assert "\\cite{vaswani2017attention}" in real.read_text()
    assert (tmp_path / "real.tex.bak").read_text() == "older"
    assert (tmp_path / "new.bib").read_text().startswith("@misc{vaswani2017attention,")


def test_two_marks_with_one_paper_make_one_entry(run: Invoke, tmp_path: Path) -> None:
    main = tmp_path / "main.tex"
    main.write_text(
        "Self-attention without recurrence [CITE].\n\nSelf-attention again, no recurrence \\cite{}."
    )
    shown = run(main, "--bib", tmp_path / "a.bib", "--accept-above", "0", "--write")
    assert shown.exit_code == 0, shown.output
    assert main.read_text().count("\\cite{vaswani2017attention}") == 2
    assert (tmp_path / "a.bib").read_text().count("@misc") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--write",), "--write asks about each mark in a terminal; in a script add --accept-above SCORE"),
        (("--accept-above", "0"), "names no .bib file for the entries; add --bib refs.bib"),
    ],
)
def test_a_fault_is_one_line(run: Invoke, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "main.tex").write_text("Self-attention without recurrence [CITE].")
    shown = run(tmp_path / "main.tex", *arguments)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("indexer: ")
    assert shown.stderr.count("\n") == 1
    assert message in shown.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_person_cites_in_a_real_terminal(landmarks: Path, tmp_path: Path) -> None:
    main = write_draft(tmp_path)
    arguments = [
        "-m",
        "indexer",
        "cite",
        str(main),
        "--write",
        "--index",
        str(landmarks),
        "--ranking",
        "bm25",
    ]
    variables = {"TERM": "dumb", "BROWSER": "true", "PYTHONPATH": str(ROOT)}
    child = pexpect.spawn(
        sys.executable, arguments, env=environment(**variables), cwd=str(tmp_path), encoding="utf-8",
        timeout=120, dimensions=(50, 200),
    )  # fmt: skip
    child.expect("1 of 8")
    child.expect("Adam: A Method for Stochastic Optimization")
    child.expect("1-9 accept")
    child.send("1")
    child.expect("2 of 8")
    child.expect("1-9 accept")
    child.send("s")
    child.expect("3 of 8")
    child.expect("1-9 accept")
    child.send("q")
    child.expect("wrote .*references.bib")
    child.expect("1 of 8 marks cited")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "Sec.~2]{kingma2014adam}" in main.read_text()
    assert main.read_text().count("\\todo{cite}") == 1
    assert "@misc{kingma2014adam," in (tmp_path / "references.bib").read_text()


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("bibtex", "@misc{vaswani2017attention,"),
        ("ris", "TY  - UNPB"),
        ("csl-json", '[\n {\n  "id": "vaswani'),
    ],
)
def test_papers_are_exported_by_id(invoke: Invoke, landmarks: Path, form: str, start: str) -> None:
    shown = invoke(
        "export", "1706.03762v2", "doi:10.1109/cvpr.2016.90", "--format", form, "--index", landmarks
    )
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(start)
    assert "Deep Residual Learning" in shown.stdout


def test_a_paper_that_is_no_record_is_not_exported(invoke: Invoke, landmarks: Path) -> None:
    shown = invoke("export", "2001.00001", "--index", landmarks)
    assert shown.exit_code == 1
    assert "has no paper arxiv:2001.00001" in shown.stderr
    assert shown.stdout == ""
