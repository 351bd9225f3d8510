"""The learned ranker: what it is told, what it says, how it is fitted and what it refuses."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from conftest import write_corpus

from data.contexts import Context, Query
from data.errors import UserError
from data.paper import Paper
from indexer.build import build
from indexer.calibration import bins, expected_error
from indexer.candidates import CITED_WEIGHT, FEATURES, LEXICAL_WEIGHT, PROFILE_WEIGHT, Pool
from indexer.fit import Part, fit_ranker, threshold
from indexer.measures import auroc
from indexer.search import Searcher
from indexer.settings import Settings
from model import fitting, ranker
from model.encoder import Encoder
from model.fitting import Example, fit
from model.ranker import Ranker


def silent(*_: object) -> None: ...


def made_up_lists(count: int, seed: int = 0) -> list[Example]:
    """Lists in which the candidate with the greatest first feature is right, four times in five."""
    random = np.random.default_rng(seed)
    lists = []
    for number in range(count):
        features = random.normal(size=(int(random.integers(5, 30)), 4)).astype(np.float32)
        right = np.zeros(len(features), np.bool_)
        if random.random() < 0.8:
            right[int(features[:, 0].argmax())] = True
        lists.append(Example(features, right, f"citing-{number % 50}"))
    return lists


@pytest.fixture(scope="module")
def fitted() -> tuple[Ranker, list[np.ndarray]]:
    return fit(made_up_lists(600), ("a", "b", "c", "d"), "an encoder", silent)


def test_what_was_right_comes_first_in_lists_never_seen(fitted: tuple[Ranker, list[np.ndarray]]) -> None:
    lists = [example for example in made_up_lists(300, seed=1) if example.right.any()]
    found = [fitted[0].probabilities(example.features) for example in lists]
    assert np.mean([e.right[p.argmax()] for e, p in zip(lists, found, strict=True)]) > 0.9


def test_the_probabilities_hold_for_lists_never_seen(fitted: tuple[Ranker, list[np.ndarray]]) -> None:
    lists = made_up_lists(600, seed=2)
    told = np.concatenate([fitted[0].probabilities(example.features) for example in lists])
    right = np.concatenate([example.right for example in lists])
    assert expected_error(told.astype(np.float64), right) < 0.03
    assert told.sum() == pytest.approx(right.sum(), rel=0.15)


def test_the_network_says_what_torch_would(fitted: tuple[Ranker, list[np.ndarray]]) -> None:
    r = fitted[0]
    features = made_up_lists(1, seed=3)[0].features
    x = torch.from_numpy((features - r.mean) / r.spread)
    hidden = torch.nn.functional.gelu(
        x @ torch.from_numpy(r.hidden) + torch.from_numpy(r.bias), approximate="tanh"
    )
    scores = x @ torch.from_numpy(r.linear) + hidden @ torch.from_numpy(r.out)
    none = x.amax(0) @ torch.from_numpy(r.null) + torch.from_numpy(r.null_bias)
    shares = torch.softmax(torch.cat([scores, none]), 0)[:-1]
    expected = torch.sigmoid(r.slope[0] * torch.logit(shares.double()) + r.shift[0])
    np.testing.assert_allclose(r.probabilities(features), expected.numpy(), rtol=1e-3, atol=1e-6)


def test_no_fold_learns_from_its_own_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that saw its own lists would make them look easier than they are."""
    lists = made_up_lists(100)
    trained: list[set[str]] = []
    real = fitting._fitted

    def noted(some: list[Example], *rest: Any) -> object:
        trained.append({example.citing_id for example in some})
        return real(some, *rest)

    monkeypatch.setattr(fitting, "_fitted", noted)
    monkeypatch.setattr(fitting, "EPOCHS", 1)
    fit(lists, ("a", "b", "c", "d"), "an encoder", silent)
    every = {example.citing_id for example in lists}
    left_out = [every - seen for seen in trained]
    assert len(trained) == fitting.FOLDS * fitting.EACH
    assert set().union(*left_out) == every
    assert sum(map(len, left_out)) == len(every) * fitting.EACH


