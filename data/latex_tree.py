"""Papers as LaTeX sources, as arXiv gives them: a folder, a .tar.gz or a .gz of each, to documents.

Nothing is unpacked or run: files are read into memory, \\input and \\include are followed inside of the
tree, and pylatexenc turns the paragraphs with citations into text.
"""

import gzip
import io
import logging
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import bibtexparser
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec
from pylatexenc.latex2text import get_default_latex_context_db as text_macros
from pylatexenc.latexwalker import LatexWalker
from pylatexenc.latexwalker import get_default_latex_context_db as walker_macros
from pylatexenc.macrospec import MacroSpec

from data.citing import Citation, Document, Reference, reference_of
from data.clean import Rejected
from data.errors import UserError
from data.identifiers import arxiv_id, arxiv_year

logging.getLogger("pylatexenc").setLevel(logging.CRITICAL)
MAX_TREE = 16 << 20  # bytes of text of one paper
_TEXT = (".tex", ".ltx", ".bib", ".bbl")
_ARCHIVES = (".gz", ".tgz", ".tar")
_CITES = (
    *("cite", "citep", "citet", "citealp", "citealt", "Citep", "Citet", "parencite", "textcite", "autocite"),
    *("Parencite", "Textcite", "Autocite", "footcite", "smartcite", "supercite", "shortcite", "newcite"),
    *(
        "citeA",
        "citeN",
        "onlinecite",
        "citenum",
        "citeps",
        "citetalias",
        "citepalias",
        "cites",
        "possessivecite",
    ),
)
_NAMES = ("citeauthor", "citeyear", "citeyearpar", "Citeauthor", "citeauthornum")
_DROPPED = ("ref", "eqref", "cref", "Cref", "autoref", "label", "footnote", "footnotetext", "nocite")
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*\n?[ \t]*")
_INPUT = re.compile(r"\\(?:input|include|subfile)\s*\{([^{}]+)\}|\\input\s+([^\s\\{}]+)")
_LEFT_OUT = re.compile(
    r"\\begin\{(?P<e>(?:equation|align|gather|multline|eqnarray|displaymath|figure|table|wrapfigure|wraptable|"
    r"tikzpicture|tabular|algorithm|algorithmic|lstlisting|verbatim|Verbatim|minted|comment|thebibliography)\*?)\}"
    r".*?\\end\{(?P=e)\}|\\\[.*?\\\]|\\verb\*?(?P<q>[^A-Za-z\s*]).*?(?P=q)",
    re.DOTALL,
)
_BREAK = re.compile(
    r"\n[ \t]*\n|\\(?:part|chapter|(?:sub)*section|(?:sub)?paragraph)\*?\s*"
    r"(?:\[[^][]*\])?\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}"
    r"|\\(?:item|par|noindent)\b|\\(?:begin|end)\s*\{[^{}]*\}(?:\[[^][]*\])?"
)
_GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
_SEVERAL = re.compile(rf"\\[A-Za-z]*cites\b((?:\s*\[[^][]*\])*\s*{_GROUP}(?:(?:\s*\[[^][]*\])*\s*{_GROUP})+)")
_MACRO = re.compile(
    rf"\\(?:re|provide)?newcommand\*?\s*\{{?\\(?P<name>[A-Za-z]+)\}}?\s*(?:\[(?P<n>\d)\])?\s*(?P<body>{_GROUP})"
    rf"|\\def\s*\\(?P<def>[A-Za-z]+)\s*(?P<meant>{_GROUP})"
)
_BIBITEM = re.compile(
    rf"\\bibitem\s*(?:\[(?:[^\[\]{{}}]|{_GROUP}|\[[^\]]*\])*\])?\s*(?:%\s*)?\{{([^{{}}]+)\}}"
)
_ENTRY = re.compile(r"\\entry\{([^{}]+)\}")


def is_latex(path: Path) -> bool:
    """Whether latex_documents reads the path."""
    return path.is_dir() or path.suffix in (".tex", ".tgz", ".tar") or path.name.endswith(".tar.gz")


