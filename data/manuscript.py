r"""A draft in LaTeX or Markdown: where it wants a citation, what it cites, and what it says there.

Marks are `[CITE]`, `(CITE)`, `[citation needed]` and the like, `\cite{}` and its many relatives left
empty or with a placeholder for a key (`?`, `TODO`, …), `\todo{cite}`, `\citationneeded`, and Markdown's
`[@?]`. Comments and verbatim text have none.

Places are found in the source text by a scan, not by a parser: a draft in the making is often not
balanced, and every byte beside the marks has to stay as it is. The text that a reader would see
comes from pylatexenc.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db
from pylatexenc.latexwalker import LatexWalker
from pylatexenc.latexwalker import get_default_latex_context_db as get_default_grammar

from data.clean import text as clean
from data.contexts import CITE, OTHER, Context
from data.errors import UserError
from data.paper import Paper

LATEX, MARKDOWN = (".tex", ".ltx"), (".md", ".markdown", ".qmd", ".rmd")
MAX_FILE = 20_000_000  # bytes: no chapter is longer

_HIDDEN = "\ue000"  # fills the place of a citation while sentences are told apart
_TARGET, _BESIDE = "\ue001", "\ue002"  # a citation that is asked for and one beside it, while text is decoded
_OWN = dict.fromkeys(map(ord, (_HIDDEN, _TARGET, _BESIDE)), " ")
_OPAQUE = (
    r"verbatim\*?|Verbatim\*?|BVerbatim|LVerbatim|lstlisting|minted|alltt|filecontents\*?|comment"
    r"|thebibliography|tikzpicture|equation\*?|align\*?|gather\*?|multline\*?|eqnarray\*?|displaymath"
)
_GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
_LATEX_SKIPPED = re.compile(
    rf"\\begin\s*\{{(?P<env>{_OPAQUE})\}}.*?(?:\\end\s*\{{(?P=env)\}}|\Z)"
    r"|\\(?:verb|lstinline)(?![A-Za-z])\*?(?P<bar>[^\sA-Za-z*{[])[^\n]*?(?P=bar)"
    rf"|\\lstinline\s*(?:\[[^][]*\])?\s*{_GROUP}|\\mintinline\s*(?:\[[^][]*\])?\s*{_GROUP}\s*{_GROUP}"
    rf"|\\(?:url|path|label)\s*{_GROUP}"
    r"|\\iffalse(?![A-Za-z]).*?(?:\\fi(?![A-Za-z])|\Z)"
    r"|\\\[.*?\\\]|\$\$[^$]*\$\$|\\endinput(?![A-Za-z]).*|\\end\s*\{document\}.*"
    r"|(?P<kept>\\.)"
    r"|(?:^[ \t]*%[^\n]*(?:\n|\Z)|%[^\r\n]*)",
    re.DOTALL | re.MULTILINE,
)
_MARKDOWN_SKIPPED = re.compile(
    r"\A\ufeff?---[ \t]*\r?\n.*?\n(?:---|\.\.\.)[ \t]*(?=\r?\n|\Z)"
    r"|^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})[^\n]*\n.*?(?:^ {0,3}(?P=fence)[`~]*[ \t]*\r?$|\Z)"
    r"|(?P<ticks>(?<!`)`+(?!`)).+?(?<!`)(?P=ticks)(?!`)"
    r"|<!--.*?(?:-->|\Z)|\]\([^()\s]*\)|<https?://[^<>\s]*>|\$\$[^$]*\$\$|(?P<kept>\\.)",
    re.DOTALL | re.MULTILINE,
)
_OPTION = rf"\[(?:[^][{{}}]|{_GROUP})*\]"
_OPTIONS = rf"(?:\s*{_OPTION}){{0,2}}"
_LISTS = rf"(?:\s*(?:{_OPTION}|\((?:[^(){{}}]|{_GROUP})*\))){{0,4}}"  # of biblatex's cites(…)[…]{…}[…]{…}
_KEYS = re.compile(rf"{_OPTION}|\((?:[^(){{}}]|{_GROUP})*\)|\{{(?P<keys>[^{{}}]*)\}}")
_NO_CITATION = (
    "citestyle|setcitestyle|bibcite|citetext|defcitealias|citealias|DeclareCiteCommand|citereset|citename"
    "|citeindex\\w*|citenumfont|citepunct|citedash|citeform|citeleft|citeright|citemid"
)
_WANTED = (
    r"(?=[^]})]*(?:cit(?:e|ation)|ref(?:erence)?)s?\b)"
    r"(?:[^\w\]\[{}()]*\b(?:todo|add|find|insert|need|needs|needed|missing|get|more|a|an|the|some|this|here|please|proper"
    r"|paper|papers|cit(?:e|ation)s?|ref(?:erence)?s?|sources?)\b)+[\s?!.:…]*"
)
_PLACEHOLDER = re.compile(
    r"\?+|[.…_*-]+|todo(?:[\W_].*)?|fixme|xx+|tb[ad]|tk"
    r"|(?:add|find|need|missing)?[\W_]*(?:cit(?:e|ation)|ref(?:erence)?)s?(?:[\W_]*(?:me|needed|here|missing|this))?\?*"
    r"|missing|needed|key|unknown",
    re.IGNORECASE,
)
_PARENTHETICAL = ("cite", "citep", "parencite", "autocite", "footcite", "supercite", "smartcite")
_TEXTUAL = {"citep": "citet", "parencite": "textcite", "autocite": "textcite"}
_NO_LINK = r"(?!\([^\s()]*(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'))?\))"  # Markdown's [text](address "title")
_TEXT_MARK = re.compile(
    rf"\[\s*(?:CITE|CITATION|REF)S?\s*\??\s*\]{_NO_LINK}|\((?:CITE|CITATION|REF)S?\??\)"
    rf"|(?<![\w\\}}\]])\[(?i:{_WANTED})\](?![\[(:])|\((?i:citations? needed|cite needed|needs? citation)\)"
    r"|(?<=[\s~])\[\?+\](?![\[(:])"
)
_COMMAND_MARK = re.compile(
    rf"\\(?:todo|TODO|fixme|FIXME|note|hl)(?![A-Za-z])\s*(?:\[[^][]*\])?\s*\{{(?i:{_WANTED})\}}"
    r"|\\(?i:citationneeded|needscitation|needcitation|citeneeded|needcite|needscite|needsref|needref|citeme"
    r"|citethis|todocite|citetodo|missingcite|missingcitation)(?![A-Za-z])(?:\{\s*\})?"
)
_MARKDOWN_KEY = re.compile(
    r"(?<![\w.@\\/])@(?:\{(?P<braced>[^{}\s]+)\}|(?P<key>\w(?:\w|[:.#$%&+?<>~/-](?=\w))*)|(?P<none>\?+|(?=\])))"
)
_CROSS_REFERENCE = re.compile(r"(?:fig|tbl|tab|eq|sec|lst|thm|lem|cor|def|exm):|(?:fig|tbl|eq|sec|lst)-")
_LATEX_BREAK = re.compile(
    r"\n[ \t\r]*\n|\\(?:begin|end)\s*\{[^{}]*\}|\\item(?![A-Za-z])|\\caption\s*(?:\[[^][]*\])?(?=\{)"
    r"|\\(?:par|maketitle)(?![A-Za-z])"
    rf"|\\(?:part|chapter|(?:sub)*section|(?:sub)?paragraph|title|author|thanks)\*?\s*(?:\[[^][]*\])?\s*{_GROUP}"
)
_MARKDOWN_BREAK = re.compile(
    r"\n[ \t\r]*\n|^#{1,6}[ \t][^\n]*|^[ \t]*(?:[-*+]|\d+[.)])[ \t]+|^>[ \t]?", re.MULTILINE
)
_UNSEEN = re.compile(
    r"\\(?:part|chapter|(?:sub)*section|(?:sub)?paragraph|title|author)(?![A-Za-z])\*?"
    r"|\\(?:eq|auto|page|[cC])?ref\*?\s*\{[^{}]*\}|\\[vh]space\*?\s*\{[^{}]*\}"
)
_SENTENCE_END = re.compile(rf"[.!?][\"'”’)\]}}]*{_HIDDEN}*(?=(\s+)[A-Z0-9{_HIDDEN}\"'“‘(\[\\$`{{])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s~({])(?:e\.g|i\.e|al|cf|[Ff]igs?|[Ee]qs?|[Ss]ecs?|[Ss]ect|Tab|Ch|App|Thm|Refs?|vs|Dr|Prof|Mrs?|No|approx|resp|viz"
    r"|w\.r\.t|[A-Z])\Z"
)
_GRAMMAR = get_default_grammar()
_INPUT = re.compile(
    r"\\(?P<how>input|include|subfile|import|subimport|includefrom|inputfrom)(?![A-Za-z])\*?\s*"
    r"(?:\{(?P<first>[^{}]*)\}(?:\s*\{(?P<second>[^{}]*)\})?|(?P<bare>[^\s{}\\%]+))"
)
_BIBLIOGRAPHY = re.compile(r"\\(?:bibliography|addbibresource)\s*(?:\[[^][]*\])?\s*\{(?P<names>[^{}]*)\}")
_DEFINITION = re.compile(
    r"\\(?:(?:re|provide)?newcommand\*?|DeclareRobustCommand)\s*\{?\s*\\(?P<name>[A-Za-z]+)\s*\}?\s*"
    rf"(?P<arguments>\[\d\])?(?:\[[^][]*\])?\s*(?P<body>{_GROUP})"
)


@dataclass(frozen=True)
class Source:
    """One file of a draft, as it was read."""

    path: Path
    text: str
    encoding: str = "utf-8"

    @property
    def markdown(self) -> bool:
        """Whether it is Markdown, and else LaTeX."""
        return self.path.suffix.lower() in MARKDOWN

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.text.encode(self.encoding)

    def line(self, place: int) -> int:
        """The number of the line of a place in the text."""
        return self.text.count("\n", 0, place) + 1

    @cached_property
    def visible(self) -> str:
        """The text with spaces in the place of comments, verbatim text and displayed mathematics."""
        skipped = _MARKDOWN_SKIPPED if self.markdown else _LATEX_SKIPPED
        return skipped.sub(_blank, self.text.translate(_OWN))

    @cached_property
    def body(self) -> int:
        r"""Where the text begins: after `\begin{document}`, where there is one."""
        begin = re.search(r"\\begin\s*\{document\}", self.visible) if not self.markdown else None
        return begin.end() if begin else 0


def _blank(skipped: re.Match[str]) -> str:
    """Spaces for what is skipped; a line of comment goes with its end, or it would part a paragraph."""
    if skipped["kept"]:
        return skipped[0]
    comment = skipped[0].lstrip().startswith("%")
    return " " * len(skipped[0]) if comment else re.sub(r"[^\n]", " ", skipped[0])


@dataclass(frozen=True, slots=True)
class Mark:
    """A place of a draft that wants a citation.

    To fill it, text[start:stop] of the source is replaced by `before`, the keys joined by `between`,
    and `after`. `beside` are keys that the same command cites already. `placeholder` is what stood in
    the place of a key.
    """

    source: Source
    start: int
    stop: int
    before: str
    between: str
    after: str
    placeholder: str
    beside: tuple[str, ...]
    context: Context

    @property
    def line(self) -> int:
        """The line that it starts in."""
        return self.source.line(self.start)

    @property
    def place(self) -> str:
        """File and line, as compilers write them."""
        return f"{self.source.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Citation:
    """A command that cites, its keys, and what is said where it stands; its own place is the [CITE]."""

    source: Source
    start: int
    keys: tuple[str, ...]
    context: Context

    @property
    def place(self) -> str:
        """File and line, as compilers write them."""
        return f"{self.source.path}:{self.source.line(self.start)}"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the text without any citation or mark."""

    source: Source
    start: int
    text: str

    @property
    def place(self) -> str:
        """File and line, as compilers write them."""
        return f"{self.source.path}:{self.source.line(self.start)}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft with all of its files, in the order in which they are read.

    `listed` are the keys of `\\nocite`, `*` for all of them. `bibliographies` are the files that the
    draft names. `unread` says which files of it were not read, and why.
    """

    sources: tuple[Source, ...]
    title: str
    abstract: str
    marks: tuple[Mark, ...]
    citations: tuple[Citation, ...]
    sentences: tuple[Sentence, ...]
    listed: tuple[str, ...]
    bibliographies: tuple[Path, ...]
    unread: tuple[str, ...]

    @property
    def paper(self) -> Paper:
        """The draft as the paper that it will be."""
        return Paper("draft", self.title or "untitled", self.abstract)

    @property
    def told(self) -> Paper | None:
        """Its title and abstract, as far as it has them: what helps a search."""
        return Paper("", self.title, self.abstract) if self.title or self.abstract else None


def read_draft(path: Path) -> Draft:
    r"""The draft whose main file this is, with what it includes from its own folder.

    Raises UserError for a file that is missing, too large, or no LaTeX, Markdown or text.
    """
    if path.suffix.lower() not in LATEX + MARKDOWN:
        known = ", ".join(LATEX + MARKDOWN)
        raise UserError(
            f"{path}: the draft's name ends in {path.suffix or 'nothing'!r}, not in one of {known}"
        )
    sources: list[Source] = []
    unread: list[str] = []
    _collect(path, path.resolve().parent, sources, unread)
    return parse_draft(sources, unread)


def read_source(path: Path) -> Source:
    """One file, in UTF-8 or else in Latin-1, its line ends as they are. Raises UserError."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise UserError(f"{path} has {size:,} bytes, the limit is {MAX_FILE:,}; is it the draft?")
        return source_of(path, path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def source_of(path: Path, content: bytes) -> Source:
    """A file's content that was read elsewhere, for instance an upload. Raises UserError."""
    if b"\0" in content:
        raise UserError(f"{path} is no text in UTF-8 or Latin-1; save it as UTF-8")
    try:
        return Source(path, content.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        return Source(path, content.decode("latin-1"), "latin-1")


def _collect(path: Path, root: Path, sources: list[Source], unread: list[str]) -> None:
    source = read_source(path)
    sources.append(source)
    if source.markdown:
        return
    for match in _INPUT.finditer(source.visible):
        name = (match["first"] or match["bare"] or "").strip().strip('"')
        if match["second"] is not None and "import" in match["how"]:
            name = f"{name.rstrip('/')}/{match['second'].strip()}"
        found = _included(name, path, root)
        if isinstance(found, str):
            unread.append(f"{path}:{source.line(match.start())}: {found}")
        elif all(found.resolve() != known.path.resolve() for known in sources):
            _collect(found, root, sources, unread)


def _included(name: str, path: Path, root: Path) -> Path | str:
    r"""The file of an `\input`, or why it is not read."""
    if not name or "#" in name or "\\" in name or "\0" in name:
        return f"{name or 'no name'}: the file's name is made by a macro"
    for folder in (root, path.parent):
        for candidate in (folder / f"{name}.tex", folder / name):
            try:
                if not candidate.is_file():
                    continue
            except OSError:
                continue
            if not candidate.resolve().is_relative_to(root):
                return f"{name}: outside of the draft's folder, so it is left alone"
            return candidate if candidate.suffix.lower() in LATEX else f"{name}: no .tex file"
    return f"{name}: no such file"


def parse_draft(sources: Sequence[Source], unread: Sequence[str] = (), known: Collection[str] = ()) -> Draft:
    """A draft from its files, the main one first. A placeholder that is one of the `known` keys is a key."""
    reader = _Reader(sources, known)
    marks: list[Mark] = []
    citations: list[Citation] = []
    sentences: list[Sentence] = []
    for source in sources:
        found = reader.read(source)
        marks += found[0]
        citations += found[1]
        sentences += found[2]
    title, abstract = reader.title_and_abstract()
    return Draft(
        tuple(sources),
        title,
        abstract,
        tuple(marks),
        tuple(citations),
        tuple(sentences),
        tuple(reader.listed()),
        tuple(reader.bibliographies()),
        tuple(unread),
    )


def fill(source: Source, filled: Iterable[tuple[Mark, Sequence[str]]]) -> Source:
    """The source with the keys in the place of these marks, and everything else as it was."""
    text = source.text
    for mark, keys in sorted(filled, key=lambda pair: pair[0].start, reverse=True):
        text = text[: mark.start] + mark.before + mark.between.join(keys) + mark.after + text[mark.stop :]
    return Source(source.path, text, source.encoding)


@dataclass(frozen=True, slots=True)
class _Place:
    """A command or bracket that cites: its span, its keys, and the spans of its open keys."""

    start: int
    stop: int
    name: str
    keys: tuple[str, ...] = ()
    open: tuple[tuple[int, int], ...] = ()
    whole: bool = False  # the mark is all of it, not a key inside


class _Reader:
    """What the files of one draft have in common: its macros and its way to cite."""

    def __init__(self, sources: Sequence[Source], known: Collection[str]) -> None:
        self._sources = sources
        self._known = known
        shown = [source.visible for source in sources if not source.markdown]
        definitions = [match for text in shown for match in _DEFINITION.finditer(text)]
        citing = [
            m["name"]
            for m in definitions
            if m["arguments"] == "[1]" and re.search(r"cite\w*[^}]*\{\s*#1", m["body"])
        ]
        names = "".join(f"|{re.escape(name)}" for name in citing)
        self._citing = re.compile(
            rf"\\(?P<name>(?!(?:{_NO_CITATION}|nocite)(?![A-Za-z]))(?:[A-Za-z]*[cC]ite[A-Za-z]*{names})(?![A-Za-z])\*?)"
            rf"(?:(?:(?<=cites)|(?<=cites\*))(?:{_LISTS}\s*\{{[^{{}}]*\}})+|{_OPTIONS}\s*\{{[^{{}}]*\}})"
        )
        self._decoder = _decoder({m["name"]: m["body"][1:-1] for m in definitions if not m["arguments"]})
        self._command = self._usual_command()

    def _usual_command(self) -> str:
        counts = Counter(
            match["name"] for s in self._sources for match in self._citing.finditer(s.visible, s.body)
        )
        usual = max(_PARENTHETICAL, key=lambda name: counts[name])
        return usual if counts[usual] else "cite"

    def read(self, source: Source) -> tuple[list[Mark], list[Citation], list[Sentence]]:
        """The marks, the citations and the sentences without either, of one file."""
        places = sorted(self._places(source), key=lambda place: place.start)
        starts = [place.start for place in places]
        flat = _hide(source.visible, places)
        marks: list[Mark] = []
        citations: list[Citation] = []
        sentences: list[Sentence] = []
        for block in _blocks(source, flat):
            before: tuple[int, int] | None = None
            for span in block:
                first = before[0] if before else span[0]
                near = places[bisect_left(starts, first) : bisect_left(starts, span[1])]
                inside = [place for place in near if place.start >= span[0]]
                for place in inside:
                    context = Context(clean(self._shown(source, (first, span[1]), near, place)))
                    marks += self._marks(source, place, context, _leads(flat, span, place))
                    if place.keys:
                        citations.append(Citation(source, place.start, place.keys, context))
                if not inside:
                    start = span[0] + len(flat[slice(*span)]) - len(flat[slice(*span)].lstrip())
                    sentences.append(Sentence(source, start, clean(self._shown(source, span, (), None))))
                before = span
        return marks, citations, [sentence for sentence in sentences if sentence.text]

    def _places(self, source: Source) -> Iterator[_Place]:
        text, covered = source.visible, bytearray(len(source.visible))
        for match in _COMMAND_MARK.finditer(text, source.body):
            yield from _uncovered(covered, [_Place(*match.span(), "", whole=True)])
        for match in self._citing.finditer(text, source.body):
            yield from _uncovered(covered, _command_place(match, self._known))
        if source.markdown:
            yield from _uncovered(covered, _markdown_places(text, self._known))
        for match in _TEXT_MARK.finditer(text, source.body):
            yield from _uncovered(covered, [_Place(*match.span(), "", whole=True)])

    def _marks(self, source: Source, place: _Place, context: Context, leads: bool) -> Iterator[Mark]:
        found = source.text[place.start : place.stop]
        if place.whole:
            before, between, after = self._form(source, leads)
            yield Mark(source, place.start, place.stop, before, between, after, found, (), context)
        for start, stop in place.open:
            between = "," if place.name else " and @" if found.startswith("@") else "; @"
            gap = source.text[start:stop]
            yield Mark(source, start, stop, "", between, "", gap, place.keys, context)

    def _form(self, source: Source, leads: bool) -> tuple[str, str, str]:
        """What stands before, between and after the keys where a mark becomes a citation."""
        if source.markdown:
            return ("@", " and @", "") if leads else ("[@", "; @", "]")
        name = _TEXTUAL.get(self._command, self._command) if leads else self._command
        return f"\\{name}{{", ",", "}"

    def _shown(
        self, source: Source, span: tuple[int, int], places: Iterable[_Place], target: _Place | None
    ) -> str:
        """The text of a span as a reader sees it, the target a CITE and its other citations OTHERs."""
        parts, at = [], span[0]
        for place in places:
            parts += [source.visible[at : place.start], _TARGET if place is target else _BESIDE]
            at = place.stop
        parts.append(source.visible[at : span[1]])
        plain = self._plain("".join(parts), markdown=source.markdown)
        plain = plain.replace(CITE, OTHER)  # as the text of a link, or made by macros: no mark
        return plain.replace(_TARGET, CITE).replace(_BESIDE, OTHER)

    def _plain(self, text: str, *, markdown: bool) -> str:
        if markdown:
            text = re.sub(r"!?\[([^][]*)\](?:\([^()]*\)|\[[^][]*\])", r"\1", text)
            return re.sub(r"(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)|\\(?=[^\w\s])", "", text)
        text = _UNSEEN.sub("", text)
        try:
            walker = LatexWalker(text, latex_context=_GRAMMAR, tolerant_parsing=True)
            shown = str(self._decoder.nodelist_to_text(walker.get_latex_nodes()[0]))
        except Exception:  # the decoder raises whatever it stumbles over
            shown = re.sub(r"\\[A-Za-z]+\*?|[{}~]", " ", text)
        return re.sub(r"\s+([,.;:)])", r"\1", shown)

    def listed(self) -> Iterator[str]:
        r"""The keys of every `\nocite`."""
        for source in self._sources:
            for match in re.finditer(r"\\nocite\s*\{([^{}]*)\}", source.visible):
                yield from (key.strip() for key in match[1].split(",") if key.strip())

    def bibliographies(self) -> Iterator[Path]:
        """The .bib files that the draft names, whether they are there or not."""
        root = self._sources[0].path.parent
        for source in self._sources:
            if source.markdown:
                named = _front_matter(source).get("bibliography")
                listed = named if isinstance(named, list) else [named]
                names = [name for name in listed if isinstance(name, str)]
            else:
                names = [n for m in _BIBLIOGRAPHY.finditer(source.visible) for n in m["names"].split(",")]
            for name in map(str.strip, names):
                if name and "\\" not in name and "\0" not in name:
                    yield root / (name if name.endswith(".bib") else f"{name}.bib")

    def title_and_abstract(self) -> tuple[str, str]:
        """What the draft says of itself; empty where it does not."""
        title = abstract = ""
        for source in self._sources:
            pair = _markdown_head(source) if source.markdown else _latex_head(source)
            found = [clean(self._plain(part, markdown=source.markdown)) for part in pair]
            title, abstract = title or found[0], abstract or found[1]
        return title, abstract


def _decoder(macros: dict[str, str]) -> LatexNodes2Text:
    known = get_default_latex_context_db()
    plain = {name: body for name, body in macros.items() if "#" not in body}
    specs = [MacroTextSpec("xspace", simplify_repl=" ")]
    known.add_context_category("spaces", prepend=True, macros=specs)
    simple = LatexNodes2Text(latex_context=known, math_mode="verbatim")
    specs = []
    for name, body in plain.items():
        if f"\\{name}" not in body:
            try:
                specs.append(MacroTextSpec(name, simplify_repl=simple.latex_to_text(body).replace("%", "%%")))
            except Exception:  # the decoder raises whatever it stumbles over
                continue
    known.add_context_category("draft", prepend=True, macros=specs)
    return LatexNodes2Text(latex_context=known, math_mode="verbatim")


def _is_key(key: str, known: Collection[str]) -> bool:
    return key in known or not _PLACEHOLDER.fullmatch(key)


def _uncovered(covered: bytearray, places: Iterable[_Place]) -> Iterator[_Place]:
    """The places that overlap none of those before, whose characters are set in `covered`."""
    for place in places:
        if not any(covered[place.start : place.stop]):
            covered[place.start : place.stop] = b"\1" * (place.stop - place.start)
            yield place


def _command_place(match: re.Match[str], known: Collection[str]) -> Iterator[_Place]:
    keys: list[str] = []
    gaps: list[tuple[int, int]] = []
    for argument in _KEYS.finditer(match.string, match.end("name"), match.end()):
        if argument["keys"] is None:
            continue
        parts, at = argument["keys"].split(","), argument.start("keys")
        for part in parts:
            key, start = part.strip(), at + len(part) - len(part.lstrip())
            if "#" in key:  # a parameter of a macro
                return
            if key and _is_key(key, known):
                keys.append(key)
            elif key:
                gaps.append((start, start + len(key)))
            elif len(parts) == 1:
                gaps.append((at, at + len(part)))
            at += len(part) + 1
    yield _Place(*match.span(), match["name"], tuple(keys), tuple(gaps))


def _markdown_places(text: str, known: Collection[str]) -> Iterator[_Place]:
    """Brackets with keys (`[see @a, p. 5; @?]`) and keys that are part of the sentence (`@a shows`)."""
    brackets = [match.span() for match in re.finditer(r"\[[^][]*@[^][]*\](?!\()", text)]
    found: dict[tuple[int, int], list[re.Match[str]]] = {}
    for match in _MARKDOWN_KEY.finditer(text):
        key = match["braced"] or match["key"] or ""
        if not _CROSS_REFERENCE.match(key):
            own = next((span for span in brackets if span[0] < match.start() < span[1]), match.span())
            if own != match.span() or match["none"] or (key and _is_key(key, known)):
                found.setdefault(own, []).append(match)
    for span, matches in found.items():
        keys, gaps = [], []
        for match in matches:
            group = next(name for name in ("braced", "key", "none") if match[name] is not None)
            if group != "none" and _is_key(match[group], known):
                keys.append(match[group])
            else:
                gaps.append(match.span(group))
        yield _Place(*span, "", tuple(keys), tuple(gaps))


def _hide(text: str, places: Iterable[_Place]) -> str:
    parts, at = [], 0
    for place in places:
        parts += [text[at : place.start], _HIDDEN * (place.stop - place.start)]
        at = place.stop
    return "".join([*parts, text[at:]])


def _blocks(source: Source, flat: str) -> Iterator[list[tuple[int, int]]]:
    """The spans of the sentences of every paragraph, heading, item and caption."""
    breaks = _MARKDOWN_BREAK if source.markdown else _LATEX_BREAK
    at = source.body
    for match in breaks.finditer(flat, source.body):
        yield _sentences(flat, at, match.start())
        # A heading is no sentence, but a mark in it is a mark.
        yield [match.span()] if _HIDDEN in match[0] else []
        at = match.end()
    yield _sentences(flat, at, len(flat))


def _sentences(flat: str, start: int, stop: int) -> list[tuple[int, int]]:
    spans = []
    for match in _SENTENCE_END.finditer(flat, start, stop):
        if flat[match.start()] == "." and _ABBREVIATION.search(
            flat, max(start, match.start() - 12), match.start()
        ):
            continue
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, stop))
    return [span for span in spans if not flat[slice(*span)].isspace() and span[0] < span[1]]


