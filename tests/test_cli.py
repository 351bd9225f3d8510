"""The command: what it prints where, its exit codes, and one line for each thing a user gets wrong."""

import importlib.metadata
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from conftest import environment, write_corpus

import indexer.commands_index
from data.errors import UserError
from indexer.cli import main
from indexer.store import Store
from model.encoder import Encoder

Invoke = Callable[..., Result]
Process = Callable[..., "subprocess.CompletedProcess[str]"]
COMMANDS = sorted(main.commands)
SENTENCE = "Recurrent acoustic models [CITE] turn each utterance into text."


def one_line(result: Result) -> str:
    """The single line on stderr of a command that failed, after the name of the command."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("indexer: ")
    return result.stderr.removeprefix("indexer: ").rstrip("\n")


# Help


@pytest.mark.parametrize("command", [None, *COMMANDS])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help_that_fits_a_terminal(command: str | None, flag: str, invoke: Invoke) -> None:
    result = invoke(*([command] if command else []), flag)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("Usage: ")
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_described(command: str) -> None:
    assert main.commands[command].help
    for parameter in main.commands[command].params:
        assert isinstance(parameter, click.Argument) or getattr(parameter, "help", None), parameter.name


def test_the_commands_are_those_of_the_readme(invoke: Invoke) -> None:
    listed = invoke("--help").stdout
    assert {"build", "search", "evaluate", "info", "check"} <= set(COMMANDS)
    for command in COMMANDS:
        assert re.search(rf"^  {command}  +\w", listed, re.MULTILINE)


def test_help_imports_nothing_heavy(process: Process) -> None:
    script = (
        "import sys\nfrom indexer.cli import main\n"
        "try:\n    main(['search', '--help'])\n"
        "finally:\n    print('imported', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = process("-c", script)
    imported = set(done.stdout.splitlines()[-1].split()[1:])
    assert "click" in imported
    heavy = {"torch", "faiss", "numpy", "pyarrow", "transformers", "sentence_transformers", "streamlit"}
    assert not imported & (heavy | {"bm25s", "datasets", "tqdm", "ir_measures", "huggingface_hub"})


def test_a_search_by_words_loads_neither_encoder_nor_vectors(small_index: Path, process: Process) -> None:
    script = (
        "import sys\nfrom indexer.cli import main\n"
        f"try:\n    main(['search', 'models', '--index', {str(small_index)!r}, '--ranking', 'bm25',"
        " '--author', 'Ito', '--until', '2020'])\n"
        "finally:\n    print('imported', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = process("-c", script)
    imported = set(done.stdout.splitlines()[-1].split()[1:])
    assert {"bm25s", "pyarrow"} <= imported, done.stderr
    heavy = {"torch", "faiss", "transformers", "sentence_transformers", "huggingface_hub", "pandas"}
    assert not imported & heavy


def test_python_m_indexer_is_the_command(process: Process) -> None:
    done = process("-m", "indexer", "--help")
    assert done.returncode == 0
    assert "Build, search and measure an index of papers to cite." in done.stdout


def test_the_version_is_the_package_s(invoke: Invoke) -> None:
    try:
        version = importlib.metadata.version("citemark")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed here")
    assert version in invoke("--version").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["search"],
        ["build"],
        ["evaluate"],
        ["search", "text", "-k", "0"],
        ["search", "text", "-k", "1001"],
        ["search", "text", "-k", "ten"],
        ["search", "text", "--ranking", "magic"],
        ["search", "text", "--device", "tpu"],
        ["build", "starter", "--since", "soon"],
        ["build", "starter", "--max-rejects", "2"],
        ["info", "--unknown"],
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_reason_on_stderr(arguments: list[str], invoke: Invoke) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr


# Results


def test_a_build_says_what_was_read_and_where_the_index_is(
    papers: list[dict[str, Any]], tiny_folder: Path, invoke: Invoke, tmp_path: Path
) -> None:
    source = write_corpus(tmp_path / "corpus.jsonl", [*papers[::10], papers[0], {"id": "untitled"}])
    result = invoke("build", source, "--index", tmp_path / "index", "--encoder", tiny_folder)
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first == "32 records read: 30 accepted, 1 rejected, 1 duplicates"
    assert re.fullmatch(rf"index of 30 papers at {tmp_path}/index, in \d+\.\d s", second)
    assert "rejected line 32: no title" in result.stderr
    assert "encoding" in result.stderr


def test_a_build_lists_no_more_rejects_than_one_reads(
    papers: list[dict[str, Any]], tiny_folder: Path, invoke: Invoke, tmp_path: Path
) -> None:
    source = write_corpus(tmp_path / "corpus.jsonl", [*papers[:10], *[{"id": "x"}] * 13])
    result = invoke(
        "build", source, "--index", tmp_path / "index", "--encoder", tiny_folder, "--max-rejects", "0.9"
    )
    assert result.stderr.count("rejected line") == 10
    assert "… and 3 more, listed in " in result.stderr
    listed = Path(result.stderr.rsplit("listed in ", 1)[1].splitlines()[0])
    assert len(listed.read_text().splitlines()) == 13


def test_a_build_as_json(small_corpus: Path, tiny_folder: Path, invoke: Invoke, tmp_path: Path) -> None:
    result = invoke(
        "build", small_corpus, "--index", tmp_path / "index", "--encoder", tiny_folder, "--json",
        "--category", "cs.CL", "--category", "cs.CV", "--since", "2005", "--until", "2015",
    )  # fmt: skip
    facts = json.loads(result.stdout)
    assert facts["index"] == str(tmp_path / "index")
    assert facts["kept"] == {"categories": ["cs.CL", "cs.CV"], "since": 2005, "until": 2015, "authors": []}
    assert facts["papers"] + facts["filtered"] == facts["read"] == 30
    assert 0 < facts["papers"] < 30


def test_search_lists_titles_scores_and_addresses(index: Path, invoke: Invoke) -> None:
    result = invoke("search", SENTENCE, "--index", index, "-k", "3")
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) == 6
    for rank, (title, facts) in enumerate(zip(lines[::2], lines[1::2], strict=True), 1):
        assert re.fullmatch(rf"  {rank}   [ \d]\d\.\d%  \w.* speech recognition, part \d+", title)
        assert re.fullmatch(r" {13}\w+ \w+( et al\.|, \w+ \w+)?  20\d\d  speech-\d\d", facts)


def test_search_as_json_has_the_whole_of_each_hit(index: Path, invoke: Invoke) -> None:
    result = invoke("search", SENTENCE, "--index", index, "-k", "2", "--json")
    assert result.stderr == ""
    (context,) = json.loads(result.stdout)["contexts"]
    assert context["text"] == SENTENCE
    assert [hit["rank"] for hit in context["hits"]] == [1, 2]
    names = {"paper_id", "title", "abstract", "authors", "year", "url", "score", "dense", "bm25"}
    assert names <= set(context["hits"][0])


def test_several_marks_have_a_list_each_under_their_sentence(index: Path, invoke: Invoke) -> None:
    text = "Speech becomes text [CITE]. Robots grasp with a gripper [CITE]."
    result = invoke("search", text, "--index", index, "-k", "1")
    first, second = result.stdout.split("\n\n")
    assert first.startswith("Speech becomes text [CITE].\n  1  ")
    assert "gripper [CITE]." in second.splitlines()[0]
    assert "grasping" in second.splitlines()[1] or "locomotion" in second.splitlines()[1]


def test_a_dash_reads_the_text_from_stdin(index: Path, invoke: Invoke) -> None:
    typed = invoke("search", SENTENCE, "--index", index)
    piped = invoke("search", "-", "--index", index, input=SENTENCE + "\n")
    assert piped.stdout == typed.stdout
    assert piped.exit_code == 0


def test_bytes_that_are_no_text_are_no_fault(index: Path, invoke: Invoke) -> None:
    result = invoke("search", "-", "--index", index, input=b"speech \xff\xfe recognition [CITE]")
    assert result.exit_code == 0
    assert "speech recognition" in result.stdout


def test_a_text_that_shares_no_word_says_so(index: Path, invoke: Invoke) -> None:
    result = invoke("search", "zyzzyva", "--index", index, "--ranking", "bm25")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == "no paper shares a word with the text; try --ranking best\n"


def test_search_lists_only_what_passes_the_filter(small_index: Path, invoke: Invoke) -> None:
    common = ("search", SENTENCE, "--index", small_index, "--ranking", "bm25", "--json")
    flags = (
        "--category",
        "cs",
        "--since",
        "2005",
        "--until",
        "2020",
        "--author",
        "castro",
        "--author",
        "ITO",
    )
    hits = json.loads(invoke(*common, *flags).stdout)["contexts"][0]["hits"]
    assert hits
    for hit in hits:
        assert hit["categories"][0].startswith("cs.")
        assert 2005 <= hit["year"] <= 2020
        assert {name.split()[-1] for name in hit["authors"]} & {"Castro", "Ito"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--ranking", "dense", "--until", "1900"], "no paper passes the filter\n"),
        (
            ["--ranking", "bm25", "--until", "1900"],
            "no paper that passes the filter shares a word with the text; try --ranking best\n",
        ),
    ],
)
def test_a_filter_that_nothing_passes_is_no_error(
    flags: list[str], said: str, small_index: Path, invoke: Invoke
) -> None:
    result = invoke("search", "models", "--index", small_index, "--device", "cpu", *flags)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", said)
    result = invoke("search", "models", "--index", small_index, "--device", "cpu", *flags, "--json")
    assert json.loads(result.stdout) == {"contexts": [{"text": "models", "nothing_fits": False, "hits": []}]}


def test_an_author_without_a_letter_is_one_line(small_index: Path, invoke: Invoke) -> None:
    assert "author is '!'" in one_line(invoke("search", "models", "--index", small_index, "--author", "!"))


def test_the_environment_is_the_default_and_a_flag_overrides_it(index: Path, invoke: Invoke) -> None:
    variables = {"CITEMARK_INDEX": str(index), "CITEMARK_K": "4", "CITEMARK_RANKING": "bm25"}
    hits = json.loads(invoke("search", SENTENCE, "--json", env=variables).stdout)["contexts"][0]["hits"]
    assert len(hits) == 4
    assert hits[0]["dense"] is None
    result = invoke("search", SENTENCE, "--json", "-k", "2", "--ranking", "dense", env=variables)
    hits = json.loads(result.stdout)["contexts"][0]["hits"]
    assert len(hits) == 2
    assert hits[0]["bm25"] is None


def test_info_reads_well(index: Path, invoke: Invoke) -> None:
    result = invoke("info", "--index", index)
    assert result.stderr == ""
    facts = dict(re.match(r"(.{12}) (.*)", line).groups() for line in result.stdout.splitlines())  # type: ignore[union-attr]
    facts = {name.strip(): value for name, value in facts.items()}
    assert facts["index"] == f"{index}, generation 1, format 1"
    assert facts["papers"] == "300"
    assert facts["records"] == "300 read, 0 rejected, 0 filtered, 0 duplicates"
    assert facts["kept"] == "everything"
    assert re.fullmatch(r"citemark, 384 dimensions, (bf16|fp32) on (cpu|cuda)", facts["encoder"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC, in .*", facts["built"])
    assert re.fullmatch(r"0\.\d MB", facts["size"])


def test_info_as_json(index: Path, invoke: Invoke, encoder: Encoder) -> None:
    facts = json.loads(invoke("info", "--index", index, "--json").stdout)
    assert (facts["papers"], facts["dimension"], facts["generation"]) == (300, 384, "000001")
    assert facts["encoder_fingerprint"] == encoder.fingerprint


def test_check_passes_a_whole_index_and_names_a_damaged_file(
    small_index: Path, invoke: Invoke, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(small_index, root)
    result = invoke("check", "--index", root)
    assert result.exit_code == 0
    assert re.search(
        r"\d+ files, [\d,]+ bytes, all as they were written; 30 papers with", result.stdout.rstrip()
    )
    file = Store(root).open().path / "papers.arrow"
    file.write_bytes(file.read_bytes()[:-1])
    said = one_line(invoke("check", "--index", root))
    assert f"{file} is damaged (sha256 " in said
    assert "); build the index again with: " in said


@pytest.fixture
def contexts_file(papers: list[dict[str, Any]], tmp_path: Path) -> Path:
    rows = [{"text": f"{p['title']} [CITE]", "cited_id": p["id"], "citing_id": "c"} for p in papers[::30]]
    return write_corpus(tmp_path / "contexts.jsonl", rows)


def test_evaluate_prints_a_table_and_writes_its_files(
    contexts_file: Path, index: Path, invoke: Invoke, tmp_path: Path
) -> None:
    result = invoke("evaluate", contexts_file, "--index", index, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert re.search(r"^per query +bm25 +dense +hybrid$", result.stdout, re.MULTILINE)
    assert re.search(r"^per query +best$", result.stdout, re.MULTILINE)
    assert "AUROC" in result.stdout
    assert result.stdout.endswith(f"report.html, report.json, run and qrels are in {tmp_path / 'out'}\n")
    assert "hybrid: 100%" in result.stderr
    names = {"report.html", "report.json", "qrels.txt"} | {
        f"run-{r}.txt" for r in ("bm25", "dense", "hybrid", "best")
    }
    assert {file.name for file in (tmp_path / "out").iterdir()} == names


def test_evaluate_as_json_has_the_rows(
    contexts_file: Path, small_index: Path, papers: list[dict[str, Any]], invoke: Invoke, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(small_index, root)
    result = invoke(
        "evaluate", contexts_file, "--index", root, "--json", "--ranking", "bm25", "--ranking", "dense"
    )
    report = json.loads(result.stdout)
    assert [row["name"] for row in report["rows"]] == ["bm25", "dense"]
    for row in report["rows"]:
        assert {"R@10", "hit@10", "RR", "MRR", "nDCG@10"} <= set(row)
    assert report["rows"][0]["hit@10"] == 1
    assert (tmp_path / "copy-evaluation" / "report.json").exists()
    assert report["drawn_from"] is None


def test_evaluate_asks_some_of_the_queries_and_says_so(
    contexts_file: Path, small_index: Path, invoke: Invoke, tmp_path: Path
) -> None:
    flags = ("--index", small_index, "--ranking", "bm25", "--queries", 4, "--out", tmp_path / "out")
    lines = invoke("evaluate", contexts_file, *flags).stdout.splitlines()
    assert lines[0].startswith("4 contexts (4 queries) over 30 papers")
    assert lines[1] == "the queries are a sample, always the same, of 10"
    assert json.loads((tmp_path / "out" / "report.json").read_text())["drawn_from"] == 10


# What users get wrong


def test_no_index_yet(invoke: Invoke, contexts_file: Path, tmp_path: Path) -> None:
    for arguments in (["search", "text"], ["info"], ["check"], ["evaluate", contexts_file]):
        line = one_line(invoke(*arguments, "--index", tmp_path / "none"))
        assert line.startswith(f"no index at {tmp_path}/none; build one with: indexer build starter --index ")


@pytest.mark.parametrize("text", ["", "   ", "\n", "[CITE]", "[CITE] [OTHER].", "\x00\x07"])
def test_an_empty_text(text: str, index: Path, invoke: Invoke) -> None:
    assert "empty" in one_line(invoke("search", text, "--index", index))


def test_a_text_that_is_too_long(index: Path, invoke: Invoke) -> None:
    assert "20,001 characters, the limit is 20,000" in one_line(
        invoke("search", "x" * 20_001, "--index", index)
    )
    assert "the limit is 20,000" in one_line(invoke("search", "-", "--index", index, input="x " * 2_000_000))


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.jsonl", None, "no such file"),
        ("papers.docx", "text", "unknown format '.docx'"),
        ("empty.jsonl", "", "no papers in it"),
        ("empty.bib", "", "no papers in it"),
        ("prose.jsonl", "once upon a time\n", "1 of 1 records are no papers"),
        ("broken.parquet", "PAR1", "cannot be read"),
        ("broken.jsonl.gz", "no gzip", "cannot be read"),
        ("binary.csv", "\x00\x1b[31m\x02", r"'title' in the header line \('\\x00\\x1b\[31m\\x02'\)"),
    ],
)
def test_a_source_that_cannot_be_built(
    name: str, content: str | None, said: str, tiny_folder: Path, invoke: Invoke, tmp_path: Path
) -> None:
    source = tmp_path / name if content is None else write(tmp_path / name, content)
    # The bar of a reading that came to nothing is not the message.
    result = invoke("build", source, "--index", tmp_path / "index", "--encoder", tiny_folder)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = [line for line in re.split(r"[\r\n]+", result.stderr) if line and "reading:" not in line]
    assert len(lines) == 1
    assert re.search(said, lines[0])
    assert str(source) in lines[0]


def test_a_source_or_a_folder_is_refused_before_the_encoder_is_loaded(
    small_corpus: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.encoder.Encoder", None)  # would fail with something else
    assert "no such file" in one_line(invoke("build", tmp_path / "none.jsonl", "--index", tmp_path / "index"))
    blocked = write(tmp_path / "file", "") / "index"
    assert "cannot be written here" in one_line(invoke("build", small_corpus, "--index", blocked))
    occupied = small_corpus.parent
    assert "holds other files" in one_line(invoke("build", small_corpus, "--index", occupied))


def test_an_encoder_that_is_not_there(small_corpus: Path, invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("build", small_corpus, "--index", tmp_path / "index", "--encoder", "/no/model")
    assert "--encoder /no/model: no such model folder" in one_line(result)


def test_a_second_build_at_the_same_time(small_corpus: Path, invoke: Invoke, tmp_path: Path) -> None:
    with Store(tmp_path / "index").writing():
        line = one_line(invoke("build", small_corpus, "--index", tmp_path / "index"))
    assert line.startswith(f"another process is building {tmp_path}/index; wait for it")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.jsonl", None, "no such file"),
        ("contexts.txt", "text", "contexts.txt"),
        ("empty.jsonl", "", "no contexts"),
        ("prose.jsonl", "once upon a time\n", "no contexts"),
        ("broken.parquet", "PAR1", "cannot be read"),
        ("other.jsonl", '{"text": "a b [CITE]", "cited_id": "elsewhere"}', "none of the 1 cited papers"),
    ],
)
def test_contexts_that_cannot_be_measured(
    name: str, content: str | None, said: str, small_index: Path, invoke: Invoke, tmp_path: Path
) -> None:
    path = tmp_path / name if content is None else write(tmp_path / name, content)
    result = invoke("evaluate", path, "--index", small_index, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert said in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_an_out_that_cannot_be_written(
    contexts_file: Path, small_index: Path, invoke: Invoke, tmp_path: Path
) -> None:
    out = write(tmp_path / "file", "") / "out"
    line = one_line(invoke("evaluate", contexts_file, "--index", small_index, "--out", out))
    assert line.endswith("choose another --out")


@pytest.mark.parametrize(
    ("variable", "value"), [("CITEMARK_K", "many"), ("CITEMARK_DEVICE", "tpu"), ("CITEMARK_RANKING", "x")]
)
def test_a_wrong_environment(variable: str, value: str, invoke: Invoke) -> None:
    line = one_line(invoke("info", env={variable: value}))
    assert value in line


def test_cuda_without_a_gpu(index: Path, small_corpus: Path, invoke: Invoke, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for arguments in (
        ["search", "text", "--index", index],
        ["build", small_corpus, "--index", tmp_path / "index"],
    ):
        assert "--device cpu" in one_line(invoke(*arguments, "--device", "cuda"))


# As processes: nothing of the libraries on stdout, no traceback, interrupts


def test_bad_input_of_a_process_is_one_line_and_exit_code_1(process: Process) -> None:
    for arguments in (["info"], ["search", "text"], ["search", ""], ["build", "none.jsonl"]):
        done = process("-m", "indexer", *arguments)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("indexer: ")


def test_a_process_prints_results_and_progress_apart(
    small_corpus: Path, tiny_folder: Path, process: Process, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    built = process("-m", "indexer", "build", small_corpus, "--index", index, "--encoder", tiny_folder)
    assert built.returncode == 0, built.stderr
    assert len(built.stdout.splitlines()) == 2
    assert "encoding: 100%" in built.stderr
    found = process("-m", "indexer", "search", "storm clouds [CITE]", "--index", index, "--json")
    assert found.returncode == 0
    assert found.stderr == ""
    assert len(json.loads(found.stdout)["contexts"][0]["hits"]) == 10


def test_a_terminal_that_lacks_a_character_is_no_fault(small_index: Path) -> None:
    text = "graph Ünïcode “models”… [CITE], yes [CITE]"
    done = subprocess.run(
        [sys.executable, "-m", "indexer", "search", text, "--index", small_index, "--ranking", "bm25"],
        env=environment(PYTHONIOENCODING="latin-1", PYTHONUTF8="0"),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert "Ünïcode ?models??".encode("latin-1") in done.stdout


def test_an_interrupted_build_says_that_it_goes_on(
    papers: list[dict[str, Any]], start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    many = [paper | {"id": f"{paper['id']}-{copy}"} for copy in range(30) for paper in papers]
    source = write_corpus(tmp_path / "corpus.jsonl", many)
    child = start("-m", "indexer", "build", source, "--index", tmp_path / "index")
    assert child.stderr is not None
    shown = ""
    while "encoding" not in shown:
        character = child.stderr.read(1)
        assert character, shown
        shown += character
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    stdout, rest = child.communicate(timeout=60)
    assert child.returncode == 130
    assert stdout == ""
    assert rest.endswith("\nindexer: interrupted; the same command goes on from here\n")
    assert "Traceback" not in shown + rest
    assert (tmp_path / "index" / "staging" / "papers.arrow").exists()


def test_an_interrupted_search_promises_nothing(small_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("indexer.search.Searcher.search", interrupt)
    result = CliRunner().invoke(main, ["search", "text", "--index", str(small_index)])
    assert (result.exit_code, result.stderr) == (130, "\nindexer: interrupted\n")


def test_a_pipe_that_closes_early_is_no_traceback(small_index: Path, process: Process) -> None:
    script = (
        f"{sys.executable} -m indexer search models --index {small_index} --ranking bm25 -k 30 | head -n 1"
    )
    done = process("-c", f"import subprocess; subprocess.run({script!r}, shell=True)")
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (59.4, "59.4 s"), (59.9, "1 min 0 s"), (3599.6, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert indexer.commands_index._duration(seconds) == said


def test_the_error_of_the_library_below_is_not_swallowed(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours must show its traceback: only UserError becomes one line."""

    def fault(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("indexer.store.Store.open", fault)
    assert isinstance(invoke("info").exception, ZeroDivisionError)
    assert not issubclass(ZeroDivisionError, UserError)
