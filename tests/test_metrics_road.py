"""ROAD against a dense solve of every pixel's equation and the raw network's labels."""

import inspect

import numpy as np
import pytest
import torch

from oracles import metrics_end_to_end as oracle
from pellucid import metrics
from pellucid.errors import InputError
from pellucid.games import ask
from pellucid.games.tensor_imputers import NOISE
from pellucid.methods import make_method
from pellucid.metrics import Example, Road, evaluate
from pellucid.metrics.functional.road import SHARES, road
from pellucid.models import ImageClassifier
from pellucid.models.pictures import Preprocessing
from pellucid.targets import Logit, Margin
from pellucid.testing import check_metric

LABELS = ["a", "b", "c"]
SIZE, PATCH = (8, 12), 4


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(4 * 96, 3)
        )
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.6)
    return module.eval()


def model(seed=0):
    return ImageClassifier(network(seed), LABELS, Preprocessing(SIZE, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)))


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def filled(row, absent, noise):
    """One dense system of all pixels: those that are there are themselves, the others the mean of their neighbours."""
    height, width = absent.shape
    if absent.all():
        return 0 * row + noise
    matrix, right = np.zeros((absent.size, absent.size)), np.zeros((absent.size, 3))
    for here, (y, x) in enumerate(np.ndindex(height, width)):
        matrix[here, here] = 1
        if not absent[y, x]:
            right[here] = row[:, y, x]
            continue
        around = [
            (v, u)
            for v in (y - 1, y, y + 1)
            for u in (x - 1, x, x + 1)
            if (v, u) != (y, x) and 0 <= v < height and 0 <= u < width
        ]
        weights = [1 / 6 if v == y or u == x else 1 / 12 for v, u in around]
        for (v, u), weight in zip(around, weights, strict=True):
            matrix[here, v * width + u] = -weight / sum(weights)
    solved = np.linalg.solve(matrix, right).T.reshape(row.shape)
    return np.where(absent, solved + noise, row)


def by_hand(module, row, values, seed, shares=SHARES):
    """Share of the steps at which the label stays, least relevant first, less that of most relevant first."""
    noise = NOISE * torch.randn(row.shape, generator=torch.Generator().manual_seed(seed)).numpy()
    owners = np.add.outer(np.arange(SIZE[0]) // PATCH * (SIZE[1] // PATCH), np.arange(SIZE[1]) // PATCH)

    def label(gone):
        point = filled(row.astype(np.float64), np.isin(owners, gone), noise)
        with torch.no_grad():
            return int(module(torch.tensor(point, dtype=torch.float32)[None]).argmax())

    order, said = oracle.most_first(values), label([])
    sizes = [int(np.ceil(round(share * len(values), 6))) for share in shares]
    kept = {way: [label(order[::way][:size]) == said for size in sizes] for way in (1, -1)}
    return (sum(kept[-1]) - sum(kept[1])) / len(sizes)


def test_the_imputer_solves_every_pixels_equation():
    known = model()
    question = ask(known, picture(0), features="patch:4", imputer="noisy-linear", seed=5)
    row = question.inputs.row.numpy()
    noise = NOISE * torch.randn(row.shape, generator=torch.Generator().manual_seed(5)).numpy()
    regions = question.inputs.regions.numpy()
    for coalition in ([1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1], [1, 1, 0, 1, 1, 1], [0] * 6):
        present = np.array([coalition], dtype=bool)
        found = question.game.imputer.rows(present)[0].numpy()
        np.testing.assert_allclose(found, filled(row, ~present[0][regions], noise), atol=1e-4)


def test_scores_are_those_of_the_raw_network():
    known, found, expected = model(), [], []
    for seed in range(12):
        values = np.random.default_rng(seed).normal(size=6)
        row = known.encode(picture(seed)).row.numpy()
        expected.append(by_hand(known.module, row, values, seed))
        found.append(float(metrics.road(known, picture(seed), values, features="patch:4", seed=seed)))
    assert found == pytest.approx(expected)
    assert len(set(found)) > 3
    values = np.random.default_rng(0).normal(size=6)
    row = known.encode(picture(0)).row.numpy()
    few = by_hand(known.module, row, values, 0, shares=(0.2, 0.5))
    assert float(metrics.road(known, picture(0), values, features="patch:4", shares=(0.2, 0.5))) == pytest.approx(few)


def test_the_inverted_map_has_the_negated_score():
    known, values = model(), [np.random.default_rng(seed).normal(size=6) for seed in range(12)]
    raws = [picture(seed) for seed in range(12)]
    scores = metrics.road(known, raws, values, features="patch:4")
    assert scores.abs().max() > 0
    torch.testing.assert_close(metrics.road(known, raws, [-each for each in values], features="patch:4"), -scores)
    absolute = metrics.road(known, raws, [-each for each in values], features="patch:4", sign="absolute")
    torch.testing.assert_close(absolute, metrics.road(known, raws, values, features="patch:4", sign="absolute"))


def test_neither_the_imputer_nor_the_target_of_the_question_matters():
    known, values = model(), np.arange(6.0)
    options = [
        {}, {"imputer": "mean"}, {"imputer": "noisy-linear"}, {"imputer": "blur"}, {"target": Logit("b")},
        {"target": Margin("c")},
    ]  # fmt: skip
    found = [float(metrics.road(known, picture(3), values, features="patch:4", **each)) for each in options]
    assert len(set(found)) == 1
    question = ask(known, picture(3), features="patch:4", imputer="mean")
    assert Road().named(question) == "road [noisy-linear, patch, label]"
    assert Road(shares=(0.5,)).named(question) == "road [noisy-linear, patch, label, shares=[0.5]]"


def test_equal_pictures_are_asked_once():
    known = model()
    question = ask(known, picture(1), features="patch:4", imputer="noisy-linear")
    before = known.meter.rows
    Road().score(Example(question, np.arange(6.0)))
    # Shares from 0.1 to 0.9 of six patches are 1 to 6 of them; both ways end at the empty picture.
    assert known.meter.rows - before == 1 + 5 + 5 + 1 <= Road().rows(6)


def test_it_tells_a_method_from_noise():
    """Exact Shapley values with ROAD's own imputer, on pictures that nobody chose."""
    known, raws = model(), [picture(seed) for seed in range(20)]
    method = make_method("exact_shapley")
    rows = {"shapley": [], "noise": []}
    for seed, raw in enumerate(raws):
        question = ask(known, raw, features="patch:4", imputer="noisy-linear", seed=seed)
        rows["shapley"].append(method.attribute(question).values[0])
        rows["noise"].append(np.random.default_rng(100 + seed).normal(size=6))
    shapley, noise = evaluate(known, raws, rows, [Road()], features="patch:4")
    assert shapley.values.mean() > noise.values.mean() + 0.2
    assert "random is centred at 0" in check_metric(Road())


def test_what_is_no_picture_is_refused():
    for name in ("bert mask", "table"):
        case = oracle.CASES[name]()
        with pytest.raises(InputError, match="road fills in pixels of a picture and looks at its label"):
            metrics.road(case.model, case.raw, np.arange(float(case.players)), **case.options)
    unchecked = inspect.unwrap(road)
    with pytest.raises(InputError, match="there are 2 steps of one curve and 1 of the other"):
        unchecked(np.ones(2, bool), np.ones(1, bool))
    with pytest.raises(InputError, match="there are 0 steps"):
        unchecked(np.ones(0, bool), np.ones(0, bool))
