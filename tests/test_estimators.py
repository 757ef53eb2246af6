"""The perturbation estimators against closed forms, plain oracles, and Captum, SHAP and scikit-learn side by side."""

import warnings
from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch

from oracles import orders
from pellucid.errors import InputError, UnknownNameError
from pellucid.games import FunctionGame, Question
from pellucid.games.kernel import PairDesign
from pellucid.games.permutation import coalitions_needed, exact_owen, owen_rounds
from pellucid.games.regression import weighted_lasso, weighted_ridge
from pellucid.games.table import all_coalitions, banzhaf_weights, semivalue, shapley_weights
from pellucid.methods.banzhaf import Banzhaf
from pellucid.methods.exact_shapley import ExactShapley
from pellucid.methods.kernel_shap import KernelShap
from pellucid.methods.lime import Lime
from pellucid.methods.occlusion import Occlusion
from pellucid.methods.owen import Owen, feature_tree
from pellucid.methods.permutation_shapley import PermutationShapley
from pellucid.methods.sparse_linear import SparseLinear
from pellucid.records import Feature

TREES = [(0, 1, 2, 3, 4), ((0, 1), (2, 3, 4)), ((0, (1, 2)), 3, (4,)), (((0, 1), (2,)), ((3, 4),)), ((0, 1, 2, 3, 4),)]


def question_of(game, features=(), ladder=None, seed=0):
    """A question of which only the game, the features and the ladder are looked at."""
    return Question(None, None, tuple(features), ladder or {}, None, game, seed)


def run(method, game, seed=0):
    if isinstance(method, Owen):
        features = [Feature(label=str(i), kind="column") for i in range(game.players)]
        return method.attribute(question_of(game, features, seed=seed))
    return method.estimate(game, np.random.default_rng(seed))


# Games


def additive(players, seed=0):
    """v(S) = base + sum of the members' weights, for three targets."""
    generator = np.random.default_rng(seed)
    weights, base = generator.normal(size=(players, 3)), generator.normal(size=3)
    return FunctionGame(lambda s: s @ weights + base, players), weights.T


def tangled_function(players, seed=1):
    """Two targets with interactions of every order."""
    generator = np.random.default_rng(seed)
    mix, shift, out = generator.normal(size=(players, 8)), generator.normal(size=8), generator.normal(size=(8, 2))
    trios = [generator.choice(players, min(3, players), replace=False) for _ in range(6)]
    gains = generator.normal(size=(6, 2))

    def function(s):
        smooth = np.tanh(s @ mix * 2 / players**0.5 + shift) @ out
        return smooth + sum(s[:, trio].all(1)[:, None] * gain for trio, gain in zip(trios, gains, strict=True))

    return function


def tangled(players, seed=1):
    return FunctionGame(tangled_function(players, seed), players)


def of_one(function, players):
    """A game with one target, given by a function of a set of players."""
    return FunctionGame(lambda s: np.array([[function({*np.flatnonzero(row).tolist()})] for row in s]), players)


def worth_of(game, target=0):
    coalitions = all_coalitions(game.players)
    return {
        frozenset(np.flatnonzero(row).tolist()): float(value[target])
        for row, value in zip(coalitions, game.value(coalitions), strict=True)
    }


def exact(function, players, weights=shapley_weights):
    return semivalue(function(all_coalitions(players)), weights(players))


SHAPLEY = [ExactShapley(), KernelShap(), PermutationShapley(), Owen()]
SAMPLED = [KernelShap(samples=120), PermutationShapley(permutations=24), Banzhaf(), Lime(), SparseLinear(samples=128)]
ALL = [ExactShapley(), *SAMPLED, Owen(permutations=24)]
names = {"ids": lambda value: value.facts.name if hasattr(value, "facts") else None}


# Closed forms


