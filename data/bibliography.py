"""BibTeX in and out, by bibtexparser and pylatexenc."""

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import bibtexparser
from bibtexparser.library import Library
from bibtexparser.middlewares.names import (
    InvalidNameError,
    parse_single_name_into_parts,
    split_multiple_persons_names,
)
from bibtexparser.model import Entry, Field
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db
from pylatexenc.latexencode import RULE_DICT, UnicodeToLatexConversionRule, UnicodeToLatexEncoder

from data.clean import Rejected, plain_doi
from data.keys import citation_key
from data.names import NAME_SUFFIX
from data.paper import ARXIV_ID, Paper

logging.getLogger("bibtexparser").setLevel(logging.CRITICAL)  # what it warns of is rejected by name
logging.getLogger("pylatexenc").setLevel(logging.CRITICAL)

_ARXIV_MENTION = re.compile(
    rf"(?:\barxiv[:.]|arxiv\.org/(?:abs|pdf)/|^abs/)\s*({ARXIV_ID.pattern})(?![0-9])", re.IGNORECASE
)
_ACL_URL = re.compile(r"https?://(?:www\.)?aclanthology\.org/([A-Za-z0-9.-]+?)(?:\.pdf)?/?")
_MEETING = re.compile(
    r"\b(?:(?i:proc|proceedings|conference|workshops?|symposium|interspeech)|Findings|NeurIPS|NIPS|ICML|ICLR"
    r"|COLM|CoLLAs|CoRL|COLT|UAI|AISTATS|MLSys|AAAI|IJCAI|AAMAS|N?E?A?ACL|EMNLP|COLING|CoNLL|LREC|WMT|AMTA"
    r"|IJCNLP|SemEval|SIGDIAL|TREC|CVPR|ICCV|ECCV|WACV|BMVC|MICCAI|3DV|SIGGRAPH|ICIP|ICASSP|SLT|ASRU|ICRA"
    r"|IROS|RSS|KDD|SIGIR|CIKM|WSDM|WWW|RecSys|ICDM|ICWSM|USENIX|OSDI|SOSP|STOC|FOCS|ITCS|CCS)\b"
)
_ARXIV_CATEGORY = re.compile(r"[a-z]+(?:-[a-z]+)?(?:\.[A-Za-z]+(?:-[a-z]+)?)?")
# The commands that a formula of a title may keep. No other: BibTeX hands titles on to LaTeX, where
# `$\input{/etc/passwd}$` reads a file.
_COMMANDS = (
    "alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu|nu|xi|pi|varpi|rho"
    "|varrho|sigma|varsigma|tau|upsilon|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon"
    "|Phi|Psi|Omega|ell|hbar|imath|jmath|Re|Im|aleph|partial|nabla|infty|emptyset|varnothing|forall|exists|neg"
    "|pm|mp|times|div|cdot|cdots|ldots|dots|ast|star|circ|bullet|oplus|ominus|otimes|odot|wedge|vee|cap|cup"
    "|setminus|amalg|dagger|ddagger|wr|sum|prod|coprod|int|oint|bigcap|bigcup|bigoplus|bigotimes|le|leq|ge|geq"
    "|ne|neq|ll|gg|lesssim|gtrsim|sim|simeq|approx|cong|equiv|propto|prec|succ|preceq|succeq|subset|supset"
    "|subseteq|supseteq|in|ni|notin|mid|nmid|parallel|perp|vdash|models|to|mapsto|gets|leftarrow|rightarrow"
    "|leftrightarrow|Leftarrow|Rightarrow|Leftrightarrow|longrightarrow|uparrow|downarrow|hookrightarrow"
    "|langle|rangle|lfloor|rfloor|lceil|rceil|lvert|rvert|lVert|rVert|left|right|big|Big|bigl|bigr"
    "|frac|tfrac|dfrac|binom|sqrt|hat|widehat|tilde|widetilde|bar|overline|underline|vec|dot|ddot|acute|grave"
    "|check|breve|mathring|mathbb|mathcal|mathfrak|mathscr|mathbf|mathrm|mathsf|mathit|mathtt|boldsymbol|bm"
    "|pmb|text|textbf|textit|textrm|textsc|textsf|texttt|textup|rm|bf|it|sf|tt|cal|operatorname|quad|qquad"
    "|log|ln|exp|lim|limsup|liminf|sup|inf|max|min|arg|det|dim|ker|gcd|deg|sin|cos|tan|cot|sec|sinh|cosh|tanh"
    "|bmod|pmod|triangle|square|Box|diamond|heartsuit|spadesuit|clubsuit|diamondsuit|sharp|flat|natural|prime"
    "|top|bot|angle|checkmark|l|L|o|O|i|j|S|P|ae|AE|oe|OE|aa|AA|ss"
)
# A sign of mathematics that needs no escaping. Two carets are no power: TeX reads `^^5c` as a backslash.
_SIGN = rf"\\[,;:!|]|\\(?:{_COMMANDS})(?![A-Za-z])|\^(?!\^)|[^$%#&~{{}}\\^]"
_GROUP = rf"\{{(?:{_SIGN}|\{{(?:{_SIGN})*\}})*\}}"
_MATH = rf"(?<!\$)\$(?=[^\s$])(?:{_SIGN}|{_GROUP})+(?<=\S)\$(?![\d$])"
_TOKEN = re.compile(rf"(?:{_MATH}|\S)+")


