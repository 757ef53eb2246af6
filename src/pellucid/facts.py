"""What a method, a metric or a model declares about itself. Tables, CLI, report and pages read facts, never names."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Family = Literal["perturbation", "gradient", "attention", "relevance", "learned", "control"]
Modality = Literal["text", "image", "tabular"]
Need = Literal["gradient", "attentions", "baseline", "background", "fields"]


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
    signed: bool = True
    """Whether the sign of a score says for or against the target."""
    complete: bool = False
    """Whether the scores are promised to sum to f(input) - f(baseline)."""
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
