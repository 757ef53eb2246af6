"""Metrics: is this explanation any good?

Each is a class with settings and facts, such as ``Srg(steps=20)``, and a function of the same name: ``srg(model, raw,
values)`` gives one score an example. ``evaluate`` scores many attributions under many metrics at once, ``compare``
holds two methods against each other, ``references`` makes the rows that show what a score means.
"""

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pellucid.errors import InputError, UnknownNameError
from pellucid.metrics.axioms import Completeness, Dummy, Symmetry
from pellucid.metrics.base import AbstractGameMetric, AbstractMetric, Example, Explain, explaining
from pellucid.metrics.calls import MetricFunction
from pellucid.metrics.complexity import Complexity, Sparseness
from pellucid.metrics.correlation import FaithfulnessCorrelation, Infidelity, SensitivityN
from pellucid.metrics.data_randomisation import DataRandomisation
from pellucid.metrics.invariance import ImplementationInvariance, InputInvariance
from pellucid.metrics.monotonicity import FaithfulnessEstimate, Monotonicity, MonotonicityCorrelation
from pellucid.metrics.normalised import Naopc
from pellucid.metrics.plausibility import Auprc, Auroc, IouF1, PointingGame, RelevanceMass, RelevanceRank, TokenF1
from pellucid.metrics.randomisation import EfficientMprt, Mprt, RandomLogit, SmoothMprt
from pellucid.metrics.removal import (
    Aopc,
    Comprehensiveness,
    Deletion,
    Insertion,
    Lerf,
    LogOdds,
    Morf,
    Srg,
    Sufficiency,
)
from pellucid.metrics.road import Road
from pellucid.metrics.robustness import MaxSensitivity, RelativeStability
from pellucid.metrics.scores import Comparison, Scores, compare, evaluate
from pellucid.metrics.soft import SoftNc, SoftNs
from pellucid.metrics.validity import Finding, ValidityGate, normalised_scores, references

morf = MetricFunction(Morf)
lerf = MetricFunction(Lerf)
srg = MetricFunction(Srg)
comprehensiveness = MetricFunction(Comprehensiveness)
sufficiency = MetricFunction(Sufficiency)
aopc = MetricFunction(Aopc)
naopc = MetricFunction(Naopc)
insertion = MetricFunction(Insertion)
deletion = MetricFunction(Deletion)
log_odds = MetricFunction(LogOdds)
soft_ns = MetricFunction(SoftNs)
soft_nc = MetricFunction(SoftNc)
road = MetricFunction(Road)
infidelity = MetricFunction(Infidelity)
faithfulness_correlation = MetricFunction(FaithfulnessCorrelation)
sensitivity_n = MetricFunction(SensitivityN)
monotonicity = MetricFunction(Monotonicity)
monotonicity_correlation = MetricFunction(MonotonicityCorrelation)
faithfulness_estimate = MetricFunction(FaithfulnessEstimate)
mprt = MetricFunction(Mprt)
smooth_mprt = MetricFunction(SmoothMprt)
efficient_mprt = MetricFunction(EfficientMprt)
data_randomisation = MetricFunction(DataRandomisation)
random_logit = MetricFunction(RandomLogit)
max_sensitivity = MetricFunction(MaxSensitivity)
relative_stability = MetricFunction(RelativeStability)
token_f1 = MetricFunction(TokenF1)
iou_f1 = MetricFunction(IouF1)
auprc = MetricFunction(Auprc)
auroc = MetricFunction(Auroc)
pointing_game = MetricFunction(PointingGame)
relevance_mass = MetricFunction(RelevanceMass)
relevance_rank = MetricFunction(RelevanceRank)
completeness = MetricFunction(Completeness)
dummy = MetricFunction(Dummy)
symmetry = MetricFunction(Symmetry)
implementation_invariance = MetricFunction(ImplementationInvariance)
input_invariance = MetricFunction(InputInvariance)
sparseness = MetricFunction(Sparseness)
complexity = MetricFunction(Complexity)

