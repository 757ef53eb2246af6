"""Is the metric itself any good? Reference rows that show what its scores mean, and the gate that it must pass.

A metric that cannot tell an oracle from noise says nothing about any method. Popular ones have failed this: one said
True of every attribution, another gave an explanation and its negation the same score.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from pellucid.errors import UnknownNameError
from pellucid.games import Question, ask
from pellucid.metrics.base import AbstractMetric, Example, Explain
from pellucid.metrics.functional.inputs import checked
from pellucid.metrics.scores import Scores, compare, evaluate
from pellucid.metrics.statistics import normalised

SIGNIFICANT = 0.01
"""Largest p-value at which one reference row counts as better than another."""
ROUNDING = 1e-6
"""Two scores are the same if they differ by no more than this share of the larger one."""
Rows = dict[str, list[Float[np.ndarray, " _"]]]


class Finding(NamedTuple):
    """What the gate found about one promise."""

    name: str
    """The promise."""
    passed: bool
    """Whether it holds."""
    detail: str
    """The numbers, in one sentence."""


def references(oracle: Sequence[Float[np.ndarray, " _"]], seed: int = 0) -> Rows:
    """Attributions to print beside any others: the oracle, noise of the same norm, and the negation of each.

    ``oracle``: for each input the best attribution that is known, such as exact Shapley values or a planted mask.
    """
    generator = np.random.default_rng(seed)
    oracle = [checked(each, what="an oracle") for each in oracle]
    drawn = [generator.normal(size=len(each)) for each in oracle]
    noise = [each * (np.linalg.norm(best) / np.linalg.norm(each)) for each, best in zip(drawn, oracle, strict=True)]
    return {
        "oracle": list(oracle),
        "random": noise,
        "inverted random": [-each for each in noise],
        "inverted oracle": [-each for each in oracle],
    }


def normalised_scores(scores: Mapping[str, float], ceiling: str = "oracle", floor: str = "random") -> dict[str, float]:
    """(score - random) / (ceiling - random) of every row: 0 is chance, 1 the oracle; NaN where both are the same.

    Raises UnknownNameError where one of the two rows is not among the scores.
    """
    for name in (ceiling, floor):
        if name not in scores:
            raise UnknownNameError("row of scores", name, scores)
    return {name: normalised(score, scores[floor], scores[ceiling]) for name, score in scores.items()}


class ValidityGate:
    """The promises of a metric, tried on inputs whose truth is known.

    Args:
        model: the model that is asked.
        raws: its inputs; some dozens.
        oracle: the best attribution known for each.
        seed: seed of all that is drawn.
        methods: for the metrics that run a method again: ``seeing``, which looks at the model, and ``blind``, which
            does not.
        options: further arguments of ``evaluate``: target, features, imputer, rationales, labels.
    """

    def __init__(
        self,
        model: Any,
        raws: Sequence[Any],
        oracle: Sequence[Float[np.ndarray, " _"]],
        *,
        seed: int = 0,
        methods: Mapping[str, Explain] | None = None,
        **options: Any,
    ) -> None:
        self._model, self._raws, self._seed, self._options = model, raws, seed, options
        self._rows, self._methods = references(oracle, seed), methods

    def check(self, metric: AbstractMetric) -> list[Finding]:
        """Every promise that fits the metric's facts, with whether it holds."""
        before = _random_state()
        found = self._check_with_methods(metric) if "method" in metric.facts.needs else self._check_alone(metric)
        kept = _random_state() == before
        detail = f"it {'drew nothing' if kept else 'drew'} from the global random state."
        return [*found, Finding("the random state is left as it was", kept, detail)]

    def _check_alone(self, metric: AbstractMetric) -> list[Finding]:
        """What it says of the oracle, of noise and of their negations."""
        scores = self._scores(metric, self._rows)
        found = [_deterministic(scores, self._scores(metric, self._rows)), self._frugal(metric)]
        if "scale" not in metric.model_dump(exclude_defaults=True):
            found.append(_in_range(scores))
        if metric.facts.scale_invariant:
            scaled = {name: [3.7 * each for each in row] for name, row in self._rows.items()}
            found.append(_alike("positive scaling changes nothing", scores, self._scores(metric, scaled)))
        if metric.facts.higher_is_better is None:
            return found
        found.append(_better(scores, "oracle", "random"))
        # An axiom says nothing of the order of what does not keep it.
        if metric.facts.signed and metric.facts.family != "axioms":
            found.append(_better(scores, "random", "inverted oracle"))
        if "sign" in type(metric).model_fields:
            found += self._sign(metric)
        if metric.facts.centred:
            found.append(_centred(scores["random"]))
        return found

    def _check_with_methods(self, metric: AbstractMetric) -> list[Finding]:
        """Whether it tells a method that looks at the model from one that is blind to it, and which way."""
        methods = dict(self._methods or {})
        rows = {name: [explain(each) for each in self._questions()] for name, explain in methods.items()}
        before = self._model.fingerprint().weights
        scores = self._scores(metric, rows)
        found = [_deterministic(scores, self._scores(metric, rows)), _in_range(scores)]
        kept = self._model.fingerprint().weights == before
        found.append(Finding("the model is left as it was", kept, f"its weights {'stayed' if kept else 'changed'}."))
        found.append(self._frugal_beside_the_method(metric, rows["seeing"][0], methods["seeing"]))
        if metric.facts.scale_invariant:
            scaled = {name: [3.7 * each for each in row] for name, row in rows.items()}
            larger = {name: _scaled(explain, 3.7) for name, explain in methods.items()}
            again = self._scores(metric, scaled, larger)
            found.append(_alike("positive scaling of method and scores changes nothing", scores, again))
        if metric.facts.family == "randomisation":
            return [*found, _better(scores, "seeing", "blind")]
        if metric.facts.family == "axioms":
            noise = self._scores(metric, {"noise": self._rows["random"]}, {"noise": methods["seeing"]})
            return [*found, *_keeping(scores | noise)]
        means = ", ".join(f"{name} {each.values.nanmean():.3g}" for name, each in scores.items())
        still = bool((scores["blind"].values == 0).all()) and bool((scores["seeing"].values > 0).all())
        return [*found, Finding("a constant map scores 0 and one that looks at the model more", still, f"{means}.")]

    def _frugal_beside_the_method(self, metric: AbstractMetric, values: np.ndarray, explain: Explain) -> Finding:
        """Whether one example costs no more than declared, the method's own runs apart."""
        question, meter, inside = self._questions()[0], self._model.meter, [0]

        def counted(asked: Question) -> Float[np.ndarray, " player"]:
            before = meter.rows
            found = explain(asked)
            inside[0] += meter.rows - before
            return found

        before = meter.rows
        metric.score(Example(question, values, self._seed, explain=counted))
        spent, declared = meter.rows - before - inside[0], metric.rows(len(question.features))
        detail = f"one example took {spent} rows beside the method's; declared are {declared}."
        return Finding("no wasted model call", spent <= declared, detail)

    def _questions(self) -> list[Question]:
        known = {name: value for name, value in self._options.items() if name in ("target", "features", "imputer")}
        return [ask(self._model, raw, seed=self._seed + number, **known) for number, raw in enumerate(self._raws)]

    def _scores(
        self, metric: AbstractMetric, rows: Rows, methods: Mapping[str, Explain] | None = None
    ) -> dict[str, Scores]:
        found = evaluate(
            self._model, self._raws, rows, [metric], seed=self._seed, methods=methods or self._methods, **self._options
        )
        return {each.of: each for each in found}

    def _frugal(self, metric: AbstractMetric) -> Finding:
        """Whether one example costs no more than declared, every coalition is asked once, and a second time none."""
        question = self._questions()[0]
        marks, labels = (self._options.get(name) for name in ("rationales", "labels"))
        example = Example(
            question,
            self._rows["oracle"][0],
            self._seed,
            None if marks is None else marks[0],
            None if labels is None else labels[0],
        )
        spent = []
        for _ in range(2):
            before = self._model.meter.rows
            metric.score(example)
            spent.append(self._model.meter.rows - before)
        declared, draws = metric.rows(len(question.features)), question.game.imputer.draws
        # A metric of the game knows what it has asked; one of the embeddings' path asks anew.
        repeats = "game" in metric.facts.needs
        passed = spent[0] <= declared * draws and not (repeats and spent[1])
        detail = f"one example took {spent[0]} rows, a second time {spent[1]}; declared are {declared}."
        return Finding("no wasted model call", passed, detail)

    def _sign(self, metric: AbstractMetric) -> list[Finding]:
        rows = {name: self._rows[name] for name in ("oracle", "inverted oracle")}
        signed = self._scores(metric, rows)
        differ = not _same(signed["oracle"], signed["inverted oracle"])
        found = [Finding("a negated map gets another score", differ or not metric.facts.signed, "")]
        absolute = self._scores(metric.model_copy(update={"sign": "absolute"}), rows)
        same = _same(absolute["oracle"], absolute["inverted oracle"])
        return [*found, Finding("with sign='absolute' it gets the same", same, "")]