@pytest.mark.parametrize("method", SHAPLEY, **names)
@pytest.mark.parametrize("players", [1, 2, 3, 8, 15])
def test_additive_games_get_their_weights(method, players):
    game, weights = additive(players)
    result = run(method, game)
    np.testing.assert_allclose(result.values, weights, atol=1e-9)
    if result.standard_error is not None:
        assert result.standard_error.max() < 1e-9


@pytest.mark.parametrize("method", [Banzhaf(samples=64), Lime(alpha=1e-9), Lime(samples=32, alpha=1e-9)], **names)
def test_surrogates_of_a_small_additive_game_are_its_weights(method):
    game, weights = additive(6)
    np.testing.assert_allclose(run(method, game).values, weights, atol=1e-6)


@pytest.mark.parametrize("method", [KernelShap(), PermutationShapley(permutations=4), Owen(permutations=4)], **names)
def test_pairs_cancel_interactions_of_two_players(method):
    """v(S) = S'AS / 2 has phi_i = (sum over j of A_ij) / 2, which an order and its reverse always average to."""
    form = np.random.default_rng(3).normal(size=(14, 14))
    form = form + form.T
    result = run(method, FunctionGame(lambda s: ((s @ form) * s).sum(1, keepdims=True) / 2, 14))
    assert not result.settings["exact"]
    np.testing.assert_allclose(result.values[0], form.sum(1) / 2, atol=1e-9)


def is_and(s):
    return float(s == {0, 1, 2, 3})


def is_or(s):
    return float(bool(s))


def is_xor(s):
    return float(len(s & {0, 1}) == 1)


def is_product(s):
    return 6.0 * ({0, 2} <= s)


def airport(s):
    return max((1.0, 3.0, 4.0, 8.0)[i] for i in s) if s else 0.0


def glove(s):
    return float(min(len(s & {0}), len(s & {1, 2, 3})))


def odd(s):
    return float(len(s) % 2)


CLOSED = [
    (is_and, [1 / 4] * 4, [1 / 8] * 4),
    (is_or, [1 / 4] * 4, [1 / 8] * 4),
    (is_xor, [0, 0, 0, 0], [0, 0, 0, 0]),
    (is_product, [3, 0, 3, 0], [3, 0, 3, 0]),
    (airport, [1 / 4, 1 / 4 + 2 / 3, 1 / 4 + 2 / 3 + 1 / 2, 1 / 4 + 2 / 3 + 1 / 2 + 4], [1 / 8, 5 / 8, 9 / 8, 41 / 8]),
    (glove, [3 / 4, 1 / 12, 1 / 12, 1 / 12], [7 / 8, 1 / 8, 1 / 8, 1 / 8]),
    (odd, [0, 0, 0, 0], [0, 0, 0, 0]),
]


@pytest.mark.parametrize(("function", "shapley", "banzhaf"), CLOSED)
def test_games_of_the_textbooks(function, shapley, banzhaf):
    for method in SHAPLEY:
        np.testing.assert_allclose(run(method, of_one(function, 4)).values[0], shapley, atol=1e-9)
    np.testing.assert_allclose(run(Banzhaf(), of_one(function, 4)).values[0], banzhaf, atol=1e-12)


def test_unanimity_among_many_players():
    carrier = {1, 4, 5}
    game = of_one(lambda s: float(carrier <= s), 7)
    expected = [1 / 3 if i in carrier else 0 for i in range(7)]
    np.testing.assert_allclose(run(ExactShapley(), game).values[0], expected, atol=1e-12)
    expected = [1 / 4 if i in carrier else 0 for i in range(7)]
    np.testing.assert_allclose(run(Banzhaf(), game).values[0], expected, atol=1e-12)


# Oracles


