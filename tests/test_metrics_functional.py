"""The formulas of the metrics against slow oracles, scikit-learn and SciPy, and their promises on scale and sign."""

import inspect
import math
import time
import warnings

import jaxtyping
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from oracles import metrics as oracle
from pellucid.errors import InputError
from pellucid.games.table import all_coalitions
from pellucid.metrics.functional import (
    agreement,
    axioms,
    complexity,
    correlation,
    limits,
    plausibility,
    randomisation,
    removal,
    robustness,
)
from pellucid.metrics.functional.inputs import pooled

quick = settings(max_examples=60, deadline=None, derandomize=True)

NICE = st.floats(-1e3, 1e3, width=32).map(float)
TIED = st.integers(-2, 2).map(float)


def vectors(elements=NICE | TIED, least=1, most=12):
    return st.integers(least, most).flatmap(lambda n: arrays.arrays(np.float64, n, elements=elements))


def pairs(elements=NICE | TIED, least=3, most=12):
    return st.integers(least, most).flatmap(
        lambda n: st.tuples(*[arrays.arrays(np.float64, n, elements=elements) for _ in range(2)])
    )


def with_mask(elements=NICE | TIED, least=2, most=12):
    return st.integers(least, most).flatmap(
        lambda n: st.tuples(arrays.arrays(np.float64, n, elements=elements), arrays.arrays(bool, n))
    )


