"""One metric: the inputs that everybody has a score on, and who stands where on them.

The support is strict: a method that has no score on some input takes that input from everybody, so that all numbers of
a table rest on the same inputs. One that lacks more than ``MOST_MISSING`` of them is not ranked instead.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from pellucid.benchmark.references import ORACLE, RANDOM
from pellucid.benchmark.results import Results
from pellucid.metrics.statistics import holm, normalised, resampled_means, wilcoxon, win_rate
from pellucid.ranks import ranks_of
from pellucid.report.leaderboard import Kind, Standing

MOST_MISSING = 0.1
"""Share of the inputs that an entrant may have no score on and still be ranked."""
LEAST_SHARED = 0.5
"""Share of the inputs that must be left when all gaps are put together."""
DRAWS = 2000
"""Resamples of the clusters, the same for all entrants."""
_TAILS = (0.025, 0.975)
_DIGITS = 12


class Judged(NamedTuple):
    """Everybody under one metric, on the same inputs."""

    metric: str
    """The whole name."""
    higher_is_better: bool | None
    """Which way is good; None for a control."""
    entrants: tuple[str, ...]
    """Who is on the table: methods and peers, then reference rows."""
    kinds: tuple[Kind, ...]
    """What each is."""
    inputs: Int[np.ndarray, " input"]
    """Positions of the inputs among the cases."""
    scores: Float[np.ndarray, "entrant input"]
    """Means over seeds."""
    clusters: Int[np.ndarray, " input"]
    """Cluster of each input."""
    undefined: tuple[int, ...]
    """Inputs, of those that the metric judged at all, on which an entrant has no score."""
    left_out: tuple[tuple[str, int], ...]
    """Entrants that are not ranked, with the number of inputs on which they have no score."""
    candidates: int
    """Inputs that the metric judged."""
    spread: tuple[float | None, ...]
    """Standard deviation of each mean over seeds; None where nothing is drawn."""

    @property
    def ranked(self) -> int:
        """How many of the entrants are methods and peers; they stand first."""
        return sum(kind != "reference" for kind in self.kinds)

    @property
    def sign(self) -> int:
        """What to multiply scores by, so that more is better."""
        return -1 if self.higher_is_better is False else 1


def judged(results: Results, metric: str) -> Judged:
    """The scores of one metric on the inputs that all share who have enough of them."""
    place = results.metrics.index(metric)
    asked, scores = results.asked[place], results.scores[place]
    candidates = np.flatnonzero(asked.any((0, 1)))
    asked, scores = asked[..., candidates], scores[..., candidates]
    seeds = asked.any(2)
    means = _over_seeds(scores, seeds)
    taking_part = [
        number
        for number, name in enumerate(results.entrants)
        # A metric that runs a method again has no reference rows.
        if len(candidates) and (seeds[number].any() or results.kinds[name] != "reference")
    ]
    kept = _kept(np.isnan(means), taking_part)
    shared = np.flatnonzero(~np.isnan(means[kept]).any(0)) if kept else np.zeros(0, dtype=np.int64)
    missing = np.isnan(means).sum(1)
    names = [results.entrants[number] for number in kept]
    higher: bool | None = results.entry(metric).facts.get("higher_is_better")
    return Judged(
        metric=metric,
        higher_is_better=higher,
        entrants=tuple(names),
        kinds=tuple(results.kinds[name] for name in names),
        inputs=candidates[shared],
        scores=means[kept][:, shared],
        clusters=results.clusters[candidates[shared]],
        undefined=tuple(int(missing[number]) for number in kept),
        left_out=tuple((results.entrants[each], int(missing[each])) for each in taking_part if each not in kept),
        candidates=len(candidates),
        spread=tuple(_spread(scores[number][seeds[number]][:, shared]) for number in kept),
    )


def _over_seeds(
    scores: Float[np.ndarray, "entrant seed case"], seeds: Bool[np.ndarray, "entrant seed"]
) -> Float[np.ndarray, "entrant case"]:
    """Mean over the seeds that an entrant has; NaN where one of them is undefined."""
    count = seeds.sum(1)[:, None]
    total = np.where(seeds[..., None], scores, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _kept(missing: Bool[np.ndarray, "entrant case"], taking_part: Sequence[int]) -> list[int]:
    """Who is ranked: those with few gaps, less the worst of them while all gaps together leave too little."""
    kept = [each for each in taking_part if missing[each].mean() <= MOST_MISSING]
    while kept and missing[kept].any(0).mean() > 1 - LEAST_SHARED:
        kept.remove(max(kept, key=lambda each: int(missing[each].sum())))
    return kept


def _spread(scores: Float[np.ndarray, "seed input"]) -> float | None:
    return float(scores.mean(1).std(ddof=1)) if len(scores) > 1 and scores.shape[1] else None


def standings(found: Judged, families: Mapping[str, str]) -> tuple[Standing, ...]:
    """The entrants of one metric, the best first, reference rows last; none where no input is shared.

    ``families``: of methods, by entrant.
    """
    if not len(found.inputs):
        return ()
    means = found.scores.mean(1)
    resampled = _resampled(found)
    ranks = ranks_among(found)
    best = int(np.argmin(ranks)) if len(ranks) else None
    ends = np.quantile(resampled, _TAILS, axis=0)
    scale = _normaliser(found, means, resampled)
    against = _against(found, best, resampled)
    made = [
        Standing(
            entrant=name,
            kind=found.kinds[number],
            family=families.get(name, ""),
            mean=float(means[number]),
            low=float(ends[0, number]),
            high=float(ends[1, number]),
            normalised=None if scale is None else normalised(float(means[number]), *scale),
            rank=float(ranks[number]) if number < len(ranks) else None,
            difference=against[number].difference,
            p_value=against[number].p_value,
            win_rate=against[number].win_rate,
            seeds=found.spread[number],
            undefined=found.undefined[number],
        )
        for number, name in enumerate(found.entrants)
    ]
    is_reference = [each.kind == "reference" for each in made]
    return tuple(
        made[number] for number in sorted(range(len(made)), key=lambda n: (is_reference[n], -found.sign * means[n]))
    )


def ranks_among(found: Judged) -> Float[np.ndarray, " method"]:
    """Ranks of methods and peers by their means, 1 is best, ties share; none for a control."""
    if found.higher_is_better is None or not len(found.inputs):
        return np.zeros(0)
    means = -found.sign * found.scores[: found.ranked].mean(1)
    size = np.abs(means).max(initial=0.0) or 1.0
    # Scores that are equal but for the order of a sum are a tie.
    return np.array(ranks_of(np.round(means / size, _DIGITS)))


def _resampled(found: Judged) -> Float[np.ndarray, "draw entrant"]:
    """Resampled means; NaN where all inputs are of one cluster."""
    if len(set(found.clusters.tolist())) < 2:
        return np.full((1, len(found.entrants)), np.nan)
    return resampled_means(found.scores, found.clusters.tolist(), draws=DRAWS)


def _normaliser(
    found: Judged, means: Float[np.ndarray, " entrant"], resampled: Float[np.ndarray, "draw entrant"]
) -> tuple[float, float] | None:
    """Means of the random row and of the oracle; None where the oracle is not certainly the better one."""
    if found.higher_is_better is None or not {RANDOM, ORACLE} <= set(found.entrants):
        return None
    random, oracle = (found.entrants.index(name) for name in (RANDOM, ORACLE))
    ahead = found.sign * (resampled[:, oracle] - resampled[:, random])
    if not np.quantile(ahead, _TAILS[0]) > 0:
        return None
    return float(means[random]), float(means[oracle])


class _Against(NamedTuple):
    """An entrant held against the best."""

    difference: tuple[float, float, float] | None = None
    p_value: float | None = None
    win_rate: float | None = None


def _against(found: Judged, best: int | None, resampled: Float[np.ndarray, "draw entrant"]) -> list[_Against]:
    """Each entrant held against the best; nothing for the best itself and for reference rows."""
    made: list[_Against] = [_Against()] * len(found.entrants)
    others = [number for number in range(found.ranked) if number != best]
    if best is None or not others:
        return made
    per_cluster = by_cluster(found.scores, found.clusters)
    adjusted = holm(np.array([wilcoxon(per_cluster[each], per_cluster[best]).p_value for each in others]))
    for each, p_value in zip(others, adjusted, strict=True):
        low, high = np.quantile(resampled[:, each] - resampled[:, best], _TAILS)
        mean = float((found.scores[each] - found.scores[best]).mean())
        wins = win_rate(found.sign * found.scores[each], found.sign * found.scores[best])
        made[each] = _Against((mean, float(low), float(high)), float(p_value), wins)
    return made


def by_cluster(
    scores: Float[np.ndarray, "entrant input"], clusters: Int[np.ndarray, " input"]
) -> Float[np.ndarray, "entrant cluster"]:
    """Mean of each cluster: inputs of one cluster are not independent, so tests count it once."""
    numbers = np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    return np.array([np.bincount(numbers, weights=row) / sizes for row in scores]).reshape(len(scores), len(sizes))