@pytest.mark.parametrize("players", [1, 2, 3, 6])
def test_all_that_enumerate_agree_with_all_orders(players):
    game = tangled(players)
    for target in range(2):
        expected = orders.shapley(worth_of(game, target), players)
        for method in (ExactShapley(), KernelShap(samples=62), PermutationShapley(permutations=100), Owen()):
            result = run(method, game)
            np.testing.assert_allclose(result.values[target], expected, atol=1e-9)
            assert result.standard_error is None or not result.standard_error.any()
        expected = orders.banzhaf(worth_of(game, target), players)
        np.testing.assert_allclose(run(Banzhaf(), game).values[target], expected, atol=1e-12)


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_owen_agrees_with_all_orders_that_keep_blocks(tree):
    game = tangled(5)
    expected = [orders.owen(worth_of(game, target), tree, 5) for target in range(2)]
    fresh = tangled(5)
    np.testing.assert_allclose(exact_owen(fresh, tree), expected, atol=1e-12)
    assert fresh.evaluations == coalitions_needed(tree) <= 32


def test_a_block_gets_the_shapley_value_it_would_have_as_one_player():
    game = tangled(7)
    blocks = [[0, 3], [1], [2, 4, 5, 6]]
    values = exact_owen(game, ((0, 3), 1, (2, (4, 5), 6)))

    def quotient(s):
        full = np.zeros((len(s), 7), dtype=bool)
        for column, block in enumerate(blocks):
            full[:, block] = s[:, [column]]
        return game.value(full)

    sums = np.stack([values[:, block].sum(1) for block in blocks], 1)
    np.testing.assert_allclose(sums, exact(quotient, 3), atol=1e-12)


def test_sampled_owen_is_within_its_errors_of_the_exact_value():
    tree = ((0, 1, 2), (3, (4, 5, 6)), 7, (8, 9, 10, 11))
    game = tangled(12)
    (estimate,) = owen_rounds(game, tree, np.random.default_rng(0), 24, 24)
    assert not estimate.exact
    assert estimate.standard_error.max() > 0
    assert (np.abs(estimate.values - exact_owen(game, tree)) <= 4 * estimate.standard_error + 1e-12).all()
    assert np.abs(estimate.values - exact(game.value, 12)).max() > 0.1


def test_a_tree_must_hold_every_player_once():
    for tree in [(0, 1), (0, 1, 1), (0, 1, 3), (0, (1, 2), 2)]:
        with pytest.raises(InputError, match="0 to 2 exactly once"):
            next(owen_rounds(tangled(3), tree, np.random.default_rng(0), 4, 4))


def test_kernel_shap_is_the_constrained_regression_on_what_it_played():
    """The same minimisation, coalition by coalition, through its full system of Lagrange conditions."""
    n, played = 9, []
    function = tangled_function(n)

    def recorded(s):
        played.extend(s)
        return function(s)

    result = KernelShap(samples=60).estimate(FunctionGame(recorded, n), np.random.default_rng(5))
    design = PairDesign(n, np.random.default_rng(5))
    design.extend(30)
    s = np.concatenate([design.pairs, ~np.array(design.pairs)])
    assert {row.tobytes() for row in played} == {row.tobytes() for row in s} | {bytes(n), b"\1" * n}
    size = s.sum(1)
    kernel = np.array([(n - 1) / (comb(n, k) * k * (n - k)) for k in size])
    filled = np.isin(size, [1, n - 1])
    mass = sum((n - 1) / (k * (n - k)) for k in range(2, n - 1))
    weights = np.where(filled, kernel, mass / (~filled).sum())
    design_matrix, ones = s.astype(float), np.ones((n, 1))
    system = np.block([[2 * design_matrix.T * weights @ design_matrix, ones], [ones.T, np.zeros((1, 1))]])
    right = 2 * design_matrix.T * weights @ (function(s) - result.base_values)
    right = np.concatenate([right, (result.full_values - result.base_values)[None]])
    np.testing.assert_allclose(result.values, np.linalg.solve(system, right)[:n].T, atol=1e-9)


