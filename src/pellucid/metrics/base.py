"""The contract of a metric: settings are fields, facts are data, ``score`` judges one example."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from pellucid.errors import InputError
from pellucid.facts import MetricFacts
from pellucid.games import Coalitions, Question
from pellucid.metrics.functional.inputs import Sign, pooled
from pellucid.settings import AbstractSettings
from pellucid.targets import Options

Scale = Literal["target", "probability", "log-probability"]
"""What a curve is drawn in: the unit of the target, or a probability that follows from it."""
Explain = Callable[[Question], Float[np.ndarray, " player"]]
"""An attribution method, as a function from a question to one score for each feature."""


class Example(NamedTuple):
    """One input with its attribution, and what else there is to judge it by."""

    question: Question
    """The model, the input, its features and the target."""
    values: Float[np.ndarray, " player"]
    """The attribution, one score for each feature."""
    seed: int = 0
    """Seed of ties and of everything that the metric draws."""
    rationale: Bool[np.ndarray, " player"] | None = None
    """The features that a person marked, or that a planted truth consists of."""
    label: str | None = None
    """The true label of the input."""
    explain: Explain | None = None
    """The method that made the attribution, for the metrics that run it again."""


class AbstractMetric(AbstractSettings):
    """A metric: its fields are its settings, ``facts`` says how to read it, ``score`` computes it."""

    facts: ClassVar[MetricFacts]

    @abstractmethod
    def rows(self, players: int) -> int:
        """The most model evaluations that one example with so many features will spend.

        Times the draws of an imputer that draws; the runs of a method are not counted.
        """

    @abstractmethod
    def score(self, example: Example) -> float:
        """The score of one example; NaN where it is undefined there. Raises InputError where the metric does not fit.

        Draws from ``example.seed`` alone.
        """

    @property
    def compares_models(self) -> bool:
        """Whether scores of two models can be compared: not where the best that can be reached differs."""
        return True

    def conditions(self, question: Question) -> tuple[str, ...]:
        """What the score depends on beside the attribution: part of the metric's name."""
        return (question.unit,)

    @final
    def named(self, question: Question) -> str:
        """The metric's whole name, such as ``srg [mask, word, log-odds]``: only equal names can be compared."""
        # What the conditions say already is not said twice.
        settings = self.model_dump(exclude_defaults=True, exclude={"scale", "baseline"}, mode="json")
        changed = [f"{name}={value}" for name, value in settings.items()]
        return f"{self.facts.name} [{', '.join([*self.conditions(question), *changed])}]"


class AbstractFaithfulness(AbstractMetric):
    """A metric that removes features and looks at the target."""

    sign: Sign = "signed"
    """How scores count: signed, absolute (an explanation and its negation become the same) or positive."""
    scale: Scale = "target"
    """The unit of the target, probability, or log-probability."""

    def conditions(self, question: Question) -> tuple[str, ...]:
        unit = question.target.unit if self.scale == "target" else self.scale
        return (question.game.imputer.name, question.unit, unit)


class AbstractGameMetric(AbstractFaithfulness):
    """A metric that asks the model about coalitions that are known beforehand.

    So the coalitions of many metrics and many attributions of one input can be played together, each once.
    """

    @abstractmethod
    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        """The coalitions to play, True for a feature that is present; ``values`` are read by ``sign`` already."""

    @abstractmethod
    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        """The score, from what the model said on each coalition, on the chosen scale."""

    @final
    def asked(self, example: Example) -> Coalitions:
        """The coalitions of one example."""
        return self.masks(pooled(example.values, self.sign), example.seed)

    @final
    def score(self, example: Example) -> float:
        return self.judged(example, self.asked(example))

    @final
    def judged(self, example: Example, masks: Coalitions) -> float:
        """The score of one example, given the coalitions that ``asked`` names."""
        return self.reduce(pooled(example.values, self.sign), masks, outcomes(example.question, masks, self.scale))


def outcomes(question: Question, coalitions: Coalitions, scale: Scale) -> Float[np.ndarray, " coalition"]:
    """What the model says on each coalition, summed over the targets.

    Raises InputError for a probability that does not follow from the target: of a logit, of several options at once.
    """
    return scaled(question, question.game.value(coalitions), scale)


def scaled(question: Question, values: Float[np.ndarray, "row target"], scale: Scale) -> Float[np.ndarray, " row"]:
    """Values of the target on a scale, summed over the targets. Raises InputError as ``outcomes`` does."""
    unit = question.target.unit
    if scale == "target":
        return np.asarray(values.sum(1))
    if unit == "log-odds" and values.shape[1] == 1:
        log_p = -np.logaddexp(0, -values[:, 0])
    elif unit == "log-probability" and not isinstance(question.target.target, Options):
        log_p = values.sum(1)
    else:
        kind = type(question.target.target).__name__
        raise InputError(f"a {kind} has no {scale}; explain a Margin or a Token, or choose scale='target'.")
    return np.asarray(np.exp(log_p) if scale == "probability" else log_p)


def explainer(example: Example, metric: AbstractMetric) -> Explain:
    """The method of an example. Raises InputError where none was given."""
    if example.explain is None:
        raise InputError(
            f"{metric.facts.name} runs the method again; give it as method=, made by pellucid.methods.make_method(...)."
        )
    return example.explain


def rationale(example: Example, metric: AbstractMetric) -> Bool[np.ndarray, " player"]:
    """The rationale of an example. Raises InputError where none was given, or one of another length."""
    if example.rationale is None:
        raise InputError(f"{metric.facts.name} needs a rationale; give it as rationale=, one mark for each feature.")
    if example.rationale.shape != example.values.shape:
        raise InputError(
            f"the rationale has {example.rationale.size} marks and the input {example.values.size} features of kind "
            f"{example.question.unit!r}; give one mark for each feature."
        )
    return example.rationale


@runtime_checkable
class Attributing(Protocol):
    """An attribution method; those of ``pellucid.methods`` are."""

    def attribute(self, question: Question) -> Any:
        """Score every feature of a question."""


def explaining(method: Attributing | Explain) -> Explain:
    """A method as a function from a question to one score for each feature; a function stays one.

    Raises InputError for anything else, such as a method's name or its class.
    """
    if isinstance(method, type) or not (isinstance(method, Attributing) or callable(method)):
        raise InputError(f"method is {method!r}; give the method itself, as pellucid.methods.make_method makes it.")
    if not isinstance(method, Attributing):
        return method

    def explain(question: Question) -> Float[np.ndarray, " player"]:
        values: Float[np.ndarray, " player"] = method.attribute(question).values.sum(0)
        return values

    return explain
