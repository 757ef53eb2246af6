"""What a benchmark said of one model on one task, kept where ``method="best"`` finds it."""

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from pellucid.files import cache_folder, write_atomically
from pellucid.records import Record

FEWEST = 8
"""Independent inputs below which a verdict decides nothing."""


class Entry(Record):
    """One method in a verdict."""

    method: str
    """Its name."""
    settings: dict[str, Any]
    """Settings other than its own."""
    score: float
    """Mean score, 0 being chance and 1 the oracle."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end."""
    p_value: float | None
    """Of the hypothesis that it is as good as the best, corrected for the number of methods; None for the best."""
    is_worse: bool
    """Whether mean, ranks and the paired interval agree that it is worse than the best."""
    rows: float
    """Rows of the network for one input, mean."""


class Verdict(Record):
    """The ranking of one task."""

    version: Literal[2] = 2
    """Of this file's form."""
    task: str
    """The task's name."""
    model: str
    """The model's name."""
    weights: str
    """Digest of its weights."""
    features: str
    """The kind of feature that was scored."""
    target: str
    """Class of the target that was explained."""
    imputer: str
    """What stood for an absent feature where the methods perturbed."""
    rows: int | None
    """Rows that a method that draws had for an input; None: by its number of features, as in ``default_rows``."""
    players: float
    """Features of an input, median."""
    metric: str
    """The metric's whole name."""
    inputs: int
    """Independent inputs that it rests on."""
    enough: bool
    """Whether these are enough for a claim."""
    date: str
    """When it was written, ISO 8601 in UTC."""
    folder: str
    """Where the results lie."""
    entries: tuple[Entry, ...]
    """The methods of pellucid, the best first."""

    @property
    def obstacle(self) -> str:
        """Why it decides nothing; empty where it does."""
        if self.inputs < FEWEST:
            return f"it rests on {self.inputs} independent inputs, and {FEWEST} are the fewest"
        if len(self.entries) < 2:
            return "it ranks fewer than two methods"
        if not self.entries[0].low > 0:
            return f"its best method, {self.entries[0].method}, cannot be told from chance"
        return ""


def keep(verdict: Verdict) -> Path:
    """Write a verdict, in place of an older one of the same run: model, task, features, target, imputer and methods."""
    folder = cache_folder() / "verdicts"
    folder.mkdir(parents=True, exist_ok=True)
    methods = sorted(each.method for each in verdict.entries)
    what = (verdict.weights, verdict.task, verdict.features, verdict.target, verdict.imputer, *methods)
    path = folder / f"{hashlib.sha256(chr(0).join(what).encode()).hexdigest()[:24]}.json"
    write_atomically(path, f"{verdict.model_dump_json(indent=1)}\n".encode())
    return path


def kept(weights: str) -> list[Verdict]:
    """The verdicts on a model, the newest first. A file that is no verdict of this version is none."""
    found = []
    for path in (cache_folder() / "verdicts").glob("*.json"):
        try:
            found.append(Verdict.model_validate_json(path.read_bytes()))
        except (ValidationError, OSError):
            continue
    ours = [each for each in found if each.weights == weights]
    return sorted(ours, key=lambda each: each.date, reverse=True)
