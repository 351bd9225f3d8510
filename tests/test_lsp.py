"""The language server as a process, spoken to by an LSP client over stdio as an editor does."""

from pathlib import Path
from urllib.parse import unquote, urlparse

import pybtex.database
import pytest
from door_servers import Editor
from lsprotocol import types as lsp

from data.bibliography import bibtex
from data.keys import citation_key
from indexer.search import Searcher
from indexer.settings import Settings
from model.encoder import Encoder

pytest_plugins = ["door_servers"]

LATEX = r"""\documentclass{article}
\begin{document}
% a comment with [CITE]
Self-play with tree search [CITE] masters Go and chess.

Naïve 𝒳 models rank passages sparsely \cite{}.
\bibliography{refs}
\end{document}
"""
MARKDOWN = """---
bibliography: refs.bib
---
Self-play with tree search [CITE] masters Go and chess. `[CITE]` is code.
"""


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "draft.tex"
    path.write_text(LATEX, encoding="utf-8")
    return path


def offset(text: str, at: lsp.Position) -> int:
    """The place of an LSP position, whose characters are units of UTF-16, in a text."""
    lines = text.split("\n")
    before = lines[at.line].encode("utf-16-le")[: 2 * at.character].decode("utf-16-le")
    return sum(len(line) + 1 for line in lines[: at.line]) + len(before)


def edited(text: str, edits: list[lsp.TextEdit]) -> str:
    for edit in sorted(edits, key=lambda edit: offset(text, edit.range.start), reverse=True):
        start, stop = offset(text, edit.range.start), offset(text, edit.range.end)
        text = text[:start] + edit.new_text + text[stop:]
    return text


def apply(edit: lsp.WorkspaceEdit) -> None:
    """A workspace edit, done to the files as an editor that saves does it."""

    def path_of(uri: str) -> Path:
        return Path(unquote(urlparse(uri).path))

    for uri, edits in (edit.changes or {}).items():
        old = path_of(uri).read_bytes().decode()
        path_of(uri).write_bytes(edited(old, list(edits)).encode())
    for change in edit.document_changes or ():
        if isinstance(change, lsp.CreateFile):
            path_of(change.uri).touch()
        else:
            assert isinstance(change, lsp.TextDocumentEdit)
            path = path_of(change.text_document.uri)
            edits = [e for e in change.edits if isinstance(e, lsp.TextEdit)]
            path.write_bytes(edited(path.read_bytes().decode(), edits).encode())


def test_every_mark_is_a_diagnostic_in_its_place(editor: Editor, draft: Path) -> None:
    uri = editor.open(draft)
    marks = editor.marks(uri, 2)
    spans = [LATEX[offset(LATEX, m.range.start) : offset(LATEX, m.range.end)] for m in marks]
    assert spans[0] == "[CITE]"
    assert r"\cite{}".endswith(spans[1] + "}") or spans[1] == r"\cite{}"
    assert {mark.source for mark in marks} == {"citemark"}
    editor.change(uri, LATEX.replace("[CITE] masters", "masters"))
    editor.marks(uri, 1)


def test_accepting_a_paper_fills_the_mark_and_makes_the_bib_file(editor: Editor, draft: Path) -> None:
    uri = editor.open(draft)
    mark = editor.marks(uri, 2)[0]
    actions = editor.actions(uri, mark.range)
    assert len(actions) == 5
    assert actions[0].is_preferred
    assert actions[0].kind == lsp.CodeActionKind.QuickFix
    assert actions[0].edit
    apply(actions[0].edit)
    library = draft.with_name("refs.bib")
    (key,) = pybtex.database.parse_file(str(library), "bibtex").entries
    filled = LATEX.replace("[CITE] masters", rf"\cite{{{key}}} masters")
    assert draft.read_text(encoding="utf-8") == filled
    assert actions[0].title.startswith("Cite ")