BUILT_IN: tuple[type[AbstractMetric], ...] = (
    Srg,
    Morf,
    Lerf,
    Comprehensiveness,
    Sufficiency,
    Aopc,
    Naopc,
    Insertion,
    Deletion,
    LogOdds,
    SoftNs,
    SoftNc,
    Road,
    Infidelity,
    FaithfulnessCorrelation,
    SensitivityN,
    Monotonicity,
    MonotonicityCorrelation,
    FaithfulnessEstimate,
    Mprt,
    SmoothMprt,
    EfficientMprt,
    RandomLogit,
    MaxSensitivity,
    RelativeStability,
    TokenF1,
    IouF1,
    Auprc,
    Auroc,
    PointingGame,
    RelevanceMass,
    RelevanceRank,
    Completeness,
    Dummy,
    Symmetry,
    ImplementationInvariance,
    InputInvariance,
    Sparseness,
    Complexity,
)


@cache
def all_metrics() -> dict[str, type[AbstractMetric]]:
    """Every metric by name, those of installed plug-ins included. Raises InputError where two take one name."""
    known = {metric.facts.name: metric for metric in BUILT_IN}
    for entry in entry_points(group="pellucid.metrics"):
        plugin: type[AbstractMetric] = entry.load()
        name = plugin.facts.name
        if name in known:
            raise InputError(f"the plug-in {entry.value} and {known[name].__module__} both define a metric {name!r}.")
        known[name] = plugin
    return known


def make_metric(name: str, /, **settings: Any) -> AbstractMetric:
    """The metric of a name with its settings. Raises UnknownNameError, or InputError on a bad setting."""
    if name not in all_metrics():
        raise UnknownNameError("metric", name, all_metrics())
    return all_metrics()[name](**settings)


__all__ = [
    "AbstractGameMetric",
    "AbstractMetric",
    "Aopc",
    "Auprc",
    "Auroc",
    "Comparison",
    "Completeness",
    "Complexity",
    "Comprehensiveness",
    "DataRandomisation",
    "Deletion",
    "Dummy",
    "EfficientMprt",
    "Example",
    "Explain",
    "FaithfulnessCorrelation",
    "FaithfulnessEstimate",
    "Finding",
    "ImplementationInvariance",
    "Infidelity",
    "InputInvariance",
    "Insertion",
    "IouF1",
    "Lerf",
    "LogOdds",
    "MaxSensitivity",
    "MetricFunction",
    "Monotonicity",
    "MonotonicityCorrelation",
    "Morf",
    "Mprt",
    "Naopc",
    "PointingGame",
    "RandomLogit",
    "RelativeStability",
    "RelevanceMass",
    "RelevanceRank",
    "Road",
    "Scores",
    "SensitivityN",
    "SmoothMprt",
    "SoftNc",
    "SoftNs",
    "Sparseness",
    "Srg",
    "Sufficiency",
    "Symmetry",
    "TokenF1",
    "ValidityGate",
    "all_metrics",
    "aopc",
    "auprc",
    "auroc",
    "compare",
    "completeness",
    "complexity",
    "comprehensiveness",
    "data_randomisation",
    "deletion",
    "dummy",
    "efficient_mprt",
    "evaluate",
    "explaining",
    "faithfulness_correlation",
    "faithfulness_estimate",
    "implementation_invariance",
    "infidelity",
    "input_invariance",
    "insertion",
    "iou_f1",
    "lerf",
    "log_odds",
    "make_metric",
    "max_sensitivity",
    "monotonicity",
    "monotonicity_correlation",
    "morf",
    "mprt",
    "naopc",
    "normalised_scores",
    "pointing_game",
    "random_logit",
    "references",
    "relative_stability",
    "relevance_mass",
    "relevance_rank",
    "road",
    "sensitivity_n",
    "smooth_mprt",
    "soft_nc",
    "soft_ns",
    "sparseness",
    "srg",
    "sufficiency",
    "symmetry",
    "token_f1",
]
