"""Intervals, tests and effect sizes against SciPy, enumeration and simulated data."""

import itertools
import math

import jaxtyping
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import metrics as oracle
from pellucid.errors import InputError
from pellucid.metrics import statistics as ours

quick = settings(max_examples=60, deadline=None, derandomize=True)
WHOLE = st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=9)


def samples(size, seed=0, shift=0.3):
    generator = np.random.default_rng(seed)
    return generator.normal(size=size) + shift, generator.normal(size=size)


# Intervals


@pytest.mark.parametrize(("kind", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
def test_a_bootstrap_without_clusters_is_scipys(kind, theirs):
    values = np.random.default_rng(0).exponential(size=60)
    found = ours.bootstrap(values, draws=20_000, kind=kind)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method=theirs, rng=1)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.015)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.03)
    assert (found.mean, found.n, found.clusters) == (values.mean(), 60, 60)


def test_clusters_are_drawn_whole():
    values, labels = np.array([1.0, 2.0, 3.0, 10.0]), ["a", "b", "a", "c"]
    found = ours.bootstrap(values, labels, draws=50_000)
    drawn = [(x, y, z) for x in "abc" for y in "abc" for z in "abc"]
    means = oracle.bootstrap_means(values.tolist(), labels, drawn)
    assert found.standard_error == pytest.approx(np.std(means), rel=0.02)
    assert (found.low, found.high) == pytest.approx((min(means), max(means)))
    assert (found.mean, found.n, found.clusters) == (4, 4, 3)


def clustered(generator, clusters=40):
    """Examples of several sizes of clusters that share most of their noise; the true mean is 0."""
    labels = np.repeat(np.arange(clusters), generator.integers(1, 6, clusters))
    return generator.normal(size=clusters)[labels] + 0.3 * generator.normal(size=len(labels)), labels.tolist()


def test_intervals_of_clusters_cover_the_truth_and_naive_ones_do_not():
    generator, hits = np.random.default_rng(7), {"percentile": 0, "bca": 0, "naive": 0}
    for seed in range(300):
        values, labels = clustered(generator)
        for name in hits:
            kind = "percentile" if name == "naive" else name
            groups = None if name == "naive" else labels
            found = ours.bootstrap(values, groups, draws=400, kind=kind, seed=seed)
            hits[name] += found.low <= 0 <= found.high
    assert 0.90 <= hits["percentile"] / 300 <= 0.985
    assert 0.90 <= hits["bca"] / 300 <= 0.985
    assert hits["naive"] / 300 < 0.85


def test_the_same_seed_gives_the_same_interval():
    values, _ = samples(50)
    assert ours.bootstrap(values, seed=3) == ours.bootstrap(values, seed=3)
    assert ours.bootstrap(values, seed=3) != ours.bootstrap(values, seed=4)


def test_large_samples_are_drawn_in_pieces(monkeypatch):
    values, _ = samples(50)
    whole = ours.bootstrap(values, draws=300)
    monkeypatch.setattr(ours, "_CHUNK", 1000)
    assert ours.bootstrap(values, draws=300).standard_error == pytest.approx(whole.standard_error, rel=0.2)


def test_a_paired_interval_is_that_of_the_differences():
    first, second = samples(80)
    assert ours.paired_difference(first, second, seed=2) == ours.bootstrap(first - second, seed=2)
    shared = 5 * np.random.default_rng(9).normal(size=80)
    narrow = ours.paired_difference(first + shared, second + shared)
    assert narrow.standard_error < 0.3 * ours.bootstrap(first + shared).standard_error


def test_equal_scores_have_an_interval_without_width():
    for kind in ("percentile", "bca"):
        found = ours.bootstrap(np.full(9, 2.5), kind=kind)
        assert (found.low, found.high, found.standard_error) == (2.5, 2.5, 0)


def test_enough_counts_what_is_independent():
    values, _ = samples(200)
    assert ours.bootstrap(values).enough
    assert not ours.bootstrap(values[:99]).enough
    assert not ours.bootstrap(values, [i % 5 for i in range(200)]).enough


# Tests


@pytest.mark.parametrize("size", [5, 12, 25])
def test_wilcoxon_without_ties_is_scipys_exact_test(size):
    first, second = samples(size, size)
    expected = scipy.stats.wilcoxon(first, second, method="exact")
    found = ours.wilcoxon(first, second)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert min(found.statistic, size * (size + 1) / 2 - found.statistic) == pytest.approx(expected.statistic)
    assert found.n == size