def test_a_second_paper_goes_after_the_first_and_a_known_one_is_not_added_again(
    editor: Editor, draft: Path, small_index: Path, tiny: Encoder
) -> None:
    known = Searcher(Settings(small_index, "cpu"), tiny).paper("games-10")
    library = draft.with_name("refs.bib")
    library.write_text(bibtex(known, "mykey"), encoding="utf-8")
    uri = editor.open(draft)
    for action in editor.actions(uri, editor.marks(uri, 2)[0].range):
        assert action.edit
        changes = dict(action.edit.changes or {})
        if known.title in action.title:
            assert list(changes) == [uri]
            assert r"\cite{mykey}" in changes[uri][0].new_text
        else:
            assert set(changes) == {uri, library.as_uri()}
    other = next(a for a in editor.actions(uri, editor.marks(uri, 2)[0].range) if known.title not in a.title)
    assert other.edit
    apply(other.edit)
    assert len(pybtex.database.parse_file(str(library), "bibtex").entries) == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (r"Sparse retrieval ranks passages \cite{", "}."),
        (r"Sparse retrieval ranks passages \citep[see][]{devlin2019bert, spa", "} well."),
        (r"Sparse retrieval ranks passages \cite{spa", ""),
    ],
)
def test_completion_inside_of_cite_is_by_meaning(
    before: str, after: str, editor: Editor, tmp_path: Path
) -> None:
    path = tmp_path / "short.tex"
    path.write_text(f"Ünïcode 𝒳 first.\n\n{before}{after}\n", encoding="utf-8")
    uri = editor.open(path)
    items = editor.complete(uri, 2, len(before))
    assert len(items) == 5
    assert [item.sort_text for item in items] == sorted(str(item.sort_text) for item in items)
    typed = before.rsplit("{")[-1].rsplit(" ")[-1]
    for item in items:
        assert isinstance(item.text_edit, lsp.TextEdit)
        assert item.text_edit.new_text == item.label
        assert item.text_edit.range.end.character - item.text_edit.range.start.character == len(typed)
        assert item.detail
    assert editor.complete(uri, 0, 3) == []


def test_accepting_a_completion_adds_the_entry(editor: Editor, draft: Path) -> None:
    uri = editor.open(draft)
    line = LATEX.split("\n")[5]
    column = len(line[: line.index(r"\cite{") + 6].encode("utf-16-le")) // 2
    item = editor.complete(uri, 5, column)[0]
    assert item.command
    (edit,) = editor.execute(item.command)
    apply(edit)
    library = draft.with_name("refs.bib")
    assert list(pybtex.database.parse_file(str(library), "bibtex").entries) == [item.label]
    assert editor.execute(item.command) == []  # it is there
    again = editor.complete(uri, 5, column)[0]
    assert (again.label, again.command) == (item.label, None)


def test_markdown_has_marks_completion_and_its_own_form(editor: Editor, tmp_path: Path) -> None:
    path = tmp_path / "draft.md"
    path.write_text(MARKDOWN, encoding="utf-8")
    uri = editor.open(path)
    (mark,) = editor.marks(uri, 1)
    action = editor.actions(uri, mark.range)[0]
    assert action.edit
    apply(action.edit)
    (key,) = pybtex.database.parse_file(str(path.with_name("refs.bib")), "bibtex").entries
    assert f"search [@{key}] masters" in path.read_text(encoding="utf-8")
    typed = "Self-play with tree search [@"
    editor.change(uri, f"{typed}]\n")
    assert len(editor.complete(uri, 0, len(typed))) == 5


def test_hovering_over_a_key_shows_the_abstract_of_the_corpus(
    editor: Editor, draft: Path, small_index: Path, tiny: Encoder
) -> None:
    paper = Searcher(Settings(small_index, "cpu"), tiny).paper("games-10")
    draft.with_name("refs.bib").write_text(bibtex(paper), encoding="utf-8")
    uri = editor.open(draft)
    key = citation_key(paper)
    editor.change(uri, f"Play \\cite{{{key}, nobody}}.\n")
    shown = editor.hover(uri, 0, 14)
    assert shown
    assert paper.title in shown
    assert paper.abstract in shown
    assert editor.hover(uri, 0, 14 + len(key)) is None
    assert editor.hover(uri, 0, 1) is None


def test_other_files_are_left_alone(editor: Editor, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("A text [CITE].\n")
    uri = editor.open(path)
    assert editor.marks(uri, 0) == []
    everything = lsp.Range(lsp.Position(0, 0), lsp.Position(0, 10))
    assert editor.actions(uri, everything) == []
    assert editor.complete(uri, 0, 8) == []
    assert editor.hover(uri, 0, 3) is None
