"""What a rung of the ladder is: a model, inputs, and what is known about them without running any method."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from pellucid.models import Model
from pellucid.targets import AbstractTarget

Rung = Literal["G0", "G1", "G2", "G3", "G4", "G5", "G7", "G8"]
BUDGETS: Mapping[str, Mapping[str, Any]] = {
    "permutation_shapley": {"permutations": 80},
    "owen": {"permutations": 80},
    "kernel_shap": {"samples": 400},
}
"""Larger samples than by default, where a method is judged by its standard errors: those have to be known well
themselves (ten pairs of orders are too few) and to be smaller than the scores."""
EXACT = 1e-6
"""Largest difference, as a fraction of the truth's scale, that counts as none: single precision of saved scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundTruth:
    """A model whose right explanation is known.

    A truth holds under one baseline only: there is no Shapley value without one. Contributions and sensitivities are
    answers to two questions, and a method is judged by the one that it gives.
    """

    name: str
    """Short name, unique on the ladder."""
    rung: Rung
    """Step of the ladder."""
    says: str
    """The network as a formula, or in a few words."""
    model: Model
    """The network."""
    raws: tuple[Any, ...]
    """Its inputs, as ``explain`` takes them."""
    target: AbstractTarget
    """What is explained."""
    features: str
    """Kind of the features: column, word or patch."""
    baseline: str
    """The baseline or imputer under which the truth holds."""
    background: tuple[Any, ...] = ()
    """The inputs that absent features come from: that one baseline, or the rows that are averaged over."""
    differentiable: bool = True
    """Whether the network has gradients."""
    contributions: Float[np.ndarray, "raw player"] | None = None
    """Shapley value of each feature, in the unit of the target."""
    path: Float[np.ndarray, "raw player"] | None = None
    """The path integral from the baseline (Aumann-Shapley), where it is another value than ``contributions``."""
    sensitivity: Float[np.ndarray, "raw player"] | None = None
    """Mean slope |contribution| / |distance from the baseline|: for methods without a sign."""
    rationale: Bool[np.ndarray, "raw player"] | None = None
    """The features that can matter at all; says nothing about how much or which way."""
    partner: Model | None = None
    """A second model, of another label of the same inputs, that reads what the rationale leaves out: attribution must
    move there."""
    interactions: Float[np.ndarray, "player player"] | None = None
    """Shapley interaction index of the first input, which no score of single features can show."""
    tolerance: float = EXACT
    """Difference that counts as none, as a fraction of the scale."""
    axiom: str
    """Why the truth is true."""
    exposes: str
    """The failure that shows here."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of methods where they should not be the method's own."""
    fails: Mapping[str, str] = field(default_factory=dict)
    """Methods that are known to miss the contributions or slopes, and why."""
    source: str
    """Where the network or the failure is described."""

    @property
    def answers(self) -> Float[np.ndarray, "raw player"]:
        """An array of the truth's shape, whichever kind it is."""
        known = self.rationale if self.contributions is None else self.contributions
        assert known is not None
        return np.asarray(known, dtype=np.float64)
