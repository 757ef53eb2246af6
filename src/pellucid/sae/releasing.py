"""An autoencoder packed to be handed on: weights, interpretations, scores, figures, a card and checksums."""

import csv
import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.records import Record
from pellucid.sae.autoencoder import SAE
from pellucid.sae.card import card
from pellucid.sae.evaluation.records import Evaluation
from pellucid.sae.events.digest import digest
from pellucid.sae.formats import read, write
from pellucid.sae.formats.folders import beside
from pellucid.sae.formats.sums import SUMS, check_sums, listed, sums_of
from pellucid.sae.interpretation.results import (
    INTERPRETATIONS,
    Interpretation,
    checked_interpretations,
    read_interpretations,
)

CARD, SCORES, EVALUATION, PACKED = "README.md", "scores.csv", "evaluation.json", "release.json"
SCORERS = ("detection", "fuzzing", "embedding")


class Packed(Record):
    """What a release was packed from: the file ``release.json``."""

    version: Literal[1] = 1
    """Of this file's form."""
    sae: str
    """Digest of the autoencoder that was packed; interpretations and evaluation are of it."""
    read: str
    """Digest of the same as it is read from this release; another one where the layout rounds its weights."""


class Released(NamedTuple):
    """What a release holds."""

    folder: Path
    """Where it is."""
    files: tuple[str, ...]
    """Names of its files."""
    bytes: int
    """Size of all of them."""
    interpretations: int
    """Latents with an explanation."""


