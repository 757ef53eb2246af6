"""Statistics of per-example scores: intervals, paired tests, effect sizes, ranks over data sets.

Scores of one example under two methods are paired, and examples of one document, image or model are not independent:
so intervals resample clusters. Undefined scores (NaN) are refused: drop the example for all methods and say how many.
"""

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pellucid.errors import InputError
from pellucid.metrics.functional.inputs import checked, checked_count, checked_number
from pellucid.ranks import ranks_of

ENOUGH = 100
"""Independent examples below which no claim should be made."""
EXACT_LIMIT = 25
"""Wilcoxon's test enumerates all signs up to so many differences."""
_NORMAL = NormalDist()
_CHUNK = 2**22


class Interval(NamedTuple):
    """A mean over examples and how far it can be trusted."""

    mean: float
    """Mean of all examples."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    standard_error: float
    """Standard deviation of the resampled means."""
    n: int
    """Number of examples."""
    clusters: int
    """Number of independent groups of examples."""

    @property
    def enough(self) -> bool:
        """Whether there are enough independent examples (``ENOUGH``) for a claim."""
        return self.clusters >= ENOUGH


class Significance(NamedTuple):
    """A two-sided test of the hypothesis that paired differences are symmetric around 0."""

    statistic: float
    """What was tested: the sum of positive ranks, or the mean difference."""
    p_value: float
    """Probability of a statistic at least as extreme under the hypothesis."""
    n: int
    """Number of differences (or of their clusters) that bear on the test."""


class RankTest(NamedTuple):
    """Whether some method ranks better than others over several data sets."""

    ranks: Float[np.ndarray, " method"]
    """Mean rank of each method; 1 is best."""
    statistic: float
    """Friedman's chi-square with (methods - 1) degrees of freedom, corrected for ties."""
    p_value: float
    """Probability of a statistic at least as large if all methods are alike (chi-square approximation)."""
    critical_difference: float
    """Nemenyi: mean ranks that differ by less are not told apart."""


def bootstrap(
    values: Float[np.ndarray, " example"],
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = 2000,
    level: float = 0.95,
    kind: Literal["percentile", "bca"] = "percentile",
    seed: int = 0,
) -> Interval:
    """Interval of a mean by resampling whole clusters with replacement [field2007; efron1987 for ``bca``].

    ``clusters``: a label for each example, such as its document; None if every example stands alone. A resampled mean
    is the sum of all drawn examples over their number. Raises InputError for fewer than two clusters.
    """
    scores = checked(values, what="the scores")
    if not 0 < level < 1:
        raise InputError(f"the level is {level}; it must be between 0 and 1.")
    checked_count(draws, 2**31, "the number of bootstrap draws")
    sums, sizes = _clustered(scores, clusters)
    if len(sums) < 2:
        raise InputError(f"the scores form {len(sums)} cluster; an interval needs at least 2 independent ones.")
    means = _resampled(sums, sizes, draws, np.random.default_rng(seed))
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if kind == "bca":
        tails = _bca(tails, means, sums, sizes)
    elif kind != "percentile":
        raise InputError(f"no bootstrap interval is called {kind!r}; it is 'percentile' or 'bca'.")
    low, high = np.quantile(means, tails)
    error = float(means.std(ddof=1)) if draws > 1 else math.nan
    return Interval(float(scores.mean()), float(low), float(high), error, len(scores), len(sums))


def paired_difference(
    first: Float[np.ndarray, " example"],
    second: Float[np.ndarray, " example"],
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = 2000,
    level: float = 0.95,
    kind: Literal["percentile", "bca"] = "percentile",
    seed: int = 0,
) -> Interval:
    """``bootstrap`` of the mean of first - second on the same examples: an interval without 0 is a difference."""
    return bootstrap(_differences(first, second), clusters, draws=draws, level=level, kind=kind, seed=seed)