def _random_state() -> tuple[object, ...]:
    return str(np.random.get_state()), torch.random.get_rng_state().numpy().tobytes()


def _scaled(explain: Explain, factor: float) -> Explain:
    return lambda question: factor * explain(question)


def _deterministic(first: dict[str, Scores], second: dict[str, Scores]) -> Finding:
    return _alike("deterministic for a seed", first, second, tolerance=0.0)


def _alike(name: str, first: dict[str, Scores], second: dict[str, Scores], tolerance: float = ROUNDING) -> Finding:
    other = [row for row in first if not _same(first[row], second[row], tolerance)]
    return Finding(name, not other, f"other scores for {', '.join(other)}." if other else "all scores were the same.")


def _keeping(scores: dict[str, Scores]) -> list[Finding]:
    """An axiom is kept by a constant map, and by a method that asks for outputs alone; not by noise beside that."""
    means = ", ".join(f"{name} {each.values.nanmean():.3g}" for name, each in scores.items())
    kept = all(bool((scores[name].values.abs() <= ROUNDING).all()) for name in ("blind", "seeing"))
    broken = bool((scores["noise"].values > ROUNDING).all())
    return [
        Finding("a constant map and a method of outputs alone keep it", kept, f"{means}."),
        Finding("noise does not keep it", broken, f"{means}."),
    ]


