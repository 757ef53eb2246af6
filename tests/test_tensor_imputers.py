"""What stands in for an absent pixel or column, held against loops over single pixels."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pellucid import explain
from pellucid.errors import InputError
from pellucid.games import ask
from pellucid.games.tensor import BATCH_NUMBERS
from pellucid.games.tensor_imputers import MOST_DRAWS, NOISE, make_tensor_imputer
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.pictures import Preprocessing
from pellucid.models.tabular import Column, Tabular
from test_image_classifier import MEAN, STD, drawn, network
from test_tabular import COLUMNS, OTHERS, ROW
from test_tabular import network as perceptron

FIXED = ["mean", "black", "zero", "blur"]


def coalitions(players, count=6, seed=0):
    """All, none, and some drawn ones."""
    some = np.random.default_rng(seed).random((count, players)) < 0.5
    return np.concatenate([np.ones((1, players), bool), np.zeros((1, players), bool), some])


def asked(size, channels, kind, name, background=(), seed=0):
    model = ImageClassifier(network(channels), ["a", "b", "c"], Preprocessing(size, MEAN[:channels], STD[:channels]))
    inputs = model.divided(model.encode(drawn(*size, channels)), kind)
    features = model.features(inputs, kind)
    imputer = make_tensor_imputer(name, model, inputs, features, background, seed)
    return model, inputs, features, imputer


def filling(name, row, channels):
    """What an absent pixel takes, by channel, row and column."""
    if name == "blur":
        sigma = 0.1 * max(row.shape[1:])
        return np.stack([gaussian_filter(each.astype(np.float64), sigma, mode="nearest", truncate=3.0) for each in row])
    value = [-MEAN[k] / STD[k] if name == "black" else 0.0 for k in range(channels)]
    return np.broadcast_to(np.array(value)[:, None, None], row.shape)


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "kind"), [((27, 31), "patch:9"), ((9, 5), "pixel"), ((16, 16), "superpixel:6")])
def test_absent_pixels_take_the_baselines(size, kind, channels, name):
    _, inputs, features, imputer = asked(size, channels, kind, name)
    row, regions = inputs.row.numpy(), inputs.regions.numpy()
    filler = filling(name, row, channels)
    drawn_coalitions = coalitions(len(features))
    found = imputer.rows(drawn_coalitions).numpy()
    assert found.shape == (len(drawn_coalitions), *row.shape)
    for coalition, result in zip(drawn_coalitions, found, strict=True):
        expected = row.copy()
        for (y, x), region in np.ndenumerate(regions):
            if not coalition[region]:
                expected[:, y, x] = filler[:, y, x]
        np.testing.assert_allclose(result, expected, atol=1e-5)
    assert np.array_equal(found[0], row)


def test_black_is_black_and_blur_keeps_the_mean():
    model, inputs, _, _ = asked((28, 28), 3, "patch", "black")
    black = model.to_tensor(model.baseline("black", inputs).embedding.expand(1, 784, 3), inputs)[0]
    assert not model.preprocessing.picture(black).any()
    blurred = model.to_tensor(model.baseline("blur", inputs).embedding[None], inputs)[0]
    assert float(blurred.std()) < float(inputs.row.std())
    assert float(blurred.mean()) == pytest.approx(float(inputs.row.mean()), abs=0.05)


def by_iteration(row, absent, sweeps=4000):
    """The weighted mean of the neighbours, put in place again and again until nothing moves [rong2022, section 4]."""
    picture = np.where(absent, 0.0, row.astype(np.float64))
    height, width = row.shape[1:]
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    for _ in range(sweeps):
        largest = 0.0
        for y, x in np.argwhere(absent):
            total, weights = np.zeros(len(row)), 0.0
            for dy, dx in steps:
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    weight = 1 / 12 if dy and dx else 1 / 6
                    total += weight * picture[:, y + dy, x + dx]
                    weights += weight
            largest = max(largest, np.abs(total / weights - picture[:, y, x]).max())
            picture[:, y, x] = total / weights
        if largest < 1e-9:
            return picture
    raise AssertionError("the iteration did not converge")


@pytest.mark.parametrize(
    ("size", "channels", "kind"), [((9, 7), 3, "patch:2"), ((6, 11), 1, "pixel"), ((1, 8), 1, "pixel")]
)
def test_noisy_linear_solves_the_equation_of_the_neighbours(size, channels, kind):
    _, inputs, features, imputer = asked(size, channels, kind, "noisy-linear", seed=3)
    row, regions = inputs.row.numpy(), inputs.regions.numpy()
    noise = NOISE * torch.randn(row.shape, generator=torch.Generator().manual_seed(3)).numpy()
    played = coalitions(len(features))[2:]
    for coalition, found in zip(played, imputer.rows(played).numpy(), strict=True):
        absent = ~coalition[regions]
        assert absent.any()
        assert np.array_equal(found[:, ~absent], row[:, ~absent])
        np.testing.assert_allclose(np.where(absent, found - noise, row), by_iteration(row, absent), atol=1e-5)


def test_noisy_linear_of_everything_and_of_nothing():
    _, inputs, features, imputer = asked((9, 7), 3, "patch:2", "noisy-linear")
    whole, nothing = imputer.rows(coalitions(len(features))[:2])
    assert torch.equal(whole, inputs.row)
    assert 0 < float(nothing.abs().max()) < 6 * NOISE


def test_noisy_linear_keeps_a_plane_and_one_pixel_is_no_error():
    """A linear ramp solves the equation wherever all neighbours are there."""
    model = ImageClassifier(network(1), ["a", "b", "c"], Preprocessing((12, 12), (0.5,), (0.25,)))
    ramp = np.add.outer(np.arange(12) * 10, np.arange(12) * 8).astype(np.uint8)
    inputs = model.divided(model.encode(ramp), "pixel")
    coalition = np.ones((1, 144), bool)
    coalition[0, [5 * 12 + 5, 5 * 12 + 6, 6 * 12 + 5]] = False
    imputer = make_tensor_imputer("noisy-linear", model, inputs, model.features(inputs, "pixel"))
    assert float((imputer.rows(coalition)[0] - inputs.row).abs().max()) < 6 * NOISE
    tiny = ImageClassifier(network(1), ["a", "b", "c"], Preprocessing((1, 1), (0.5,), (0.25,)))
    assert explain(tiny, ramp, method="occlusion", features="pixel", baseline="noisy-linear").values.shape == (1, 1)


def test_the_noise_follows_the_seed():
    rows = [
        asked((9, 7), 3, "patch:2", "noisy-linear", seed=seed)[3].rows(np.zeros((1, 20), bool)) for seed in (1, 1, 2)
    ]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_marginal_pixels_come_from_other_pictures_and_the_game_averages():
    others = [drawn(9, 7, seed=seed) // 2 for seed in (1, 2, 3)]
    model, inputs, features, imputer = asked((9, 7), 3, "patch:3", "marginal", others)
    encoded = [model.encode(each).row.numpy() for each in others]
    played = coalitions(len(features))
    found = imputer.rows(played).numpy().reshape(len(played), 3, 3, 9, 7)
    regions = inputs.regions.numpy()
    for coalition, draws in zip(played, found, strict=True):
        for other, result in zip(encoded, draws, strict=True):
            expected = np.where(coalition[regions], inputs.row.numpy(), other)
            assert np.array_equal(result, expected)
    question = ask(model, drawn(9, 7), features="patch:3", imputer="marginal", background=others)
    values = question.game.value(played)[:, 0]
    with torch.no_grad():
        logits = model.module(torch.from_numpy(found.reshape(-1, 3, 9, 7))).double()
    label = model.labels.index(question.target.target.label)
    rest = [k for k in range(3) if k != label]
    margins = (logits[:, label] - logits[:, rest].logsumexp(1)).view(-1, 3).mean(1)
    np.testing.assert_allclose(values, margins.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["mean", "median", "zero", "marginal"])
def test_absent_columns_take_all_their_positions(name):
    model = Tabular(perceptron(), COLUMNS, ["low", "high"], background=OTHERS)
    inputs = model.encode(ROW)
    imputer = make_tensor_imputer(name, model, inputs, model.features(inputs, "column"))
    fillers = {
        "mean": [[0, 0.2, 0.5, 0.3, 0, 0.6, 0.4]],
        "median": [[-0.2, 0, 1, 0, -0.4, 1, 0]],
        "zero": [[0] * 7],
        "marginal": [[-1, 1, 0, 0, -1.6, 1, 0], [0.5, 0, 1, 0, -0.8, 0, 1]],
    }[name]
    row, owner = [1.1, 0, 0, 1, 2.0, 0, 1], [0, 1, 1, 1, 2, 3, 3]
    played = coalitions(4, 10)
    expected = [
        [row[place] if coalition[owner[place]] else filler[place] for place in range(7)]
        for coalition in played
        for filler in fillers
    ]
    np.testing.assert_allclose(imputer.rows(played).numpy(), expected, atol=1e-6)
    assert imputer.draws == len(fillers)


def test_a_background_is_cut_where_it_is_said():
    rows = [{"x": float(number)} for number in range(MOST_DRAWS + 20)]
    model = Tabular(torch.nn.Linear(1, 2), [Column(name="x")], ["low", "high"])
    found = explain(model, [1.0], method="occlusion", baseline="marginal", background=rows)
    assert found.baseline == f"marginal: mean over {MOST_DRAWS} other inputs"
    # The input itself once for the label and once for the game, whatever is drawn; the empty coalition once for each.
    assert found.cost.rows == MOST_DRAWS + 2


def test_the_result_names_what_stood_in():
    model = Tabular(perceptron(), COLUMNS, ["low", "high"], background=OTHERS)
    names = {name: explain(model, ROW, method="occlusion", baseline=name).baseline for name in ("mean", "median")}
    assert names == {"mean": "mean of the training rows", "median": "median of the training rows"}
    assert explain(model, ROW, method="occlusion").baseline == names["mean"]
    picture = asked((9, 7), 3, "patch:3", "blur")[3]
    assert picture.description == "blur: the picture through a Gaussian of 0.9 pixels"


def test_the_same_question_with_another_imputer():
    model = Tabular(perceptron(), COLUMNS, ["low", "high"])
    question = ask(model, ROW)
    assert question.imputed("median").game.imputer.name == "median"
    with pytest.raises(InputError, match="no background rows"):
        question.imputed("marginal")


def test_batches_of_any_size_give_the_same_values_and_stay_within_the_budget(monkeypatch):
    """A budget of two rows cuts even the draws of one coalition apart."""
    others = [drawn(9, 7, seed=seed) for seed in range(5)]
    model = ImageClassifier(network(), ["a", "b", "c"], Preprocessing((9, 7), MEAN, STD))
    played = coalitions(9)
    options = {"features": "patch:3", "imputer": "marginal", "background": others}
    whole = ask(model, drawn(9, 7), **options).game.value(played)
    sizes = []
    run = model.run
    monkeypatch.setattr(model, "run", lambda batch: sizes.append(len(batch)) or run(batch))
    monkeypatch.setitem(BATCH_NUMBERS, "cpu", 2 * 3 * 9 * 7)
    np.testing.assert_allclose(ask(model, drawn(9, 7), **options).game.value(played), whole, atol=1e-6)
    assert max(sizes) == 2