def bibtex_records(source: str) -> Iterator[tuple[str, Any]]:
    """The entries of a BibTeX file as (place, record) pairs in their order, for data.clean.to_paper.

    An entry is known by its arXiv id, else its id in the ACL Anthology, else its DOI, else `bib:` and
    its key, which the field `ID` has. Comments are passed over; an entry that cannot be parsed, or
    whose key was there before, is a Rejected.
    """
    library = bibtexparser.parse_string(source)
    decoder = _decoder()
    failed = [(block, Rejected(_reason(block.error))) for block in library.failed_blocks]
    entries = [(entry, _record(entry, decoder)) for entry in library.entries]
    for block, record in sorted(failed + entries, key=lambda pair: pair[0].start_line or 0):
        yield f"line {(block.start_line or 0) + 1}", record


def _decoder() -> LatexNodes2Text:
    macros = {"url": "%s", "textasciicircum": "^", "textbraceleft": "{", "textbraceright": "}"}
    known = get_default_latex_context_db()
    specs = [MacroTextSpec(name, simplify_repl=text) for name, text in macros.items()]
    known.add_context_category("bibtex", prepend=True, macros=specs)
    return LatexNodes2Text(latex_context=known, math_mode="verbatim")


def _reason(error: Exception) -> str:
    reason = str(getattr(error, "abort_reason", error)).strip() or "not BibTeX"
    return reason.partition(". Note:")[0].splitlines()[0]


def _record(entry: Entry, decoder: LatexNodes2Text) -> dict[str, Any] | Rejected:
    fields = {field.key.lower(): str(field.value) for field in entry.fields}
    names = split_multiple_persons_names(fields.pop("author", ""))
    try:
        record: dict[str, Any] = {key: _decoded(value, decoder) for key, value in fields.items()}
        record["author"] = [_decoded(_given_first(name), decoder) for name in names if name != "others"]
    except Exception as error:  # the decoder raises whatever it stumbles over
        return Rejected(f"LaTeX that cannot be decoded ({type(error).__name__})")
    return record | {"paper_id": _identifier(entry.key, record), "ID": entry.key}


def _given_first(name: str) -> str:
    try:
        return str(parse_single_name_into_parts(name).merge_first_name_first)
    except InvalidNameError:
        return name.replace(",", " ")


def _decoded(value: str, decoder: LatexNodes2Text) -> str:
    if not re.search(r"[\\{}~$%`'-]", value):
        return value
    # A line break in the source is a space, and `%` starts no comment in a .bib file.
    line = re.sub(r"(?<!\\)%", r"\\%", " ".join(value.split()))
    return str(decoder.latex_to_text(line))


