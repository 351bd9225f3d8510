"""Drafts read: every mark and nothing else, what is cited where, and bytes that stay as they are."""

from itertools import pairwise
from pathlib import Path

import pytest
from drafts import MARKDOWN, write_draft, write_markdown
from hypothesis import given, settings
from hypothesis import strategies as st
from pylatexenc.latexwalker import LatexMacroNode, LatexNode, LatexWalker, get_default_latex_context_db
from pylatexenc.macrospec import MacroSpec

from data.errors import UserError
from data.manuscript import Draft, fill, parse_draft, read_draft, source_of


def latex(text: str) -> Draft:
    return parse_draft([source_of(Path("draft.tex"), text.encode())])


def markdown(text: str) -> Draft:
    return parse_draft([source_of(Path("draft.md"), text.encode())])


def filled(draft: Draft, *keys: str) -> str:
    return fill(draft.sources[0], [(mark, keys) for mark in draft.marks]).text


@pytest.mark.parametrize(
    ("marked", "cited"),
    [
        (r"So [CITE].", r"So \cite{K}."),
        (r"So~[CITE?] and [REF].", r"So~\cite{K} and \cite{K}."),
        (r"So (CITE), so [citation needed], so [TODO: cite].", r"So \cite{K}, so \cite{K}, so \cite{K}."),
        (r"So [?].", r"So \cite{K}."),
        (r"So \cite{}.", r"So \cite{K}."),
        (r"So \cite{ }.", r"So \cite{K}."),
        (r"So \cite{?}, \citep{??}, \citet*{TODO}.", r"So \cite{K}, \citep{K}, \citet*{K}."),
        (r"So \citep[see][p.~5]{todo:attention}.", r"So \citep[see][p.~5]{K}."),
        (r"So \citep[see {[1]} too][]{CITE_ME}.", r"So \citep[see {[1]} too][]{K}."),
        (r"So \parencite{a, ?, b} there.", r"So \parencite{a, K, b} there."),
        (r"So \autocites(see)(end)[1]{a}[2]{}{TODO}.", r"So \autocites(see)(end)[1]{a}[2]{K}{K}."),
        ("So \\cite\n  {?}.", "So \\cite\n  {K}."),
        (r"So \todo{cite} and \todo[inline]{Citation needed!}.", r"So \cite{K} and \cite{K}."),
        (r"So \todo{add a reference here}.", r"So \cite{K}."),
        (r"So\citationneeded. So \needcite{}.", r"So\cite{K}. So \cite{K}."),
        (r"As \citep{a} or [CITE].", r"As \citep{a} or \citep{K}."),
        (r"As \citep{a}. [CITE] shows it.", r"As \citep{a}. \citet{K} shows it."),
        (r"As \autocite{a}. [CITE] shows it.", r"As \autocite{a}. \textcite{K} shows it."),
        (r"\newcommand{\my}[1]{\citep{#1}} So \my{}.", r"\newcommand{\my}[1]{\citep{#1}} So \my{K}."),
        (r"An { open \cite{} \] there $ too [CITE]", r"An { open \cite{K} \] there $ too \cite{K}"),
        (r"50\% [CITE] % [CITE]", r"50\% \cite{K} % [CITE]"),
        (r"A \\% [CITE]", r"A \\% [CITE]"),
    ],
)  # fmt: skip
def test_a_mark_in_latex_is_found_and_filled(marked: str, cited: str) -> None:
    assert filled(latex(marked), "K") == cited


@pytest.mark.parametrize(
    "text",
    [
        r"So \cite{todorov2012mujoco} and \cite{refinement} and \cite{vaswani}.",
        r"\begin{comment} [CITE] \cite{} \end{comment} \begin{minted}{tex} \cite{} \end{minted}",
        r"\verb|\cite{}| \lstinline{[CITE]} \mintinline{tex}{\cite{}} \url{http://a/[CITE]}",
        r"\iffalse [CITE] \fi  \nocite{*} \citestyle{} \setcitestyle{}",
        r"\begin{document} a \end{document} [CITE]",
        r"[CITE] \begin{document} a \end{document}",
        r"\todo{rewrite this} \todo{ask B. whether it holds} \item[ref] \ref{} \foo[cite]{x}",
        r"\newcommand{\my}[1]{\citep{#1}}",
        r"So \cite{vaswani} {TODO} and \cite{a} {}.",
        "a [\\cite in the making",
    ],
)
def test_what_is_no_mark_in_latex_is_left_alone(text: str) -> None:
    assert latex(text).marks == ()