def _in_range(scores: dict[str, Scores]) -> Finding:
    values = torch.cat([each.values for each in scores.values()])
    known = values[~torch.isnan(values)]
    low, high = next(iter(scores.values())).facts.range
    if not len(known):
        return Finding("inside its range", False, "every score is undefined.")
    inside = low - ROUNDING <= float(known.min()) and float(known.max()) <= high + ROUNDING
    return Finding("inside its range", inside, f"{known.min():.3g} to {known.max():.3g}; declared {low} to {high}.")


def _better(scores: dict[str, Scores], first: str, second: str) -> Finding:
    name = f"{first} beats {second}"
    if (torch.isnan(scores[first].values) | torch.isnan(scores[second].values)).all():
        return Finding(name, False, "no example has a score of both.")
    found = compare(scores[first], scores[second])
    higher = bool(scores[first].facts.higher_is_better)
    right_way = (found.difference.mean > 0) == higher and found.difference.mean != 0
    return Finding(
        name,
        right_way and found.test.p_value < SIGNIFICANT,
        f"paired difference {found.difference.mean:.3g}, p = {found.test.p_value:.1e}, to be below {SIGNIFICANT}.",
    )


def _centred(random: Scores) -> Finding:
    """The 99.9 % interval of the mean of noise holds 0."""
    if torch.isnan(random.values).all():
        return Finding("random is centred at 0", False, "every score is undefined.")
    found = random.interval(level=0.999)
    detail = f"mean {found.mean:.3g}, {found.low:.3g} to {found.high:.3g}."
    return Finding("random is centred at 0", found.low <= 0 <= found.high, detail)


def _same(first: Scores, second: Scores, tolerance: float = ROUNDING) -> bool:
    return torch.allclose(first.values, second.values, rtol=tolerance, atol=tolerance, equal_nan=True)
