"""What the tests share: a made-up corpus, an index of it, small models of random weights, the command."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import pytest
from click.testing import CliRunner, Result

from indexer.build import build
from indexer.cli import main
from indexer.gpu import Card
from indexer.search import Searcher
from indexer.settings import Settings
from model.encoder import Encoder

ROOT = Path(__file__).parent.parent

pytest.register_assert_rewrite("door_servers", "proof")  # the plugins of the tests of servers and faults

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # some tests start processes
for name in [name for name in os.environ if name.startswith("CITEMARK_")]:
    del os.environ[name]

# topic: (category, things, methods, tasks)
TOPICS: dict[str, tuple[str, Sequence[str], Sequence[str], Sequence[str]]] = {
    "translation": (
        "cs.CL",
        ("sentence", "phrase"),
        ("attention", "encoder-decoder"),
        ("machine translation",),
    ),
    "vision": (
        "cs.CV",
        ("image", "pixel"),
        ("convolutional", "residual"),
        ("object detection", "segmentation"),
    ),
    "speech": ("eess.AS", ("utterance", "phoneme"), ("acoustic", "recurrent"), ("speech recognition",)),
    "graphs": ("cs.LG", ("node", "edge"), ("message-passing", "spectral"), ("link prediction",)),
    "retrieval": ("cs.IR", ("query", "document"), ("late-interaction", "sparse"), ("passage ranking",)),
    "robotics": (
        "cs.RO",
        ("gripper", "joint"),
        ("model-predictive", "compliant"),
        ("grasping", "locomotion"),
    ),
    "games": ("cs.AI", ("player", "board"), ("tree-search", "self-play"), ("Go and chess",)),
    "privacy": (
        "cs.CR",
        ("client", "gradient"),
        ("federated", "differentially private"),
        ("anonymous learning",),
    ),
    "proteins": (
        "q-bio.BM",
        ("residue", "amino acid"),
        ("equivariant", "evolutionary"),
        ("protein folding",),
    ),
    "weather": (
        "physics.ao-ph",
        ("cloud", "storm"),
        ("ensemble", "spherical"),
        ("precipitation forecasting",),
    ),
    "finance": ("q-fin.ST", ("portfolio", "asset"), ("stochastic", "bayesian"), ("volatility estimation",)),
    "theory": (
        "math.ST",
        ("kernel", "hypothesis"),
        ("minimax", "information-theoretic"),
        ("generalization bounds",),
    ),
}
_CLAIMS = (
    "We study {task} and show that a {method} model of each {thing} is enough.",
    "Every {thing} is first mapped to a vector, which a {method} layer then refines.",
    "Experiments on {number} benchmarks of {task} support the claim.",
    "Unlike earlier {topic} work, no {thing} needs to be labelled by hand.",
    "The {method} approach fails where one {thing} hides another, and we say why.",
)
_GIVEN = ("Ada", "Björn", "Chen", "Dilek", "Emre", "Fatima", "Gustavo", "Hana")
_FAMILY = ("Almeida", "Brandt", "Castro", "Dvořák", "Eriksson", "Fischer", "Güneş", "Ito")
_WORDS = ("Adaptive", "Bounded", "Coarse", "Deep", "Efficient", "Frugal", "Gated", "Hybrid", "Iterative")
_PAPERS_A_TOPIC = 25


def made_up_papers() -> list[dict[str, Any]]:
    """300 papers over the dozen topics, the same at each call; one has no abstract."""
    choice = random.Random(20).choice
    papers: list[dict[str, Any]] = []
    for topic, (category, things, methods, tasks) in TOPICS.items():
        for number in range(_PAPERS_A_TOPIC):
            words = {"topic": topic, "thing": choice(things), "method": choice(methods)}
            words |= {"task": choice(tasks), "number": str(number)}
            claims = [claim.format(**words) for claim in random.Random(number).sample(_CLAIMS, 3)]
            papers.append(
                {
                    "id": f"{topic}-{number:02}",
                    "title": f"{choice(_WORDS)} {words['method']} models for {words['task']}, part {number}",
                    "abstract": " ".join(claims),
                    "authors": [f"{choice(_GIVEN)} {choice(_FAMILY)}" for _ in range(number % 4 + 1)],
                    "year": 2000 + number,
                    "categories": [category],
                }
            )
    papers[7]["abstract"] = ""
    return papers


def write_corpus(path: Path, papers: Sequence[Any]) -> Path:
    """A corpus file of JSON lines."""
    path.write_text("".join(json.dumps(paper) + "\n" for paper in papers), encoding="utf-8")
    return path


def cpu_card(free: int) -> Card:
    """A GPU's card, played by FAISS's CPU classes, with so many bytes that are said to be free."""

    def coded(dimension: int, lists: int, parts: int) -> Any:
        centres = faiss.IndexFlatIP(dimension)
        return faiss.IndexIVFPQ(centres, dimension, lists, parts, 8, faiss.METRIC_INNER_PRODUCT)

    return Card(free, faiss.IndexFlatIP, coded)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    gpus = getattr(faiss, "get_num_gpus", int)()
    no_gpu = pytest.mark.skip(reason="faiss.get_num_gpus() == 0: no GPU, or the CPU build of FAISS")
    slow = pytest.mark.skip(reason="slow: run with pytest -m 'slow or not slow'")
    for item in items:
        if item.get_closest_marker("gpu") and not gpus:
            item.add_marker(no_gpu)
        if item.get_closest_marker("slow") and not config.option.markexpr:
            item.add_marker(slow)


@pytest.fixture(scope="session")
def papers() -> list[dict[str, Any]]:
    return made_up_papers()


@pytest.fixture(scope="session")
def corpus_file(papers: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", papers)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The real default encoder."""
    return Encoder()