@given(WHOLE)
@quick
def test_wilcoxon_with_ties_and_zeros_counts_all_signs(differences):
    found = ours.wilcoxon(np.array(differences), np.zeros(len(differences)))
    assert found.p_value == pytest.approx(oracle.signed_rank_p(differences))
    turned = ours.wilcoxon(np.zeros(len(differences)), np.array(differences))
    assert turned.p_value == pytest.approx(found.p_value)


@pytest.mark.parametrize("rounded", [False, True])
def test_wilcoxon_of_many_is_scipys_normal_approximation(rounded):
    first, second = samples(70)
    if rounded:
        first, second = np.round(2 * first), np.round(2 * second)
        assert (first == second).sum() > 3
    expected = scipy.stats.wilcoxon(first, second, zero_method="pratt", method="asymptotic", correction=False)
    assert ours.wilcoxon(first, second).p_value == pytest.approx(expected.pvalue)


@given(WHOLE)
@quick
def test_sign_flips_are_enumerated(differences):
    found = ours.sign_flip(np.array(differences), np.zeros(len(differences)))
    assert found.p_value == pytest.approx(oracle.sign_flip_p(differences))
    assert found.statistic == pytest.approx(sum(differences) / len(differences))


def test_sign_flips_of_many_are_sampled():
    first, second = samples(30)
    expected = scipy.stats.permutation_test(
        (first, second), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples", n_resamples=20_000, rng=0
    )
    found = ours.sign_flip(first, second, draws=20_000)
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.012)
    assert ours.sign_flip(first, second, draws=500) == ours.sign_flip(first, second, draws=500)
    assert ours.sign_flip(first + 9, second, draws=500).p_value == 1 / 501


def test_sign_flips_of_clusters_keep_the_level():
    generator, rejected = np.random.default_rng(3), {True: 0, False: 0}
    for seed in range(300):
        values, labels = clustered(generator, 12)
        for kept in rejected:
            groups = labels if kept else None
            rejected[kept] += ours.sign_flip(values, 0 * values, groups, draws=399, seed=seed).p_value <= 0.05
    assert rejected[True] / 300 < 0.085
    assert rejected[False] / 300 > 0.12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@quick
def test_holm(p_values):
    assert ours.holm(np.array(p_values)) == pytest.approx(oracle.holm(p_values))


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(InputError, match="between 0 and 1"):
        ours.holm(np.array([0.2, 1.2]))


# Effects and ranks


@given(WHOLE, st.integers(0, 5))
@quick
def test_win_rate_and_cliffs_delta(values, seed):
    other = np.random.default_rng(seed).integers(-4, 5, len(values)).astype(float)
    wins = [(a > b) + (a == b) / 2 for a, b in zip(values, other, strict=True)]
    assert ours.win_rate(np.array(values), other) == pytest.approx(sum(wins) / len(wins))
    more = np.append(other, [0.0, 1.0])
    assert ours.cliffs_delta(np.array(values), more) == pytest.approx(oracle.cliffs_delta(values, more))


def test_normalised_score():
    assert ours.normalised(3.0, 1.0, 5.0) == 0.5
    assert ours.normalised(0.2, 0.6, 0.1) == pytest.approx(0.8)
    assert ours.normalised(0.5, 1.0, 5.0) < 0
    assert math.isnan(ours.normalised(3.0, 2.0, 2.0))
    assert math.isnan(ours.normalised(3.0, 0.3, 0.1 + 0.2))
    assert math.isnan(ours.normalised(0.0, 0.0, 0.0))


@pytest.mark.parametrize("methods", [3, 4, 7])
@pytest.mark.parametrize("tied", [False, True])
def test_friedman_is_scipys(methods, tied):
    scores = np.random.default_rng(methods).normal(size=(9, methods)) + np.arange(methods) / 3
    scores = np.round(2 * scores) if tied else scores
    found, expected = ours.friedman(scores), scipy.stats.friedmanchisquare(*scores.T)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.ranks == pytest.approx(scipy.stats.rankdata(-scores, axis=1).mean(0))
    assert ours.friedman(-scores, higher_is_better=False).ranks == pytest.approx(found.ranks)
    assert found.critical_difference == ours.critical_difference(methods, 9)


