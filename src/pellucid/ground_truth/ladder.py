"""All rungs in order."""

from functools import cache

from pellucid.ground_truth.additive import additive_truths
from pellucid.ground_truth.blackbox import blackbox_truths
from pellucid.ground_truth.forest import tree_truths
from pellucid.ground_truth.interaction import interaction_truths
from pellucid.ground_truth.linear import linear_truths
from pellucid.ground_truth.paired import paired_truths
from pellucid.ground_truth.planted import planted_truths
from pellucid.ground_truth.truth import GroundTruth
from pellucid.ground_truth.units import unit_truths

RUNGS = {
    "G0": "linear networks",
    "G1": "sums of functions of one feature each",
    "G2": "the smallest interactions",
    "G3": "one network for each known failure",
    "G4": "trees",
    "G5": "any network, all coalitions enumerated",
    "G7": "a trained transformer with planted rationales",
    "G8": "two models of the same inputs, one of the object in them and one of the scene",
}
"""What each rung is. G6, compiled transformers, is not built."""


@cache
def all_truths() -> tuple[GroundTruth, ...]:
    """Every ground truth, from the bottom of the ladder to its top."""
    return (
        *linear_truths(),
        *additive_truths(),
        *interaction_truths(),
        *unit_truths(),
        *tree_truths(),
        *blackbox_truths(),
        *planted_truths(),
        *paired_truths(),
    )
