"""What interpretation writes: a line for each latent, as soon as it is known."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from pydantic import Field, ValidationError

from pellucid.errors import InputError, RecordError
from pellucid.records import Record
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events.digest import digest
from pellucid.sae.interpretation.asking import Answer, Question
from pellucid.sae.interpretation.scoring import Score

INTERPRETATIONS = "interpretations.jsonl"
EXPLANATIONS = "explanations.jsonl"
RANDOM = "random-directions.jsonl"
PROMPTS = "prompts.jsonl"
SETTINGS = "run.json"


class Explanation(Record):
    """What a latent was said to stand for, before anybody judged it."""

    latent: int
    """Its number."""
    explanation: str
    """At most 20 words; empty where there is none."""
    reason: str = ""
    """Why there is none."""
    prompts: tuple[str, ...] = ()
    """Digests of what was asked; the texts are in ``prompts.jsonl``."""


class Interpretation(Record):
    """What a latent stands for, and how well that holds on texts that the explanation was not made from."""

    latent: int
    """Its number; of a random direction, its number among these."""
    explanation: str
    """At most 20 words; empty where there is none."""
    reason: str = ""
    """Why there is no explanation, or no score; empty where there are both."""
    scores: dict[str, Score] = Field(default={})
    """By ``detection``, ``fuzzing`` and ``embedding``."""
    shuffled: dict[str, Score] = Field(default={})
    """The same with the explanation of another latent; only for some of the latents."""
    shuffled_from: int | None = None
    """Whose explanation that was."""
    oracle: dict[str, Score] = Field(default={})
    """The same by a judge that knows the truth: the most that these examples allow."""
    explainer: str = ""
    """What explained it."""
    judges: dict[str, str] = Field(default={})
    """What judged it, for each score."""
    events: int = 0
    """On how many tokens of the corpus it is active."""
    explained_from: tuple[str, ...] = ()
    """``SAMPLE:POSITION`` of the examples that the explanation was made from."""
    scored_on: tuple[str, ...] = ()
    """``SAMPLE:POSITION`` of the examples that were judged; no document is in both."""
    prompts: tuple[str, ...] = ()
    """Digests of what was asked; the texts are in ``prompts.jsonl``."""
    seed: int = 0
    """Of the choice of examples."""

    @property
    def score(self) -> float | None:
        """One number: balanced accuracy of detection, else of fuzzing, else the AUC of embeddings; None without any."""
        for name in ("detection", "fuzzing"):
            found = self.scores[name].accuracy if name in self.scores else None
            if found is not None:
                return found.value
        ranked = self.scores["embedding"].auc if "embedding" in self.scores else None
        return None if ranked is None else ranked.value


@final
class Lines:
    """A JSONL file that grows. What a killed run left half written at its end is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        _cut_torn(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def add(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Write lines and flush them to the disk. On a full disk none of the new ones is left half."""
        lines = (json.dumps(each, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for each in documents)
        content = "".join(f"{line}\n" for line in lines).encode()
        before = os.fstat(self._descriptor).st_size
        try:
            done = 0
            while done < len(content):
                done += os.write(self._descriptor, content[done:])
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise OSError(error.errno, error.strerror, str(self.path)) from None


@final
class Prompts:
    """All that was asked and answered, a line each, for people to read."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)

    def add(self, latent: int, purpose: str, prompts: Sequence[tuple[Question, Answer]]) -> tuple[str, ...]:
        """Write questions with their answers. Returns the digests of the questions."""
        digests = tuple(question.digest for question, _ in prompts)
        self._lines.add(
            {"latent": latent, "purpose": purpose, "digest": digest, "answer": answer.text}
            | question.model_dump(mode="json", include={"system", "user", "pictures"})
            for digest, (question, answer) in zip(digests, prompts, strict=True)
        )
        return digests

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _cut_torn(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    while size:
        start = max(0, size - 65536)
        end = os.pread(descriptor, size - start, start).rfind(b"\n")
        if end >= 0:
            os.ftruncate(descriptor, start + end + 1)
            return
        size = start
    os.ftruncate(descriptor, 0)


def read_interpretations(folder: Path | str) -> dict[int, Interpretation]:
    """The interpretations of a run's folder by latent. Raises InputError where there are none, RecordError."""
    path = Path(folder) / INTERPRETATIONS
    if not path.is_file():
        raise InputError(f"there are no interpretations in {str(folder)!r}: it has no {INTERPRETATIONS}.")
    return {each.latent: each for each in read_lines(path, Interpretation)}


def checked_interpretations(folder: Path | str, sae: SAE) -> dict[int, Interpretation]:
    """The interpretations of a run's folder, or of a release, if they are this autoencoder's.

    Raises InputError where there are none, or they are of another autoencoder; RecordError.
    """
    found, said = read_interpretations(folder), _interpreted(Path(folder) / SETTINGS)
    own = digest(sae)
    if said and said != own:
        raise InputError(
            f"the interpretations in {str(folder)!r} are of another autoencoder ({said[:12]}...) than this one "
            f"({own[:12]}...); give those of this one."
        )
    beyond = max(found, default=0)
    if beyond >= sae.width:
        raise InputError(
            f"the interpretations in {str(folder)!r} speak of latent {beyond}, and this autoencoder has {sae.width}; "
            "give those of this one."
        )
    return found


def _interpreted(settings: Path) -> str:
    """The digest of the autoencoder that was interpreted; empty where nothing tells, as in a release."""
    if not settings.is_file():
        return ""
    try:
        document = json.loads(settings.read_bytes())
        found = str(document.get("sources", {}).get("sae", ""))
    except (OSError, ValueError, AttributeError):
        raise RecordError(f"{str(settings)!r} is no description of a run; interpret into a new folder.") from None
    # Whoever calls ``interpret`` may name it in words of their own.
    return found if re.fullmatch("[0-9a-f]{64}", found) else ""


def read_lines(path: Path, kind: type[Record]) -> Iterator[Any]:
    """Records of a JSONL file; none of one that is not there. A last line that was left half is passed over."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]["msg"]
                raise RecordError(
                    f"line {number} of {str(path)!r} is no {kind.__name__} ({first}); delete that line, and what it "
                    "held is done again."
                ) from None