def test_friedman_of_equal_methods():
    found = ours.friedman(np.ones((4, 3)))
    assert (found.ranks.tolist(), found.p_value) == ([2, 2, 2], 1)


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_critical_differences_are_those_of_demsars_table(methods, q):
    """Table 5(a) of Demšar 2006, alpha = 0.05."""
    assert ours.critical_difference(methods, 14) == pytest.approx(q * math.sqrt(methods * (methods + 1) / 84), abs=1e-3)


@pytest.mark.parametrize(("groups", "alpha"), [(2, 0.05), (12, 0.1), (40, 0.01)])
def test_the_studentised_range_is_scipys(groups, alpha):
    expected = scipy.stats.studentized_range.ppf(1 - alpha, groups, np.inf)
    assert ours.studentised_range(groups, alpha) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("degrees", range(1, 9))
@pytest.mark.parametrize("statistic", [0.0, 0.3, 4.0, 60.0])
def test_the_chi_square_tail_is_scipys(degrees, statistic):
    assert ours.chi_square_tail(statistic, degrees) == pytest.approx(scipy.stats.chi2.sf(statistic, degrees))


def test_resampled_means_are_those_of_the_bootstrap():
    scores, labels = np.random.default_rng(0).normal(size=(3, 30)), [number // 4 for number in range(30)]
    found = ours.resampled_means(scores, labels, draws=500, seed=3)
    for row, column in zip(scores, found.T, strict=True):
        expected = ours.bootstrap(row, labels, draws=500, seed=3)
        assert np.quantile(column, (0.025, 0.975)) == pytest.approx((expected.low, expected.high))
    apart = ours.paired_difference(scores[0], scores[1], labels, draws=500, seed=3)
    assert np.quantile(found[:, 0] - found[:, 1], (0.025, 0.975)) == pytest.approx((apart.low, apart.high))


def test_cliques_are_the_maximal_runs():
    assert ours.cliques(np.array([3.0, 1.0, 1.4, 2.2]), 1.0) == [(1, 2), (2, 3), (3, 0)]
    assert ours.cliques(np.array([1.0, 2.0, 3.0]), 1.0) == []
    assert ours.cliques(np.array([1.0, 2.0, 3.0]), 9.0) == [(0, 1, 2)]
    generator = np.random.default_rng(1)
    for _ in range(50):
        ranks = generator.normal(size=7)
        runs = [
            set(group)
            for size in range(2, 8)
            for group in itertools.combinations(range(7), size)
            if np.ptp(ranks[list(group)]) < 0.8
        ]
        maximal = [run for run in runs if not any(run < other for other in runs)]
        found = ours.cliques(ranks, 0.8)
        assert sorted(map(sorted, found)) == sorted(map(sorted, maximal))


# Bad input


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ours.bootstrap(np.array([1.0, math.nan])), "finite"),
        (lambda: ours.bootstrap(np.array([1.0])), "at least 2"),
        (lambda: ours.bootstrap(np.array([1.0, 2.0]), ["a", "a"]), "at least 2"),
        (lambda: ours.bootstrap(np.array([1.0, 2.0]), ["a"]), "1 cluster labels for 2"),
        (lambda: ours.bootstrap(np.array([1.0, 2.0]), level=95.0), "between 0 and 1"),
        (lambda: ours.bootstrap(np.array([1.0, 2.0]), kind="normal"), "'percentile' or 'bca'"),
        (lambda: ours.resampled_means(np.zeros((2, 2)), ["a", "a"]), "at least 2"),
        (lambda: ours.resampled_means(np.zeros((2, 2)), ["a"]), "1 cluster labels for 2"),
        (lambda: ours.wilcoxon(np.zeros(3), np.zeros(4)), "length 4 where 3"),
        (lambda: ours.sign_flip(np.zeros(3), np.zeros(4)), "length 4 where 3"),
        (lambda: ours.win_rate(np.zeros(3), np.zeros(4)), "length 4 where 3"),
        (lambda: ours.normalised(math.nan, 0.0, 1.0), "the score is nan"),
        (lambda: ours.friedman(np.zeros((1, 3))), "1 data sets"),
        (lambda: ours.critical_difference(1, 9), "methods"),
        (lambda: ours.studentised_range(3, 5.0), "alpha"),
    ],
)
def test_bad_input_is_refused(call, said):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(InputError, match=said):
            call()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
