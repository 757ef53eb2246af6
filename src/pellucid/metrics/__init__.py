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
from pellucid.metrics.plausibility import Auprc, Auroc, IouF1, PointingGame, RelevanceMass, RelevanceRank, TokenF1
from pellucid.metrics.randomisation import Mprt, RandomLogit
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
from pellucid.metrics.robustness import MaxSensitivity, RelativeStability
from pellucid.metrics.scores import Comparison, Scores, compare, evaluate
from pellucid.metrics.validity import Finding, ValidityGate, normalised_scores, references

morf = MetricFunction(Morf)
lerf = MetricFunction(Lerf)
srg = MetricFunction(Srg)
comprehensiveness = MetricFunction(Comprehensiveness)
sufficiency = MetricFunction(Sufficiency)
aopc = MetricFunction(Aopc)
insertion = MetricFunction(Insertion)
deletion = MetricFunction(Deletion)
log_odds = MetricFunction(LogOdds)
infidelity = MetricFunction(Infidelity)
faithfulness_correlation = MetricFunction(FaithfulnessCorrelation)
sensitivity_n = MetricFunction(SensitivityN)
mprt = MetricFunction(Mprt)
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
sparseness = MetricFunction(Sparseness)
complexity = MetricFunction(Complexity)

BUILT_IN: tuple[type[AbstractMetric], ...] = (
    Srg,
    Morf,
    Lerf,
    Comprehensiveness,
    Sufficiency,
    Aopc,
    Insertion,
    Deletion,
    LogOdds,
    Infidelity,
    FaithfulnessCorrelation,
    SensitivityN,
    Mprt,
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
    "Deletion",
    "Dummy",
    "Example",
    "Explain",
    "FaithfulnessCorrelation",
    "Finding",
    "Infidelity",
    "Insertion",
    "IouF1",
    "Lerf",
    "LogOdds",
    "MaxSensitivity",
    "MetricFunction",
    "Morf",
    "Mprt",
    "PointingGame",
    "RandomLogit",
    "RelativeStability",
    "RelevanceMass",
    "RelevanceRank",
    "Scores",
    "SensitivityN",
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
    "deletion",
    "dummy",
    "evaluate",
    "explaining",
    "faithfulness_correlation",
    "infidelity",
    "insertion",
    "iou_f1",
    "lerf",
    "log_odds",
    "make_metric",
    "max_sensitivity",
    "morf",
    "mprt",
    "normalised_scores",
    "pointing_game",
    "random_logit",
    "references",
    "relative_stability",
    "relevance_mass",
    "relevance_rank",
    "sensitivity_n",
    "sparseness",
    "srg",
    "sufficiency",
    "symmetry",
    "token_f1",
]