@pytest.fixture(scope="session")
def index(corpus_file: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the made-up papers by the real encoder. Copy it before you harm it."""
    root = tmp_path_factory.mktemp("index") / "papers"
    build(str(corpus_file), root, encoder)
    return root


@pytest.fixture(scope="session")
def searcher(index: Path, encoder: Encoder) -> Searcher:
    return Searcher(Settings(index=index), encoder)


Maker = Callable[..., Path]


@pytest.fixture(scope="session")
def make_model(papers: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """make_model(kind, dimension, seed=0) makes a model of random weights and gives its folder.

    `bert` has a WordPiece tokenizer and modules.json with mean pooling, `roberta` a byte-level BPE
    tokenizer and nothing of sentence-transformers: a plain transformers folder. Two layers each.
    """

    def make(kind: str, dimension: int, seed: int = 0) -> Path:
        import torch

        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp(f"{kind}-{dimension}") / "model"
        texts = [f"{paper['title']} {paper['abstract']}" for paper in papers]
        (_bert if kind == "bert" else _roberta)(folder, dimension, texts)
        return folder

    return make


def _bert(folder: Path, dimension: int, texts: list[str]) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=800, special_tokens=list(special.values()))
    )
    cls, sep = words.token_to_id("[CLS]"), words.token_to_id("[SEP]")
    words.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, model_max_length=128, model_input_names=inputs, **special
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=dimension,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * dimension,
        max_position_embeddings=128,
    )
    plain = folder.with_name("plain")
    BertModel(config).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    transformer = Transformer(str(plain))
    SentenceTransformer(modules=[transformer, Pooling(dimension, "mean")], device="cpu").save(str(folder))


def _roberta(folder: Path, dimension: int, texts: list[str]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=800, special_tokens=list(special.values()), initial_alphabet=alphabet),
    )
    words.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, cls_token="<s>", sep_token="</s>", **special)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=dimension,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=dimension,
        max_position_embeddings=66,  # 64 tokens: this kind counts from padding + 1
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_folder(make_model: Maker) -> Path:
    """A model of 32 dimensions and random weights: fast, for where its answers do not matter."""
    return make_model("bert", 32)


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Encoder:
    return Encoder(str(tiny_folder), device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def small_corpus(papers: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One paper in ten."""
    return write_corpus(tmp_path_factory.mktemp("small") / "small.jsonl", papers[::10])


@pytest.fixture(scope="session")
def small_index(small_corpus: Path, tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the small corpus by the tiny encoder. Copy it before you harm it."""
    root = tmp_path_factory.mktemp("small-index") / "papers"
    build(str(small_corpus), root, tiny)
    return root


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command in this process: invoke("search", "text", env={…}, input="…")."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # where a command that forgot its --index would write

    def run(*arguments: object, **options: Any) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments], **options)

    return run


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process that a test starts, with this checkout's code."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **variables}


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python …` as a process of its own in an empty folder: process("-m", "indexer", "info")."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=folder,
            env=environment(**variables),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `python …` and give the process; stdin, stdout and stderr are pipes.

    It heeds an interrupt even where the tests run in a shell's background, which ignores them.
    """

    def run(*arguments: object, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return run


@contextmanager
def page_process(index: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The page over this index as a process of its own, whose output is to be read, and its address to be."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
        cwd=ROOT,
        env=environment(CITEMARK_INDEX=str(index)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process, f"http://127.0.0.1:{port}"