def test_a_ranker_is_saved_and_loaded(fitted: tuple[Ranker, list[np.ndarray]], tmp_path: Path) -> None:
    digest = replace(fitted[0], threshold=0.125).save(tmp_path / "r.safetensors")
    assert digest == hashlib.sha256((tmp_path / "r.safetensors").read_bytes()).hexdigest()
    back = ranker.load(tmp_path / "r.safetensors", ("a", "b", "c", "d"))
    assert (back.encoder, back.threshold, back.features) == ("an encoder", 0.125, ("a", "b", "c", "d"))
    features = made_up_lists(1)[0].features
    np.testing.assert_array_equal(back.probabilities(features), fitted[0].probabilities(features))


def test_what_is_no_ranker_is_refused(fitted: tuple[Ranker, list[np.ndarray]], tmp_path: Path) -> None:
    file = tmp_path / "r.safetensors"
    with pytest.raises(UserError, match=r"cannot be read .* make it again with: indexer fit"):
        ranker.load(file, FEATURES)
    file.write_bytes(b"not one")
    with pytest.raises(UserError, match=r"r\.safetensors: no ranker; make it again"):
        ranker.load(file, FEATURES)
    fitted[0].save(file)
    with pytest.raises(UserError, match="made for the features a, b, c, d"):
        ranker.load(file, FEATURES)
    replace(fitted[0], slope=np.array([np.nan], np.float32)).save(file)
    with pytest.raises(UserError, match="a number that is not finite"):
        ranker.load(file, ("a", "b", "c", "d"))


def test_the_shipped_ranker_is_the_default_encoders() -> None:
    shipped = ranker.load(None, FEATURES)
    assert shipped.encoder == Encoder("citemark", "cpu").fingerprint
    assert 0 < shipped.threshold < 0.5


def test_a_changed_shipped_ranker_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bytearray(ranker.FILE.read_bytes())
    raw[-1] ^= 1
    (tmp_path / "r").write_bytes(raw)
    monkeypatch.setattr(ranker, "FILE", tmp_path / "r")
    with pytest.raises(UserError, match=r"has sha256 .* install citemark again"):
        ranker.load(None, FEATURES)


def test_an_index_by_another_encoder_is_ranked_without_it(small_index: Path, tiny: Encoder) -> None:
    searcher = Searcher(Settings(small_index, "cpu"), tiny)
    assert searcher.ranker() is None
    hits = searcher.search([Context("storms [CITE]")], 3)[0]
    assert [hit.probability for hit in hits] == [None, None, None]
    assert not searcher.nothing_fits(hits)


def test_a_ranker_for_another_encoder_is_refused_with_both(
    small_index: Path, tiny: Encoder, fitted: tuple[Ranker, list[np.ndarray]], tmp_path: Path
) -> None:
    file = tmp_path / "r.safetensors"
    shipped = ranker.load(None, FEATURES)
    replace(shipped, encoder="abc").save(file)
    searcher = Searcher(Settings(small_index, "cpu", ranker=file), tiny)
    with pytest.raises(UserError, match=f"fitted with the encoder abc, .* {tiny.fingerprint}"):
        searcher.search([Context("storms [CITE]")], 3)


def test_probabilities_order_the_hits_and_a_draft_is_read(searcher: Searcher) -> None:
    context = Context("Federated learning [CITE] keeps the data at home.")
    hits = searcher.search([context], 20)[0]
    told = [hit.probability for hit in hits if hit.probability is not None]
    assert len(told) == 20
    assert told == sorted(told, reverse=True)
    assert all(0 < p < 1 for p in told)
    drafted = searcher.search([context], 20, draft=Paper("", "Private learning", "We learn anonymously."))[0]
    assert [h.score for h in drafted] != [h.score for h in hits]
    same = searcher.search([context], 20, "hybrid", draft=Paper("", "Private learning", ""))[0]
    assert same == searcher.search([context], 20, "hybrid")[0]


