"""The audit: what it points at in a draft with known faults, and what it leaves alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from drafts import write_draft, write_landmarks

from data.matching import find_records
from data.paper import Paper
from indexer.audit import Audit, audit, report, states_fact
from indexer.build import build
from indexer.cite import open_draft
from indexer.search import Searcher
from indexer.settings import Settings
from model.encoder import Encoder

Invoke = Callable[..., Result]

DRAFT = r"""\title{A draft}\begin{document}
Self-attention without recurrence is enough for translation \citep{vaswani}.

The knowledge of an ensemble is distilled into a small model by soft targets \citep{vaswani, resnet}.

The generator and the discriminator have been trained in a minimax game by many researchers.
We have trained our generator as prior work suggests.

Residual connections ease the training of deep networks \citep{resnet}, but who knows \citep{nowhere}.
It is unknown to the corpus \citep{unknown}. One is open \cite{}.
\bibliography{refs}\end{document}
"""

BIB = r"""@misc{vaswani, title={Attention is all you need}, eprint={1706.03762}, year=2017}
@article{resnet, title={Deep Residual Learning for Image Recognition}, year=2006}
@misc{adam, title={Adam: Some Other Title of This}, eprint={1412.6980}, year=2015}
@misc{gan, title={Generative Adversarial Network}, year=2014}
@misc{vae, title={Auto-Encoding Variational Bayes}, eprint={1301.00001}, year=2013}
@misc{unknown, title={Soil Moisture in Alpine Meadows}, year=2001}
@misc{broken, title={a}, title={b}}
"""


@pytest.fixture(scope="session")
def landmarks(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("landmarks")
    build(str(write_landmarks(root / "corpus.jsonl")), root / "index", tiny)
    return root / "index"


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    (tmp_path / "draft.tex").write_text(DRAFT)
    (tmp_path / "refs.bib").write_text(BIB)
    return tmp_path / "draft.tex"


@pytest.fixture
def result(draft: Path, landmarks: Path) -> Audit:
    return audit(*open_draft(draft), Searcher(Settings(index=landmarks, ranking="bm25")))


def test_a_citation_that_fits_badly_comes_with_better_ones(result: Audit) -> None:
    misfits = {(m.citation.place.split(":")[-1], m.key): m for m in result.misfits}
    assert ("4", "vaswani") in misfits
    assert ("2", "vaswani") not in misfits
    assert ("9", "resnet") not in misfits
    better = misfits["4", "vaswani"].better
    assert better[0].paper.paper_id == "arxiv:1503.02531"
    assert not {"arxiv:1706.03762", "doi:10.1109/CVPR.2016.90"} & {hit.paper.paper_id for hit in better}


def test_only_citations_with_a_record_are_judged(result: Audit) -> None:
    assert (result.judged, result.citations, result.marks) == (4, 6, 1)


def test_a_fact_without_a_citation_is_listed_and_own_work_is_not(result: Audit) -> None:
    (claim,) = result.claims
    assert claim.sentence.text.startswith("The generator and the discriminator have been trained")
    assert claim.candidates[0].paper.paper_id == "arxiv:1406.2661"


def test_entries_that_are_never_cited_and_keys_without_an_entry(result: Audit) -> None:
    assert [entry.key for _, entry in result.uncited] == ["adam", "gan", "vae"]
    assert [key for _, key in result.undefined] == ["nowhere"]


def test_entries_are_compared_with_the_corpus(result: Audit) -> None:
    faults = {(fault.entry.key, fault.what): str(fault) for fault in result.faults}
    assert faults == {
        ("resnet", "year"): "year 2006, in the corpus 2016 (doi:10.1109/CVPR.2016.90)",
        ("adam", "title"): "title 'Adam: Some Other Title of This', in the corpus "
        "'Adam: A Method for Stochastic Optimization' (arxiv:1412.6980)",
        ("gan", "id"): "id 'bib:gan', in the corpus 'arxiv:1406.2661' (arxiv:1406.2661)",
        ("vae", "id"): "id 'arxiv:1301.00001', in the corpus 'arxiv:1312.6114' (arxiv:1312.6114)",
        ("unknown", "absent"): "no record of the corpus",
    }


def test_broken_entries_are_named(result: Audit) -> None:
    assert len(result.broken) == 1
    assert "refs.bib: line 7: Duplicate field" in result.broken[0]


def test_the_report_has_every_part(result: Audit) -> None:
    lines = list(report(result))
    assert lines[0] == "4 of 6 cited papers are in the corpus; 1 mark without a citation"
    heads = [line.strip() for line in lines if line.startswith("\n")]
    assert heads == [
        f"citations that fit their sentence badly ({len(result.misfits)})",
        "sentences that state a fact and cite nothing (1)",
        "keys without an entry (1)",
        "entries that differ from the corpus (4)",
        "entries that match no record of the corpus (1)",
        "entries never cited (3)",
        "entries that cannot be read (1)",
    ]


def test_everything_listed_is_cited(draft: Path, landmarks: Path) -> None:
    draft.write_text(DRAFT + r"\nocite{*}")
    draft.write_text(DRAFT.replace(r"\bibliography", r"\nocite{*}\bibliography"))
    found = audit(*open_draft(draft), Searcher(Settings(index=landmarks, ranking="bm25")))
    assert found.uncited == ()


def test_the_command_prints_lines_or_json(invoke: Invoke, draft: Path, landmarks: Path) -> None:
    options = (draft, "--index", landmarks, "--ranking", "bm25")
    shown = invoke("audit", *options)
    assert shown.exit_code == 0, shown.output
    assert "refs.bib:2  resnet  Deep Residual Learning for Image Recognition" in shown.stdout
    answer = json.loads(invoke("audit", *options, "--json").stdout)
    assert [fault["key"] for fault in answer["faults"]] == ["resnet", "adam", "gan", "vae", "unknown"]
    assert answer["claims"][0]["candidates"][0]["paper_id"] == "arxiv:1406.2661"
    assert answer["misfits"][0]["better"]


def test_a_missing_bib_file_is_one_line(invoke: Invoke, draft: Path, landmarks: Path) -> None:
    shown = invoke("audit", draft, "--bib", draft.parent / "no.bib", "--index", landmarks)
    assert shown.exit_code == 1
    assert "no.bib: no such file; name the .bib file with --bib" in shown.stderr


def test_a_draft_that_cites_nothing_is_audited(landmarks: Path, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n\nNothing is cited.")
    found = audit(*open_draft(tmp_path / "a.md"), Searcher(Settings(index=landmarks, ranking="bm25")))
    assert list(report(found)) == ["0 of 0 cited papers are in the corpus; 0 marks without a citation"]


@pytest.mark.parametrize(
    ("sentence", "fact"),
    [
        ("Convolutional networks have been widely used for object detection.", True),
        ("Recent work shows that large models memorise their training data.", True),
        ("Dropout was introduced to keep units from co-adapting too much.", True),
        ("It is well known that deep networks are hard to train.", True),
        ("We have been using the same networks as in prior work.", False),
        ("Figure 3 shows what has been shown in many studies before.", False),
        ("The value of the threshold equals one half of it.", False),
        ("It has been shown.", False),
    ],
)
def test_what_states_a_fact(sentence: str, fact: bool) -> None:
    assert states_fact(sentence) is fact


def test_sentences_of_the_abstract_need_no_citation() -> None:
    sentence = "Recent work shows that large models memorise their training data."
    assert not states_fact(sentence, f"Some words. {sentence} More.")


def test_records_are_found_by_id_doi_and_title(landmarks: Path) -> None:
    table = Searcher(Settings(index=landmarks)).snapshot.papers
    wanted = [
        Paper("arxiv:1503.02531", "x"),
        Paper("bib:a", "y", doi="10.1109/cvpr.2016.90"),
        Paper("bib:b", "y", doi="10.48550/arXiv.1412.6980"),
        Paper("bib:c", "BERT: Pre-training of deep bidirectional transformers for language understanding"),
        Paper("bib:d", "No such title anywhere"),
    ]
    found = find_records(table, wanted)
    assert [match and match[1].paper_id for match in found] == [
        "arxiv:1503.02531", "doi:10.1109/CVPR.2016.90", "arxiv:1412.6980", "acl:N19-1423", None,
    ]  # fmt: skip
    assert all(table[match[0]] == match[1] for match in found if match)


def test_a_draft_of_several_files_is_audited(landmarks: Path, tmp_path: Path) -> None:
    searcher = Searcher(Settings(index=landmarks, ranking="bm25"))
    found = audit(*open_draft(write_draft(tmp_path)), searcher)
    assert [Path(m.citation.place).name for m in found.misfits] == ["method.tex:3"]
    assert [entry.key for _, entry in found.uncited] == ["resnet"]