def _identifier(key: str, fields: Mapping[str, Any]) -> str:
    archive = str(fields.get("archiveprefix", fields.get("eprinttype", "arxiv"))).lower()
    eprint = ARXIV_ID.fullmatch(re.sub(r"^arxiv:", "", str(fields.get("eprint", "")), flags=re.IGNORECASE))
    if eprint and archive == "arxiv":
        return f"arxiv:{eprint['id']}"
    for name in ("journal", "volume", "url", "doi", "howpublished"):
        mention = _ARXIV_MENTION.search(str(fields.get(name, "")))
        if mention:
            return f"arxiv:{mention['id']}"
    acl = _ACL_URL.fullmatch(str(fields.get("url", "")))
    if acl:
        return f"acl:{acl[1]}"
    doi = plain_doi(str(fields.get("doi", "")))
    return f"doi:{doi}" if doi else f"bib:{key}" if key else ""


def at_meeting(paper: Paper) -> bool:
    """Whether the paper's venue is a conference or workshop, and else a journal."""
    acl = paper.paper_id.startswith("acl:")
    return bool(paper.venue) and (acl or bool(_MEETING.search(paper.venue)))


def bibtex(paper: Paper, key: str | None = None) -> str:
    """The paper as one BibTeX entry, from the fields of its record alone, in LaTeX's encoding.

    Its key is data.keys.citation_key's unless one is given.
    """
    scheme, _, name = paper.paper_id.partition(":")
    meeting = at_meeting(paper)
    fields = {
        "title": _TOKEN.sub(lambda match: _protected(match[0]), paper.title),
        "author": " and ".join(_author(author) for author in paper.authors),
        "year": str(paper.year or ""),
        "booktitle" if meeting else "journal": _encode(paper.venue),
        "doi": paper.valid_doi,
    }
    if scheme == "arxiv" and ARXIV_ID.fullmatch(name):
        fields |= {"eprint": name, "archiveprefix": "arXiv"}
        if paper.categories and _ARXIV_CATEGORY.fullmatch(paper.categories[0]):
            fields["primaryclass"] = paper.categories[0]
    fields["url"] = paper.url or ""
    kind = "inproceedings" if meeting else "article" if paper.venue else "misc"
    entry = Entry(kind, key or citation_key(paper), [Field(k, v) for k, v in fields.items() if v])
    return str(bibtexparser.write_string(Library([entry]))).strip() + "\n"


# BibTeX counts braces even after a backslash, and its quotes are plain inside of braces.
_RULES = {ord("{"): r"{\textbraceleft}", ord("}"): r"{\textbraceright}", ord('"'): '"'}
_ENCODER = UnicodeToLatexEncoder(
    conversion_rules=[UnicodeToLatexConversionRule(RULE_DICT, _RULES), "defaults"],
    replacement_latex_protection="braces-almost-all",
    unknown_char_policy="keep",
    unknown_char_warning=False,
)


def _encode(text: str) -> str:
    """Text with mathematics as LaTeX; the mathematics ($…$ with its braces in pairs) stays as it is."""
    parts = re.split(f"({_MATH})", text)
    parts[::2] = [str(_ENCODER.unicode_to_latex(part)) for part in parts[::2]]
    return "".join(parts)


def _protected(word: str) -> str:
    """A word of a title, braced if it has capitals that BibTeX's styles would lower: BERT, iPod, U-Net."""
    parts = re.split(r"[-–/]", re.sub(_MATH, "", word))
    letters = [re.sub(r"\W", "", part) for part in parts]
    inner = any(c.isupper() for part in letters for c in part[1:])
    single = len(letters) > 1 and any(len(part) == 1 and part.isupper() for part in letters)
    return f"{{{_encode(word)}}}" if inner or single else _encode(word)


def _author(name: str) -> str:
    """A name that BibTeX reads as one person, with `Jr.` where it wants it."""
    encoded = _encode(name)
    if "," in name or re.search(r"\b(?:and|others)\b", name, re.IGNORECASE):
        return f"{{{encoded}}}"
    words = encoded.split()
    if len(words) > 2 and NAME_SUFFIX.fullmatch(words[-1]):
        return f"{words[-2]}, {words[-1]}, {' '.join(words[:-2])}"
    return encoded