def pool(**values: object) -> Pool:
    three = np.array([0.5, 0.9, 0.1], np.float32)
    zero = np.zeros(3, np.float32)
    plain = Pool(
        rows=np.array([4, 7, 9]),
        dense=three,
        bm25=np.array([10, 0, 5], np.float32),
        title=np.array([0.5, 0, 1], np.float32),
        cited=np.array([2, 0, 0]),
        renown=np.array([[0] * 4, [3, 4, 0, 3], [0] * 4], np.float32),
        profile=np.array([0.4, 0, 0], np.float32),
        nearest=np.array([0.6, 0, 0], np.float32),
        words=zero,
        draft=None,
        draft_profile=zero,
        length=15,
        evidence=True,
        texts=True,
    )
    return replace(plain, **values)  # type: ignore[arg-type]


def column(some: Pool, name: str) -> list[float]:
    found: list[float] = some.features()[:, FEATURES.index(name)].round(4).tolist()
    return found


def test_features_are_what_they_are_called() -> None:
    some = pool()
    assert some.features().shape == (3, len(FEATURES))
    assert column(some, "cosine gap") == pytest.approx([-0.4, 0, -0.8], abs=1e-4)
    assert column(some, "cosine rank") == pytest.approx(np.log1p([1, 0, 2]).tolist(), abs=1e-4)
    assert column(some, "bm25 share") == [1, 0, 0.5]
    assert column(some, "title") == [0.5, 0, 1]
    assert column(some, "citations") == pytest.approx([np.log(3), 0, 0], abs=1e-4)
    assert column(some, "author") == pytest.approx([0, np.log(4), 0], abs=1e-4)
    assert column(some, "authors") == pytest.approx([0, np.log(5), 0], abs=1e-4)
    assert column(some, "first author") == [0, 0, 0]
    assert column(some, "last author") == column(some, "author")
    assert column(some, "profile gap") == [0, -1, -1]
    assert column(some, "profile rank") == pytest.approx([0, np.log(2), np.log(2)], abs=1e-4)
    assert column(some, "nearest rank") == column(some, "profile rank")
    assert column(some, "words rank") == [0, 0, 0]
    assert column(some, "best bm25") == [0.5, 0.5, 0.5]
    assert column(some, "length") == [0.5, 0.5, 0.5]
    assert column(some, "draft") == [0, 0, 0]
    drafted = pool(draft=np.array([0.2, 0.1, 0.3], np.float32))
    assert column(drafted, "draft") == [1, 1, 1]
    assert column(drafted, "draft gap") == pytest.approx([-0.1, -0.2, 0], abs=1e-4)


def test_the_sum_has_what_is_known_and_the_list_tells_how_clear_it_is() -> None:
    some = pool()
    known = PROFILE_WEIGHT * 0.4 + CITED_WEIGHT * np.log(3)
    expected = np.array([0.5 + LEXICAL_WEIGHT + known, 0.9, 0.1 + LEXICAL_WEIGHT / 2])
    assert some.sum() == pytest.approx(expected, abs=1e-6)
    assert some.sum(0.4) - some.sum(0.2) == pytest.approx([0.2, 0, 0.1], abs=1e-6)
    assert column(some, "sum gap") == pytest.approx((expected - expected.max()).tolist(), abs=1e-4)
    assert column(some, "sum rank") == pytest.approx(np.log1p([1, 0, 2]).tolist(), abs=1e-4)
    assert column(some, "best sum") == pytest.approx([expected.max()] * 3, abs=1e-4)
    assert column(some, "fifth sum") == pytest.approx([np.ptp(expected)] * 3, abs=1e-4)  # of three the last
    many = np.linspace(0.9, 0, 30).astype(np.float32)
    arrays = {n: np.resize(v, (30, *v.shape[1:])) for n, v in vars(some).items() if isinstance(v, np.ndarray)}
    plain = arrays | {"dense": many, "bm25": many * 0, "cited": np.zeros(30, np.int64), "profile": many * 0}
    for name, place in (("fifth sum", 5), ("twentieth sum", 20)):
        assert column(pool(**plain), name)[0] == pytest.approx(0.9 - many[place - 1], abs=1e-4)
    nothing = some.only(np.zeros(3, np.bool_))
    assert nothing.features().shape == (0, len(FEATURES))