def latex_documents(path: Path) -> Iterator[tuple[str, Document | Rejected]]:
    """The papers below a path as (place, document) pairs: a folder with .tex files is one paper."""
    if path.is_file():
        yield path.name, _document(path, path.name if path.suffix == ".tex" else "")
        return
    members = sorted(path.iterdir())
    if any(member.suffix in (".tex", ".ltx") and member.is_file() for member in members):
        yield path.name, _document(path, "")
        return
    for member in members:
        if (member.is_dir() and not member.is_symlink()) or (member.is_file() and member.suffix in _ARCHIVES):
            yield from latex_documents(member)


def _document(path: Path, main: str) -> Document | Rejected:
    try:
        tree = _tree(path.parent if main else path)
        source = _expand(tree, main) if main else _main(tree)
        name = path.stem if main else re.sub(r"\.(?:tar|tgz|gz)", "", path.name)
        return _parsed(name, source, tree)
    except Rejected as error:
        return error


# Files


def _tree(path: Path) -> dict[str, str]:
    """The text files of a paper by their names in its folder or archive."""
    try:
        pairs = _folder(path) if path.is_dir() else _archive(path)
        tree, size = {}, 0
        for name, content in pairs:
            size += len(content)
            if size > MAX_TREE:
                raise Rejected(f"over {MAX_TREE:,} bytes of text")
            tree[name] = _decoded(content)
        return tree
    except PermissionError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); allow it and run the same command again"
        ) from None
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise Rejected(f"no readable archive ({type(error).__name__})") from None


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in _TEXT and file.is_file() and not file.is_symlink():
            if file.stat().st_size > MAX_TREE:
                raise Rejected(f"{file.name} has over {MAX_TREE:,} bytes")
            yield file.relative_to(path).as_posix(), file.read_bytes()


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes() if path.suffix == ".tar" else _unpacked(path)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                if member.isreg() and member.name.lower().endswith(_TEXT):
                    file = archive.extractfile(member)
                    yield PurePosixPath(member.name).as_posix(), file.read(MAX_TREE) if file else b""
    except tarfile.ReadError:
        yield "main.tex", content  # arXiv packs a paper of one file without an archive


def _unpacked(path: Path) -> bytes:
    with gzip.open(path) as file:
        content = file.read(4 * MAX_TREE + 1)
    if len(content) > 4 * MAX_TREE:
        raise Rejected(f"an archive of over {4 * MAX_TREE:,} bytes")
    return content


def _decoded(content: bytes) -> str:
    try:
        value = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        value = content.decode("latin-1")
    return value.replace("\r\n", "\n").replace("\r", "\n")


def _main(tree: dict[str, str]) -> str:
    """The paper with all that it includes: of several files that could be it the longest."""
    mains = [
        name for name, content in tree.items() if r"\documentclass" in content or r"\documentstyle" in content
    ]
    if not mains:
        raise Rejected(r"no LaTeX file with \documentclass")
    return max((_expand(tree, name) for name in mains), key=len)


def _expand(tree: dict[str, str], name: str, above: tuple[str, ...] = ()) -> str:
    if sum(len(tree.get(parent, "")) for parent in above) > MAX_TREE or len(above) > 20:
        return ""
    source = _COMMENT.sub(r"\1", tree[name])

    def included(match: re.Match[str]) -> str:
        wanted = (match[1] or match[2]).strip().strip('"')
        found = _find(tree, name, wanted, (".tex", ".ltx", ""))
        return "" if found is None or found in (*above, name) else _expand(tree, found, (*above, name))

    return _INPUT.sub(included, source)


def _find(tree: dict[str, str], name: str, wanted: str, suffixes: tuple[str, ...]) -> str | None:
    """A file by the name that LaTeX knows it by: from the top, or beside the file that names it."""
    for folder in (PurePosixPath(), PurePosixPath(name).parent):
        for suffix in suffixes:
            parts = PurePosixPath(f"{folder / wanted}{suffix}").parts
            path = "/".join(part for part in parts if part != ".")
            if path in tree:
                return path
    return None


# The paper


