"""Cohort statistics against scipy, scikit-learn and hand-counted cases."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, roc_auc_score

from pellucid.audit.cohort import agreement, calibration, field_effects, performance
from pellucid.errors import InputError

FIELDS = ["nodes", "size", "grade", "age", "hair", "weekday"]


def values(cases: int = 40, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal([1.0, -0.6, 0.4, 0.1, 0.0, 0.0], [0.3, 0.3, 0.2, 0.1, 0.05, 0.04], (cases, 6))


def test_means_are_the_plain_means_and_intervals_agree_with_scipy() -> None:
    table = values()
    effects = field_effects(table, FIELDS, resamples=5000)
    for column, effect in enumerate(effects):
        assert effect.mean.estimate == pytest.approx(table[:, column].mean(), abs=1e-12)
        assert effect.mean_absolute.estimate == pytest.approx(np.abs(table[:, column]).mean(), abs=1e-12)
        assert effect.fraction_positive == (table[:, column] > 0).mean()
        assert effect.cases == 40
        for interval, sample in ((effect.mean, table[:, column]), (effect.mean_absolute, np.abs(table[:, column]))):
            oracle = stats.bootstrap(
                (sample,), np.mean, method="percentile", n_resamples=5000, random_state=1
            ).confidence_interval
            width = oracle.high - oracle.low
            assert interval.low == pytest.approx(oracle.low, abs=0.06 * width)
            assert interval.high == pytest.approx(oracle.high, abs=0.06 * width)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(100):
        (effect, *_) = field_effects(values(seed=seed), FIELDS, seed=seed, resamples=300, level=0.9)
        assert effect.mean.low is not None
        assert effect.mean.high is not None
        covered += effect.mean.low <= 1.0 <= effect.mean.high
    assert 78 <= covered <= 98


def test_the_seed_decides_and_a_field_without_a_score_in_a_case_is_averaged_over_the_others() -> None:
    table = values()
    table[3:, 2] = np.nan
    first, again = (field_effects(table, FIELDS, seed=4, resamples=200) for _ in range(2))
    other = field_effects(table, FIELDS, seed=5, resamples=200)
    assert first == again
    assert first[0].mean != other[0].mean
    assert first[2].cases == 3
    assert first[2].mean.estimate == pytest.approx(table[:3, 2].mean())
    table[1:, 2] = np.nan
    single = field_effects(table, FIELDS, resamples=200)[2]
    assert (single.mean.low, single.mean.high) == (None, None)
    table[:, 2] = np.nan
    with pytest.raises(InputError, match="'grade' has no finite"):
        field_effects(table, FIELDS)


def test_agreement_of_a_perfect_an_inverted_and_a_tied_order() -> None:
    perfect = np.array([[6.0, -5, 4, 3, 2, 1]] * 3)
    found = agreement(perfect, FIELDS, ["nodes", "size", "grade"], ["hair", "weekday"])
    assert (found.precision_at_k, found.auroc, found.rank_correlation) == (1.0, 1.0, pytest.approx(1.0))
    assert found.decoy_ranks == {"hair": 5.0, "weekday": 6.0}
    assert found.expected_ranks == {"nodes": 1.0, "size": 2.0, "grade": 3.0}
    assert found.precision_by_chance == 0.5
    assert found.precision_per_case.estimate == 1.0
    inverted = agreement(perfect[:, ::-1], FIELDS, ["nodes", "size", "grade"], ["hair", "weekday"])
    assert (inverted.precision_at_k, inverted.auroc, inverted.rank_correlation) == (0.0, 0.0, pytest.approx(-1.0))
    tied = agreement(np.ones((3, 6)), FIELDS, ["nodes", "size", "grade"], ["hair"])
    assert (tied.precision_at_k, tied.auroc, tied.rank_correlation) == (0.5, 0.5, None)
    assert tied.decoy_ranks == {"hair": 3.5}


def test_agreement_agrees_with_scikit_learn_and_scipy() -> None:
    for seed in range(20):
        table = np.round(np.random.default_rng(seed).normal(size=(5, 6)), 1)
        importance = np.abs(table).mean(0)
        expected = ["age", "nodes", "hair"]
        found = agreement(table, FIELDS, expected, resamples=10)
        member = [field in expected for field in FIELDS]
        assert found.auroc == pytest.approx(roc_auc_score(member, importance))
        order = [-importance[FIELDS.index(field)] for field in expected]
        assert found.rank_correlation == pytest.approx(stats.spearmanr([0, 1, 2], order).statistic)
    assert agreement(table, FIELDS, ["age"], resamples=10).rank_correlation is None
    assert agreement(table, FIELDS, FIELDS, resamples=10).auroc is None
    with pytest.raises(InputError, match="nothing to agree with"):
        agreement(table, FIELDS, [])


def test_a_case_without_a_score_for_a_field_counts_it_as_unimportant_there() -> None:
    table = np.array([[1.0, np.nan, 0.5, 0, 0, 0], [1.0, 0.8, 0.5, 0, 0, 0]])
    found = agreement(table, FIELDS, ["nodes", "size"], resamples=10)
    assert found.precision_at_k == 1.0
    assert found.precision_per_case.estimate == 0.75


def test_performance_on_cases_counted_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55], [0.5, 0.5]])
    found = performance(p, ["low", "high"], ["low", "high", "high", "low", None])
    assert (found.cases, found.unknown, found.majority_rate) == (4, 1, 0.5)
    assert found.accuracy.estimate == 0.5
    assert found.brier == pytest.approx(brier_score_loss([0, 1, 1, 0], p[:4, 1]))
    assert [(b.cases, b.accuracy) for b in found.bins] == [(0, None), (0, None), (2, 0.0), (1, 1.0), (1, 1.0)]
    # Bins: {0.6, 0.55} both wrong, {0.8} right (bounds belong to the lower bin), {0.9} right.
    assert found.calibration_error == pytest.approx((1.15 + 0.2 + 0.1) / 4)
    assert {(c.outcome, c.decision): c.cases for c in found.counts} == {
        ("low", "low"): 1,
        ("low", "high"): 1,
        ("high", "low"): 1,
        ("high", "high"): 1,
    }
    with pytest.raises(InputError, match="no case has a known outcome"):
        performance(p[:1], ["low", "high"], [None])


def test_brier_of_several_options_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    p = generator.dirichlet([1, 1, 1], 30)
    outcomes = [["a", "b", "c"][i] for i in generator.integers(0, 3, 30)]
    oracle = brier_score_loss(outcomes, p, labels=["a", "b", "c"], scale_by_half=True)
    assert performance(p, ["a", "b", "c"], outcomes).brier == pytest.approx(oracle)


def test_calibration_error_of_calibrated_and_of_boastful_decisions() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1, 20_000)
    right = generator.uniform(size=20_000) < confidence
    assert calibration(confidence, right, 10)[1] < 0.02
    assert calibration(np.full(1000, 1.0), np.arange(1000) % 2 == 0, 10)[1] == pytest.approx(0.5)
    table, _ = calibration(np.array([0.0, 1.0, 0.2]), np.array([True, True, True]), 5)
    assert [each.cases for each in table] == [2, 0, 0, 0, 1]
