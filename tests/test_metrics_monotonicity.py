"""Metrics of single features against loops over the raw network; and that none of them is vacuous."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from oracles import metrics_end_to_end as oracle
from pellucid import explain, metrics
from pellucid.errors import InputError
from pellucid.games import ask
from pellucid.methods import make_method
from pellucid.metrics import Example, Monotonicity
from pellucid.metrics.functional.monotonicity import (
    faithfulness_estimate,
    monotonicity,
    monotonicity_correlation,
)
from pellucid.models import Column, Tabular
from pellucid.targets import Logit, Margin
from pellucid.testing import metric_gate

FLOAT = {"rel": 1e-5, "abs": 1e-6}
ROWWISE = ["monotonicity", "monotonicity_correlation", "faithfulness_estimate"]


@pytest.fixture(params=["bert mask", "bert delete", "roberta mask", "picture", "table"], scope="module")
def case(request):
    return oracle.CASES[request.param]()


def asked(metric, case, values, **options):
    return float(getattr(metrics, metric)(case.model, case.raw, values, **{**case.options, **options}))


def drawn(case, seed=0):
    return np.random.default_rng(seed).normal(size=case.players)


def climb(f, values):
    """f as the features come, the lowest score first."""
    order = oracle.most_first(values)[::-1]
    return order, [f(order[:size]) for size in range(len(order) + 1)]


def drops(f, players):
    everyone = frozenset(range(players))
    return [f(everyone) - f(everyone - {place}) for place in range(players)]


def test_monotonicity_is_that_of_the_gains(case):
    values = drawn(case)
    order, curve = climb(case.worth(), values)
    gains = np.diff(curve)
    expected = spearmanr([values[place] for place in order], gains).statistic
    assert asked("monotonicity", case, values) == pytest.approx(expected, **FLOAT)
    in_target = spearmanr(range(len(curve)), curve).statistic
    assert asked("monotonicity", case, values, reading="target") == pytest.approx(in_target, **FLOAT)
    share = sum(gain >= -1e-6 * max(map(abs, curve)) for gain in gains) / len(gains)
    assert asked("monotonicity", case, values, reading="share") == pytest.approx(share)


def test_features_may_come_in_groups():
    case = oracle.picture()
    values, f = drawn(case, 1), case.worth()
    order = oracle.most_first(values)[::-1]
    groups = [order[start : start + 2] for start in (0, 2, 4)]
    curve = [f(order[:size]) for size in (0, 2, 4, 6)]
    expected = spearmanr([sum(values[place] for place in group) for group in groups], np.diff(curve)).statistic
    assert asked("monotonicity", case, values, steps=3) == pytest.approx(expected, **FLOAT)
    assert asked("monotonicity", case, values, steps=50) == asked("monotonicity", case, values)
    assert Monotonicity(steps=3).rows(6) == 4
    assert Monotonicity().rows(6) == 7


def test_correlations_with_single_removals(case):
    values, f = drawn(case, 2), case.worth()
    lost = drops(f, case.players)
    pearson, spearman = pearsonr(values, lost).statistic, spearmanr(values, lost).statistic
    assert asked("faithfulness_estimate", case, values) == pytest.approx(pearson, rel=1e-4, abs=1e-5)
    assert asked("faithfulness_estimate", case, values, ranks=True) == pytest.approx(spearman, **FLOAT)
    squares = spearmanr(abs(values), np.square(lost)).statistic
    assert asked("monotonicity_correlation", case, values) == pytest.approx(squares, **FLOAT)
    assert asked("monotonicity_correlation", case, -values) == pytest.approx(squares, **FLOAT)


def test_what_stands_for_a_feature_may_be_drawn():
    """The game takes the mean over other rows, and then the drop is squared."""
    case, columns = oracle.table(), ["age", "grade", "nodes", "size"]
    others = [
        {"age": 40, "grade": "I", "nodes": 0, "size": 33},
        {"age": 70, "grade": "II", "nodes": 12, "size": 5},
        {"age": 55, "grade": "III", "nodes": 1, "size": 40},
    ]

    def f(row):
        with torch.no_grad():
            return float(case.model.module(case.model.encode(row).row[None].double())[0, 2])

    lost = [f(case.raw) - np.mean([f({**case.raw, name: other[name]}) for other in others]) for name in columns]
    values = drawn(case, 3)
    options = {"target": Logit("high"), "imputer": "marginal", "background": others}
    expected = spearmanr(abs(values), np.square(lost)).statistic
    assert asked("monotonicity_correlation", case, values, **options) == pytest.approx(expected, **FLOAT)


def test_occlusion_is_the_target_of_two_of_them(case):
    values = explain(case.model, case.raw, method=make_method("occlusion"), target=case.options["target"],
                     features=case.features, baseline=case.imputer).values.sum(0)  # fmt: skip
    assert asked("faithfulness_estimate", case, values) == pytest.approx(1, abs=1e-4)
    assert asked("faithfulness_estimate", case, -values) == pytest.approx(-1, abs=1e-4)
    assert asked("monotonicity_correlation", case, values) == pytest.approx(1, abs=1e-6)


def additive(weights):
    """A table of features that add up, each speaking for the target as much as its weight says."""
    network = torch.nn.Linear(len(weights), 2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0] * len(weights), weights]))
        network.bias.zero_()
    return Tabular(network, [Column(name=f"x{place}") for place in range(len(weights))], ["no", "yes"])


def test_no_metric_says_the_same_of_a_map_its_negation_and_noise():
    """Quantus 0.6 has a Monotonicity that says True of all three."""
    weights = [0.5, -1.5, 2.0, 0.1, -0.3, 1.0, -2.2]
    model, row = additive(weights), [1.0] * 7
    noise = np.random.default_rng(4).normal(size=(200, 7))
    for metric in ROWWISE:
        call = getattr(metrics, metric)
        truth, negated = (float(call(model, row, sign * np.array(weights), target=Margin("yes"))) for sign in (1, -1))
        by_chance = call(model, [row] * 200, noise, target=Margin("yes")).numpy()
        assert truth == pytest.approx(1)
        assert negated == pytest.approx(1 if metric == "monotonicity_correlation" else -1)
        assert abs(by_chance.mean()) < 0.1
        assert by_chance.std() > 0.2
        assert (by_chance > 0.99).mean() < 0.02


def test_the_readings_that_look_at_the_curve_alone_are_vacuous_where_features_add_up():
    weights = [0.5, 1.5, 2.0, 0.1, 0.7]
    mixed = [0.5, -1.5, 2.0, 0.1, -0.7]
    for order in permutations(range(5)):
        values = [float(place) for place in order]
        for reading in ("target", "share"):
            found = metrics.monotonicity(additive(weights), [1.0] * 5, values, target=Margin("yes"), reading=reading)
            assert float(found) == pytest.approx(1)
        found = metrics.monotonicity(additive(mixed), [1.0] * 5, values, target=Margin("yes"), reading="share")
        assert float(found) == pytest.approx(3 / 5)


@pytest.mark.parametrize("reading", ["target", "share"])
def test_the_gate_finds_the_vacuous_readings(reading):
    findings = {each.name: each.passed for each in metric_gate().check(Monotonicity(reading=reading))}
    assert not findings["oracle beats random"]


def test_noise_is_below_0_where_the_target_saturates():
    """What comes first gains most, whatever it is: chance is not 0, and the facts do not say that it is."""
    assert not Monotonicity.facts.centred
    players = 8
    generator, found = np.random.default_rng(5), []
    for _ in range(300):
        values = generator.normal(size=players)
        order = np.argsort(values)
        present = np.array([[place in order[:size] for place in range(players)] for size in range(players + 1)])
        weight = generator.uniform(0.5, 1.5, players)
        found.append(monotonicity(values, present, 1 - np.exp(-(present @ weight))))
    assert np.mean(found) < -0.3


@pytest.mark.parametrize("metric", ROWWISE)
def test_undefined_is_nan(metric):
    case = oracle.picture()
    assert math.isnan(asked(metric, case, [0.3], features="patch:6"))
    assert math.isnan(asked(metric, case, [0.3] * 6))
    assert math.isnan(float(getattr(metrics, metric)(additive([0.0] * 4), [1.0] * 4, [1.0, 2.0, 3.0, 4.0])))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(bad):
    numbers, there = np.array([1.0, bad, 2.0]), np.tri(4, 3, -1, dtype=bool)
    for call in (
        lambda: monotonicity(numbers, there, np.arange(4.0)),
        lambda: monotonicity(np.arange(3.0), there, np.append(numbers, 0.0)),
        lambda: faithfulness_estimate(numbers, np.arange(3.0)),
        lambda: faithfulness_estimate(np.arange(3.0), numbers),
        lambda: monotonicity_correlation(numbers, np.arange(3.0)),
        lambda: monotonicity_correlation(np.arange(3.0), numbers),
    ):
        with pytest.raises(InputError, match="finite"):
            call()


def test_removals_are_shared_between_them():
    case = oracle.picture()
    question = ask(case.model, case.raw, **case.options)
    example = Example(question, drawn(case, 6))
    before = case.model.meter.rows
    first, second = metrics.FaithfulnessEstimate(), metrics.MonotonicityCorrelation()
    first.score(example)
    assert case.model.meter.rows - before == first.rows(6) == 7
    second.score(example)
    assert case.model.meter.rows - before == 7
    assert first.named(question) == "faithfulness_estimate [mean, patch, log-odds]"