def _parsed(name: str, source: str, tree: dict[str, str]) -> Document:
    references = _references(source, tree)
    if not references:
        raise Rejected("no bibliography (.bib, .bbl or thebibliography)")
    head, begin, body = source.partition(r"\begin{document}")
    macros = _macros(head if begin else "")
    number = arxiv_id(re.sub(r"^([a-z-]+)([0-9]{7})", r"\1/\2", name))
    title = re.search(rf"\\title\s*(?:\[[^][]*\])?\s*({_GROUP})", source)
    return Document(
        name=name,
        citing_id=f"arxiv:{number}" if number else "",
        title=_plain(title[1][1:-1]) if title else "",
        year=arxiv_year(number) if number else None,
        family="latex",
        passages=tuple(_passages(body if begin else source, macros)),
        references=references,
    )


def _macros(head: str) -> dict[str, tuple[int, str]]:
    """The author's own commands with short meanings: arguments and meaning."""
    found = {}
    for match in _MACRO.finditer(head):
        body = (match["body"] or match["meant"])[1:-1]
        if len(body) <= 200:
            found[match["name"] or match["def"]] = (int(match["n"] or 0), body)
    return found


def _passages(body: str, macros: dict[str, tuple[int, str]]) -> Iterator[tuple[str, tuple[Citation, ...]]]:
    own = [
        name
        for name, (count, meaning) in macros.items()
        if count == 1 and re.search(r"\\\w*cite\w*\b", meaning)
    ]
    words = {
        name: meaning for name, (count, meaning) in macros.items() if not count and "cite" not in meaning
    }
    cites = (*_CITES, *own)
    known = re.compile(rf"\\(?:{'|'.join(map(re.escape, cites))}|[A-Za-z]*cites)(?![A-Za-z])")
    used = re.compile(rf"\\({'|'.join(map(re.escape, words))})(?![A-Za-z])(?:\{{\}})?") if words else None
    reader = _Reader(cites)
    body = _LEFT_OUT.sub(" ", body.partition(r"\end{document}")[0])
    for paragraph in _BREAK.split(body):
        if paragraph and known.search(paragraph):
            if used:
                paragraph = used.sub(lambda match: words[match[1]].replace(r"\xspace", " "), paragraph)
            yield reader.read(_SEVERAL.sub(_as_one, paragraph))


def _as_one(match: re.Match[str]) -> str:
    return r"\cite{" + ",".join(group[1:-1] for group in re.findall(_GROUP, match[1])) + "}"


class _Reader:
    """LaTeX to text with the places of its citations, by pylatexenc."""

    def __init__(self, cites: tuple[str, ...]) -> None:
        self._keys: list[tuple[str, ...]] = []
        self._walker = walker_macros()
        macros = [MacroSpec(name, "*[[{") for name in (*cites, *_NAMES)]
        macros += [MacroSpec(name, "{") for name in _DROPPED]
        self._walker.add_context_category("citations", prepend=True, macros=macros)
        known = text_macros()
        texts = [MacroTextSpec(name, simplify_repl=self._mark) for name in cites]
        texts += [MacroTextSpec(name, simplify_repl="") for name in (*_DROPPED, *_NAMES)]
        known.add_context_category("citations", prepend=True, macros=texts)
        self._decoder = LatexNodes2Text(latex_context=known, math_mode="verbatim", keep_comments=False)

    def _mark(self, node: Any) -> str:
        argument = node.nodeargd.argnlist[-1] if node.nodeargd and node.nodeargd.argnlist else None
        keys = argument.latex_verbatim().strip("{}") if argument is not None else ""
        self._keys.append(tuple(key.strip() for key in keys.split(",") if key.strip()))
        return f"\ue000{len(self._keys) - 1}\ue001"

    def read(self, paragraph: str) -> tuple[str, tuple[Citation, ...]]:
        self._keys = []
        paragraph = re.sub("[\ue000-\uf8ff]", " ", paragraph)
        try:
            walker = LatexWalker(paragraph, latex_context=self._walker, tolerant_parsing=True)
            shown = self._decoder.nodelist_to_text(walker.get_latex_nodes()[0])
        except Exception:  # the decoder raises whatever it stumbles over; the paper has other paragraphs
            return "", ()
        parts: list[str] = []
        citations, length = [], 0
        for number, part in enumerate(re.split("\ue000([0-9]+)\ue001", shown)):
            if number % 2:
                citations.append(Citation(length, length + 1, self._keys[int(part)]))
                part = " "
            parts.append(part)
            length += len(part)
        return "".join(parts), tuple(citations)


