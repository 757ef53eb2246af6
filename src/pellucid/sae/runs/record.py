"""What is left of a training run: its figures, and the record that its autoencoder carries."""

import json
import platform
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import Field, ValidationError

from pellucid._version import __version__
from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.records import Record
from pellucid.sae.config import Config, Origin
from pellucid.sae.presets import find_preset
from pellucid.sae.runs.plan import Plan, Planned
from pellucid.sae.store import Store

SCHEMA: Final = 1
RUNS = "runs.json"
CORPUS_DIGEST = "corpus_digest"
"""What ``Origin.training`` calls the digest of all documents that the store was read from."""


class Run(Record):
    """A finished training run."""

    name: str
    """Its folder's."""
    folder: str
    """Where the autoencoder is."""
    site: str
    """Whose activations it learnt."""
    config: Config
    """As it was trained."""
    figures: dict[str, float | int | None]
    """At the end: loss, l0, fvu, dead_share and threshold of the last batch, and held_out_fvu, held_out_l0 and
    held_out_dead_share on documents it never saw; None where nothing was held out."""
    tokens: int
    """That it learnt from, repeats included."""
    seconds: float
    """That all runs of its site took together, interruptions left out."""


class Runs(Record):
    """The finished runs of a folder: its commit log."""

    version: Literal[1] = SCHEMA
    """Of this file's form."""
    runs: dict[str, Run] = Field(default={})
    """By name."""


def read_runs(folder: Path) -> dict[str, Run]:
    """The finished runs of a folder. Raises RecordError where their list is broken."""
    path = folder / RUNS
    if not path.is_file():
        return {}
    try:
        found = Runs.model_validate(json.loads(path.read_text("utf-8"))).runs
    except (OSError, ValueError, ValidationError, InputError) as error:
        raise RecordError(f"{str(path)!r} is no list of runs ({str(error).splitlines()[0]}); train anew.") from None
    # The folder may have been moved since.
    return {name: run.model_copy(update={"folder": str(folder / name)}) for name, run in found.items()}


def write_runs(folder: Path, runs: dict[str, Run]) -> None:
    """Write the list, whole or not at all."""
    document = Runs(runs=runs).model_dump(mode="json")
    write_atomically(folder / RUNS, (json.dumps(document, indent=1) + "\n").encode())


def origin(store: Store, plan: Plan, planned: Planned, tokens: int, training: dict[str, Any]) -> Origin:
    """Where an autoencoder comes from."""
    manifest = store.manifest
    return Origin(
        model=manifest.model,
        fingerprint=manifest.fingerprint.weights,
        site=planned.site,
        corpus=manifest.corpus,
        selector=manifest.selector.model_dump(mode="json"),
        tokens=tokens,
        store=plan.store,
        training={CORPUS_DIGEST: manifest.making.corpus.digest, **training},
    )


def manner(preset: str | None) -> dict[str, Any]:
    """In whose manner, with what is not known of it."""
    if preset is None:
        return {}
    found = find_preset(preset)
    return {"preset": preset, "preset_source": found.source, "preset_unknown": found.unknown}


def machine(device: str, selection: str) -> dict[str, Any]:
    """What it was trained on, and how active latents were found there."""
    able = {
        "AMX": torch.cpu._is_amx_tile_supported(),
        "AVX-512 BF16": torch.cpu._is_avx512_bf16_supported(),
    }
    cpu = next((name for name, there in able.items() if there), "no bfloat16")
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{platform.machine()}, {cpu}"
    return {
        "device": device,
        "hardware": name,
        "threads": torch.get_num_threads(),
        "selection": selection,
        "torch": str(torch.__version__),
        "pellucid": __version__,
    }