@pytest.mark.parametrize(
    ("marked", "cited"),
    [
        ("So [CITE].", "So [@K]."),
        ("So [@?] and [@].", "So [@K] and [@K]."),
        ("So [@TODO, p. 3; see also @a].", "So [@K, p. 3; see also @a]."),
        ("As @? says.", "As @K says."),
        ("As [-@??] says.", "As [-@K] says."),
        ("[CITE] showed it.", "@K showed it."),
        (r"So \citep{?} in Markdown.", r"So \citep{K} in Markdown."),
        ("So (citation needed).", "So [@K]."),
        ("So [CITE](and others).", "So [@K](and others)."),
    ],
)
def test_a_mark_in_markdown_is_found_and_filled(marked: str, cited: str) -> None:
    assert filled(markdown(marked), "K") == cited


@pytest.mark.parametrize(
    "text",
    [
        "`[CITE]` and ``a ` [@?]``",
        "```\n[CITE]\n```\n\n~~~ tex\n\\cite{}\n~~~",
        "<!-- [@?] -->",
        "[cite](http://x.org) and [@a], mail a@b.org, @fig:one, \\@? and [@sec:two]",
        "---\ntitle: '[CITE]'\n---\ntext",
        "```\n[CITE] in a block that never ends",
        "@todo and @missing are people",
        '[CITE](https://x.org/a) and [CITE](<x> "its title") and [CITE]()',
    ],
)
def test_what_is_no_mark_in_markdown_is_left_alone(text: str) -> None:
    assert markdown(text).marks == ()


def test_several_papers_go_into_one_mark() -> None:
    assert filled(latex(r"A [CITE] b \cite{a,?}."), "K", "L") == r"A \cite{K,L} b \cite{a,K,L}."
    assert filled(markdown("A [CITE] b [@a; @?]. As @? say."), "K", "L") == (
        "A [@K; @L] b [@a; @K; @L]. As @K and @L say."
    )


def test_a_latex_draft_of_several_files_is_read_in_order(tmp_path: Path) -> None:
    draft = read_draft(write_draft(tmp_path))
    assert [source.path.name for source in draft.sources] == ["main.tex", "introduction.tex", "method.tex"]
    assert [source.encoding for source in draft.sources] == ["utf-8", "latin-1", "utf-8"]
    assert draft.title == "Citer: Where a Citation Belongs"
    assert draft.abstract == "We put citations where they belong. It takes a draft and a corpus."
    assert draft.bibliographies == (tmp_path / "references.bib",)
    assert draft.unread == (f"{tmp_path / 'main.tex'}:17: sections/lost: no such file",)
    assert [(mark.source.path.stem, mark.line, mark.placeholder) for mark in draft.marks] == [
        ("main", 20, "TODO"),
        ("main", 22, ""),
        ("main", 31, "\\todo{cite}"),
        ("introduction", 2, "?"),
        ("introduction", 3, ""),
        ("introduction", 5, "[CITE]"),
        ("method", 5, "[citation needed]"),
        ("method", 5, "[CITE]"),
    ]
    assert draft.marks[3].beside == ("vaswani2017attention",)


def test_the_context_of_a_mark_is_its_sentence_and_the_one_before_as_a_reader_sees_them(
    tmp_path: Path,
) -> None:
    contexts = [mark.context.text for mark in read_draft(write_draft(tmp_path)).marks]
    assert contexts[0] == (
        "We train with the Adam optimizer of adaptive moments [CITE], as others do by default."
    )
    assert contexts[1] == (
        "We train with the Adam optimizer of adaptive moments [OTHER], as others do by default. "
        "Half of the units are omitted by dropout [CITE], i.e. at random."
    )
    assert contexts[2] == (
        r"The bound $\mathcal{L}(\theta)$ of variational inference [CITE] has a latent variable $z$."
    )
    assert contexts[4] == (
        "Self-attention without recurrence [OTHER] gave the Transformer for translation. "
        "[CITE] pre-trained bidirectional representations with masked language models, naïvely put."
    )
    assert contexts[5] == (
        "Residual connections [CITE] ease the training of deeper networks for images (Fig.)."
    )