# The bibliography


def _references(source: str, tree: dict[str, str]) -> dict[str, Reference]:
    """The entries by key. The .bbl is what the paper shows; the .bib says more of each, so it wins."""
    found: dict[str, Reference] = {}
    for content in (source, *(text for name, text in sorted(tree.items()) if name.lower().endswith(".bbl"))):
        found |= _bbl(content)
    for name, content in sorted(tree.items()):
        if name.lower().endswith(".bib"):
            found |= _bib(content)
    return found


def _bib(content: str) -> dict[str, Reference]:
    found = {}
    for entry in bibtexparser.parse_string(content).entries:
        fields = {f.key.lower(): " ".join(str(f.value).split()) for f in entry.fields}
        title = _plain(fields.get("title", ""))
        names = ("author", "title", "journal", "booktitle", "volume", "year", "url", "note", "howpublished")
        raw = _plain(". ".join(fields[name] for name in names if fields.get(name)))
        eprint = arxiv_id(fields.get("eprint", ""))
        ids = (f"arxiv:{eprint}",) if eprint else ()
        found[entry.key] = reference_of(f"{raw} {fields.get('url', '')}", title, ids, fields.get("doi", ""))
    return found


def _bbl(content: str) -> dict[str, Reference]:
    """The entries of a thebibliography, or of what biber writes."""
    pieces = _BIBITEM.split(content.partition(r"\end{thebibliography}")[0])
    found = {key.strip(): _bibitem(body) for key, body in zip(pieces[1::2], pieces[2::2], strict=True)}
    pieces = _ENTRY.split(content)
    for key, body in zip(pieces[1::2], pieces[2::2], strict=True):
        title = re.search(rf"\\field\{{title\}}({_GROUP})", body)
        names = " ".join(re.findall(r"family=\{+([^{}]*)\}", body))
        numbers = " ".join(re.findall(r"\\verb\s+(\S+)", body))
        eprint = re.search(r"\\field\{eprint\}\{([^{}]*)\}", body)
        shown = _plain(title[1][1:-1]) if title else ""
        number = arxiv_id(eprint[1]) if eprint else ""
        found[key] = reference_of(f"{names} {shown} {numbers}", shown, (f"arxiv:{number}",) if number else ())
    return found


def _bibitem(body: str) -> Reference:
    blocks = re.split(r"\\newblock\b", body)
    title = _plain(blocks[1]).strip(" .,") if len(blocks) > 1 else ""
    addresses = " ".join(re.findall(r"https?://[^\s{}\\]+", body))
    return reference_of(f"{_plain(body)} {addresses}", title)


_TEXTS = text_macros()
_TEXTS.add_context_category(
    "bibliography",
    prepend=True,
    macros=[
        MacroTextSpec("bibinfo", simplify_repl="%(2)s"),
        MacroTextSpec("bibfield", simplify_repl="%(2)s"),
        MacroTextSpec("href", simplify_repl="%(2)s"),
        MacroTextSpec("url", simplify_repl="%s"),
    ],
)
_WALKED = walker_macros()
_WALKED.add_context_category(
    "bibliography",
    prepend=True,
    macros=[MacroSpec("bibinfo", "{{"), MacroSpec("bibfield", "{{"), MacroSpec("href", "{{")],
)
_DECODER = LatexNodes2Text(latex_context=_TEXTS, math_mode="verbatim")


def _plain(latex: str) -> str:
    try:
        walker = LatexWalker(re.sub(r"(?<!\\)%", r"\\%", latex), latex_context=_WALKED, tolerant_parsing=True)
        return " ".join(str(_DECODER.nodelist_to_text(walker.get_latex_nodes()[0])).split())
    except Exception:  # as above: words are enough to join by
        return " ".join(re.sub(r"\\[A-Za-z]+|[{}\\$]", " ", latex).split())