@pytest.mark.parametrize("players", [2, 3, 6, 7])
def test_the_design_fills_up_with_every_pair_once_and_the_kernel_as_weights(players):
    design = PairDesign(players, np.random.default_rng(0))
    design.extend(2**players)
    assert design.complete
    both = np.concatenate([design.pairs, ~np.array(design.pairs)])
    assert len(np.unique(both, axis=0)) == len(both) == 2**players - 2
    size = both.sum(1)
    kernel = np.array([1 / (comb(players, k) * k * (players - k)) for k in size])
    weights = np.tile(design.weights(), 2)
    np.testing.assert_allclose(weights / weights.sum(), kernel / kernel.sum())


def test_the_design_follows_the_kernel_over_sizes():
    design = PairDesign(40, np.random.default_rng(1))
    design.extend(2040)
    size = np.array(design.pairs).sum(1)
    assert len(np.unique(np.packbits(design.pairs, axis=1), axis=0)) == 2040
    drawn = np.bincount(size, minlength=21)
    assert drawn[1] == 40
    assert drawn[2] < comb(40, 2)
    open_sizes = [k for k in range(2, 21) if drawn[k] < comb(40, k)]
    expected = np.array([(2 - (k == 20)) / (k * (40 - k)) for k in open_sizes])
    fractions = drawn[open_sizes] / drawn[open_sizes].sum()
    np.testing.assert_allclose(fractions, expected / expected.sum(), atol=0.01)


def test_ridge_equals_scikit_learn():
    from sklearn.linear_model import Ridge

    generator = np.random.default_rng(0)
    x, y, weights = generator.normal(size=(40, 5)), generator.normal(size=(40, 2)), generator.random(40)
    surrogate, error = weighted_ridge(x, y, weights, 0.7)
    peer = Ridge(alpha=0.7).fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(surrogate.coefficients, peer.coef_, atol=1e-10)
    np.testing.assert_allclose(surrogate.intercept, peer.intercept_, atol=1e-10)

    refits = [weighted_ridge(x, y, np.where(np.arange(40) == i, 0, weights), 0.7)[0].coefficients for i in range(40)]
    jackknife = np.sqrt(((np.array(refits) - surrogate.coefficients) ** 2).sum(0))
    np.testing.assert_allclose(error, jackknife, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.3])
def test_lasso_equals_scikit_learn(alpha):
    from sklearn.linear_model import Lasso

    generator = np.random.default_rng(0)
    x = (generator.random((60, 20)) < 0.5).astype(float)
    x[:, 7] = 1.0
    y = np.tanh(x @ generator.normal(size=(20, 2))) * [1, 1e-4]
    counts = generator.integers(0, 3, 60).astype(float)
    surrogate = weighted_lasso(x, y, counts, alpha)
    repeated_x, repeated_y = np.repeat(x, counts.astype(int), axis=0), np.repeat(y, counts.astype(int), axis=0)
    width = np.where(repeated_x.std(0) > 0, repeated_x.std(0), 1)
    for target in range(2):
        height = repeated_y[:, target].std()
        peer = Lasso(alpha=alpha, tol=1e-12, max_iter=100_000)
        peer.fit((repeated_x - repeated_x.mean(0)) / width, repeated_y[:, target] / height)
        np.testing.assert_allclose(surrogate.coefficients[target], peer.coef_ * height / width, atol=1e-6 * height)
    predicted = x @ surrogate.coefficients.T + surrogate.intercept
    np.testing.assert_allclose(counts @ (y - predicted), 0, atol=1e-9)


def test_sparse_linear_finds_the_few_that_matter():
    weights = np.zeros((60, 1))
    weights[[3, 20, 41]] = [[2.0], [-1.0], [0.5]]
    game = FunctionGame(lambda s: s @ weights, 60)
    result = SparseLinear(samples=120, alpha=0.02).estimate(game, np.random.default_rng(0))
    assert {*np.flatnonzero(result.values[0]).tolist()} == {3, 20, 41}
    np.testing.assert_allclose(result.values[0], weights[:, 0], atol=0.06)


# Other libraries, side by side


def as_torch(function):
    return lambda x: torch.tensor(function(x.numpy() > 0.5)[:, 0])


