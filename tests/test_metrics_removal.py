"""Metrics that remove features, end to end, against formulas that ask the raw network."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from oracles import metrics as formulas
from oracles import metrics_end_to_end as oracle
from pellucid import metrics
from pellucid.errors import InputError
from pellucid.metrics.functional.removal import BINS
from pellucid.targets import Logit, Margin, Token

FLOAT = {"rel": 1e-5, "abs": 1e-6}


@pytest.fixture(params=oracle.CASES, scope="module")
def case(request):
    return oracle.CASES[request.param]()


def drawn(case, seed=0):
    return np.random.default_rng(seed).normal(size=case.players)


def asked(metric, case, values, **options):
    """One score, as a user asks for it."""
    scores = getattr(metrics, metric)(case.model, case.raw, values, **{**case.options, **options})
    assert scores.shape == (1,)
    assert scores.dtype == torch.float64
    return float(scores)


CURVES = {
    "morf": ("log-odds", lambda f, order, steps: oracle.flipping(f, order, steps)),
    "lerf": ("log-odds", lambda f, order, steps: oracle.flipping(f, order[::-1], steps)),
    "srg": (
        "log-odds",
        lambda f, order, steps: oracle.flipping(f, order[::-1], steps) - oracle.flipping(f, order, steps),
    ),
    "insertion": ("probability", oracle.filling),
    "deletion": ("probability", oracle.flipping),
}


@pytest.mark.parametrize("metric", CURVES)
def test_curves(case, metric):
    unit, formula = CURVES[metric]
    values = drawn(case)
    for steps in (1, 3, case.players, 20):
        expected = formula(case.worth(unit), oracle.most_first(values), steps)
        assert asked(metric, case, values, steps=steps) == pytest.approx(expected, **FLOAT), steps
    negated = formula(case.worth(unit), oracle.most_first(-values), 20)
    assert asked(metric, case, -values) == pytest.approx(negated, **FLOAT)
    absolute = formula(case.worth(unit), oracle.most_first(abs(values)), 20)
    assert asked(metric, case, values, sign="absolute") == pytest.approx(absolute, **FLOAT)


@pytest.mark.parametrize("metric", ["comprehensiveness", "sufficiency"])
@pytest.mark.parametrize("bins", [BINS, (0.3, 1.0)])
def test_bins(case, metric, bins):
    values = drawn(case, 1)
    formula = getattr(formulas, metric)
    assert asked(metric, case, values, bins=bins) == pytest.approx(
        formula(case.worth("probability"), values, bins), **FLOAT
    )
    in_log_odds = formula(case.worth(), values, bins)
    assert asked(metric, case, values, bins=bins, scale="target") == pytest.approx(in_log_odds, **FLOAT)


def test_log_odds(case):
    values = drawn(case, 2)
    expected = oracle.log_odds(case.worth("log-probability"), oracle.most_first(values), BINS)
    assert asked("log_odds", case, values) == pytest.approx(expected, **FLOAT)


def test_aopc(case):
    values, f = drawn(case, 3), case.worth()
    order = oracle.most_first(values)
    curve = formulas.removal_curve(lambda present: f(sorted(present)), case.players, order)
    assert asked("aopc", case, values) == pytest.approx(formulas.aopc(curve), **FLOAT)
    assert asked("aopc", case, values, steps=2) == pytest.approx(formulas.aopc(curve[:3]), **FLOAT)
    assert asked("aopc", case, values, steps=50) == pytest.approx(formulas.aopc(curve), **FLOAT)


@pytest.mark.parametrize(
    ("target", "unit"), [(Margin("low"), "log-odds"), (Token("low"), "log-probability"), (Logit("low"), "logit")]
)
@pytest.mark.parametrize("name", ["bert mask", "picture", "table"])
def test_units_of_the_target(name, target, unit):
    case, index = oracle.CASES[name](), 0
    values = drawn(case, 4)
    order = oracle.most_first(values)

    def f(unit):
        return lambda present: oracle.in_unit(case.logits(frozenset(present)), index, unit)

    assert asked("morf", case, values, target=target) == pytest.approx(oracle.flipping(f(unit), order, 20), **FLOAT)
    if unit == "logit":
        for metric in ("insertion", "deletion", "comprehensiveness", "sufficiency", "log_odds"):
            with pytest.raises(InputError, match=r"a Logit has no (log-)?probability; explain a Margin or a Token"):
                asked(metric, case, values, target=target)
        return
    for metric, formula in (("insertion", oracle.filling), ("deletion", oracle.flipping)):
        expected = formula(f("probability"), order, 20)
        assert asked(metric, case, values, target=target) == pytest.approx(expected, **FLOAT)
    expected = oracle.log_odds(f("log-probability"), order, BINS)
    assert asked("log_odds", case, values, target=target) == pytest.approx(expected, **FLOAT)


@pytest.mark.parametrize("metric", [*CURVES, "comprehensiveness", "sufficiency", "log_odds", "aopc"])
def test_equal_scores_take_any_order_that_respects_the_others(metric):
    """Not the order of the features, and the same for the same seed."""
    case, values = oracle.table(), np.array([1.0, 3.0, 1.0, 1.0])
    orders = [each for each in permutations(range(4)) if each[0] == 1]
    possible = {round(asked(metric, case, [float(-order.index(place)) for place in range(4)]), 9) for order in orders}
    found = [round(asked(metric, case, values, seed=seed), 9) for seed in range(12)]
    assert set(found) <= possible
    assert len(set(found)) > 1 or len(possible) == 1
    assert found == [round(asked(metric, case, values, seed=seed), 9) for seed in range(12)]


def test_one_feature_only():
    case = oracle.picture()
    f = case.worth()
    full, empty = f(range(6)), f([])
    whole = {"features": "patch:6", "values": [0.3]}

    def one(metric, **options):
        return asked(metric, case, options.pop("values", whole["values"]), features="patch:6", **options)

    for metric in ("morf", "lerf"):
        assert one(metric) == pytest.approx((full + empty) / 2, **FLOAT)
    assert one("srg") == pytest.approx(0, abs=1e-9)
    assert one("aopc") == pytest.approx((full - empty) / 2, **FLOAT)
    p = case.worth("probability")
    assert one("comprehensiveness") == pytest.approx(p(range(6)) - p([]), **FLOAT)
    assert one("sufficiency") == pytest.approx(0, abs=1e-9)
    assert one("completeness", values=[full - empty]) == pytest.approx(0, abs=1e-6)
    for metric in ("faithfulness_correlation", "sensitivity_n", "dummy", "symmetry"):
        assert math.isnan(one(metric))


def test_correlations_come_close_to_those_of_all_subsets(case):
    f, values = case.worth(), drawn(case, 5)
    size = max(1, round(0.4 * case.players))
    expected = oracle.subset_correlation(f, values, size)
    found = asked("faithfulness_correlation", case, values, share=0.4, subsets=4000, seed=1)
    assert found == pytest.approx(expected, abs=0.06)
    assert asked("faithfulness_correlation", case, -values, share=0.4, subsets=4000, seed=1) == pytest.approx(-found)
    sizes = range(1, case.players)
    expected = np.mean([oracle.subset_correlation(f, values, size) for size in sizes])
    found = asked("sensitivity_n", case, values, sizes=case.players - 1, subsets=3000, seed=1)
    assert found == pytest.approx(expected, abs=0.06)


def test_sensitivity_n_looks_at_the_sizes_it_names():
    case, values = oracle.picture(), drawn(oracle.picture(), 6)
    found = asked("sensitivity_n", case, values, sizes=2, subsets=3000)
    expected = np.mean([oracle.subset_correlation(case.worth(), values, size) for size in (1, 5)])
    assert found == pytest.approx(expected, abs=0.05)


def test_infidelity_moves_the_embeddings(case):
    """Towards what the imputer puts there; a word cannot be deleted by degrees."""
    values = drawn(case, 7)
    if case.imputer == "delete":
        with pytest.raises(InputError, match="'delete' is all or nothing; give baseline=, such as 'mask'"):
            asked("infidelity", case, values)
    baseline = {"baseline": "mask"} if case.imputer == "delete" else {}
    generator = torch.Generator().manual_seed(5)
    taken = torch.rand((16, case.players), generator=generator).tolist()
    found = asked("infidelity", case, values, draws=16, seed=5, **baseline)
    assert found == pytest.approx(oracle.infidelity(case, values, taken), rel=1e-4)
    as_token = asked("infidelity", case, values, draws=16, seed=5, target=Token("high"), **baseline)
    assert as_token == pytest.approx(oracle.infidelity(case, values, taken, "log-probability"), rel=1e-4)
    scales = np.linspace(0, 3, 601)
    best = min(oracle.infidelity(case, s * values, taken[:16]) for s in scales) if case.players == 4 else None
    scaled = asked("infidelity", case, values, draws=16, seed=5, optimal_scale=True, **baseline)
    assert scaled <= found + 1e-9
    if best is not None:
        assert scaled == pytest.approx(best, rel=1e-3)


def test_completeness(case):
    f, values = case.worth(), drawn(case, 8)
    difference = f(range(case.players)) - f([])
    expected = abs(values.sum() - difference) / abs(difference)
    assert asked("completeness", case, values) == pytest.approx(expected, rel=1e-4)
    complete = values - (values.sum() - difference) / case.players
    assert asked("completeness", case, complete) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("size", [2, 3])
def test_all_subsets_are_drawn(size):
    """The oracle above would miss a metric that never draws some subsets."""
    members = metrics.FaithfulnessCorrelation(share=size / 5, subsets=300).masks(np.arange(5.0), seed=0)
    found = {tuple(np.flatnonzero(~row)) for row in members[1:]}
    assert members[0].all()
    assert found == set(combinations(range(5), size))