def _leads(flat: str, span: tuple[int, int], place: _Place) -> bool:
    """Whether the place opens its sentence, as its subject: `[CITE] showed that`."""
    follows = re.match(r"[\s~]+[a-z]", flat[place.stop : span[1]])
    return not flat[span[0] : place.start].strip() and bool(follows)


def _latex_head(source: Source) -> tuple[str, str]:
    text = source.visible
    title = re.search(r"\\(?:icml|aaai|acl)?title\s*(?:\[[^][]*\])?\s*(?=\{)", text)
    shown = re.sub(rf"\\(?:thanks|footnote\w*)\s*{_GROUP}|\\\\(?:\[[^][]*\])?", " ", _argument(text, title))
    environment = re.search(r"\\begin\s*\{abstract\}(.*?)\\end\s*\{abstract\}", text, re.DOTALL)
    command = re.search(r"\\abstract\s*(?=\{)", text)
    return shown, environment[1] if environment else _argument(text, command)


def _argument(text: str, command: re.Match[str] | None) -> str:
    """What the braces after a command hold; empty where they never close."""
    if command is None:
        return ""
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text[command.end() :], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if match[0] == "}" and not depth:
            return text[command.end() + 1 : command.end() + match.start()]
    return ""


def _front_matter(source: Source) -> dict[str, object]:
    match = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)\n(?:---|\.\.\.)[ \t]*(?=\r?\n|\Z)", source.text, re.DOTALL)
    try:
        fields = yaml.safe_load(match[1]) if match else None
    except Exception:  # PyYAML raises whatever a date, a number or a tag that is none leads it to
        fields = None
    return fields if isinstance(fields, dict) else {}


def _markdown_head(source: Source) -> tuple[str, str]:
    fields = _front_matter(source)
    heading = re.search(r"^#[ \t]+([^\n]+)", source.visible, re.MULTILINE)
    section = re.search(
        r"^#+[ \t]*abstract[ \t]*#*\r?\n(.*?)(?=^#|\Z)",
        source.visible,
        re.DOTALL | re.MULTILINE | re.IGNORECASE,
    )
    title, abstract = fields.get("title"), fields.get("abstract")
    return (
        title if isinstance(title, str) else heading[1] if heading else "",
        abstract if isinstance(abstract, str) else section[1] if section else "",
    )
