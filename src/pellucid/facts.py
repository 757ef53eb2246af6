"""What a method, a metric or a model declares about itself. Tables, CLI, report and pages read facts, never names."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

Family = Literal["perturbation", "gradient", "attention", "relevance", "learned", "control"]
Modality = Literal["text", "image", "tabular", "vision-language"]
Need = Literal["gradient", "attentions", "baseline", "background", "fields"]


MetricFamily = Literal["removal", "correlation", "randomisation", "robustness", "plausibility", "axioms", "complexity"]
MetricNeed = Literal["game", "method", "rationale", "label", "picture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts a person chooses a method by. What a run will spend depends on its settings: see ``rows``."""

    name: str
    """The name it is called by, in Python and on the command line."""
    title: str
    """The name that the literature uses."""
    family: Family
    """What it looks at: perturbed inputs, gradients, attention, relevance, or a learned network."""
    modalities: tuple[Modality, ...]
    """The kinds of input it explains."""
    needs: tuple[Need, ...] = ()
    """What the model or the caller must provide."""
    unit: str = ""
    """The unit of its scores, where that is not the target's."""
    signed: bool = True
    """Whether the sign of a score says for or against the target."""
    complete: bool = False
    """Whether the scores are promised to sum to f(input) - f(baseline)."""
    class_specific: bool = True
    """Whether the scores answer why this output; False where they say what was used, whatever the output."""
    conserving: bool = False
    """Whether what is seeded at the output arrives at the input, but for what constants and biases absorb."""
    sampled: bool = False
    """Whether the result depends on a seed (and then carries standard errors)."""
    cost: str = ""
    """The price in forward passes, as a formula a person can read."""
    source: str = ""
    """Paper and equation."""
    notice: str = ""
    """Patents and licences that a commercial user must know of."""

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFacts:
    """The facts that a score is read by. What a run will spend depends on the metric's settings: see ``rows``."""

    name: str
    """The name it is called by, in Python and on the command line."""
    title: str
    """The name that the literature uses."""
    family: MetricFamily
    """What kind of question it asks."""
    higher_is_better: bool | None
    """Which way is good; None for a control, where neither is."""
    range: tuple[float, float]
    """The lowest and the highest value that can be with the default settings; infinite where there is no bound."""
    signed: bool
    """Whether an attribution and its negation get different scores (with the default settings)."""
    scale_invariant: bool
    """Whether multiplying all scores, and those that the method gives again, by a positive number changes nothing."""
    needs: tuple[MetricNeed, ...] = ()
    """What it must be given beside the scores: the game of the input, the method, a rationale, the true label; or
    that the input is a picture."""
    chance: str = ""
    """What a random attribution is expected to get."""
    centred: bool = False
    """Whether that is 0 on the average."""
    cost: str = ""
    """The price in model evaluations for each example, times the draws of an imputer that draws."""
    source: str = ""
    """Paper and equation."""

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values; an infinite end of the range becomes None."""
        document = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return document | {"range": [end if isfinite(end) else None for end in self.range]}
