r"""The language server: marks of a draft are diagnostics whose quick fixes are the papers to cite.

In LaTeX and Markdown, `[CITE]`, `\cite{}` left empty and their like (see data.manuscript) are told;
inside of `\cite{…}` and `[@…]` completion offers papers by the meaning of the sentence; hovering over
a key shows the abstract. What is accepted goes into the draft's .bib file with it.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path
from pygls.workspace import TextDocument

from data.clean import text as clean
from data.contexts import MAX_QUERY, Context, parse
from data.errors import UserError
from data.library import Bibliography, keys_for, parse_bibliography, read_bibliography, with_entries
from data.manuscript import LATEX, MARKDOWN, Draft, Mark, Source, parse_draft
from data.matching import same_paper
from data.paper import Paper
from data.release import release
from indexer.search import Hit, Searcher, UnknownPaper

SUGGESTED = 5
ADD_ENTRY = "citemark.addEntry"
PAUSE = 0.3  # seconds without a keystroke before a draft is read again
REMEMBERED = 256  # contexts whose hits are kept
_PARTIAL = re.compile(
    r"(?:\\[A-Za-z]*cite[A-Za-z]*\*?\s*(?:\[[^][]*\]\s*){0,2}\{(?:[^{}]*,)?\s*|(?<![\w@])@)(?P<key>[^\s{},@;\]]*)\Z"
)


@dataclass(frozen=True)
class Writing:
    """An open draft as it stands: its document, what is in it, and its .bib file."""

    document: TextDocument
    draft: Draft
    library: Bibliography

    def place(self, start: int, stop: int) -> lsp.Range:
        """The range of a span of the text."""
        position = self.document.client_position_at_offset
        return lsp.Range(position(start), position(stop))


class Citemark(LanguageServer):
    """The server and what its requests share."""

    def __init__(self, searcher: Searcher) -> None:
        super().__init__("citemark", release())
        self.searcher = searcher
        self._found: OrderedDict[tuple[str, str], list[Hit]] = OrderedDict()
        self._waiting: dict[str, asyncio.Task[None]] = {}

    def writing(self, uri: str) -> Writing | None:
        """The open draft of an address; None for what is no draft."""
        path = to_fs_path(uri)
        if path is None or Path(path).suffix.lower() not in LATEX + MARKDOWN:
            return None
        document = self.workspace.get_text_document(uri)
        draft = parse_draft([Source(Path(path), document.source)])
        return Writing(document, draft, self.library(draft))

    def library(self, draft: Draft) -> Bibliography:
        """The .bib file of a draft: the first that it names, else the only one of its folder."""
        folder = draft.sources[0].path.parent
        others = sorted(folder.glob("*.bib"))
        beside = others[0] if len(others) == 1 else folder / "references.bib"
        path = draft.bibliographies[0] if draft.bibliographies else beside
        opened = self.workspace.text_documents.get(from_fs_path(str(path)) or "")
        return parse_bibliography(Source(path, opened.source)) if opened else read_bibliography(path)

    async def hits(self, context: Context) -> list[Hit]:
        """The papers for a context, at most SUGGESTED."""
        text = clean(context.text)[-MAX_QUERY:]
        key = (self.searcher.snapshot.path.name, text)
        if key not in self._found:
            try:
                found = await asyncio.to_thread(lambda: self.searcher.search(parse(text)[:1], SUGGESTED)[0])
            except UserError as error:  # a mark without a word around it, or an index that cannot be used
                self.window_log_message(lsp.LogMessageParams(lsp.MessageType.Warning, str(error)))
                return []
            self._found[key] = found
            while len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
        return self._found[key]

    def read_soon(self, uri: str) -> None:
        """Tell the marks of a draft, once the writer pauses."""
        waiting = self._waiting.pop(uri, None)
        if waiting:
            waiting.cancel()
        self._waiting[uri] = asyncio.get_running_loop().create_task(self._read(uri))

    async def _read(self, uri: str) -> None:
        await asyncio.sleep(PAUSE)
        self._waiting.pop(uri, None)
        writing = self.writing(uri)
        marks = writing.draft.marks if writing else ()
        found = [_diagnostic(writing, mark) for mark in marks if writing]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, found))

    def creates_files(self) -> bool:
        """Whether the editor can make a new file as part of an edit."""
        edits = self.client_capabilities.workspace and self.client_capabilities.workspace.workspace_edit
        kinds = (edits.resource_operations if edits else None) or ()
        return bool(edits and edits.document_changes) and lsp.ResourceOperationKind.Create in kinds


def _diagnostic(writing: Writing, mark: Mark) -> lsp.Diagnostic:
    return lsp.Diagnostic(
        range=writing.place(mark.start, mark.stop),
        message="A citation is missing here.",
        severity=lsp.DiagnosticSeverity.Information,
        source="citemark",
        code="missing-citation",
    )


def create_server(searcher: Searcher) -> Citemark:
    """The language server over a Searcher."""
    server = Citemark(searcher)

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    async def opened(ls: Citemark, params: lsp.DidOpenTextDocumentParams) -> None:
        ls.read_soon(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(ls: Citemark, params: lsp.DidChangeTextDocumentParams) -> None:
        ls.read_soon(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    async def closed(ls: Citemark, params: lsp.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        ls.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))

    kinds = lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix])

    @server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, kinds)
    async def code_actions(ls: Citemark, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        return await _code_actions(ls, params)

    triggers = lsp.CompletionOptions(trigger_characters=["{", ",", "@"])

    @server.feature(lsp.TEXT_DOCUMENT_COMPLETION, triggers)
    async def completion(ls: Citemark, params: lsp.CompletionParams) -> lsp.CompletionList:
        return await _completions(ls, params)

    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    async def hover(ls: Citemark, params: lsp.HoverParams) -> lsp.Hover | None:
        return await _hover(ls, params)

    @server.command(ADD_ENTRY)
    async def add_entry(ls: Citemark, uri: str, paper_id: str) -> None:
        await _add_entry(ls, uri, paper_id)

    return server


async def _code_actions(ls: Citemark, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
    """The papers for each mark that the range touches, as edits of draft and .bib file."""
    writing = ls.writing(params.text_document.uri)
    if writing is None:
        return []
    start = writing.document.offset_at_position(params.range.start)
    stop = writing.document.offset_at_position(params.range.end)
    actions = []
    for mark in writing.draft.marks:
        if mark.start <= stop and start <= mark.stop:
            hits = await ls.hits(mark.context)
            keys = keys_for([hit.paper for hit in hits], [writing.library])
            for hit in hits:
                edit, command = _accepted(ls, writing, mark, hit.paper, keys[hit.paper.paper_id])
                action = lsp.CodeAction(
                    title=f"Cite {_named(hit.paper)}",
                    kind=lsp.CodeActionKind.QuickFix,
                    diagnostics=[_diagnostic(writing, mark)],
                    is_preferred=hit.rank == 1,
                    edit=edit,
                    command=command,
                )
                actions.append(action)
    return actions


def _accepted(
    ls: Citemark, writing: Writing, mark: Mark, paper: Paper, key: str
) -> tuple[lsp.WorkspaceEdit, lsp.Command | None]:
    """The edit that fills a mark and adds the entry; a command for the entry where the editor cannot."""
    uri = writing.document.uri
    filled = lsp.TextEdit(writing.place(mark.start, mark.stop), f"{mark.before}{key}{mark.after}")
    if writing.library.key_of(paper):
        return lsp.WorkspaceEdit(changes={uri: [filled]}), None
    if not writing.library.path.exists() and not ls.creates_files():
        return lsp.WorkspaceEdit(changes={uri: [filled]}), _command(writing, paper)
    entry = _entry_edit(ls, writing.library, paper, key)
    if entry.changes:
        return lsp.WorkspaceEdit(changes={uri: [filled]} | dict(entry.changes)), None
    versioned = lsp.OptionalVersionedTextDocumentIdentifier(uri, writing.document.version)
    first = lsp.TextDocumentEdit(versioned, [filled])
    return lsp.WorkspaceEdit(document_changes=[first, *(entry.document_changes or ())]), None


def _entry_edit(ls: Citemark, library: Bibliography, paper: Paper, key: str) -> lsp.WorkspaceEdit:
    """The entry at the end of the .bib file, which is made where there is none yet."""
    old, new = library.source.text, with_entries(library, [(paper, key)]).text
    uri = from_fs_path(str(library.path)) or ""
    lines = old.split("\n")
    end = lsp.Position(len(lines) - 1, len(lines[-1].encode("utf-16-le")) // 2)
    added = lsp.TextEdit(lsp.Range(end, end), new[len(old) :])
    if library.path.exists():
        return lsp.WorkspaceEdit(changes={uri: [added]})
    made = lsp.CreateFile(uri, options=lsp.CreateFileOptions(ignore_if_exists=True))
    unversioned = lsp.OptionalVersionedTextDocumentIdentifier(uri, None)
    return lsp.WorkspaceEdit(document_changes=[made, lsp.TextDocumentEdit(unversioned, [added])])


def _command(writing: Writing, paper: Paper) -> lsp.Command:
    return lsp.Command("Add the entry", ADD_ENTRY, arguments=[writing.document.uri, paper.paper_id])


async def _add_entry(ls: Citemark, uri: str, paper_id: str) -> None:
    """Put the entry of a paper into the .bib file of a draft, unless it is there."""
    writing = ls.writing(uri)
    if writing is None:
        return
    try:
        paper = ls.searcher.paper(paper_id)
        key = keys_for([paper], [writing.library])[paper_id]
        if writing.library.key_of(paper):
            return
        if not writing.library.path.exists() and not ls.creates_files():
            writing.library.path.write_bytes(with_entries(writing.library, [(paper, key)]).content)
            return
        edit = _entry_edit(ls, writing.library, paper, key)
    except (UserError, OSError) as error:
        ls.window_show_message(lsp.ShowMessageParams(lsp.MessageType.Error, str(error)))
        return
    await ls.workspace_apply_edit_async(lsp.ApplyWorkspaceEditParams(edit, "Add the entry"))


async def _completions(ls: Citemark, params: lsp.CompletionParams) -> lsp.CompletionList:
    """Papers by the meaning of the sentence, where a key is being written."""
    none = lsp.CompletionList(is_incomplete=False, items=[])
    writing = ls.writing(params.text_document.uri)
    if writing is None:
        return none
    at = writing.document.offset_at_position(params.position)
    text = writing.document.source
    partial = _PARTIAL.search(text, max(0, text.rfind("\n\n", 0, at)), at)
    if partial is None:
        return none
    mark = _open_mark(writing.draft.sources[0], partial.start("key"), at)
    if mark is None:
        return none
    hits = await ls.hits(mark.context)
    keys = keys_for([hit.paper for hit in hits], [writing.library])
    place = writing.place(partial.start("key"), at)
    items = [_item(writing, hit, keys[hit.paper.paper_id], place, partial["key"]) for hit in hits]
    return lsp.CompletionList(is_incomplete=True, items=items)


def _open_mark(source: Source, start: int, stop: int) -> Mark | None:
    """The mark that the draft would have, were the key that is being written a `?`."""
    text = source.text
    rest = text[stop:].split("\n", 1)[0]
    closing = "}" if not source.markdown and not re.match(r"[^{}]*\}", rest) else ""
    asked = Source(source.path, f"{text[:start]}?{closing}{text[stop:]}")
    return next((mark for mark in parse_draft([asked]).marks if mark.start <= start <= mark.stop), None)


def _item(writing: Writing, hit: Hit, key: str, place: lsp.Range, typed: str) -> lsp.CompletionItem:
    paper = hit.paper
    known = writing.library.key_of(paper) is not None
    return lsp.CompletionItem(
        label=key,
        label_details=lsp.CompletionItemLabelDetails(description=_named(paper)),
        kind=lsp.CompletionItemKind.Reference,
        detail=paper.title,
        documentation=lsp.MarkupContent(lsp.MarkupKind.PlainText, _described(paper)),
        sort_text=f"{hit.rank:04}",
        filter_text=typed or key,
        text_edit=lsp.TextEdit(place, key),
        command=None if known else _command(writing, paper),
        data=paper.paper_id,
    )


async def _hover(ls: Citemark, params: lsp.HoverParams) -> lsp.Hover | None:
    """What the paper of a cited key is about, from the corpus or else from the .bib file."""
    writing = ls.writing(params.text_document.uri)
    if writing is None:
        return None
    at = writing.document.offset_at_position(params.position)
    span = _key_at(writing.document.source, at)
    key = writing.document.source[slice(*span)]
    cited = {key for citation in writing.draft.citations for key in citation.keys}
    cited |= {key for mark in writing.draft.marks for key in mark.beside}
    entry = writing.library.entry(key) if key in cited else None
    if entry is None:
        return None
    paper = await asyncio.to_thread(_of_corpus, ls.searcher, entry.paper)
    shown = lsp.MarkupContent(lsp.MarkupKind.PlainText, f"{paper.title}\n{_described(paper)}")
    return lsp.Hover(shown, writing.place(*span))


def _key_at(text: str, at: int) -> tuple[int, int]:
    """The span of the citation key around a place."""
    before = re.search(r"[^\s{},@;\[\]()]*\Z", text[max(0, at - 200) : at])
    after = re.match(r"[^\s{},@;\[\]()]*", text[at : at + 200])
    return at - len(before[0] if before else ""), at + len(after[0] if after else "")


def _of_corpus(searcher: Searcher, paper: Paper) -> Paper:
    """The corpus's record of a paper of a .bib file, found by id or title, else the paper itself."""
    try:
        return searcher.paper(paper.paper_id)
    except UnknownPaper:
        found: Sequence[Hit] = searcher.search([Context(paper.title)], SUGGESTED, "bm25")[0]
        return next((hit.paper for hit in found if same_paper(hit.paper, paper)), paper)


def _named(paper: Paper) -> str:
    """Author, year and title, in one line."""
    author = paper.authors[0].split()[-1] if paper.authors else ""
    more = " et al." if len(paper.authors) > 1 else ""
    who = " ".join(part for part in (author + more, str(paper.year or "")) if part)
    return f"{who}: {paper.title}" if who else paper.title


def _described(paper: Paper) -> str:
    facts = [", ".join(paper.authors), paper.venue, str(paper.year or ""), paper.url or ""]
    return "\n\n".join(part for part in (" · ".join(f for f in facts if f), paper.abstract) if part)