def test_captum_on_the_same_game():
    from captum.attr import FeatureAblation, ShapleyValues, ShapleyValueSampling
    from captum.attr import KernelShap as CaptumKernelShap

    n = 5
    function, (game, weights) = tangled_function(n), additive(n)
    ones, zeros = torch.ones(1, n, dtype=torch.float64), torch.zeros(1, n, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = ShapleyValues(as_torch(function)).attribute(ones, zeros, perturbations_per_eval=60)
        ablation = FeatureAblation(as_torch(function)).attribute(ones, zeros)
        sampling = ShapleyValueSampling(as_torch(game.value)).attribute(ones, zeros, n_samples=2)
        torch.manual_seed(0)
        kernel = CaptumKernelShap(as_torch(game.value)).attribute(ones, zeros, n_samples=60)
    np.testing.assert_allclose(run(ExactShapley(), FunctionGame(function, n)).values[0], peer[0], atol=1e-6)
    np.testing.assert_allclose(run(Occlusion(), FunctionGame(function, n)).values[0], ablation[0], atol=1e-6)
    np.testing.assert_allclose(sampling[0], weights[0], atol=1e-6)
    np.testing.assert_allclose(kernel[0], weights[0], atol=1e-3)


def test_captum_lime_on_the_same_masks():
    """All masks once, weighted by kernel and chance, through Captum's LimeBase and scikit-learn's ridge."""
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import LimeBase

    n, samples = 5, 40
    function, masks = tangled_function(n), all_coalitions(n)
    queue = iter(torch.tensor(masks, dtype=torch.float64))

    def weight(original, perturbed, mask, **settings):
        kept = int(mask.sum())
        distance = 1 - (kept / n) ** 0.5
        drawn = 1.0 if kept == n else (samples - 1) / n / comb(n, kept)
        return torch.tensor(drawn * np.exp(-(distance**2) / (2 * 0.3**2)))

    peer = LimeBase(
        as_torch(function),
        SkLearnRidge(alpha=0.5),
        weight,
        lambda original, **settings: next(queue)[None],
        True,
        lambda mask, original, **settings: mask,
        None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = peer.attribute(torch.ones(1, n, dtype=torch.float64), n_samples=len(masks))
    result = run(Lime(samples=samples, kernel_width=0.3, alpha=0.5), FunctionGame(function, n))
    np.testing.assert_allclose(result.values[0], expected[0], atol=1e-5)


def test_shap_on_the_same_game():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap

        n = 6
        function = tangled_function(n)
        ones, zeros = np.ones((1, n)), np.zeros((1, n))
        kernel = shap.KernelExplainer(lambda x: function(x > 0.5), zeros).shap_values(
            ones, nsamples=2**n, l1_reg=0, silent=True
        )
    result = run(KernelShap(samples=62), FunctionGame(function, n))
    np.testing.assert_allclose(result.values, kernel[0].T, atol=1e-6)


# Sampling: errors that mean what they say


@pytest.mark.parametrize(
    ("method", "weights"),
    [
        (KernelShap(samples=90), shapley_weights),
        (KernelShap(samples=400), shapley_weights),
        (PermutationShapley(permutations=24), shapley_weights),
        (Owen(permutations=24), shapley_weights),
        (Banzhaf(samples=200), banzhaf_weights),
        (Lime(samples=200), None),
        (SparseLinear(samples=200, resamples=15), None),
    ],
    **names,
)
def test_standard_errors_are_calibrated(method, weights):
    n = 10
    function = tangled_function(n)
    runs = [run(method, FunctionGame(function, n), seed) for seed in range(40)]
    values, errors = np.array([r.values for r in runs]), np.array([r.standard_error for r in runs])
    assert not any(r.settings["exact"] for r in runs)
    ratio = errors.mean(0) / values.std(0, ddof=1)
    assert 1 / 1.3 < ratio.mean() < 1.3
    assert ratio.min() > 0.5
    assert ratio.max() < 2
    truth = method.model_copy(update={"samples": 2**n}) if weights is None else None
    expected = run(truth, FunctionGame(function, n)).values if truth else exact(function, n, weights)
    centre_error = values.std(0, ddof=1) / 40**0.5
    # The ridge and the lasso are biased in small samples, by less than a run's own standard error.
    allowed = 4 * centre_error + (errors.mean(0) / 2 if truth else 0)
    assert (np.abs(values.mean(0) - expected) <= allowed).all()


def test_no_order_is_drawn_twice():
    """Two equal pairs of orders would show no spread: of the 12 pairs of four players, one time in twelve."""
    for seed in range(60):
        result = run(PermutationShapley(permutations=4), tangled(4), seed)
        assert not result.settings["exact"]
        assert result.standard_error.max() > 1e-6


def test_lime_draws_every_number_of_missing_players():
    played = []
    Lime(samples=600).estimate(FunctionGame(lambda s: played.append(s) or s[:, :1] * 1.0, 60), np.random.default_rng(0))
    # The first call is the regression's; the ends that every result reports are played after it.
    missing = 60 - played[0].sum(1)
    assert {0, 60} <= {*missing.tolist()}
    counts = np.bincount(missing, minlength=61)
    assert counts[0] == 1
    thirds = [counts[start : start + 20].sum() for start in (2, 22, 40)]
    assert max(thirds) < 1.4 * min(thirds)


@pytest.mark.parametrize(
    ("method", "weights"),
    [
        (KernelShap(samples=300), shapley_weights),
        (PermutationShapley(permutations=200), shapley_weights),
        (Owen(permutations=200), shapley_weights),
        (Banzhaf(samples=1000), banzhaf_weights),
    ],
    **names,
)
def test_samples_are_within_four_standard_errors(method, weights):
    n = 12
    function = tangled_function(n)
    result = run(method, FunctionGame(function, n))
    assert result.standard_error.min() > 0
    assert (np.abs(result.values - exact(function, n, weights)) <= 4 * result.standard_error).all()


@pytest.mark.parametrize(
    "method",
    [KernelShap(tolerance=0.03), PermutationShapley(tolerance=0.03), Owen(tolerance=0.03)],
    **names,
)
def test_a_tolerance_ends_the_rounds(method):
    game = tangled(13)
    result = run(method, game)
    (check,) = result.checks
    assert check.passed
    assert check.value == result.standard_error.max() <= method.tolerance == check.threshold
    first = run(method.model_copy(update={"tolerance": None}), tangled(13))
    assert first.settings["samples_used"] < result.settings["samples_used"] < 1000
    assert first.standard_error.max() > method.tolerance
    assert game.evaluations <= method.rows(13)
    easy = run(method.model_copy(update={"tolerance": 10.0}), tangled(13))
    np.testing.assert_array_equal(easy.values, first.values)


@pytest.mark.parametrize(
    "method",
    [
        KernelShap(tolerance=1e-6, samples=60, max_samples=150),
        PermutationShapley(tolerance=1e-6, permutations=4, max_permutations=10),
        Owen(tolerance=1e-6, permutations=4, max_permutations=10),
    ],
    **names,
)
def test_a_tolerance_that_is_not_reached_is_reported(method):
    game = tangled(13)
    result = run(method, game)
    (check,) = result.checks
    assert check.passed is False
    assert check.value > check.threshold == 1e-6
    assert "still above" in check.detail
    assert result.settings["samples_used"] == (150 if isinstance(method, KernelShap) else 10)
    assert game.evaluations <= method.rows(13)


def test_a_tolerance_below_the_noise_ends_in_enumeration():
    for method in (KernelShap(tolerance=1e-12), PermutationShapley(tolerance=1e-12)):
        game = tangled(8)
        result = run(method, game)
        assert result.settings["exact"]
        assert result.checks[0].passed
        assert game.evaluations == method.rows(8) == 256
        np.testing.assert_allclose(result.values, exact(game.value, 8), atol=1e-9)


# Axioms and promises


@pytest.mark.parametrize("players", [1, 2, 3, 5, 8, 12, 33])
@pytest.mark.parametrize("method", ALL, **names)
def test_every_run_keeps_its_promises(method, players):
    if isinstance(method, ExactShapley) and players > 12:
        return
    game = tangled(players)
    result = run(method, game)
    assert result.values.shape == (2, players)
    assert result.values.dtype == np.float64
    assert np.isfinite(result.values).all()
    assert game.evaluations <= method.rows(players) <= 2**players
    if result.settings.get("exact", True):
        assert game.evaluations == method.rows(players) == 2**players
        assert result.standard_error is None or not result.standard_error.any()
    else:
        assert np.isfinite(result.standard_error).all()
    assert method.facts.sampled == (result.standard_error is not None)
    np.testing.assert_array_equal(result.full_values, game.full)
    np.testing.assert_array_equal(result.base_values, game.empty)
    if method.facts.complete:
        np.testing.assert_allclose(result.values.sum(1), game.full - game.empty, atol=1e-9)
    np.testing.assert_array_equal(run(method, tangled(players)).values, result.values)
    if not result.settings.get("exact", True):
        assert (run(method, tangled(players), seed=1).values != result.values).any()


@pytest.mark.parametrize("players", [1, 2, 14])
@pytest.mark.parametrize("method", ALL, **names)
def test_a_constant_game_gives_nothing(method, players):
    result = run(method, FunctionGame(lambda s: np.full((len(s), 2), -7.25), players))
    np.testing.assert_allclose(result.values, 0, atol=1e-12)
    assert result.standard_error is None or result.standard_error.max() < 1e-12


@pytest.mark.parametrize("method", ALL, **names)
def test_a_game_whose_ends_are_equal(method):
    game = FunctionGame(lambda s: np.where(s.all(1) | ~s.any(1), 0.0, s[:, 0] * 2.0 - s[:, 1:].mean(1))[:, None], 11)
    result = run(method, game)
    assert np.isfinite(result.values).all()
    if method.facts.complete:
        assert abs(result.values.sum()) < 1e-9


@pytest.mark.parametrize("method", [ExactShapley(), PermutationShapley(), Owen()], **names)
def test_a_dummy_gets_exactly_nothing(method):
    inner = tangled_function(12)
    result = run(method, FunctionGame(lambda s: inner(s[:, :12]) + 2.0 * s[:, [12]], 14))
    np.testing.assert_allclose(result.values[:, 13], 0, atol=1e-12)
    np.testing.assert_allclose(result.values[:, 12], 2, atol=1e-12)


@pytest.mark.parametrize("method", [*SHAPLEY, Banzhaf(), Lime(), SparseLinear()], **names)
def test_equals_are_treated_as_equals(method):
    inner = tangled_function(5)
    game = FunctionGame(lambda s: inner(np.stack([s[:, 0] & s[:, 5], *(s[:, i] for i in range(1, 5))], 1)), 6)
    values = run(method, game).values
    np.testing.assert_allclose(values[:, 0], values[:, 5], atol=1e-8)


def test_targets_do_not_touch_each_other():
    for method in ALL:
        function = tangled_function(9)
        both = run(method, FunctionGame(function, 9))
        alone = run(method, FunctionGame(lambda s, function=function: function(s)[:, 1:], 9))
        np.testing.assert_allclose(alone.values[0], both.values[1], atol=1e-7)


def test_the_surrogates_tell_their_intercept():
    weights = np.arange(1.0, 5.0)[:, None]
    game = FunctionGame(lambda s: s @ weights - 3, 4)
    assert run(Lime(alpha=1e-9), game).settings["intercept"] == pytest.approx([-3], abs=1e-6)
    (intercept,) = run(SparseLinear(alpha=1e-9), game).settings["intercept"]
    assert intercept == pytest.approx(-3, abs=1e-6)


# What bad input gets


def test_exact_shapley_refuses_too_many_players():
    with pytest.raises(InputError, match=r"2\^17 coalitions and takes at most 16 .*kernel_shap"):
        run(ExactShapley(), additive(17)[0])


def test_kernel_shap_refuses_too_few_samples():
    with pytest.raises(InputError, match=r"samples=30 is too few for 20 players.*at least 40"):
        run(KernelShap(samples=30), additive(20)[0])


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (KernelShap, {"samples": 0}),
        (KernelShap, {"tolerance": 0}),
        (PermutationShapley, {"permutations": 5}),
        (PermutationShapley, {"permutations": 2}),
        (Owen, {"max_permutations": 0}),
        (Banzhaf, {"samples": 3}),
        (Lime, {"alpha": 0}),
        (Lime, {"kernel_width": -1}),
        (SparseLinear, {"alpha": 1.0}),
        (SparseLinear, {"resamples": 1}),
    ],
)
def test_settings_out_of_range_are_refused(method, settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        method(**settings)


# Owen's tree


def spans(text, pieces, kind):
    features, start = [], 0
    for piece in pieces:
        start = text.index(piece, start)
        features.append(Feature(label=piece, kind=kind, value=piece, start=start, end=start + len(piece)))
        start += len(piece)
    return tuple(features)


TEXT = "Age: fifty two. Nodes: five"
TOKENS = spans(TEXT, ["Age", ":", " fif", "ty", " two", ".", " Nodes", ":", " fi", "ve"], "token")
LADDER = {
    "word": spans(TEXT, ["Age", ":", "fifty", "two", ".", "Nodes", ":", "five"], "word"),
    "sentence": spans(TEXT, ["Age: fifty two.", "Nodes: five"], "sentence"),
    "field": spans(TEXT, ["fifty two", "five"], "field"),
}


def test_the_tree_follows_the_spans():
    outside = Feature(label="<s>", kind="token", value="<s>", role="template")
    tree = feature_tree((outside, *TOKENS), [LADDER["word"], LADDER["field"]])
    assert tree == (((3, 4), 5), (9, 10), (1, 2, 6, 7, 8, 0))
    assert feature_tree(TOKENS, [LADDER["sentence"]]) == ((0, 1, 2, 3, 4, 5), (6, 7, 8, 9))
    assert feature_tree(TOKENS, []) == tuple(range(10))


def test_owen_uses_words_and_fields_by_itself():
    game = tangled(10)
    tree = feature_tree(TOKENS, [LADDER["word"], LADDER["field"]])
    assert tree == (((2, 3), 4), (8, 9), (0, 1, 5, 6, 7))
    result = Owen().attribute(question_of(game, TOKENS, LADDER))
    assert result.settings["exact"]
    np.testing.assert_allclose(result.values, exact_owen(game, tree), atol=1e-12)
    without = {kind: LADDER[kind] for kind in ("word", "sentence")}
    result = Owen().attribute(question_of(game, TOKENS, without))
    expected = exact_owen(game, feature_tree(TOKENS, [LADDER["word"], LADDER["sentence"]]))
    np.testing.assert_allclose(result.values, expected, atol=1e-12)
    flat = Owen(rungs=(), permutations=200).attribute(question_of(game, TOKENS, LADDER))
    np.testing.assert_allclose(flat.values, exact(game.value, 10), atol=1e-9)


def test_owen_names_a_rung_that_is_not_there():
    with pytest.raises(UnknownNameError, match="'fields'; did you mean 'field'"):
        Owen(rungs=("fields",)).attribute(question_of(tangled(10), TOKENS, LADDER))


def test_all_coalitions_are_in_the_order_of_their_bits():
    coalitions = all_coalitions(4)
    assert [sum(1 << i for i in range(4) if row[i]) for row in coalitions] == [*range(16)]
    assert {tuple(np.flatnonzero(row)) for row in coalitions} == {
        s for size in range(5) for s in combinations(range(4), size)
    }
