"""The small frozen records that an explanation is made of: features, evidence, cost and fingerprint."""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from pellucid.errors import UnknownNameError

FeatureKind = Literal["token", "word", "sentence", "field", "column", "pixel", "patch", "superpixel", "latent", "rest"]


class Record(BaseModel):
    """Base of the frozen records of this package."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)


class Feature(Record):
    """A part of the input that gets a score."""

    label: str
    """What a person calls it: the field's name, or the text itself."""
    kind: FeatureKind
    """The rung of the ladder it stands on."""
    value: str = ""
    """What stands there in this input."""
    start: int | None = None
    """First character in the user's text; None for a token of the chat template."""
    end: int | None = None
    """One past the last character."""
    index: int | None = None
    """Position in the encoded input, for a token."""
    role: Literal["input", "template"] = "input"
    """Whether the person wrote it or the model's chat template added it."""


class Check(Record):
    """One piece of evidence for or against an explanation."""

    name: str
    """What was checked."""
    value: float | None
    """What was measured; None where it is not a finite number."""
    threshold: float | None
    """The limit it is held against."""
    passed: bool | None
    """None where the check only informs."""
    decisive: bool
    """Whether passing it is a reason to rely on the explanation, not only the lack of a reason against it."""
    detail: str
    """One sentence for a person."""

    @field_validator("value", "threshold")
    @classmethod
    def _finite_or_none(cls, number: float | None) -> float | None:
        return number if number is not None and math.isfinite(number) else None


class Checks(Record):
    """The explanation's own evidence."""

    level: Literal["none", "free", "full"] = "none"
    """How much was asked for."""
    items: tuple[Check, ...] = ()
    """Every check that was run."""

    @property
    def reliable(self) -> bool | None:
        """False if any check failed, True if a decisive one passed, None if nothing was run that could tell."""
        if any(item.passed is False for item in self.items):
            return False
        return True if any(item.passed and item.decisive for item in self.items) else None

    @property
    def reasons(self) -> list[str]:
        """Why the explanation is not reliable, a sentence each."""
        return [item.detail for item in self.items if item.passed is False]

    def __getitem__(self, name: str) -> Check:
        for item in self.items:
            if item.name == name:
                return item
        raise UnknownNameError("check", name, [item.name for item in self.items])


class Dictionary(Record):
    """The sparse autoencoder whose latents are the features."""

    name: str
    """Its folder; ``(in memory)`` where it was handed over as an object."""
    digest: str
    """SHA-256 over its configuration and weights."""
    site: str
    """Where in the network it reads."""
    width: int
    """Latents that it has."""
    active: int
    """How many of them are active on this input."""
    error_share: float
    """||x - xhat||^2 / ||x||^2 over the places of this input: what the latents leave unexplained there."""


class Candidate(Record):
    """A method that was weighed for an explanation."""

    method: str
    """Its name."""
    score: float | None
    """Mean score, 0 being chance and 1 the reference attribution; None where it has none."""
    low: float | None = None
    """Lower end of the 95 % interval; None where there are too few inputs for one."""
    high: float | None = None
    """Upper end."""
    rows: float | None = None
    """Rows of the network for one input, mean."""
    reason: str = ""
    """Why it was not taken."""


class Selection(Record):
    """Why this method, where the caller left the choice."""

    source: Literal["benchmark", "calibration"]
    """A benchmark that was run before, or a trial on the inputs at hand."""
    detail: str
    """Which one, in a sentence."""
    metric: str
    """What the methods were weighed by."""
    inputs: int
    """How many inputs it rests on."""
    enough: bool
    """Whether these are enough for a claim."""
    candidates: tuple[Candidate, ...]
    """The methods, the chosen one first; those that could not be weighed last."""


class Cost(Record):
    """What was spent."""

    forwards: int = 0
    """Calls of the network."""
    backwards: int = 0
    """Vector-Jacobian products."""
    rows: int = 0
    """Sequences (or images, or table rows) that were scored."""
    tokens: int = 0
    """Positions that were computed."""
    forward_equivalents: float = 0.0
    """Tokens computed, in units of one plain pass over the full input; backward passes are not in it."""
    seconds: float = 0.0
    """Wall time."""
    peak_memory_bytes: int = 0
    """Highest resident memory of the process above what it held before, as far as the system tells."""
    peak_gpu_bytes: int | None = None
    """Highest GPU memory above what was held before; None without a GPU."""


class Fingerprint(Record):
    """What exactly was asked: SHA-256 digests in hex, and the versions of the code."""

    model: str
    """The name the model was loaded by."""
    weights: str
    """Digest of every parameter and buffer: name, dtype, shape, bytes."""
    tokenizer: str
    """Digest of the tokenizer or processor."""
    template: str
    """Digest of the chat template; empty where there is none."""
    dtype: str
    """The dtype that the network computes in."""
    device: str
    """The device it ran on."""
    attention: str
    """The attention kernel."""
    versions: dict[str, str]
    """Versions of pellucid and of the libraries whose code decides the numbers."""


def owner(feature: Feature, coarse: Sequence[Feature]) -> int:
    """Index of the coarse feature that holds the first visible character; ``len(coarse)`` where none does.

    A part of a picture has no characters: it is its own on every rung.
    """
    if feature.start is None:
        same = (n for n, whole in enumerate(coarse) if (whole.kind, whole.index) == (feature.kind, feature.index))
        return next(same, len(coarse))
    visible = feature.start + len(feature.value) - len(feature.value.lstrip())
    for index, whole in enumerate(coarse):
        if whole.start is not None and whole.end is not None and whole.start <= visible < whole.end:
            return index
    return len(coarse)
