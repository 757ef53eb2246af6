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
    rows: float
    """Rows of the network for one input, mean."""


class Verdict(Record):
    """The ranking of one task."""

    version: Literal[1] = 1
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


def keep(verdict: Verdict) -> Path:
    """Write a verdict in place of an older one of the same model, task, features and target."""
    folder = cache_folder() / "verdicts"
    folder.mkdir(parents=True, exist_ok=True)
    what = "\0".join((verdict.weights, verdict.task, verdict.features, verdict.target))
    path = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.json"
    write_atomically(path, f"{verdict.model_dump_json(indent=1)}\n".encode())
    return path


def kept(weights: str) -> list[Verdict]:
    """The verdicts on a model that can decide, the newest first. A file that is no verdict of this version is none."""
    found = []
    for path in (cache_folder() / "verdicts").glob("*.json"):
        try:
            found.append(Verdict.model_validate_json(path.read_bytes()))
        except (ValidationError, OSError):
            continue
    ours = [each for each in found if each.weights == weights and each.entries and each.inputs >= FEWEST]
    return sorted(ours, key=lambda each: each.date, reverse=True)
