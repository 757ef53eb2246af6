"""What was generated, in files that only grow: a stopped run goes on behind the last whole line."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

from pydantic import Field, ValidationError

from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.records import Record
from pellucid.sae.steering.plan import Condition

PLAN, SUMMARY = "plan.json", "summary.json"


class Generation(Record):
    """One answer and what was measured of it."""

    condition: Condition
    """How it came about."""
    prompt: int
    """Number of the prompt, from 0."""
    sample: int
    """Number of the answer to that prompt, from 0."""
    ids: tuple[int, ...]
    """Its tokens, without what ended it."""
    text: str
    """The same in words."""
    found: dict[str, bool | None]
    """For each concept whether it appears; None where whoever was asked gave no usable answer."""
    nll: float | None
    """Mean negative log-probability of its tokens under the unsteered model, after the prompt, in nats."""
    distinct: float | None
    """Share of its pairs of neighbouring tokens that differ from each other; None below two tokens."""
    run: int
    """Tokens in the longest stretch that repeats itself."""
    edit: float
    """Edit distance to the unsteered answer over tokens, in [0, 1]."""
    own: dict[int, float]
    """Mean activation of the steered latents on it, read by the unsteered model."""
    shift: float
    """How much the other latents' mean activations differ from those on the unsteered answer, in [0, 1]."""
    active: dict[int, float] = Field(default={})
    """Of an unsteered answer, the mean activation of every latent."""
    ratings: tuple[float | None, float | None, float | None] | None = None
    """Concept, instruction and fluency, from 0 to 2; None where no judge was asked."""


@final
class Journal:
    """The folder of one experiment: ``plan.json``, a file of generations for each subject, ``summary.json``.

    Raises InputError where the folder holds another experiment.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / PLAN
        if path.exists():
            _check_same(_document(path), json.loads(json.dumps(plan)), folder)
        else:
            write_atomically(path, _written(plan))

    def read(self, name: str) -> list[Generation]:
        """What is there of one subject. A line that was cut off by a crash is dropped from the file."""
        path = self._path(name)
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            write_atomically(path, whole)
        return list(_lines(whole, path))

    def append(self, name: str, generations: Sequence[Generation]) -> None:
        """Write generations behind those that are there, and flush them to disk."""
        lines = "".join(f"{each.model_dump_json()}\n" for each in generations)
        with self._path(name).open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())

    def conclude(self, summary: Record) -> None:
        """Write the summary."""
        write_atomically(self.folder / SUMMARY, _written(summary.model_dump(mode="json")))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


def _lines(content: bytes, path: Path) -> Iterator[Generation]:
    for number, line in enumerate(content.decode().split("\n")[:-1], 1):
        try:
            yield Generation.model_validate_json(line)
        except ValidationError:
            raise RecordError(
                f"line {number} of {str(path)!r} is no generation, so the file was changed; remove the file, and what "
                "it held is made anew."
            ) from None


def _written(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise RecordError(f"{str(path)!r} is not JSON, so it was changed; take another folder.") from None


def _check_same(there: Any, wanted: dict[str, Any], folder: Path) -> None:
    for name, value in wanted.items():
        if not isinstance(there, dict) or there.get(name) != value:
            raise InputError(
                f"{str(folder)!r} holds another steering experiment, with another {name!r}; take another folder, or "
                "ask for the same again to go on with it."
            )
