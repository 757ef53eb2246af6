"""Models whose right explanation is known: the ladder that every method has to climb."""

from pellucid.ground_truth.exact import dividends, every_coalition, exact_shapley, shapley_interactions
from pellucid.ground_truth.ladder import RUNGS, all_truths
from pellucid.ground_truth.planted import planted_model
from pellucid.ground_truth.trees import (
    Tree,
    TreeEnsemble,
    from_sklearn,
    interventional_shapley,
    path_dependent_shapley,
)
from pellucid.ground_truth.truth import EXACT, GroundTruth, Rung

__all__ = [
    "EXACT",
    "RUNGS",
    "GroundTruth",
    "Rung",
    "Tree",
    "TreeEnsemble",
    "all_truths",
    "dividends",
    "every_coalition",
    "exact_shapley",
    "from_sklearn",
    "interventional_shapley",
    "path_dependent_shapley",
    "planted_model",
    "shapley_interactions",
]
