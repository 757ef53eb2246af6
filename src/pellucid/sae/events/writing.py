"""One pass of a store through an autoencoder, kept run by run, and its sorting by latent."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field, ValidationError
from torch import Tensor

from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.progress import progress
from pellucid.records import Record
from pellucid.sae.autoencoder import SAE
from pellucid.sae.codes import Codes
from pellucid.sae.events.columns import column, mapped
from pellucid.sae.events.digest import digest
from pellucid.sae.events.merging import merge
from pellucid.sae.events.rows import ROWS_AT_A_TIME, check_finite, check_width, modalities
from pellucid.sae.events.runs import Found, sorted_run, write_run
from pellucid.sae.site import Site
from pellucid.sae.store import Cursor, Store

MANIFEST, PROGRESS = "events.json", "progress.json"
SAMPLES, POSITIONS, MODALITIES = "samples.npy", "positions.npy", "modalities.npy"
RUN = "events-run-"
RUN_EVENTS = 4_000_000
"""Events of a run: what is held at a time, and what a pass that was stopped does again at the most."""

RecordT = TypeVar("RecordT", bound=Record)


class Source(Record):
    """Whose events they are."""

    sae: str
    """Digest of the autoencoder."""
    store: str
    """Digest of the store."""
    site: str
    """Where in the model."""
    width: int = Field(ge=1)
    """Latents of the autoencoder."""
    tokens: int = Field(ge=0)
    """Rows of the store."""


class Manifest(Record):
    """What a folder of events consists of: the file ``events.json``, written last."""

    version: int = 1
    """Of this file's form."""
    source: Source
    """Whose events they are."""
    events: int
    """How many, over all latents."""
    modalities: tuple[str, ...]
    """Names of the modalities, in the order of their numbers."""


class Pass(Record):
    """How far a pass has come: the file ``progress.json``, the log of what is kept."""

    source: Source
    """Of what."""
    runs: tuple[str, ...] = ()
    """Files that are whole, in the order of their rows."""
    rows: int = 0
    """Rows that they hold."""
    events: int = 0
    """Events that they hold."""
    cursor: Cursor | None = None
    """Where reading goes on."""


def write_events(sae: SAE, store: Store, site: Site, folder: Path, *, batch: int, run_events: int) -> Manifest:
    """Write the events of every row of a store into a folder, or go on where an earlier pass stopped.

    Raises:
        InputError: the folder holds the events of something else, or the autoencoder has another width than the site.
        NumericalError: an activation is NaN or infinite.
    """
    check_width(sae, store, site)
    source = Source(sae=digest(sae), store=store.digest, site=str(site), width=sae.width, tokens=len(store))
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        _require_same(manifest.source, source, folder)
        return manifest
    done = _progress(folder, source)
    if not done.rows:
        _forget(folder)
    done = _passed(sae, store, site, folder, done, batch, run_events)
    names = _write_places(store, folder)
    runs = [folder / name for name in done.runs]
    merge(folder, runs, sae.width, len(store), mapped(folder / MODALITIES, len(store)), run_events)
    manifest = Manifest(source=source, events=done.events, modalities=names)
    write_atomically(folder / MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
    (folder / PROGRESS).unlink(missing_ok=True)
    _forget(folder)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What a folder of events consists of. Raises InputError where it is not finished, RecordError if it is broken."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"there are no finished events in {str(folder)!r}: it has no {MANIFEST}; write them with "
            "pellucid.sae.Events.write, which goes on where it was stopped."
        )
    return _parsed(Manifest, path)


def _parsed(kind: type[RecordT], path: Path) -> RecordT:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise RecordError(
            f"{str(path)!r} is broken ({reason}); delete its folder and write the events again."
        ) from None


def _require_same(there: Source, now: Source, folder: Path) -> None:
    names = {"sae": "another autoencoder", "store": "another store", "site": f"the site {there.site!r}"}
    for name, said in names.items():
        if getattr(there, name) != getattr(now, name):
            raise InputError(f"{str(folder)!r} holds the events of {said}; give a folder of its own, or delete it.")


def _progress(folder: Path, source: Source) -> Pass:
    """How far an earlier pass came; the beginning where there was none."""
    if not (folder / PROGRESS).is_file():
        return Pass(source=source)
    done = _parsed(Pass, folder / PROGRESS)
    _require_same(done.source, source, folder)
    return done


def _passed(sae: SAE, store: Store, site: Site, folder: Path, done: Pass, batch: int, most: int) -> Pass:
    """Encode the rows that are not encoded yet, and commit a run whenever ``most`` events have come together."""
    parts: list[Found] = []
    with progress("Finding active latents", len(store)) as advance, torch.no_grad():
        advance(done.rows)
        for x, rows, cursor in store.batches(site, batch, cursor=done.cursor, shuffle=False):
            check_finite(x, rows, store)
            parts.append(_found(sae.codes(x.to(sae.W_enc)), rows))
            advance(len(rows))
            if sum(len(each.rows) for each in parts) >= most or cursor.epoch:
                done = _committed(folder, done, parts, sae.width, cursor)
                parts = []
    return done


def _found(codes: Codes, rows: Int[Tensor, " token"]) -> Found:
    tokens = codes.tokens.cpu()
    return Found(
        rows[tokens].numpy(),
        codes.latents.cpu().numpy().astype(np.int32),
        codes.values.float().cpu().numpy(),
        np.bincount(tokens.numpy(), minlength=codes.token_count).astype(np.int32),
    )


def _committed(folder: Path, done: Pass, parts: Sequence[Found], width: int, cursor: Cursor) -> Pass:
    found = Found(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    name = f"{RUN}{len(done.runs):06d}.safetensors"
    write_run(folder / name, sorted_run(found, width))
    done = Pass(
        source=done.source,
        runs=(*done.runs, name),
        rows=done.rows + len(found.sizes),
        events=done.events + len(found.rows),
        cursor=cursor,
    )
    write_atomically(folder / PROGRESS, (done.model_dump_json() + "\n").encode())
    return done


def _write_places(store: Store, folder: Path) -> tuple[str, ...]:
    """Sample, position and modality of every row, as columns; the names of the modalities that there are."""
    count = len(store)
    with column(folder / SAMPLES, np.int32, count) as samples, column(folder / POSITIONS, np.int32, count) as positions:
        for start in range(0, count, ROWS_AT_A_TIME):
            part = store.places(start, start + ROWS_AT_A_TIME)
            samples(part["sample"].to_numpy())
            positions(part["position"].to_numpy())
    names, kinds = modalities(store)
    with column(folder / MODALITIES, np.int8, count) as numbers:
        numbers(kinds)
    return names


def _forget(folder: Path) -> None:
    """Delete what only a pass under way needs, and what one that was killed has left."""
    for pattern in (f"{RUN}*.safetensors", f".{RUN}*.tmp", ".*.npy.*.tmp", f".{MANIFEST}.*.tmp", f".{PROGRESS}.*.tmp"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