def test_a_part_of_a_pool_has_its_own_best() -> None:
    rest = pool().only(np.array([True, False, True]))
    assert rest.rows.tolist() == [4, 9]
    assert column(rest, "cosine gap") == pytest.approx([0, -0.4], abs=1e-4)


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    random = np.random.default_rng(0)
    better, worse = random.integers(0, 20, 300) + 3, random.integers(0, 20, 200)
    pairs = better[:, None] - worse[None]
    assert auroc(better, worse) == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean())
    assert np.isnan(auroc(better, worse[:0]))


def test_the_expected_error_is_the_mean_distance_of_the_bins() -> None:
    told = np.array([0.05, 0.05, 0.95, 0.85])
    right = np.array([False, True, True, False])
    assert expected_error(told, right) == pytest.approx((2 * 0.45 + 0.05 + 0.85) / 4)
    assert bins(told, right)[9] == (1, 0.95, 1.0)
    assert sum(count for count, *_ in bins(told, right)) == 4


def test_thethreshold_is_the_greatest_that_is_right_often_enough() -> None:
    best = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    assert threshold(best, np.array([True, True, False, True, True, False])) == 0.05
    assert threshold(best, np.zeros(6, np.bool_)) == 0.0


def test_too_few_contexts_are_refused(searcher: Searcher) -> None:
    few = [Query("q", Context("storms [CITE]"), "c", ("weather-01",))]
    with pytest.raises(UserError, match="fewer than 100 of the contexts"):
        fit_ranker([Part(searcher, few)], "an encoder", silent)


def test_an_index_of_nothing_but_what_is_cited_is_refused(
    papers: list[dict[str, Any]], tiny: Encoder, tmp_path: Path
) -> None:
    build(str(write_corpus(tmp_path / "two.jsonl", papers[:2])), tmp_path / "two", tiny)
    both = tuple(paper["id"] for paper in papers[:2])
    asked = [Query(f"q{n}", Context(f"Number {n} [CITE]."), f"citing-{n}", both) for n in range(120)]
    with pytest.raises(UserError, match="only papers that are cited"):
        fit_ranker([Part(Searcher(Settings(tmp_path / "two", "cpu"), tiny), asked)], "an encoder", silent)


def test_the_command_fits_on_the_parts_of_several_encoders(
    invoke: Callable[..., Result],
    small_index: Path,
    small_corpus: Path,
    papers: list[dict[str, Any]],
    make_model: Callable[[str, int], Path],
    tiny: Encoder,
    tmp_path: Path,
) -> None:
    """Two indexes, each with contexts of its own, give one ranker, for the encoder that is asked for."""
    other = make_model("roberta", 32)
    build(str(small_corpus), tmp_path / "other", Encoder(str(other), "cpu", "fp32"))
    files = []
    for part in range(2):
        lines = []
        for number in range(part * 100, part * 100 + 100):
            paper = papers[::10][number % 30]
            said = f"Number {number} uses {' '.join(paper['title'].split()[:3])} [CITE]."
            lines.append({"text": said, "citing_id": f"citing-{number % 40}", "cited_id": paper["id"]})
        files.append(tmp_path / f"{part}.jsonl")
        files[-1].write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    asked = ["--index", small_index, "--device", "cpu", "--json"]
    also = ["--also", files[1], tmp_path / "other"]
    result = invoke("fit", files[0], *asked, *also, "--encoder", other, "--out", tmp_path / "both")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    both = ranker.load(tmp_path / "both", FEATURES)
    assert told["sha256"] == hashlib.sha256((tmp_path / "both").read_bytes()).hexdigest()
    assert both.encoder == Encoder(str(other), "cpu").fingerprint != tiny.fingerprint
    alone = json.loads(invoke("fit", files[0], *asked, "--out", tmp_path / "alone").stdout)
    assert ranker.load(tmp_path / "alone", FEATURES).encoder == tiny.fingerprint
    assert 0 <= told["auroc"] <= 1  # an index without evidence, too, has lists without what was cited
    assert 100 <= alone["lists"] < 200 <= told["lists"]
    wrong = invoke("fit", files[0], "--index", small_index, *also, "--reranker", tmp_path)
    assert wrong.exit_code == 2
    assert "give --out FILE with them" in wrong.stderr
