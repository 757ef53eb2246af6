"""Metrics against Quantus and ferret, where these are right, on the scores in ``fixtures/peer_scores``."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

import peer_networks
import pellucid
from pellucid import Logit, Margin
from pellucid.games import ask, tensor_imputers
from pellucid.metrics import (
    Auroc,
    Completeness,
    Complexity,
    Comprehensiveness,
    Example,
    FaithfulnessCorrelation,
    FaithfulnessEstimate,
    Monotonicity,
    MonotonicityCorrelation,
    PointingGame,
    RelevanceMass,
    RelevanceRank,
    Sparseness,
    Sufficiency,
)
from pellucid.metrics.functional import removal
from pellucid.models import ImageClassifier, Preprocessing

FOLDER = Path(__file__).parent / "fixtures" / "peer_scores"
QUANTUS = json.loads((FOLDER / "quantus.json").read_text())
FERRET = json.loads((FOLDER / "ferret.json").read_text())
KINDS = list(QUANTUS["attributions"])
PICTURES = peer_networks.pictures(len(QUANTUS["classes"]))


@pytest.fixture(scope="module")
def model():
    side = peer_networks.SIDE
    preprocessing = Preprocessing((side, side), (peer_networks.MEAN,), (peer_networks.STD,))
    return ImageClassifier(peer_networks.picture_network(), ["a", "b", "c"], preprocessing, name="peers'")


@pytest.fixture(scope="module")
def questions(model):
    """One question for each picture: the logit of its class, from zeros."""
    return [
        ask(model, picture, target=Logit("abc"[class_]), features="pixel", imputer="zero")
        for picture, class_ in zip(PICTURES, QUANTUS["classes"], strict=True)
    ]


@pytest.fixture(scope="module")
def texts():
    model = pellucid.load(peer_networks.text_network(), dtype="float64")
    return [ask(model, text, target=Margin("yes"), features="token", imputer="delete") for text in FERRET["texts"]]


def examples(questions, kind):
    """Each picture with an attribution and its mask."""
    return [
        Example(question, np.array(values), rationale=np.array(mask, dtype=bool), label=question.target.output_names[0])
        for question, values, mask in zip(questions, QUANTUS["attributions"][kind], QUANTUS["masks"], strict=True)
    ]


def test_the_networks_are_the_ones_that_were_scored(model, texts):
    x = torch.from_numpy(peer_networks.standardised(PICTURES))
    np.testing.assert_allclose(model.module(x).detach(), QUANTUS["logits"], rtol=1e-6)
    margins = [question.game.full[0] for question in texts]
    np.testing.assert_allclose(margins, np.diff(FERRET["logits"], axis=1)[:, 0], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_pixel_flipping_is_quantus(questions, kind):
    """Ours begins at the whole picture, theirs after the first pixel."""
    for each, theirs in zip(examples(questions, kind), QUANTUS["right"]["pixel_flipping"][kind], strict=True):
        coalitions = removal.removed(removal.order(each.values, 0), np.arange(1, 37))
        np.testing.assert_allclose(each.question.game.value(coalitions)[:, 0], theirs, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_selectivity_is_quantus(model, kind):
    """Patches of 2 x 2, by the sum of their scores, the highest first."""
    for picture, class_, values, theirs in zip(
        PICTURES, QUANTUS["classes"], QUANTUS["attributions"][kind], QUANTUS["right"]["selectivity"][kind], strict=True
    ):
        question = ask(model, picture, target=Logit("abc"[class_]), features="patch:2", imputer="zero")
        sums = np.array(values).reshape(3, 2, 3, 2).sum((1, 3)).ravel()
        curve = question.game.value(removal.removed(removal.order(sums, 0), np.arange(1, 10)))[:, 0]
        np.testing.assert_allclose(curve, theirs, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "metric", "factor"),
    [
        ("faithfulness_estimate", FaithfulnessEstimate(), 1),
        ("monotonicity_correlation", MonotonicityCorrelation(), 1),
        ("sparseness", Sparseness(), 1),
        # Theirs is the entropy itself, in nats; ours is a share of its largest value.
        ("complexity", Complexity(), np.log(36)),
        ("relevance_mass", RelevanceMass(sign="absolute"), 1),
        ("relevance_rank", RelevanceRank(), 1),
        ("auroc", Auroc(), 1),
    ],
)
def test_scores_are_quantus(questions, name, metric, factor, kind):
    ours = [factor * metric.score(each) for each in examples(questions, kind)]
    np.testing.assert_allclose(ours, QUANTUS["right"][name][kind], atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_faithfulness_correlation_is_quantus_up_to_the_draws(questions, kind):
    """Each side draws 3000 subsets of its own; the standard error of either is below 0.02."""
    metric = FaithfulnessCorrelation(share=QUANTUS["subset"] / 36, subsets=3000)
    ours = [metric.score(each) for each in examples(questions, kind)]
    np.testing.assert_allclose(ours, QUANTUS["right"]["faithfulness_correlation"][kind], atol=0.06)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pointing_game_is_quantus_of_sizes(questions, kind):
    """Theirs takes the size of a score whatever it is told, so that a negated map scores the same."""
    ours = [PointingGame().score(each._replace(values=np.abs(each.values))) for each in examples(questions, kind)]
    np.testing.assert_array_equal(np.array(ours, dtype=bool), QUANTUS["right"]["pointing_game"][kind])
    theirs = QUANTUS["right"]["pointing_game"]
    assert theirs["occlusion"] == theirs["negated"]


def test_absent_pixels_are_filled_as_quantus_fills_them(model, monkeypatch):
    monkeypatch.setattr(tensor_imputers, "NOISE", 0.0)
    for picture, hole, theirs in zip(PICTURES, QUANTUS["holes"], QUANTUS["filled"], strict=True):
        game = ask(model, picture, features="pixel", imputer="noisy-linear").game
        present = np.ones((1, 36), dtype=bool)
        present[0, hole] = False
        np.testing.assert_allclose(game.imputer.rows(present)[0].flatten(), theirs, atol=1e-5)


@pytest.mark.parametrize("kind", list(FERRET["attributions"]))
@pytest.mark.parametrize(("name", "metric"), [("comprehensiveness", Comprehensiveness), ("sufficiency", Sufficiency)])
def test_bins_are_ferrets(texts, name, metric, kind):
    """Ten tokens and ten bins, scores above 0, a tokenizer that reads back what it wrote: there ferret is right."""
    bins = tuple((np.arange(10) + 1) / 10)
    for question, values, theirs in zip(texts, FERRET["attributions"][kind], FERRET["right"][name][kind], strict=True):
        assert metric(bins=bins).score(Example(question, np.array(values))) == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("kind", list(FERRET["attributions"]))
def test_leaving_one_out_is_ferrets(texts, kind):
    for question, values, theirs in zip(
        texts, FERRET["attributions"][kind], FERRET["right"]["tau_loo"][kind], strict=True
    ):
        rows = np.concatenate([np.ones((1, 10), dtype=bool), ~np.eye(10, dtype=bool)])
        chances = 1 / (1 + np.exp(-question.game.value(rows)[:, 0]))
        assert scipy.stats.kendalltau(chances[0] - chances[1:], values)[0] == pytest.approx(theirs, abs=1e-6)


# Where they are wrong: what was measured, so that a reader of both knows why the numbers differ


def test_quantus_monotonicity_says_yes_to_anything_and_ours_does_not(questions):
    assert all(all(scores) for scores in QUANTUS["wrong"]["monotonicity"].values())
    ours = {kind: np.array([Monotonicity().score(each) for each in examples(questions, kind)]) for kind in KINDS}
    assert (ours["occlusion"] > 0.5).all()
    assert (np.abs(ours["noise"]) < 0.6).all()
    assert (ours["negated"] < 0).all()


def test_quantus_completeness_says_no_to_a_complete_attribution(questions):
    assert not any(QUANTUS["wrong"]["completeness"]["integrated"])
    gaps = {kind: np.array([Completeness().score(each) for each in examples(questions, kind)]) for kind in KINDS}
    # As near as 2,000 points come to the integral.
    assert (gaps["integrated"] < 0.03).all()
    assert (gaps["occlusion"] > 5 * gaps["integrated"]).all()


def test_quantus_sparseness_of_signed_scores_is_no_gini_index(questions):
    assert max(np.abs(scores).max() for scores in QUANTUS["wrong"]["sparseness_signed"].values()) > 1
    for kind in KINDS:
        assert all(0 <= Sparseness().score(each) <= 1 for each in examples(questions, kind))


def test_ferret_leaves_tokens_and_bins_out_in_silence(texts):
    """Negative scores are never removed, and on a short text the bins are not ten any more."""
    bins = tuple((np.arange(10) + 1) / 10)
    for question, values, theirs in zip(
        texts, FERRET["signed"]["attributions"], FERRET["signed"]["comprehensiveness"], strict=True
    ):
        ours = Comprehensiveness(bins=bins).score(Example(question, np.array(values)))
        assert abs(ours - theirs) > 1e-4
    model = texts[0].model
    for text, values, theirs in zip(
        FERRET["short"]["texts"], FERRET["attributions"]["sizes"], FERRET["short"]["comprehensiveness"], strict=True
    ):
        question = ask(model, text, target=Margin("yes"), features="token", imputer="delete")
        example = Example(question, np.array(values[:4]))
        # 10 and 20 % of four tokens are none, and shares that give the same tokens count once: four bins are left.
        assert Comprehensiveness(bins=(0.25, 0.5, 0.75, 1.0)).score(example) == pytest.approx(theirs, abs=1e-5)
        assert abs(Comprehensiveness(bins=bins).score(example) - theirs) > 1e-5
