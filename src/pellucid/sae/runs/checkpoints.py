"""The state of the trainers of one site between two steps, on disk: whole, or the one before it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, ValidationError
from torch import Tensor

from pellucid.errors import RecordError
from pellucid.files import write_atomically
from pellucid.records import Record
from pellucid.sae.store import Cursor
from pellucid.sae.trainer import Step, Trainer

SCHEMA: Final = 1
FOLDER = "checkpoints"
COMMIT = "checkpoint.json"
FEED = "feed"
"""The file of tokens that were read and not yet learnt from."""


class Checkpoint(Record):
    """Which files belong together; written last, so that what it names is there."""

    version: Literal[1] = SCHEMA
    """Of this file's form."""
    plan: str
    """Digest of the plan that it is part of."""
    step: int = Field(ge=0)
    """Steps that were taken."""
    cursor: Cursor | None
    """Where reading goes on; None: at the beginning."""
    seconds: float = 0.0
    """That the training took so far."""
    last: dict[str, dict[str, Any]] = Field(default={})
    """What the last step said, by run."""
    files: dict[str, str]
    """SHA-256 of each file, by its name."""


class State(NamedTuple):
    """What training goes on from."""

    step: int
    """Steps that were taken."""
    cursor: Cursor | None
    """Where reading goes on; None: at the beginning."""
    carried: Tensor | None
    """Tokens [token, d_in] that were read and not yet learnt from."""
    seconds: float
    """That it took so far."""
    last: dict[str, Step]
    """What the last step said, by run."""


def write(folder: Path, plan: str, state: State, trainers: Mapping[str, Trainer]) -> None:
    """Write a checkpoint beside the one that is there, and then put it in its place.

    Raises RecordError where it cannot be written, such as on a full disk; the one before is then untouched.
    """
    files = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, trainer in trainers.items():
            file = f"{name}-{state.step}.safetensors"
            files[file] = _write_tensors(folder / file, trainer.state_dict())
        if state.carried is not None and len(state.carried):
            file = f"{FEED}-{state.step}.safetensors"
            files[file] = _write_tensors(folder / file, {"x": state.carried})
        last = {name: step._asdict() for name, step in state.last.items()}
        found = Checkpoint(
            plan=plan, step=state.step, cursor=state.cursor, seconds=state.seconds, last=last, files=files
        )
        write_atomically(folder / COMMIT, (json.dumps(found.model_dump(mode="json"), indent=1) + "\n").encode())
    except OSError as error:
        raise RecordError(
            f"the checkpoint of step {state.step} cannot be written into {str(folder)!r} ({error.strerror}); the one "
            "before it is kept: make room and run the same again, which goes on there."
        ) from None
    finally:
        _tidy(folder)


def read(folder: Path, plan: str, trainers: Mapping[str, Trainer]) -> State | None:
    """Bring trainers back to a checkpoint; None where there is none.

    Raises RecordError where a file is missing, was changed, or belongs to another plan.
    """
    path = folder / COMMIT
    if not path.is_file():
        return None
    try:
        found = Checkpoint.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise _broken(path, str(error).splitlines()[0]) from None
    if found.plan != plan:
        raise _broken(path, "it belongs to another plan")
    for name, trainer in trainers.items():
        trainer.load_state_dict(_read_tensors(folder, f"{name}-{found.step}.safetensors", found.files))
    feed = f"{FEED}-{found.step}.safetensors"
    carried = _read_tensors(folder, feed, found.files)["x"] if feed in found.files else None
    last = {name: Step(**step) for name, step in found.last.items()}
    return State(found.step, found.cursor, carried, found.seconds, last)


def _write_tensors(path: Path, state: Mapping[str, Any]) -> str:
    """Tensors, and plain numbers as JSON in the file's header; returns the SHA-256 of the file."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items() if isinstance(value, Tensor)}
    plain = {name: value for name, value in state.items() if name not in tensors}
    content = save(tensors, {"numbers": json.dumps(plain)})
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def _read_tensors(folder: Path, name: str, known: Mapping[str, str]) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    path = folder / name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != known.get(name):
            raise _broken(path, "its hash is not the one that was written down")
        with safe_open(path, "pt") as file:
            numbers = json.loads((file.metadata() or {}).get("numbers", "{}"))
        return {**load(content), **numbers}
    except (OSError, ValueError, SafetensorError) as error:
        raise _broken(path, str(error).splitlines()[0]) from None


def _broken(path: Path, reason: str) -> RecordError:
    return RecordError(
        f"the checkpoint {str(path)!r} cannot be used ({reason}); delete {str(path.parent)!r} to begin anew."
    )


def _tidy(folder: Path) -> None:
    """Remove every file that the checkpoint does not name: older ones, and those of one that was not finished."""
    try:
        named = set(json.loads((folder / COMMIT).read_text("utf-8"))["files"])
    except (OSError, ValueError):
        named = set()
    for path in folder.glob("*.safetensors"):
        if path.name not in named:
            path.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a checkpoint whose runs are finished."""
    (folder / COMMIT).unlink(missing_ok=True)
    _tidy(folder)
    for path in (folder, folder.parent):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
