"""Which metrics judge a task: those that were asked for, less those that do not fit it, with the reason."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from pellucid.errors import InputError, UnknownNameError
from pellucid.facts import MetricFamily
from pellucid.metrics import AbstractMetric, all_metrics, make_metric

DEFAULT = (
    "srg",
    "morf",
    "lerf",
    "comprehensiveness",
    "sufficiency",
    "insertion",
    "deletion",
    "log_odds",
    "faithfulness_correlation",
    "monotonicity",
    "auprc",
    "relevance_mass",
    "relevance_rank",
    "sparseness",
    "complexity",
)
"""What costs little where coalitions are shared: curves of one order, random subsets that are the same for all
methods, and what asks the model nothing."""
GROUPS = ("default", "all")


class Given(NamedTuple):
    """What the inputs of a task come with."""

    rationales: bool
    """Whether some have a rationale."""
    labels: bool
    """Whether some have a true label."""
    pictures: bool
    """Whether they are pictures for a classifier."""


class Panel(NamedTuple):
    """The metrics of a run."""

    metrics: tuple[AbstractMetric, ...]
    """Those that judge; the first is the one that curves, tuning and ``method="best"`` look at."""
    absent: tuple[tuple[str, str], ...]
    """Name and reason of those that a group holds and that do not fit."""


def panel(selection: str, steps: int, given: Given) -> Panel:
    """The metrics that a selection names: names, families, ``default`` or ``all``, with commas between them.

    Raises UnknownNameError, and InputError for one that was named and needs what the task does not have.
    """
    named: dict[str, bool] = {}
    for each in (part.strip() for part in selection.split(",")):
        for name in _members(each):
            named[name] = named.get(name, False) or name == each
    chosen, absent = [], []
    for name, by_name in named.items():
        try:
            chosen.append(_made(name, steps, given))
        except InputError as error:
            if by_name:
                raise InputError(f"{name} does not fit the task: {str(error).rstrip('.')}; leave it out.") from None
            absent.append((name, str(error)))
    if not chosen:
        raise InputError(f"none of the metrics {selection!r} fits the task; name others, or default.")
    # Chosen in the order of the catalogue, in which the best default comes first.
    order = list(all_metrics())
    return Panel(tuple(sorted(chosen, key=lambda each: order.index(each.facts.name))), tuple(absent))


def _made(name: str, steps: int, given: Given) -> AbstractMetric:
    needs = all_metrics()[name].facts.needs
    if "rationale" in needs and not given.rationales:
        raise InputError("it needs a rationale, and the inputs of this task have none.")
    if "label" in needs and not given.labels:
        raise InputError("it needs the true label, and the inputs of this task have none.")
    if "picture" in needs and not given.pictures:
        raise InputError("it needs pictures, and the inputs of this task are none.")
    # One number of points for all curves, so that they share their coalitions.
    curve = all_metrics()[name].facts.family == "removal" and "steps" in all_metrics()[name].model_fields
    return make_metric(name, **({"steps": steps} if curve and name != "aopc" else {}))


def _members(name: str) -> Sequence[str]:
    known = all_metrics()
    if name == "default":
        return [each for each in DEFAULT if each in known]
    if name == "all":
        return list(known)
    if name in known:
        return [name]
    if name in get_args(MetricFamily):
        return [each for each, metric in known.items() if metric.facts.family == name]
    raise UnknownNameError("metric", name, [*known, *get_args(MetricFamily), *GROUPS])
