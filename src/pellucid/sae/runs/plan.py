"""What a folder of training runs consists of, written before the first step and never changed after."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.records import Record
from pellucid.sae.config import Config

SCHEMA: Final = 1
PLAN = "plan.json"


class Planned(Record):
    """One autoencoder that is to be trained."""

    name: str
    """Its folder's."""
    site: str
    """Whose activations it learns."""
    config: Config
    """As it is trained: with schedules that fit its length."""
    asked: dict[str, Any] = Field(default={})
    """The fields of the configuration that were asked to be longer than the training allows."""


class Plan(Record):
    """All of a folder's runs, and everything their result depends on beside the store."""

    version: Literal[1] = SCHEMA
    """Of this file's form."""
    store: str
    """Hash of the manifest of the activations."""
    batch: int = Field(ge=1)
    """Tokens of a step."""
    steps: dict[str, int]
    """How many, for each site."""
    epochs: int = Field(ge=1)
    """Readings of the store at the most."""
    seed: int
    """Of the order of reading, and of what is held out."""
    held_out: float = Field(ge=0, lt=1)
    """Share of the tokens, in whole documents, that are kept for the end."""
    preset: str | None
    """In whose manner."""
    runs: tuple[Planned, ...] = Field(min_length=1)
    """The autoencoders."""

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, by which a checkpoint knows its plan."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def of_site(self, site: str) -> list[Planned]:
        """The runs that share a site."""
        return [run for run in self.runs if run.site == site]


def names(sites: Sequence[str], configs: Mapping[str, Sequence[Config]]) -> list[tuple[str, str, Config]]:
    """(name, site, configuration) of every run; no two names are alike."""
    found: dict[str, tuple[str, str, Config]] = {}
    for site in sites:
        for config in configs[site]:
            place = re.sub(r"[^\w.-]+", "-", site)
            base = f"{place}-{config.architecture}-{config.width}-k{config.k}-s{config.seed}"
            name, number = base, 2
            while name in found:
                name, number = f"{base}-{number}", number + 1
            found[name] = (name, site, config)
    return list(found.values())


def settle(plan: Plan, folder: Path) -> None:
    """Write the plan into its folder, or see that the one that is there is the same.

    Raises InputError, naming the first difference, where it is another one: its runs would be lost or mixed.
    """
    path = folder / PLAN
    if not path.is_file():
        if any((folder / run.name).exists() for run in plan.runs):
            raise InputError(f"{str(folder)!r} holds autoencoders without a {PLAN}; train into another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(plan.model_dump(mode="json"), indent=1) + "\n").encode())
        return
    before, now = read_plan(folder).model_dump(mode="json"), plan.model_dump(mode="json")
    changed = difference(before, now)
    if changed is not None:
        raise InputError(
            f"{str(folder)!r} was begun with {changed}; give what it was begun with, which goes on, or another folder."
        )


def read_plan(folder: Path) -> Plan:
    """The plan of a folder. Raises InputError where there is none, RecordError where it is broken."""
    path = folder / PLAN
    if not path.is_file():
        raise InputError(f"there are no training runs in {str(folder)!r}: it has no {PLAN}.")
    try:
        return Plan.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError, InputError) as error:
        reason = str(error).splitlines()[0]
        raise RecordError(f"{str(path)!r} is not the plan of training runs ({reason}); train anew.") from None


def difference(before: Any, now: Any, place: str = "") -> str | None:
    """Where two documents differ first, with both values; None where they are equal."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        pairs = [(f"{place}.{key}" if place else str(key), before.get(key), now.get(key)) for key in keys]
    elif isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return f"{len(before)} {place} and is now given {len(now)}"
        pairs = [(f"{place}[{index}]", old, new) for index, (old, new) in enumerate(zip(before, now, strict=True))]
    else:
        return None if before == now else f"{place} = {_said(before)} and is now given {_said(now)}"
    return next((found for each in pairs if (found := difference(each[1], each[2], each[0])) is not None), None)


def _said(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