@pytest.mark.parametrize(
    ("path", "text", "context"),
    [
        ("d.md", 'A [CITE](x.org "link") and [@?].', "A CITE and [CITE]."),
        ("d.md", "A [CITE](and [@key; @?].", "A [OTHER](and [CITE]."),
        ("d.md", "A [CITE][@a] b [@?].", "A [OTHER][OTHER] b [CITE]."),
        ("d.md", "A \ue001 b [@?].", "A b [CITE]."),
        ("d.tex", r"\newcommand{\gap}{[CITE]} \begin{document} A \gap{} and {[}CITE] \cite{}.",
         "A [OTHER] and [OTHER] [CITE]."),
        ("d.tex", r"A \emph[CITE] \cite{a} b \\ \cite{}.", "A [OTHER] [OTHER] b [CITE]."),
    ],
)  # fmt: skip
def test_a_context_has_one_mark_whatever_else_looks_like_one(path: str, text: str, context: str) -> None:
    contexts = [mark.context.text for mark in parse_draft([source_of(Path(path), text.encode())]).marks]
    assert context in contexts
    assert {one.count("[CITE]") for one in contexts} == {1}


def test_citations_are_found_with_the_sentence_they_stand_in(tmp_path: Path) -> None:
    citations = read_draft(write_draft(tmp_path)).citations
    assert [(c.keys, Path(c.place).name) for c in citations] == [
        (("vaswani2017attention",), "introduction.tex:2"),
        (("vaswani2017attention",), "method.tex:3"),
    ]
    assert citations[1].context.text.endswith("distillation with soft targets [CITE].")


def test_sentences_without_citation_or_mark_are_listed(tmp_path: Path) -> None:
    sentences = [sentence.text for sentence in read_draft(write_draft(tmp_path)).sentences]
    assert "Generative models have been trained as an adversarial game by many researchers." in sentences
    assert not any("Adam" in sentence or "Half of" in sentence for sentence in sentences)


def test_a_markdown_draft_is_read(tmp_path: Path) -> None:
    draft = read_draft(write_markdown(tmp_path))
    assert (draft.title, draft.abstract) == ("A pandoc draft", "Of marks in Markdown.")
    assert draft.bibliographies == (tmp_path / "references.bib",)
    assert [mark.placeholder for mark in draft.marks] == ["?", "TODO", "[CITE]", "(CITE)"]
    assert [c.keys for c in draft.citations] == [("vaswani2017attention",), ("he2016",)]
    assert draft.marks[1].context.text.endswith("BERT pre-trains bidirectional representations [CITE].")


@pytest.mark.parametrize(
    ("text", "title", "abstract"),
    [
        ("# Of *things*\n\n## Abstract\n\nIt is short.\n\n## Text\n\nText.", "Of things", "It is short."),
        ("---\ntitle: [a, list]\n---\n# Heading\n", "Heading", ""),
        ("---\n: broken: [\n---\n# Heading\n", "Heading", ""),
        ("no title at all", "", ""),
    ],
)  # fmt: skip
def test_markdown_says_what_it_is(text: str, title: str, abstract: str) -> None:
    assert (markdown(text).title, markdown(text).abstract) == (title, abstract)


def test_title_and_abstract_may_be_commands_of_a_conference() -> None:
    draft = latex("\\icmltitle{A \\\\ B}\\abstract{Of $x$ {and} y.}\\titleformat{no}")
    assert (draft.title, draft.abstract) == ("A B", "Of $x$ and y.")


def test_what_is_listed_without_a_place_is_known() -> None:
    assert latex(r"\nocite{a, b}\nocite{*}").listed == ("a", "b", "*")


def test_files_outside_of_the_draft_and_circles_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "draft"
    folder.mkdir()
    (tmp_path / "secret.tex").write_text("[CITE]")
    (folder / "main.tex").write_text(r"\input{main} \input{../secret} \input{\jobname} \input{a} \input refs")
    (folder / "a.tex").write_text(r"\input{main.tex} \cite{}")
    (folder / "link.tex").symlink_to(tmp_path / "secret.tex")
    (folder / "refs.tex").write_text(r"\input{link}")
    draft = read_draft(folder / "main.tex")
    assert [source.path.name for source in draft.sources] == ["main.tex", "a.tex", "refs.tex"]
    assert len(draft.marks) == 1
    assert [line.split(": ", 2)[1] for line in draft.unread] == ["../secret", r"\jobname", "link"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("draft.docx", b"PK", "the draft's name ends in '.docx'"),
        ("draft.tex", b"a\0b", "is no text in UTF-8 or Latin-1; save it as UTF-8"),
        ("draft.tex", None, "No such file"),
    ],
)
def test_what_is_no_draft_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_draft(tmp_path / name)


