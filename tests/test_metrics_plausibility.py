"""Metrics that hold an attribution against a rationale, an axiom or nothing at all, end to end."""

import math
from itertools import permutations

import numpy as np
import pytest
import sklearn.metrics
import torch

import tiny
from oracles import metrics as formulas
from oracles import metrics_end_to_end as oracle
from pellucid import metrics
from pellucid.errors import InputError
from pellucid.models import CausalLM, Column, Tabular
from pellucid.targets import Contrast, Logit, Margin

ROW = [0.8, -1.1, 0.4, 1.7, 0.2, -0.6]
VALUES = [3.0, -2.0, 2.5, 0.5, 1.0, -4.0]
MARKS = [True, True, False, False, True, False]


def tabular(module=None, players=6, labels=("low", "middle", "high")):
    module = module or oracle.network(lambda: torch.nn.Linear(6, 5), torch.nn.Tanh, lambda: torch.nn.Linear(5, 3))
    return Tabular(module, [Column(name=f"x{number}") for number in range(players)], list(labels), name="small")


def scored(metric, values=VALUES, marks=MARKS, **options):
    model = options.pop("model", None) or tabular()
    options = {"target": Margin("low"), **options}
    return float(getattr(metrics, metric)(model, options.pop("raw", ROW), values, rationale=marks, **options))


# Plausibility


def test_against_scikit_learn_and_slow_oracles():
    assert scored("auprc") == pytest.approx(sklearn.metrics.average_precision_score(MARKS, VALUES))
    assert scored("auroc") == pytest.approx(sklearn.metrics.roc_auc_score(MARKS, VALUES))
    chosen = [True, False, True, False, True, False]
    assert scored("token_f1") == pytest.approx(sklearn.metrics.f1_score(MARKS, chosen))
    assert scored("token_f1", k=1) == pytest.approx(2 * 1 / (1 + 3))
    assert scored("token_f1", k=100) == pytest.approx(2 * 3 / (6 + 3))
    assert scored("iou_f1") == pytest.approx(formulas.iou_f1(chosen, MARKS, 0.5))
    assert scored("iou_f1", threshold=0.9) == pytest.approx(formulas.iou_f1(chosen, MARKS, 0.9))
    assert scored("relevance_rank") == pytest.approx(formulas.relevance_rank(VALUES, MARKS))
    assert scored("relevance_mass") == pytest.approx((3 + 1) / (3 + 2.5 + 0.5 + 1))
    assert scored("relevance_mass", sign="absolute") == pytest.approx((3 + 2 + 1) / 13)
    assert scored("auroc", sign="absolute") == pytest.approx(sklearn.metrics.roc_auc_score(MARKS, np.abs(VALUES)))


def test_chance_levels_are_what_random_scores_reach():
    """Over all orders of six scores: the levels that the facts name."""
    model = tabular()
    orders = np.array(list(permutations(range(1, 7))), dtype=float)[::5]
    names = ["token_f1", "auroc", "relevance_mass", "relevance_rank"]
    found = {name: [] for name in names}
    for values in np.random.default_rng(0).permutation(orders)[:120]:
        for name in names:
            found[name].append(float(getattr(metrics, name)(model, ROW, values, rationale=MARKS, target=Margin("low"))))
    share = sum(MARKS) / 6
    expected = {
        "token_f1": 2 * 3 * 3 / (6 * (3 + 3)),
        "auroc": 0.5,
        "relevance_mass": share,
        "relevance_rank": share,
    }
    for name in names:
        assert np.mean(found[name]) == pytest.approx(expected[name], abs=0.06), name


@pytest.mark.parametrize("name", ["token_f1", "iou_f1", "auprc", "auroc", "relevance_mass", "relevance_rank"])
def test_nothing_marked_is_undefined_and_nothing_is_asked(name):
    model = tabular()
    assert math.isnan(scored(name, marks=[False] * 6, model=model))
    assert 0 <= scored(name, model=model) <= 1
    assert model.meter.rows == 0


def test_the_pointing_game():
    model = tabular()
    said = model.predicted(model.encode(ROW))
    right = {"model": model, "label": said, "target": Margin(said)}
    assert scored("pointing_game", **right) == 1
    assert scored("pointing_game", np.negative(VALUES), **right) == 0
    assert scored("pointing_game", [1.0, 0.0, 1.0, 0.0, 0.0, 0.0], **right) == 0.5
    assert math.isnan(scored("pointing_game", marks=[False] * 6, **right))
    assert scored("pointing_game", model=model, label=said, target=None) == 1


def test_the_pointing_game_is_refused_where_it_means_nothing():
    model = tabular()
    said = model.predicted(model.encode(ROW))
    wrong = next(label for label in model.labels if label != said)
    with pytest.raises(InputError, match=f"says '{said}' where the label is '{wrong}'.*leave this example out"):
        scored("pointing_game", model=model, label=wrong, target=Margin(wrong))
    with pytest.raises(InputError, match="give the true label as label="):
        scored("pointing_game", model=model, target=Margin(said))
    with pytest.raises(InputError, match="'hihg' is no label of small; it has low, middle, high"):
        scored("pointing_game", model=model, label="hihg", target=Margin(said))
    with pytest.raises(InputError, match=f"asks where '{said}' is seen, and '{wrong}' was explained"):
        scored("pointing_game", model=model, label=said, target=Margin(wrong))
    with pytest.raises(InputError, match="was explained"):
        scored("pointing_game", model=model, label=said, target=Contrast(said, wrong))


