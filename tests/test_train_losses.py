"""The losses against a NumPy computation by hand: who is a negative of whom, and who is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from model.adapter import Adapter
from model.losses import FrozenDocuments, MaskedContrast
from model.retrieval import DevSet, measures, ranks
from model.training_data import Examples

SCALE = 20.0
KINDS = ("deep", "gated", "sparse", "spectral", "frugal")
QUERIES = [f"a sentence about {kind} models of the image" for kind in KINDS]
PASSAGES = [f"{kind} {kind} networks for machine translation" for kind in (*KINDS, "coarse", "hybrid")]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_folder), device="cpu").eval()


@pytest.fixture(scope="module")
def cosines(model: SentenceTransformer) -> Any:
    """Cosines of every query with every passage."""
    queries = model.encode(QUERIES, normalize_embeddings=True)
    passages = model.encode(PASSAGES, normalize_embeddings=True)
    return queries.astype(np.float64) @ passages.astype(np.float64).T


def asked(answers: list[list[int]], known: list[set[int]]) -> Examples:
    return Examples(
        QUERIES[: len(answers)],
        [np.array(a) for a in answers],
        [frozenset(k) for k in known],
        [""] * len(answers),
        np.zeros(len(answers), np.int64),
    )


def features(model: SentenceTransformer, columns: list[list[str]]) -> list[dict[str, Any]]:
    return [model.preprocess(texts) for texts in columns]


def by_hand(cosine: Any, own: int, candidates: list[int]) -> float:
    """Cross-entropy of the own document among the candidates, own included."""
    scores = SCALE * cosine[candidates]
    return float(np.log(np.exp(scores).sum()) - SCALE * cosine[own])


KNOWN = [{0, 1}, {1}, {2}, {3, 0}, {4}]
"""The first query also knows document 1, the fourth document 0: both are in the batch."""


def test_what_is_known_to_be_right_is_no_negative(model: SentenceTransformer, cosines: Any) -> None:
    examples = asked([[n] for n in range(5)], KNOWN)
    loss = MaskedContrast(model, examples, np.arange(7), scale=SCALE)
    labels = torch.tensor([[n, n] for n in range(5)])
    found = loss(features(model, [QUERIES, PASSAGES[:5]]), labels).item()
    negatives = [[0, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 2, 3, 4], [0, 1, 2, 3, 4]]
    expected = np.mean([by_hand(cosines[n], n, negatives[n]) for n in range(5)])
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_same_paper_twice_in_a_batch_is_not_its_own_negative(
    model: SentenceTransformer, cosines: Any
) -> None:
    examples = asked([[0], [0], [1]], [{0}, {0}, {1}])
    loss = MaskedContrast(model, examples, np.arange(7), scale=SCALE)
    labels = torch.tensor([[0, 0], [1, 0], [2, 1]])
    found = loss(features(model, [QUERIES[:3], [PASSAGES[0], PASSAGES[0], PASSAGES[1]]]), labels).item()
    expected = np.mean(
        [by_hand(cosines[0], 0, [0, 1]), by_hand(cosines[1], 0, [0, 1]), by_hand(cosines[2], 1, [1, 0, 0])]
    )
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_duplicate_of_a_right_text_is_no_negative(model: SentenceTransformer, cosines: Any) -> None:
    keys = np.array([0, 0, 2, 3, 4, 5, 6])  # passage 1 has the text or the id of passage 0
    examples = asked([[0], [1], [2]], [{0}, {0}, {2}])
    loss = MaskedContrast(model, examples, keys, scale=SCALE)
    labels = torch.tensor([[n, n] for n in range(3)])
    found = loss(features(model, [QUERIES[:3], PASSAGES[:3]]), labels).item()
    expected = np.mean(
        [by_hand(cosines[0], 0, [0, 2]), by_hand(cosines[1], 1, [1, 2]), by_hand(cosines[2], 2, [0, 1, 2])]
    )
    assert found == pytest.approx(expected, rel=1e-4)


def test_hard_negatives_are_negatives_of_every_query_that_does_not_know_them(
    model: SentenceTransformer, cosines: Any
) -> None:
    examples = asked([[0], [1]], [{0}, {1, 5}])
    loss = MaskedContrast(model, examples, np.arange(7), scale=SCALE)
    labels = torch.tensor([[0, 0, 5], [1, 1, 6]])
    found = loss(features(model, [QUERIES[:2], PASSAGES[:2], PASSAGES[5:7]]), labels).item()
    expected = np.mean([by_hand(cosines[0], 0, [0, 1, 5, 6]), by_hand(cosines[1], 1, [0, 1, 6])])
    assert found == pytest.approx(expected, rel=1e-4)


def test_without_masks_the_loss_is_the_library_s(model: SentenceTransformer) -> None:
    examples = asked([[n] for n in range(5)], KNOWN)
    ours = MaskedContrast(model, examples, np.arange(7), scale=SCALE, mask=False)
    labels = torch.tensor([[n, n] for n in range(5)])
    theirs = MultipleNegativesRankingLoss(model, scale=SCALE)
    columns = [QUERIES, PASSAGES[:5]]
    found = ours(features(model, columns), labels).item()
    assert found == pytest.approx(theirs(features(model, columns), None).item(), rel=1e-5)


def gradients(model: SentenceTransformer, loss: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss().backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_a_cached_batch_has_the_gradients_of_one_in_memory(model: SentenceTransformer) -> None:
    examples = asked([[n] for n in range(5)], KNOWN)
    labels = torch.tensor([[n, n] for n in range(5)])
    columns = [[*QUERIES[:4], "short"], [PASSAGES[0] * 3, *PASSAGES[1:5]]]  # of several lengths
    found = []
    for size in (5, 2):
        loss = MaskedContrast(model, examples, np.arange(7), mini_batch_size=size)
        found.append(gradients(model, lambda loss=loss: loss(features(model, columns), labels)))  # type: ignore[misc]
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-5), name


def test_a_query_without_any_negative_costs_nothing(model: SentenceTransformer) -> None:
    examples = asked([[0]], [{0}])
    loss = MaskedContrast(model, examples, np.arange(7))
    found = gradients(
        model, lambda: loss(features(model, [QUERIES[:1], PASSAGES[:1]]), torch.tensor([[0, 0]]))
    )
    assert all(torch.isfinite(g).all() for g in found.values())


@pytest.mark.parametrize("mini_batch", [2, 8])
def test_frozen_documents_are_all_negatives_but_the_known_ones(
    mini_batch: int, model: SentenceTransformer, cosines: Any
) -> None:
    documents = torch.from_numpy(model.encode(PASSAGES, normalize_embeddings=True))
    keys = np.array([0, 1, 2, 3, 4, 5, 0])  # document 6 repeats document 0
    examples = asked([[0, 1], [1], [2]], [{0, 1}, {1, 4}, {2}])
    loss = FrozenDocuments(model, examples, keys, documents, scale=SCALE, mini_batch_size=mini_batch)
    # Texts of other lengths than their order, and a batch that is not in the order of the examples.
    labels = torch.tensor([[2], [0], [1]])
    found = loss(features(model, [[QUERIES[2], QUERIES[0], QUERIES[1]]]), labels).item()
    first = [by_hand(cosines[0], own, [own, 2, 3, 4, 5]) for own in (0, 1)]
    second = by_hand(cosines[1], 1, [0, 1, 2, 3, 5, 6])
    third = by_hand(cosines[2], 2, [0, 1, 2, 3, 4, 5, 6])
    assert found == pytest.approx(np.mean([np.mean(first), second, third]), rel=1e-4)


def test_measures_agree_with_a_sort_by_hand() -> None:
    rng = np.random.default_rng(3)
    queries, passages = rng.normal(size=(300, 8)), rng.normal(size=(400, 8))
    golds = [rng.choice(400, size=rng.integers(1, 4), replace=False) for _ in range(300)]
    seen = [rng.random(len(g)) < 0.5 for g in golds]
    found = ranks(torch.from_numpy(queries), torch.from_numpy(passages), golds)
    order = np.argsort(-(queries.astype(np.float32) @ passages.astype(np.float32).T), axis=1)
    expected = [np.array([order[q].tolist().index(gold) + 1 for gold in golds[q]]) for q in range(300)]
    assert all(np.array_equal(f, e) for f, e in zip(found, expected, strict=True))
    report = measures(found, DevSet([], golds, seen, []))
    flat, known = np.concatenate(expected), np.concatenate(seen)
    assert report["hit@10"] == pytest.approx((flat <= 10).mean(), abs=1e-4)
    assert report["unseen"] == pytest.approx((flat[~known] <= 10).mean(), abs=1e-4)
    assert report["R@10"] == pytest.approx(np.mean([(e <= 10).mean() for e in expected]), abs=1e-4)
    assert report["MRR"] == pytest.approx((1 / flat).mean(), abs=1e-4)


def test_an_adapter_is_the_identity_when_new_and_two_dense_modules_when_trained() -> None:
    torch.manual_seed(0)
    adapter = Adapter(16, 24).eval()
    vectors = torch.nn.functional.normalize(torch.randn(50, 16), dim=1)
    assert torch.allclose(adapter.adapt(vectors), vectors, atol=1e-6)
    torch.nn.init.normal_(adapter.down.weight, std=0.1)
    torch.nn.init.normal_(adapter.down.bias, std=0.1)
    features: dict[str, Any] = {"sentence_embedding": vectors}
    for module in adapter.as_dense():
        features = module(features)
    assert torch.allclose(features["sentence_embedding"], adapter.adapt(vectors), atol=1e-5)
    assert not torch.allclose(adapter.adapt(vectors), vectors, atol=1e-2)


def test_the_prior_adds_the_log_of_how_often_a_document_is_cited(
    model: SentenceTransformer, cosines: Any
) -> None:
    answers = [[0], [0], [2]]
    examples = asked(answers, [{0}, {0}, {2}])
    documents = torch.from_numpy(model.encode(PASSAGES, normalize_embeddings=True))
    loss = FrozenDocuments(model, examples, np.arange(7), documents, scale=SCALE, prior=0.5)
    prior = 0.5 * np.log1p([2, 0, 1, 0, 0, 0, 0])
    expected = []
    for query, (own,) in enumerate(answers):
        scores = SCALE * cosines[query] + prior
        expected.append(np.log(np.exp(scores).sum()) - scores[own])
    found = loss(features(model, [QUERIES[:3]]), torch.arange(3)[:, None])
    assert float(found) == pytest.approx(float(np.mean(expected)), abs=1e-3)