FRAGMENTS = [
    "[CITE]", r"\cite{}", r"\citep[a]{?}", r"\citet{b, TODO}", r"\todo{cite}", "[@?]", "[@a; @]", "(CITE)",
    r"\begin{verbatim}", r"\end{verbatim}", "%", "{", "}", "$", "\\", "`", "```", "\n", "\r\n", "\n\n", "A. ",
    "naïve ", " ", "~", r"\cites{}{}", "<!--", "-->", "[", "]", "@", "---\n", r"\iffalse", r"\fi", "\t", "。",
]  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8).filter(lambda t: "\0" not in t), max_size=25),
    st.sampled_from(["draft.tex", "draft.md"]),
    st.booleans(),
    st.data(),
)
def test_nothing_but_marks_changes_whatever_the_text(
    parts: list[str], name: str, latin: bool, data: st.DataObject
) -> None:
    text = "".join(parts)
    content = text.encode("latin-1", "replace") if latin else text.encode("utf-8", "replace")
    source = source_of(Path(name), content)
    assert source.content == content
    draft = parse_draft([source])
    chosen = [mark for mark in draft.marks if data.draw(st.booleans())]
    spans = sorted((mark.start, mark.stop) for mark in draft.marks)
    assert all(one[1] <= two[0] for one, two in pairwise(spans))
    after = fill(source, [(mark, ("KEY", "LATER")) for mark in chosen]).content
    # Take what was put in out again, from the start, by the marks' own offsets: the old bytes are left.
    restored, at = b"", 0
    rest = after.decode(source.encoding)
    for mark in sorted(chosen, key=lambda mark: mark.start):
        gap = source.text[at : mark.start]
        put = mark.before + mark.between.join(("KEY", "LATER")) + mark.after
        assert rest.startswith(gap + put)
        restored += (gap + source.text[mark.start : mark.stop]).encode(source.encoding)
        rest, at = rest[len(gap + put) :], mark.stop
    assert restored + rest.encode(source.encoding) == content


def commands(nodes: list[LatexNode] | None) -> list[tuple[str, str]]:
    """What pylatexenc's own parser says is cited: macro and keys, in order."""
    found = []
    for node in nodes or ():
        if node is None:
            continue
        if isinstance(node, LatexMacroNode) and node.macroname in ("cite", "citep", "citet"):
            found.append((node.macroname, node.nodeargd.argnlist[-1].latex_verbatim().strip("{}")))
            continue
        for child in (
            getattr(node, "nodelist", None),
            getattr(getattr(node, "nodeargd", None), "argnlist", None),
        ):
            found += commands(child)
    return found  # fmt: skip


PIECES = st.sampled_from(
    [r"\cite{a}", r"\citep[see][p.~2]{b,c}", r"\citet{d}", r"\emph{e \cite{f} g}", "% \\cite{no}\n", r"\%",
     r"\begin{itemize}\item \cite{h}\end{itemize}", r"$x_{1}$", "Some words. ", "\n\n", r"{\bf i \citep{j}}",
     "\\begin{verbatim}\\cite{no}\\end{verbatim}\n", r"\footnote{See \citet{k}.}", r"\section{On \cite{l}} "]
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(st.lists(PIECES, max_size=12))
def test_a_parser_of_latex_finds_the_same_citations(parts: list[str]) -> None:
    text = "".join(parts)
    known = get_default_latex_context_db()
    specs = [MacroSpec(name, "*[[{") for name in ("cite", "citep", "citet")]
    known.add_context_category("citing", prepend=True, macros=specs)
    nodes, _, _ = LatexWalker(text, latex_context=known).get_latex_nodes()
    expected = [tuple(key.strip() for key in keys.split(",")) for _, keys in commands(nodes)]
    assert [citation.keys for citation in latex(text).citations] == expected


def test_a_long_draft_is_read_in_little_time() -> None:
    paragraph = (
        r"Some words of text \citep{a} with $x$ and more [CITE]. The next \emph{one} cites none." + "\n\n"
    )
    hostile = "{" * 2000 + r"\begin{comment" * 500 + "[" * 2000 + "`" * 2000 + r"\cite[" * 1000
    draft = latex(paragraph * 300 + hostile)
    assert len(draft.marks) == 300


def test_the_markdown_draft_has_marks_only_where_it_says_so() -> None:
    draft = markdown(MARKDOWN)
    changed = filled(draft, "K")
    assert changed.count("K") - MARKDOWN.count("K") == len(draft.marks) == 4