def release(
    sae: SAE | str | Path,
    out: str | Path,
    *,
    interpretations: str | Path | None = None,
    evaluation: str | Path | None = None,
    format: str = "pellucid",
    name: str | None = None,
    license: str = "",
) -> Released:
    """Pack an autoencoder into a folder, which is there whole or not at all.

    Args:
        sae: the autoencoder, or where it is.
        out: a folder that does not exist yet, or an empty one.
        interpretations: the folder of an interpretation run.
        evaluation: the JSON file of an evaluation.
        format: the layout of weights and configuration.
        name: what it is called; None: the folder's name.
        license: of the weights, as the hub names it, such as ``mit``; empty: the card leaves it open.

    Raises:
        InputError: the folder is not empty, or something does not belong to this autoencoder.
        UnknownNameError: there is no such layout.
        RecordError: what is packed is damaged, or the folder cannot be written.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} is there already and not empty; give a new folder for the release.")
    sae = sae if isinstance(sae, SAE) else read(sae)
    found = None if interpretations is None else _interpretations(sae, Path(interpretations))
    judged = None if evaluation is None else read_evaluation(sae, Path(evaluation))
    said = name or out.resolve().name
    text = card(sae, name=said, format=format, license=license, interpretations=found, evaluation=judged)
    temporary = beside(out)
    try:
        write(sae, temporary, format)
        _write_record(temporary / PACKED, Packed(sae=digest(sae), read=digest(read(temporary))))
        if found is not None:
            _write_interpretations(temporary, found)
        if judged is not None:
            _write_record(temporary / EVALUATION, judged)
        write_atomically(temporary / CARD, text.encode("utf-8", "backslashreplace"))
        _put(temporary, out)
    except OSError as error:
        raise RecordError(f"the release {str(out)!r} cannot be written ({error.strerror}); free the space.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return described(out)


def _write_record(path: Path, record: Record) -> None:
    write_atomically(path, f"{record.model_dump_json(indent=1)}\n".encode())


def _put(temporary: Path, out: Path) -> None:
    """Add the checksums and put a release in its place; into a folder that is there all of its files or none."""
    names = sorted(path.name for path in temporary.iterdir())
    write_atomically(temporary / SUMS, sums_of(temporary, names).encode())
    if not out.is_dir():
        temporary.replace(out.resolve())
        return
    # The folder itself stays, since it may be the current one of a process.
    moved: list[Path] = []
    try:
        for name in (*names, SUMS):
            moved.append(out / name)
            (temporary / name).replace(out / name)
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise


def verify(folder: str | Path) -> Released:
    """Compare every file of a release with its checksums, and read all of it.

    Raises:
        InputError: it is no release.
        RecordError: a file is missing, changed, damaged, or not among the checksums.
    """
    folder = Path(folder)
    if not (folder / SUMS).is_file():
        raise InputError(f"{str(folder)!r} is no release: it has no {SUMS}.")
    names = set(check_sums(folder))
    more = sorted({path.name for path in folder.iterdir() if path.is_file()} - names - {SUMS})
    if more:
        raise RecordError(f"{more[0]} of {str(folder)!r} is not among its checksums; take it out, or get all anew.")
    sae = read(folder)
    packed = _packed(folder) if PACKED in names else None
    if packed is not None and packed.read != digest(sae):
        raise RecordError(
            f"the autoencoder in {str(folder)!r} is another ({digest(sae)[:12]}...) than the one that was packed "
            f"({packed.read[:12]}...); get the release anew."
        )
    if INTERPRETATIONS in names:
        if packed is None:
            raise RecordError(
                f"{str(folder)!r} has no {PACKED}, so nothing tells which autoencoder its interpretations are of; "
                "pack it again."
            )
        _interpretations(sae, folder)
    if EVALUATION in names:
        _evaluation(digest(sae) if packed is None else packed.sae, folder / EVALUATION)
    return described(folder)


def described(folder: Path) -> Released:
    """What lies in a release, by its checksums."""
    names = tuple(sorted([*listed(folder), SUMS]))
    explained = 0
    if INTERPRETATIONS in names:
        explained = sum(bool(each.explanation) for each in read_interpretations(folder).values())
    return Released(folder, names, sum((folder / name).stat().st_size for name in names), explained)


def read_evaluation(sae: SAE, path: Path) -> Evaluation:
    """An evaluation of this autoencoder. Raises InputError where it is of another, RecordError where it is damaged."""
    return _evaluation(digest(sae), path)


def _evaluation(own: str, path: Path) -> Evaluation:
    """An evaluation of the autoencoder with that digest."""
    try:
        found = Evaluation.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"the evaluation {str(path)!r} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        raise RecordError(str(InputError.from_validation(f"the evaluation {str(path)!r}", error))) from None
    if found.sae != own:
        raise InputError(
            f"the evaluation {str(path)!r} is of another autoencoder ({found.sae[:12]}...) than this one "
            f"({own[:12]}...); evaluate this one."
        )
    return found


def _interpretations(sae: SAE, folder: Path) -> dict[int, Interpretation]:
    """The interpretations of a run, or of a release. Raises InputError where they are of another autoencoder."""
    packed = _packed(folder) if (folder / PACKED).is_file() else None
    own = digest(sae)
    if packed is not None and own not in (packed.sae, packed.read):
        raise InputError(
            f"the interpretations in the release {str(folder)!r} are of another autoencoder ({packed.sae[:12]}...) "
            f"than this one ({own[:12]}...); give those of this one."
        )
    return checked_interpretations(folder, sae)


def _packed(folder: Path) -> Packed:
    path = folder / PACKED
    try:
        return Packed.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise RecordError(f"{str(path)!r} does not tell what was packed; get the release anew.") from None


def _write_interpretations(folder: Path, found: dict[int, Interpretation]) -> None:
    lines = (f"{found[latent].model_dump_json()}\n" for latent in sorted(found))
    write_atomically(folder / INTERPRETATIONS, "".join(lines).encode())
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    head = [f"{name}_{measure}" for name in SCORERS for measure in _MEASURES]
    writer.writerow(["latent", "events", "explanation", *head])
    writer.writerows(_row(found[latent]) for latent in sorted(found))
    write_atomically(folder / SCORES, file.getvalue().encode("utf-8", "backslashreplace"))


_MEASURES = ("accuracy", "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high")


def _row(each: Interpretation) -> Sequence[object]:
    return [each.latent, each.events, each.explanation, *(value for name in SCORERS for value in _cells(each, name))]


def _cells(each: Interpretation, name: str) -> Iterator[object]:
    score = each.scores.get(name)
    for found in (None if score is None else score.accuracy, None if score is None else score.auc):
        if found is None:
            yield from ("", "", "")
        else:
            yield from (round(found.value, 4), round(found.low, 4), round(found.high, 4))