def test_the_pointing_game_of_a_language_model():
    model = CausalLM(*tiny.decoder("gpt2"), name="gpt2")
    text = "high risk low"
    said = model.predicted(model.encode(text))
    right = {"model": model, "raw": text, "marks": [True, False, False], "features": "word", "target": Logit(said)}
    assert scored("pointing_game", [3.0, 1.0, 2.0], label=said, **right) == 1
    with pytest.raises(InputError, match="where the label is 'nonsense'"):
        scored("pointing_game", [3.0, 1.0, 2.0], label="nonsense", **right)


def test_rationales_that_do_not_fit_are_refused():
    model = tabular()
    with pytest.raises(InputError, match="give it as rationale="):
        scored("auprc", marks=None, model=model)
    for marks in ([True] * 5, [True] * 7, []):
        with pytest.raises(InputError, match=rf"has {len(marks)} marks and the input 6 features of kind 'column'"):
            scored("auprc", marks=marks, model=model)
    assert model.meter.rows == 0


def test_ties_are_broken_by_the_seed_alone():
    found = [scored("token_f1", [1.0] * 6, seed=seed) for seed in range(10)]
    assert len(set(found)) > 1
    assert found == [scored("token_f1", [1.0] * 6, seed=seed) for seed in range(10)]
    assert scored("auroc", [1.0] * 6) == 0.5
    assert scored("relevance_rank", [1.0] * 6) == pytest.approx(0.5)


# Axioms


def planted():
    """Of six columns the fourth changes nothing, and the second and the third are interchangeable."""
    module = oracle.network(lambda: torch.nn.Linear(6, 5), torch.nn.Tanh, lambda: torch.nn.Linear(5, 3), seed=3)
    with torch.no_grad():
        module[0].weight[:, 3] = 0
        module[0].weight[:, 2] = module[0].weight[:, 1]
    model = tabular(module)
    row = [0.8, -1.1, -1.1, 1.7, 0.2, -0.6]

    def f(present):
        x = torch.tensor([value if place in present else 0.0 for place, value in enumerate(row)], dtype=torch.float64)
        return oracle.in_unit(oracle.numbers(module(x[None])), 0, "log-odds")

    return model, row, f


def test_dummy_and_symmetry_find_what_was_planted():
    model, row, f = planted()
    dummies, pairs = oracle.dummies(f, 6), oracle.interchangeable(f, 6)
    assert (dummies, pairs) == ([3], [(1, 2)])
    for values in (VALUES, np.random.default_rng(0).normal(size=6).tolist()):
        largest = max(map(abs, values))
        asked = {"model": model, "raw": row, "marks": None}
        assert scored("dummy", values, **asked) == pytest.approx(max(abs(values[i]) for i in dummies) / largest)
        expected = max(abs(values[i] - values[j]) for i, j in pairs) / largest
        assert scored("symmetry", values, **asked) == pytest.approx(expected)
    kept = [1.0, 2.0, 2.0, 0.0, -3.0, 0.5]
    assert scored("dummy", kept, **asked) == scored("symmetry", kept, **asked) == 0


def test_dummy_and_symmetry_are_undefined_where_there_is_none():
    assert math.isnan(scored("dummy", marks=None))
    assert math.isnan(scored("symmetry", marks=None))


def test_equal_alone_and_missing_is_not_interchangeable():
    """Without x3 there is an extra x0 x2 (1 - x1): x0 and x1 agree alone and missing, and not beside x2 alone."""

    class Game(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, x):
            x0, x1, x2, x3 = (x > 0.5).double().T
            found = self.scale * (x0 + x1 + (1 - x3) * x0 * x2 * (1 - x1))
            return torch.stack([found, -found, 0 * found], 1)

    model = tabular(Game(), players=4)
    row = [1.0, 1.0, 1.0, 1.0]
    asked = {"model": model, "raw": row, "marks": None, "target": Logit("low")}
    assert math.isnan(scored("symmetry", [1.0, 2.0, 3.0, 4.0], contexts=64, **asked))


def test_more_contexts_only_find_fewer_dummies():
    """x1 matters beside x0 alone, where the whole input and the empty one do not show it."""

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, x):
            x0, x1, x2 = (x > 0.5).double().T
            found = self.scale * (x0 * x1 * (1 - x2) + x2 + x0)
            return torch.stack([found, -found, 0 * found], 1)

    asked = {"model": tabular(Hidden(), players=3), "raw": [1.0, 1.0, 1.0], "marks": None, "target": Logit("low")}
    assert scored("dummy", [1.0, 4.0, 2.0], contexts=2, **asked) == 1
    assert math.isnan(scored("dummy", [1.0, 4.0, 2.0], contexts=32, **asked))


# Complexity


@pytest.mark.parametrize("values", [VALUES, [1.0] * 6, [0.0, 0.0, -2.0, 0.0, 0.0, 0.0]])
def test_sparseness_and_complexity(values):
    model = tabular()
    found = [
        float(getattr(metrics, name)(model, ROW, values, target=Margin("low"))) for name in ("sparseness", "complexity")
    ]
    assert found == [pytest.approx(formulas.gini(values)), pytest.approx(formulas.complexity(values), abs=1e-12)]
    assert model.meter.rows == 0