@pytest.fixture
def as_a_user_calls():
    """No shape checks by jaxtyping, which only tests have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def random_game(players, seed):
    """A function of the set of present players, and of masks, with interactions of every order."""
    table = np.random.default_rng(seed).normal(size=2**players)

    def value(coalitions):
        return table[coalitions @ (1 << np.arange(players))]

    return table, value, lambda present: float(table[sum(1 << i for i in present)])


def curve_of(value, order, sizes):
    return value(removal.removed(order, sizes))


# Orders and masks


@quick
@given(vectors(), st.integers(0, 9))
def test_an_order_descends_and_turns_round_with_the_sign(values, seed):
    order = removal.order(values, seed)
    assert sorted(order) == list(range(len(values)))
    assert (np.diff(values[order]) <= 0).all()
    assert (order == removal.order(values, seed)).all()
    if values.any():
        assert (removal.order(-values, seed) == order[::-1]).all()


def test_ties_are_broken_evenly_by_the_seed():
    values = np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    orders = np.array([removal.order(values, seed) for seed in range(3000)])
    assert set(orders[:, 0]) == {1, 3}
    assert np.mean(orders[:, 0] == 1) == pytest.approx(0.5, abs=0.04)
    for player in (0, 2, 4):
        assert np.mean(orders[:, 4] == player) == pytest.approx(1 / 3, abs=0.04)


def test_an_order_follows_its_players():
    values, shuffled = np.random.default_rng(0).normal(size=9), np.random.default_rng(1).permutation(9)
    assert (shuffled[removal.order(values[shuffled], 3)] == removal.order(values, 3)).all()


@quick
@given(st.integers(1, 300), st.integers(1, 300))
def test_steps_are_an_even_grid_with_both_ends(players, steps):
    sizes = removal.steps_of(players, steps)
    assert sizes[0] == 0
    assert sizes[-1] == players
    assert len(sizes) == min(players, steps) + 1
    assert np.ptp(np.diff(sizes)) <= 1


def test_masks_take_the_first_of_the_order():
    order, sizes = np.array([2, 0, 3, 1]), np.array([0, 1, 3, 4])
    masks = removal.removed(order, sizes)
    for mask, size in zip(masks, sizes, strict=True):
        assert {int(i) for i in np.flatnonzero(~mask)} == set(order[:size].tolist())
    assert (removal.inserted(order, sizes) == ~masks).all()
    with pytest.raises(InputError, match="0 to 4"):
        removal.removed(order, np.array([5]))


def test_the_masks_of_a_curve_cost_nothing():
    values, order, steps_of, removed = (
        np.random.default_rng(0).normal(size=64),
        *map(inspect.unwrap, (removal.order, removal.steps_of, removal.removed)),
    )
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        removed(order(values, 0), steps_of(64, 64))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 3e-4


@pytest.mark.parametrize(
    ("players", "sizes"), [(100, [1, 5, 10, 20, 50]), (1, [1] * 5), (7, [1, 1, 1, 2, 4]), (64, [1, 4, 7, 13, 32])]
)
def test_bins_are_rounded_up_and_never_dropped(players, sizes):
    assert removal.bin_sizes(players).tolist() == sizes


def test_a_bin_is_not_rounded_up_by_float_error():
    assert removal.bin_sizes(100, (0.07, 0.29, 0.57)).tolist() == [7, 29, 57]


# Reductions of a curve


@quick
@given(vectors(NICE, least=2))
def test_area_is_that_of_trapezoids(curve):
    fractions = np.sort(np.random.default_rng(len(curve)).random(len(curve)))
    assert removal.area(curve, fractions) == pytest.approx(oracle.area(curve.tolist(), fractions.tolist()), abs=1e-9)
    assert removal.area(np.full(len(curve), 3.0), fractions) == pytest.approx(3)


@pytest.mark.parametrize("fractions", [[0.0], [0.0, 0.0, 1.0], [1.0, 0.5]])
def test_area_refuses_an_axis_that_does_not_ascend(fractions):
    with pytest.raises(InputError, match="fractions"):
        removal.area(np.zeros(len(fractions)), np.array(fractions))


def own_srg(value, values, seed=0, steps=100):
    sizes = removal.steps_of(len(values), steps)
    order = removal.order(values, seed)
    lerf, morf = curve_of(value, order[::-1], sizes), curve_of(value, order, sizes)
    return removal.srg(lerf, morf, sizes / len(values))


@pytest.mark.parametrize("seed", range(5))
def test_srg_is_the_gap_of_both_curves(seed):
    _, value, worth = random_game(7, seed)
    values = np.random.default_rng(seed).normal(size=7)
    assert own_srg(value, values) == pytest.approx(oracle.srg(worth, values.tolist()))


@quick
@given(vectors(TIED, least=5, most=5), st.integers(0, 3), st.floats(0.1, 10))
def test_srg_flips_with_the_attribution_and_not_with_its_scale(values, seed, factor):
    assume(values.any())
    _, value, _ = random_game(5, 3)
    assert own_srg(value, -values, seed) == -own_srg(value, values, seed)
    assert own_srg(value, factor * values, seed) == own_srg(value, values, seed)


def test_srg_of_random_orders_is_centred_at_zero():
    _, value, _ = random_game(6, 2)
    found = [own_srg(value, np.random.default_rng(seed).normal(size=6)) for seed in range(500)]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(500)


@pytest.mark.parametrize("players", [3, 7, 11])
def test_comprehensiveness_and_sufficiency(players):
    _, value, worth = random_game(players, players)
    values = np.random.default_rng(players).normal(size=players)
    order, sizes = removal.order(values, 0), removal.bin_sizes(players)
    full = worth(range(players))
    ours = removal.comprehensiveness(full, value(removal.removed(order, sizes)))
    assert ours == pytest.approx(oracle.comprehensiveness(worth, values.tolist(), removal.BINS))
    ours = removal.sufficiency(full, value(removal.inserted(order, sizes)))
    assert ours == pytest.approx(oracle.sufficiency(worth, values.tolist(), removal.BINS))


def test_aopc_counts_the_first_point():
    assert removal.aopc(np.array([3.0, 2.0, 1.0])) == pytest.approx(1)
    assert removal.aopc(np.array([3.0, 2.0, 0.5, 7.0])) == pytest.approx(oracle.aopc([3.0, 2.0, 0.5, 7.0]))


def test_log_odds():
    p, without = 0.9, np.array([0.5, 0.1, 0.0])
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(without), -1e300)
    floor = math.log(1e-9)
    expected = (math.log(0.5) + math.log(0.1) + floor) / 3 - math.log(0.9)
    assert removal.log_odds(math.log(p), logs) == pytest.approx(expected)
    assert removal.log_odds(-2.0, np.array([-3.0, -5.0])) == pytest.approx(-2)
    with pytest.raises(InputError, match="at most 0"):
        removal.log_odds(-2.0, np.array([-3.0, 0.4]))


# Limits of AOPC


@pytest.mark.parametrize("players", range(1, 7))
def test_exact_limits_are_those_of_all_orders(players):
    table, value, worth = random_game(players, players)
    assert limits.exact_limits(value(all_coalitions(players))) == pytest.approx(oracle.aopc_limits(worth, players))
    assert limits.beam_limits(value, players, 2**players) == pytest.approx(limits.exact_limits(table))


def test_a_beam_stays_inside_the_exact_limits_and_asks_little():
    table, value, _ = random_game(10, 4)
    exact, calls, rows = limits.exact_limits(table), [], []

    def asked(coalitions):
        calls.append(len(coalitions))
        rows.extend(map(tuple, coalitions.tolist()))
        return value(coalitions)

    found = {width: limits.beam_limits(asked, 10, width) for width in (1, 5)}
    assert exact.low <= found[5].low < found[5].high <= exact.high
    assert found[1].low > exact.low
    assert len(calls) == 22
    assert sum(calls) <= (1 + 5) * 10 * 11 + 2


def test_normalised_aopc():
    assert limits.normalised_aopc(2.0, limits.Limits(1.0, 5.0)) == 0.25
    assert math.isnan(limits.normalised_aopc(2.0, limits.Limits(2.0, 2.0)))
    # Limits that differ by the rounding of a target of 5 are the same.
    assert math.isnan(limits.normalised_aopc(1e-7, limits.Limits(0.0, 2e-7), 5.0))
    assert limits.normalised_aopc(1e-7, limits.Limits(0.0, 2e-7), 1e-7) == 0.5
    table, value, _ = random_game(6, 1)
    curve = curve_of(value, np.arange(6), removal.steps_of(6, 6))
    assert 0 <= limits.normalised_aopc(removal.aopc(curve), limits.exact_limits(table)) <= 1


@pytest.mark.parametrize("rows", [1, 6, 2**13])
def test_exact_limits_need_a_whole_table(rows):
    with pytest.raises(InputError, match="beam_limits"):
        limits.exact_limits(np.zeros(rows))


# Correlations


def test_subsets_have_their_size_and_every_player_the_same_chance():
    members = correlation.subsets(6, 2, 3000, seed=1)
    assert (members.sum(1) == 2).all()
    assert members.mean(0) == pytest.approx(np.full(6, 1 / 3), abs=0.04)
    assert len({tuple(row) for row in members.tolist()}) == 15
    assert (members == correlation.subsets(6, 2, 3000, seed=1)).all()
    assert (members != correlation.subsets(6, 2, 3000, seed=2)).any()
    with pytest.raises(InputError, match="between 1 and 6"):
        correlation.subsets(6, 7, 10, seed=0)


def test_faithfulness_correlation_and_sensitivity_n():
    _, value, worth = random_game(6, 0)
    values, sizes = np.random.default_rng(1).normal(size=6), (1, 3, 5)
    members = correlation.subsets_by_size(6, sizes, 40, seed=0)
    drops = worth(range(6)) - value(~members.reshape(-1, 6)).reshape(3, 40)
    curve = correlation.sensitivity_n(values, members, drops)
    for row, found in enumerate(curve):
        subsets = [np.flatnonzero(mask) for mask in members[row]]
        expected = oracle.faithfulness_correlation(values.tolist(), subsets, drops[row].tolist())
        assert found == pytest.approx(expected)
        assert found == pytest.approx(correlation.faithfulness_correlation(values, members[row], drops[row]))


def test_the_true_contributions_of_a_linear_model_correlate_perfectly():
    weights = np.random.default_rng(2).normal(size=8)
    members = correlation.subsets(8, 3, 50, seed=0)
    assert correlation.faithfulness_correlation(7 * weights, members, members @ weights) == pytest.approx(1)
    assert correlation.faithfulness_correlation(-weights, members, members @ weights) == pytest.approx(-1)
    assert correlation.infidelity(weights, members.astype(float), members @ weights) == pytest.approx(0)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8, 1e-200])
def test_a_constant_attribution_has_no_correlation(constant):
    members, drops = correlation.subsets(30, 7, 50, seed=0), np.random.default_rng(0).normal(size=50)
    assert math.isnan(correlation.faithfulness_correlation(np.full(30, constant), members, drops))
    assert math.isnan(correlation.faithfulness_correlation(drops[:30], members, np.full(50, constant)))


@quick
@given(pairs(NICE))
def test_correlation_is_pearsons(both):
    x, y = both
    assume(np.ptp(x) > 1e-3 * np.abs(x).max() > 0)
    assume(np.ptp(y) > 1e-3 * np.abs(y).max() > 0)
    assert float(correlation.correlation(x, y)) == pytest.approx(oracle.pearson(x.tolist(), y.tolist()), abs=1e-8)
    assert float(correlation.correlation(1e-200 * x, y)) == pytest.approx(
        float(correlation.correlation(x, y)), abs=1e-8
    )


@pytest.mark.parametrize("seed", range(4))
def test_infidelity_and_its_best_scale(seed):
    generator = np.random.default_rng(seed)
    values, draws = generator.normal(size=5), generator.normal(size=(30, 5))
    drops = draws @ (3 * values + 0.3 * generator.normal(size=5))
    as_lists = values.tolist(), draws.tolist(), drops.tolist()
    assert correlation.infidelity(values, draws, drops) == pytest.approx(oracle.infidelity(*as_lists))
    best = correlation.infidelity(values, draws, drops, optimal_scale=True)
    tried = [oracle.infidelity(*as_lists, beta) for beta in np.linspace(2, 4, 401)]
    assert best == pytest.approx(min(tried), rel=1e-3)
    assert best <= min(tried)
    assert correlation.infidelity(9 * values, draws, drops, optimal_scale=True) == pytest.approx(best)


def test_the_best_scale_never_turns_an_attribution_round():
    generator = np.random.default_rng(0)
    values, draws = generator.normal(size=5), generator.normal(size=(30, 5))
    drops = draws @ values
    silent = correlation.infidelity(0 * values, draws, drops)
    assert correlation.infidelity(-values, draws, drops, optimal_scale=True) == pytest.approx(silent)
    assert correlation.infidelity(0 * values, draws, drops, optimal_scale=True) == pytest.approx(silent)


# Robustness


def test_robustness_measures():
    generator = np.random.default_rng(0)
    values, perturbed = generator.normal(size=5), generator.normal(size=(8, 5))
    origin, moved, same = generator.normal(size=3), generator.normal(size=(8, 3)), np.arange(8) % 4 != 0
    lists = values.tolist(), perturbed.tolist()
    found = robustness.max_sensitivity(values, perturbed, same)
    assert found == pytest.approx((oracle.max_sensitivity(*lists, same), 0.25))
    plain = robustness.max_sensitivity(values, perturbed, same, relative=False)
    assert plain.value == pytest.approx(found.value * oracle.norm(values))
    distances = np.linalg.norm(moved - origin, axis=1)
    expected = max(oracle.distance(a, values) / d for a, d, s in zip(perturbed, distances, same, strict=True) if s)
    assert robustness.local_lipschitz(values, perturbed, distances, same).value == pytest.approx(expected)
    found = robustness.relative_stability(values, perturbed, origin, moved, same)
    expected = oracle.relative_stability(*lists, origin.tolist(), moved.tolist(), same)
    assert found == pytest.approx((expected, 0.25))
    scaled = robustness.relative_stability(50 * values, 50 * perturbed, origin, moved, same)
    assert scaled.value == pytest.approx(found.value, rel=1e-6)


def test_a_score_near_zero_does_not_explode():
    values, perturbed, same = np.array([1.0, 1e-300]), np.array([[1.0, 0.01]]), np.array([True])
    assert robustness.max_sensitivity(values, perturbed, same).value == pytest.approx(0.01, rel=1e-3)
    origin, moved = np.array([0.0, 1.0]), np.array([[0.1, 1.0]])
    assert robustness.relative_stability(values, perturbed, origin, moved, same).value == pytest.approx(0.1, rel=1e-3)
    silent = np.zeros(2)
    assert robustness.max_sensitivity(silent, silent[None], same) == (0, 0)
    assert math.isfinite(robustness.relative_stability(values, perturbed, origin, origin[None], same).value)


def test_changed_predictions_are_left_out_and_counted():
    values, perturbed = np.array([1.0, 0.0]), np.array([[9.0, 0.0], [1.5, 0.0]])
    assert robustness.max_sensitivity(values, perturbed, np.array([False, True])) == pytest.approx((0.5, 0.5))
    nothing_left = robustness.max_sensitivity(values, perturbed, np.array([False, False]))
    assert math.isnan(nothing_left.value)
    assert nothing_left.discarded == 1


# Randomisation


@quick
@given(pairs())
def test_similarity_is_spearmans(both):
    for sign, read in (("signed", np.asarray), ("absolute", np.abs)):
        x, y = (read(side) for side in both)
        found = randomisation.similarity(*both, sign)
        if np.ptp(x) and np.ptp(y):
            assert found == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-9)
        else:
            assert math.isnan(found)


def test_mprt_follows_the_layers():
    values = np.random.default_rng(0).normal(size=40)
    randomised = np.stack([values, -values, np.random.default_rng(1).normal(size=40)])
    assert randomisation.mprt(values, randomised)[:2] == pytest.approx([1, -1])
    assert randomisation.mprt(values, randomised, "absolute")[:2] == pytest.approx([1, 1])
    assert abs(randomisation.mprt(values, randomised)[2]) < 0.35
    assert randomisation.random_logit(values, -values) == pytest.approx(-1)


@quick
@given(vectors(NICE, least=2), st.integers(1, 30))
def test_histogram_entropy(values, bins):
    assume(np.ptp(values) > 1e-3)
    counts = np.histogram((values - values.min()) / np.ptp(values), bins, (0, 1))[0]
    assert randomisation.histogram_entropy(values, bins) == pytest.approx(scipy.stats.entropy(counts), abs=1e-9)


def test_histogram_entropy_of_plain_cases():
    values = np.array([0.0, 0.26, 0.27, 0.6, 1.0])
    expected = oracle.histogram_entropy(values.tolist(), 4)
    assert randomisation.histogram_entropy(values, 4) == pytest.approx(expected)
    assert randomisation.histogram_entropy(np.full(5, 2.0)) == 0
    assert math.isnan(randomisation.complexity_rise(np.full(5, 2.0), values))
    rise = randomisation.complexity_rise(np.array([0.0, 0.0, 0.0, 0.0, 1.0]), values, 4)
    assert rise > 0
    assert rise == pytest.approx(expected / oracle.histogram_entropy([0, 0, 0, 0, 1], 4) - 1)


# Plausibility


@quick
@given(with_mask())
def test_auprc_and_auroc_are_scikit_learns(both):
    values, mask = both
    found = plausibility.auprc(values, mask), plausibility.auroc(values, mask)
    if mask.any():
        assert found[0] == pytest.approx(sklearn.metrics.average_precision_score(mask, values))
    else:
        assert math.isnan(found[0])
    if mask.any() and not mask.all():
        assert found[1] == pytest.approx(sklearn.metrics.roc_auc_score(mask, values))
    else:
        assert math.isnan(found[1])


@quick
@given(st.integers(1, 12).flatmap(lambda n: st.tuples(arrays.arrays(bool, n), arrays.arrays(bool, n))))
def test_f1_of_tokens_and_spans(both):
    chosen, rationale = both
    if not rationale.any():
        assert math.isnan(plausibility.token_f1(chosen, rationale))
        assert math.isnan(plausibility.iou_f1(chosen, rationale))
        return
    expected = sklearn.metrics.f1_score(rationale, chosen)
    assert plausibility.token_f1(chosen, rationale) == pytest.approx(expected)
    for threshold in (0.5, 0.75):
        expected = oracle.iou_f1(chosen.tolist(), rationale.tolist(), threshold)
        assert plausibility.iou_f1(chosen, rationale, threshold) == pytest.approx(expected)


def test_a_threshold_at_which_spans_match_twice_is_refused():
    with pytest.raises(InputError, match=r"0\.5"):
        plausibility.iou_f1(np.array([True]), np.array([True]), 0.3)


def test_top_and_the_mean_length():
    values = np.array([3.0, -5.0, 1.0, 2.0])
    assert plausibility.top(values, 2, 0).tolist() == [True, False, False, True]
    assert plausibility.top(values, 9, 0).all()
    assert plausibility.mean_length([np.array([True, False, False]), np.array([True, True])]) == 2
    assert plausibility.mean_length([np.array([False, False])]) == 1
    with pytest.raises(InputError, match="at least one"):
        plausibility.mean_length([])


@quick
@given(with_mask(TIED, least=2, most=6))
def test_relevance_rank_and_pointing_game_expect_over_ties(both):
    values, mask = both
    found = plausibility.relevance_rank(values, mask), plausibility.pointing_game(values, mask)
    if not mask.any():
        assert all(map(math.isnan, found))
        return
    assert found[0] == pytest.approx(oracle.relevance_rank(values.tolist(), mask.tolist()))
    best = [inside for value, inside in zip(values, mask, strict=True) if value == max(values)]
    assert found[1] == pytest.approx(sum(best) / len(best))


def test_relevance_mass():
    values, mask = np.array([3.0, -4.0, 1.0, 0.0]), np.array([True, True, False, False])
    assert plausibility.relevance_mass(values, mask) == pytest.approx(0.75)
    assert plausibility.relevance_mass(values, mask, "absolute") == pytest.approx(7 / 8)
    assert math.isnan(plausibility.relevance_mass(-np.ones(4), mask))
    assert math.isnan(plausibility.relevance_mass(values, np.zeros(4, bool)))
    with pytest.raises(InputError, match="positive"):
        plausibility.relevance_mass(values, mask, "signed")


def test_chance_levels_are_what_random_scores_reach():
    mask = np.array([True, True, False, False, False, True, False, False])
    draws = [np.random.default_rng(seed).random(8) for seed in range(2000)]
    chance = plausibility.prevalence(mask)
    assert chance == 3 / 8
    for metric in (plausibility.pointing_game, plausibility.relevance_mass, plausibility.relevance_rank):
        assert np.mean([metric(values, mask) for values in draws]) == pytest.approx(chance, abs=0.03)
    assert np.mean([plausibility.auroc(values, mask) for values in draws]) == pytest.approx(0.5, abs=0.03)
    for k in (1, 3, 8):
        assert plausibility.chance_f1(k, mask) == pytest.approx(oracle.chance_f1(k, mask.tolist()))
    assert plausibility.chance_f1(20, mask) == plausibility.token_f1(np.ones(8, bool), mask)


def test_signs_are_read_as_named():
    values = np.array([1.0, -2.0])
    assert [pooled(values, sign).tolist() for sign in ("signed", "absolute", "positive")] == [[1, -2], [1, 2], [1, 0]]


# Axioms and complexity


def test_completeness():
    values = np.array([1.0, 2.0])
    assert axioms.completeness(values, 5.0, 1.0) == pytest.approx(0.25)
    assert axioms.completeness(values, -5.0, -1.0) == pytest.approx(7 / 4)
    assert axioms.completeness(np.array([1.0, -1.0]), 2.0, 2.0) == 0
    assert 1e3 < axioms.completeness(values, 2.0, 2.0) < math.inf
    assert axioms.completeness(np.zeros(2), 1.0, 1.0) == 0
    assert axioms.completeness(np.zeros(2), 2.0, 1.0) == 1


def test_dummy_and_symmetry():
    values = np.array([4.0, -1.0, 3.0])
    assert axioms.dummy(values, np.array([False, True, False])) == 0.25
    assert axioms.dummy(np.zeros(3), np.array([False, True, False])) == 0
    assert math.isnan(axioms.dummy(values, np.zeros(3, bool)))
    assert axioms.symmetry(values, np.array([[0, 2], [0, 1]])) == 1.25
    assert axioms.symmetry(9 * values, np.array([[0, 2]])) == 0.25
    assert math.isnan(axioms.symmetry(values, np.zeros((0, 2), int)))
    with pytest.raises(InputError, match="0 to 2"):
        axioms.symmetry(values, np.array([[0, 3]]))


@quick
@given(vectors(least=2))
def test_sparseness_and_complexity(values):
    found = complexity.sparseness(values), complexity.complexity(values)
    if not values.any():
        assert all(map(math.isnan, found))
        return
    assert found == pytest.approx((oracle.gini(values.tolist()), oracle.complexity(values.tolist())), abs=1e-9)
    assert all(0 <= value <= 1 for value in found)
    assert found == pytest.approx((complexity.sparseness(-3 * values), complexity.complexity(-3 * values)), abs=1e-9)


def test_the_ends_of_sparseness_and_complexity():
    one, even = np.array([0.0, 0.0, 0.0, 5.0]), np.full(4, -2.0)
    assert (complexity.sparseness(one), complexity.complexity(one)) == (0.75, 0)
    assert (complexity.sparseness(even), complexity.complexity(even)) == pytest.approx((0, 1))
    assert (complexity.sparseness(np.ones(1)), complexity.complexity(np.ones(1))) == (0, 0)


# Agreement with a true attribution


@quick
@given(pairs())
def test_agreement_is_scipys(both):
    a, t = both
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        tau = scipy.stats.kendalltau(a, t).statistic
    assert agreement.kendall(a, t) == pytest.approx(tau, nan_ok=True, abs=1e-12)
    if np.ptp(a) > 1e-3 and np.ptp(t) > 1e-3:
        assert agreement.pearson(a, t) == pytest.approx(oracle.pearson(a.tolist(), t.tolist()), abs=1e-6)
    if a.any() and t.any():
        expected = sum(x * y for x, y in zip(a, t, strict=True)) / oracle.norm(a.tolist()) / oracle.norm(t.tolist())
        assert agreement.cosine(a, t) == pytest.approx(expected, abs=1e-6)
    else:
        assert math.isnan(agreement.cosine(a, t))


def test_kendall_of_many():
    generator = np.random.default_rng(0)
    for a, t in (generator.normal(size=(2, 3001)), generator.integers(9, size=(2, 3001)).astype(float)):
        assert agreement.kendall(a, t) == pytest.approx(scipy.stats.kendalltau(a, t).statistic)


@quick
@given(pairs(least=3), st.integers(1, 3), st.floats(0.1, 100))
def test_agreement_with_the_truth_itself(both, k, factor):
    _, truth = both
    assume(np.ptp(truth) > 1e-3 and np.abs(truth).max() > 1e-3)
    scaled = factor * truth
    for measure in (agreement.cosine, agreement.pearson, agreement.spearman, agreement.kendall):
        assert measure(scaled, truth) == pytest.approx(1)
        assert measure(-scaled, truth) == pytest.approx(-1)
    assert agreement.top_k_overlap(truth, truth, k, 0) == 1
    assert agreement.signed_top_k_overlap(truth, truth, k, 0) == 1
    assert agreement.scaled_error(scaled, truth) == pytest.approx(0)
    assert agreement.scaled_error(-scaled, truth) == pytest.approx(1)


def test_top_k_overlaps():
    a, t = np.array([9.0, -8.0, 7.0, 1.0]), np.array([5.0, 6.0, -1.0, 4.0])
    assert agreement.top_k_overlap(a, t, 2, 0) == 0.5
    assert agreement.top_k_overlap(a, t, 2, 0, "absolute") == 1
    assert agreement.signed_top_k_overlap(a, t, 2, 0) == 0.5
    with pytest.raises(InputError, match="between 1 and 4"):
        agreement.top_k_overlap(a, t, 5, 0)


def test_scaled_error_takes_the_best_factor():
    a, t = np.array([1.0, 2.0, -1.0]), np.array([2.0, 3.0, 1.0])
    tried = [
        oracle.distance((s * a).tolist(), t.tolist()) ** 2 / oracle.norm(t.tolist()) ** 2 for s in np.arange(0, 3, 1e-3)
    ]
    assert agreement.scaled_error(a, t) == pytest.approx(min(tried), abs=1e-5)
    assert agreement.scaled_error(0 * a, t) == 1
    assert math.isnan(agreement.scaled_error(a, 0 * t))


# Bad input

V3, V4 = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0, 5.0])
M3, M4 = np.array([True, False, True]), np.array([True, False, True, False])
D4 = np.arange(12.0).reshape(4, 3)

OF_ANOTHER_LENGTH = [
    lambda: removal.area(V3, V4),
    lambda: removal.srg(V3, V4, V4),
    lambda: correlation.correlation(V3, V4),
    lambda: correlation.faithfulness_correlation(V4, D4 > 3, V4),
    lambda: correlation.faithfulness_correlation(V3, D4 > 3, V3),
    lambda: correlation.sensitivity_n(V3, (D4 > 3)[None], V3[None]),
    lambda: correlation.infidelity(V4, D4, V4),
    lambda: correlation.infidelity(V3, D4, V3),
    lambda: robustness.max_sensitivity(V4, D4, M4),
    lambda: robustness.max_sensitivity(V3, D4, M3),
    lambda: robustness.local_lipschitz(V3, D4, V3, M4),
    lambda: robustness.relative_stability(V3, D4, V4, D4, M4),
    lambda: randomisation.similarity(V3, V4),
    lambda: randomisation.complexity_rise(V3, V4),
    lambda: plausibility.token_f1(M3, M4),
    lambda: plausibility.iou_f1(M3, M4),
    lambda: plausibility.auprc(V3, M4),
    lambda: plausibility.auroc(V3, M4),
    lambda: plausibility.pointing_game(V3, M4),
    lambda: plausibility.relevance_mass(V3, M4),
    lambda: plausibility.relevance_rank(V3, M4),
    lambda: axioms.dummy(V3, M4),
    lambda: agreement.cosine(V3, V4),
    lambda: agreement.kendall(V3, V4),
    lambda: agreement.top_k_overlap(V3, V4, 2, 0),
]


@pytest.mark.usefixtures("as_a_user_calls")
@pytest.mark.parametrize("call", OF_ANOTHER_LENGTH, ids=lambda call: inspect.getsource(call).strip()[8:60])
def test_another_length_is_refused(call):
    with pytest.raises(InputError, match=r"length \d where \d is expected"):
        call()


OF_NUMBERS = [
    lambda v: removal.order(v, 0),
    lambda v: removal.area(v, V3),
    lambda v: removal.area(V3, v),
    lambda v: removal.srg(v, V3, V3),
    lambda v: removal.srg(V3, v, V3),
    lambda v: removal.comprehensiveness(1.0, v),
    lambda v: removal.comprehensiveness(float(v[1]), V3),
    lambda v: removal.sufficiency(1.0, v),
    lambda v: removal.aopc(v),
    lambda v: removal.log_odds(-1.0, v),
    lambda v: limits.exact_limits(np.append(v, 0.0)),
    lambda v: limits.beam_limits(lambda s: np.resize(v[::-1], len(s)), 3),
    lambda v: correlation.correlation(v, V3),
    lambda v: correlation.faithfulness_correlation(v, D4 > 3, V4),
    lambda v: correlation.infidelity(V3, D4, np.append(v, 0.0)),
    lambda v: robustness.max_sensitivity(v, D4, M4),
    lambda v: robustness.max_sensitivity(V3, v[None], M3[:1]),
    lambda v: robustness.local_lipschitz(V3, D4[:3], v, M3),
    lambda v: robustness.relative_stability(V3, D4, v, D4, M4),
    lambda v: randomisation.similarity(V3, v),
    lambda v: randomisation.histogram_entropy(v),
    lambda v: plausibility.auprc(v, M3),
    lambda v: plausibility.auroc(v, M3),
    lambda v: plausibility.pointing_game(v, M3),
    lambda v: plausibility.relevance_mass(v, M3),
    lambda v: plausibility.relevance_rank(v, M3),
    lambda v: axioms.completeness(v, 1.0, 0.0),
    lambda v: axioms.completeness(V3, 1.0, float(v[1])),
    lambda v: axioms.dummy(v, M3),
    lambda v: axioms.symmetry(v, np.array([[0, 1]])),
    lambda v: complexity.sparseness(v),
    lambda v: complexity.complexity(v),
    lambda v: agreement.cosine(v, V3),
    lambda v: agreement.cosine(V3, v),
    lambda v: agreement.kendall(v, V3),
    lambda v: agreement.scaled_error(v, V3),
]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("call", OF_NUMBERS, ids=lambda call: inspect.getsource(call).strip()[10:70])
def test_numbers_that_are_none_are_refused(call, bad):
    with pytest.raises(InputError, match="finite"):
        call(np.array([1.0, bad, 2.0]))


def test_an_unknown_sign_and_an_empty_attribution_are_refused():
    with pytest.raises(InputError, match="signed, absolute, positive"):
        inspect.unwrap(pooled)(V3, "squared")
    with pytest.raises(InputError, match="empty"):
        removal.order(np.zeros(0), 0)
    with pytest.raises(InputError, match="bins"):
        removal.bin_sizes(10, (0.0, 0.5))
