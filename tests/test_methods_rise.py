"""RISE against its definition with every coalition, and its masks against what they are said to be."""

import numpy as np
import pytest

from pellucid import Logit, explain
from pellucid.games import FunctionGame, ask
from pellucid.games.table import all_coalitions
from pellucid.methods import Banzhaf, Rise, make_method
from test_image_classifier import classifier, drawn

WEIGHTS = np.array([3.0, -2.0, 0.5, 0.0, 1.0])


def game(players=5, seen=None):
    def play(coalitions):
        if seen is not None:
            seen.append(coalitions.copy())
        linear = coalitions @ WEIGHTS[:players]
        return np.stack([linear + 2 * coalitions[:, 0] * coalitions[:, -1], -linear], 1)

    return FunctionGame(play, players)


def test_with_every_coalition_it_is_the_definition():
    """The mean of v where i is there, less the mean of v: the paper's score but for one number for all features."""
    found = Rise(samples=64).estimate(game(), np.random.default_rng(0))
    masks = all_coalitions(5)
    values = game().value(masks)
    for player in range(5):
        there = [value for mask, value in zip(masks, values, strict=True) if mask[player]]
        np.testing.assert_allclose(found.values[:, player], np.mean(there, 0) - values.mean(0))
    papers = masks.T @ values[:, 0] / (len(masks) * 0.5)
    np.testing.assert_allclose(found.values[0] - papers, (found.values[0] - papers)[0])
    np.testing.assert_allclose(found.values, Banzhaf(samples=64).estimate(game(), np.random.default_rng(0)).values / 2)
    assert not found.standard_error.any()
    assert found.settings["exact"]


def test_sampled_scores_scatter_as_their_errors_say():
    exact = Rise(samples=64).estimate(game(), np.random.default_rng(0)).values
    runs = [Rise(samples=16).estimate(game(), np.random.default_rng(seed)) for seed in range(300)]
    values, errors = np.stack([each.values for each in runs]), np.stack([each.standard_error for each in runs])
    assert not runs[0].settings["exact"]
    scatter = values.std(0)
    np.testing.assert_allclose(values.mean(0), exact, atol=4 * scatter.max() / 300**0.5)
    np.testing.assert_allclose(np.sqrt((errors**2).mean(0)), scatter, rtol=0.2)


@pytest.mark.parametrize("players", [1, 2, 5])
def test_complements_follow_and_no_more_is_asked_than_declared(players):
    seen, method = [], Rise(samples=16)
    method.estimate(game(players, seen), np.random.default_rng(1))
    asked = np.concatenate(seen)
    assert len(asked) <= method.rows(players)
    assert {tuple(each) for each in asked} == {tuple(~each) for each in asked}


def masks_of(features, **settings):
    """The coalitions that a picture's features are asked for."""
    model = classifier((28, 28), 1)
    seen = []
    method = make_method("rise", **settings)
    question = ask(model, drawn(28, 28, 1), features=features, target=Logit("dog"))
    inner = question.game._play
    question.game._play = lambda coalitions: (seen.append(coalitions.copy()), inner(coalitions))[1]
    found = method.attribute(question)
    return seen[0], found


def test_a_pictures_masks_are_blobs():
    """Neighbours are there together more often than what is far apart; each is there in half of the masks."""
    masks, found = masks_of("patch:2", samples=400, cells=4)
    np.testing.assert_allclose(masks.mean(0), 0.5, atol=0.01)
    signs = np.where(masks, 1.0, -1.0).reshape(-1, 14, 14)
    near = (signs[:, :, 1:] * signs[:, :, :-1]).mean()
    far = (signs[:, :, 8:] * signs[:, :, :-8]).mean()
    assert near > 0.5
    assert abs(far) < 0.1
    assert np.abs(signs[:, :7].mean((0, 1, 2))) < 0.1
    assert not found.settings["exact"]
    single, _ = masks_of("patch:4", samples=400, cells=28)
    tossed = np.where(single, 1.0, -1.0).reshape(-1, 7, 7)
    assert abs((tossed[:, :, 1:] * tossed[:, :, :-1]).mean()) < 0.1


def test_two_seeds_agree_within_their_errors():
    model, picture = classifier((28, 28), 1), drawn(28, 28, 1)
    options = {"method": "rise", "samples": 600, "features": "patch:7", "target": Logit("dog")}
    first, second = (explain(model, picture, seed=seed, **options) for seed in (0, 1))
    error = np.hypot(first.standard_error, second.standard_error)
    assert (np.abs(first.values - second.values) < 4 * error).all()
    assert not np.array_equal(first.values, second.values)
    again = explain(model, picture, seed=0, **options)
    assert np.array_equal(first.values, again.values)


def test_superpixels_are_features_too():
    model, picture = classifier((28, 28), 1), drawn(28, 28, 1)
    found = explain(model, picture, method="rise", samples=32, features="superpixel:6")
    assert np.isfinite(found.values).all()
    assert found.cost.rows <= 34 + 1
