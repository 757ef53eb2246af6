"""A task of the benchmark: a model, inputs that no method was tuned on, and what is known about them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pellucid.targets import AbstractTarget

Split = Literal["test", "tuning"]
"""What methods are scored on, and what their settings are chosen on."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input of a task."""

    id: str
    """A name that no other case of the task has, the same in every run."""
    raw: Any
    """What ``explain`` takes."""
    cluster: str
    """Cases that are not independent (two questions of one picture, two notes of one patient) share it."""
    label: str | None = None
    """The true label; None where nobody knows it."""
    rationale: tuple[bool, ...] | None = None
    """The features that are the reason, of the task's kind; None where nobody knows them."""
    target: AbstractTarget | None = None
    """What is explained; None: the task's target, or the model's default."""


@dataclass(frozen=True, slots=True)
class Task:
    """What methods are compared on."""

    name: str
    """What it is called by."""
    title: str
    """What it is, in a line."""
    model: str
    """The model's name, as ``pellucid.load`` takes it, or what a page calls it."""
    load: Callable[[], Any]
    """Makes the model."""
    cases: Callable[[Split], Sequence[Case]]
    """The inputs of a split, always in the same order; any beginning of them is a fair sample."""
    features: str
    """The kind of feature that is scored."""
    imputers: tuple[str, ...]
    """What stands for an absent feature, in the order of trust: methods perturb with the first, metrics with all."""
    source: str
    """Where the inputs come from, with the keys of papers."""
    licence: str
    """On what terms they may be used."""
    target: AbstractTarget | None = None
    """What is explained; None: the model's default."""
    background: Sequence[Any] = field(default=())
    """Other inputs, for the methods and imputers that draw."""
    quotable: bool = True
    """Whether the inputs may be shown; False where they are offensive or private."""