def _differences(
    first: Float[np.ndarray, " example"], second: Float[np.ndarray, " example"]
) -> Float[np.ndarray, " example"]:
    one = checked(first, what="the first method's scores")
    return np.asarray(one - checked(second, len(one), "the second method's scores"))


def _clustered(
    scores: Float[np.ndarray, " example"], clusters: Sequence[Hashable] | None
) -> tuple[Float[np.ndarray, " cluster"], Float[np.ndarray, " cluster"]]:
    """Sum and size of every cluster."""
    if clusters is None:
        return scores, np.ones(len(scores))
    if len(clusters) != len(scores):
        raise InputError(f"there are {len(clusters)} cluster labels for {len(scores)} scores; give one for each.")
    number: dict[Hashable, int] = {}
    places = np.array([number.setdefault(label, len(number)) for label in clusters])
    return np.bincount(places, weights=scores), np.bincount(places).astype(np.float64)


def _resampled(
    sums: Float[np.ndarray, " cluster"],
    sizes: Float[np.ndarray, " cluster"],
    draws: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, " draw"]:
    count, means = len(sums), np.empty(draws)
    chunk = max(1, _CHUNK // count)
    for start in range(0, draws, chunk):
        drawn = generator.integers(count, size=(min(chunk, draws - start), count))
        means[start : start + chunk] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    return means


def resampled_means(
    scores: Float[np.ndarray, "method example"],
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Float[np.ndarray, "draw method"]:
    """Means of many methods on the same resampled clusters, those that ``bootstrap`` draws from this seed [field2007].

    Quantiles of a column are the interval of that method, those of the difference of two columns the interval of their
    paired difference. Raises InputError for fewer than two clusters.
    """
    table = checked(scores, what="the scores")
    checked_count(draws, 2**31, "the number of bootstrap draws")
    grouped = [_clustered(row, clusters) for row in table]
    count = len(grouped[0][1])
    if count < 2:
        raise InputError(f"the scores form {count} cluster; an interval needs at least 2 independent ones.")
    sums, sizes = np.stack([each for each, _ in grouped], 1), grouped[0][1]
    generator, means, chunk = np.random.default_rng(seed), np.empty((draws, len(table))), max(1, _CHUNK // count)
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        drawn = generator.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        means[start : start + size] = (times @ sums) / (times @ sizes)[:, None]
    return means


def _bca(
    tails: Float[np.ndarray, " tail"],
    means: Float[np.ndarray, " draw"],
    sums: Float[np.ndarray, " cluster"],
    sizes: Float[np.ndarray, " cluster"],
) -> Float[np.ndarray, " tail"]:
    """The quantiles to read in place of ``tails``, corrected for bias and acceleration [efron1987]."""
    mean, draws = sums.sum() / sizes.sum(), len(means)
    below = ((means < mean).sum() + (means <= mean).sum()) / (2 * draws)
    bias = _NORMAL.inv_cdf(min(max(below, 0.5 / draws), 1 - 0.5 / draws))
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    skew = without.mean() - without
    spread = float((skew**2).sum())
    acceleration = float((skew**3).sum()) / (6 * spread**1.5) if spread else 0.0
    shifted = np.array([bias + _NORMAL.inv_cdf(tail) for tail in tails])
    return np.array([_NORMAL.cdf(bias + z / (1 - acceleration * z)) for z in shifted])


def wilcoxon(first: Float[np.ndarray, " example"], second: Float[np.ndarray, " example"]) -> Significance:
    """Wilcoxon's signed-rank test of paired scores [wilcoxon1945], zeros ranked and then dropped [pratt1959].

    Statistic: sum of the ranks of positive differences. Up to ``EXACT_LIMIT`` differences other than 0, all 2^n signs
    count, ties included; beyond, a normal of variance sum of r^2 / 4, which holds the corrections for ties and zeros.
    """
    differences = _differences(first, second)
    ranks = np.array(ranks_of(np.abs(differences)))[differences != 0]
    positive = differences[differences != 0] > 0
    if not len(ranks):
        return Significance(0.0, 1.0, 0)
    statistic = float(ranks[positive].sum())
    if len(ranks) <= EXACT_LIMIT:
        p_value = _signed_rank_tail(np.rint(2 * ranks).astype(np.int64), round(2 * statistic))
    else:
        z = (statistic - ranks.sum() / 2) / math.sqrt(float(ranks @ ranks) / 4)
        p_value = math.erfc(abs(z) / math.sqrt(2))
    return Significance(statistic, p_value, len(ranks))


def _signed_rank_tail(doubled: Int[np.ndarray, " item"], statistic: int) -> float:
    """Two-sided p of a sum of a random half of the ranks; ranks are doubled, so that shared ones are whole numbers."""
    ways = np.ones(1)
    for rank in doubled:
        ways = np.concatenate([ways, np.zeros(rank)]) + np.concatenate([np.zeros(rank), ways])
    ways /= ways.sum()
    return min(1.0, 2 * float(min(ways[: statistic + 1].sum(), ways[statistic:].sum())))


def sign_flip(
    first: Float[np.ndarray, " example"],
    second: Float[np.ndarray, " example"],
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> Significance:
    """Permutation test of the mean paired difference: the signs of whole clusters are flipped [fisher1935].

    All 2^clusters sign patterns if there are at most ``draws`` of them; else ``draws`` random ones, with
    p = (1 + as extreme) / (1 + draws).
    """
    differences = _differences(first, second)
    sums, _ = _clustered(differences, clusters)
    count = len(sums)
    checked_count(draws, 2**31, "the number of sign patterns")
    least = abs(float(sums.sum())) * (1 - 1e-12)
    mean = float(differences.mean())
    if count < 63 and 2**count <= draws:
        signs = 1 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
        return Significance(mean, float((np.abs(signs @ sums) >= least).mean()), count)
    generator, extreme, chunk = np.random.default_rng(seed), 0, max(1, _CHUNK // count)
    for start in range(0, draws, chunk):
        signs = 1 - 2.0 * generator.integers(2, size=(min(chunk, draws - start), count))
        extreme += int((np.abs(signs @ sums) >= least).sum())
    return Significance(mean, (1 + extreme) / (1 + draws), count)


def holm(p_values: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Adjusted p-values, max over j <= i of min(1, (m - j + 1) p_(j)): the family errs at most as often [holm1979]."""
    p = checked(p_values, what="the p-values")
    if p.min() < 0 or p.max() > 1:
        raise InputError(f"the p-values run from {p.min()} to {p.max()}; they must lie between 0 and 1.")
    ascending = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[ascending] = np.minimum(1, np.maximum.accumulate(np.arange(len(p), 0, -1) * p[ascending]))
    return adjusted


def win_rate(first: Float[np.ndarray, " example"], second: Float[np.ndarray, " example"]) -> float:
    """Share of the examples on which the first is higher, ties counting half; 0.5 is no difference."""
    differences = _differences(first, second)
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


def cliffs_delta(first: Float[np.ndarray, " example"], second: Float[np.ndarray, " other"]) -> float:
    """P(a > b) - P(a < b) over all pairs of examples, in [-1, 1] [cliff1993]. The samples need not be paired."""
    one = checked(first, what="the first method's scores")
    other = np.sort(checked(second, what="the second method's scores"))
    below = np.searchsorted(other, one, "left").sum()
    above = len(one) * len(other) - np.searchsorted(other, one, "right").sum()
    return float(below - above) / (len(one) * len(other))


def normalised(score: float, random: float, ceiling: float) -> float:
    """(score - random) / (ceiling - random): 0 is what chance reaches, 1 the best possible; may lie outside [0, 1].

    Works for "lower is better" too, where the ceiling is below random. NaN where both are equal up to rounding: then
    the metric cannot tell anything apart.
    """
    numbers = {"the score": score, "the random score": random, "the ceiling": ceiling}
    score, random, ceiling = (checked_number(value, what) for what, value in numbers.items())
    width = ceiling - random
    return (score - random) / width if abs(width) > 1e-9 * max(abs(ceiling), abs(random)) else math.nan


def friedman(
    scores: Float[np.ndarray, "dataset method"], higher_is_better: bool = True, alpha: float = 0.05
) -> RankTest:
    """Friedman's test over data sets [friedman1937], and Nemenyi's critical difference [demsar2006, section 3.2.2]."""
    table = checked(scores, what="the scores")
    datasets, methods = table.shape
    if datasets < 2 or methods < 2:
        raise InputError(
            f"the scores are of {datasets} data sets and {methods} methods; at least 2 of each are needed."
        )
    ranks = np.array([ranks_of(row) for row in (-table if higher_is_better else table)])
    mean = ranks.mean(0)
    # The variance of the ranks within a data set is what ties make smaller.
    spread = float(((ranks - (methods + 1) / 2) ** 2).sum()) / (methods - 1)
    statistic = datasets**2 * float(((mean - (methods + 1) / 2) ** 2).sum()) / spread if spread else 0.0
    p_value = chi_square_tail(statistic, methods - 1)
    return RankTest(mean, statistic, p_value, critical_difference(methods, datasets, alpha))


def critical_difference(methods: int, datasets: int, alpha: float = 0.05) -> float:
    """Nemenyi: q sqrt(k (k + 1) / (6 N)), q the studentised range quantile over sqrt(2) [demsar2006, section 3.2.2]."""
    checked_count(methods - 1, 2**31, "the number of methods, less one,")
    checked_count(datasets, 2**31, "the number of data sets")
    return studentised_range(methods, alpha) / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * datasets))


def cliques(ranks: Float[np.ndarray, " method"], difference: float) -> list[tuple[int, ...]]:
    """The bars of a critical-difference diagram: maximal runs of methods not told apart [demsar2006, figure 1].

    Positions in ``ranks``, the best first. In a run the first and the last mean rank differ by less than
    ``difference``; a run has two methods at least, and none lies within another.
    """
    mean = checked(ranks, what="the mean ranks")
    order = np.argsort(mean, kind="stable")
    ends = np.searchsorted(mean[order], mean[order] + difference, "left")
    return [
        tuple(order[start:end].tolist())
        for start, end in enumerate(ends)
        if end - start > 1 and (start == 0 or end > ends[start - 1])
    ]


def studentised_range(groups: int, alpha: float) -> float:
    """Upper quantile of the range of ``groups`` standard normals: its infinite-degrees-of-freedom table, computed.

    P(range <= q) = k times the integral of phi(z) (Phi(z) - Phi(z - q))^(k - 1), z being the highest of the k.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; it must be between 0 and 1.")
    grid = np.linspace(-8.5, 8.5, 171)
    density, total = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi), _normal_cdf(grid)
    low, high = 0.0, 40.0
    while high - low > 1e-10:
        q = (low + high) / 2
        inside = groups * np.trapezoid(density * (total - _normal_cdf(grid - q)) ** (groups - 1), grid)
        low, high = (q, high) if inside < 1 - alpha else (low, q)
    return low


def _normal_cdf(points: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    return np.array([_NORMAL.cdf(float(point)) for point in points])


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(chi-square > statistic) for whole degrees of freedom: the finite sums of the incomplete gamma function."""
    half = statistic / 2
    if half <= 0:
        return 1.0
    start = degrees % 2 / 2
    powers = start + np.arange(degrees // 2)
    terms = [math.exp(power * math.log(half) - half - math.lgamma(power + 1)) for power in powers]
    return min(1.0, math.fsum(terms) + (math.erfc(math.sqrt(half)) if start else 0.0))
