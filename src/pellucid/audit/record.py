"""The signed account of one explained decision. Its JSON Schema is published; unknown fields are refused.

A *redacted* record holds no text of the patient and no text of the model's answer, only keyed digests of them.
"""

import secrets
import time
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field, model_validator

from pellucid.audit.attribution import Attribution
from pellucid.records import Cost, Fingerprint
from pellucid.records import Record as Base

SCHEMA_VERSION: Final = 1
DISCLAIMER: Final = "statistical-not-causal"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Instant = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]


def uuid7() -> str:
    """A time-ordered identifier: 48 bits of Unix milliseconds, then 74 random bits [RFC 9562, section 5.7].

    >>> UUID(uuid7()).version
    7
    """
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    return str(UUID(int=number & ~(0x3 << 62) | 0x2 << 62))


class InputField(Base):
    """One named field of the input, as the model saw it."""

    name: str
    """The template's placeholder, and the column of the cases."""
    digest: Digest
    """Keyed digest of the value as it stands in the cases; of the empty text where it is missing."""
    value: str | None = None
    """The value as it stands in the cases; None where it is missing or redacted."""
    wording: str | None = None
    """What the template put in its place; None where redacted."""
    missing: bool = False
    """Whether the case has no value here."""
    absent: str = ""
    """The neutral wording that stood in for the field where an attribution took it away."""
    start: int | None = None
    """First character of the wording in the prompt; None where redacted, since lengths tell much."""
    end: int | None = None
    """One past the last character."""


class CaseInput(Base):
    """What the model was given."""

    case: str
    """The case's name in its file, or its row number."""
    digest: Digest
    """Keyed digest of the whole prompt, chat template excluded."""
    site_key: Digest
    """Which site key made the digests (not the key itself)."""
    template: str
    """Name of the template: its file, or ``inline``."""
    template_digest: Digest
    """SHA-256 of the template's text. It holds no patient's text."""
    tokens: int = Field(ge=0)
    """Length of the encoded input. Nothing is ever truncated."""
    token_digest: Digest
    """Keyed digest of the token ids: what the model truly saw."""
    text: str | None = None
    """The prompt; None where redacted."""
    fields: tuple[InputField, ...]
    """The fields, in the order of the template."""


class Decoding(Base):
    """How a generated answer was chosen, so that it can be repeated."""

    max_new_tokens: int = Field(ge=1)
    """The longest answer allowed."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 is greedy."""
    seed: int = 0
    """Seed of the sampling; without effect on a greedy answer."""


class Decision(Base):
    """What the model said. A choice has options and probabilities; a generated answer has text and tokens."""

    kind: Literal["choice", "generated"]
    """Whether the model chose among given answers or wrote one."""
    options: tuple[str, ...] = ()
    """The given answers."""
    probabilities: tuple[float | None, ...] = ()
    """Probability of each option, normalised over the options."""
    chosen: str | None = None
    """The option with the highest probability; None for a generated answer."""
    output_digest: Digest
    """Keyed digest of the answer's text."""
    output: str | None = None
    """The generated text; None where redacted, or for a choice."""
    token_ids: tuple[int, ...] | None = None
    """The generated tokens; None where redacted, or for a choice."""
    log_probs: tuple[float | None, ...] = ()
    """Log-probability of every option as the model scored it (not normalised), or of every generated token."""
    seconds: float = Field(ge=0.0)
    """How long the decision took, without its explanation."""
    decoding: Decoding | None = None
    """How the answer was generated; None for a choice."""


class Change(Base):
    """One field of a counterfactual."""

    field: str
    """The field that is changed."""
    before: str | None
    """Its value in the case; None where missing or redacted."""
    after: str | None
    """Its value in the changed case, taken from the cohort; None where missing or redacted."""
    before_digest: Digest
    """Keyed digest of ``before``."""
    after_digest: Digest
    """Keyed digest of ``after``."""


class Counterfactual(Base):
    """The smallest change of fields that was found to flip the decision."""

    found: bool
    """Whether one was found within the limits of the search."""
    changes: tuple[Change, ...] = ()
    """What is changed; empty where none was found."""
    decision: str | None = None
    """The decision on the changed case."""
    probability: float | None = None
    """Its probability there."""
    evaluations: int = Field(default=0, ge=0)
    """Changed cases that the model was asked about."""
    searched: str
    """What was searched, in one sentence: fields, values, how many at once."""
    exhaustive: bool = False
    """Whether every smaller change was tried, so that this one is proven smallest."""


class Deletion(Base):
    """The target while features are taken out one after the other, in the order of the scores and in a random one."""

    removed: tuple[float, ...]
    """Share of the features that is removed, from 0 to 1."""
    by_score: tuple[float, ...]
    """The target when the highest score goes first."""
    at_random: tuple[float, ...]
    """The target along one random order."""


class SelfTest(Base):
    """The scorer held against itself on this very case: log-probabilities with and without reused computation."""

    max_difference: float | None
    """The largest difference between the two."""
    tolerance: float
    """The largest that is accepted."""
    passed: bool
    """Whether it was within the tolerance."""


class Environment(Base):
    """Where it ran. Results differ in the last digits between machines; see the record's tolerance."""

    system: str
    """Operating system and its version."""
    python: str
    """Version of Python."""
    versions: dict[str, str]
    """Versions of the packages that decide the numbers."""
    cpu: str
    """Name of the processor."""
    gpu: str | None = None
    """Name of the GPU, where one was used."""
    threads: int = Field(ge=1)
    """Threads that one operation may use."""
    dtype: str
    """The dtype that the network computed in."""


class Integrity(Base):
    """The record's place in the ledger and its seal. Filled in by the ledger."""

    sequence: int = Field(ge=0)
    """How many records stand before this one."""
    previous_hash: Digest
    """``record_hash`` of the record before; 64 zeros for the first."""
    record_hash: Digest
    """SHA-256 of the record's canonical JSON without ``record_hash`` and ``signature``."""
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    """Ed25519 over ``pellucid-record-v1``, a line feed, and the 32 bytes of ``record_hash``; in hex."""
    key_id: Digest
    """SHA-256 of the public key that checks the signature."""


class DecisionRecord(Base):
    """The account of one decision and its explanation."""

    type: Literal["decision"] = "decision"
    """The kind of record."""
    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of the record's layout."""
    record_id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")]
    """UUID version 7: unique, and sorted by time."""
    started: Instant
    """When work on the case began, UTC, by the clock of the machine."""
    finished: Instant
    """When it ended."""
    run: Digest | None = None
    """SHA-256 of the run's configuration, so that records of one run can be told from another's."""
    model: Fingerprint
    """What exactly was asked."""
    input: CaseInput
    """What it was given."""
    decision: Decision
    """What it said."""
    attributions: tuple[Attribution, ...]
    """Why, by each method and level."""
    counterfactual: Counterfactual | None = None
    """What would have changed its answer; None where it was not searched."""
    deletion: Deletion | None = None
    """The deletion curve of the first attribution; None where it was not made."""
    self_test: SelfTest | None = None
    """Whether the scorer agrees with itself."""
    noise_floor: float | None = None
    """Size of the rounding of this dtype in the unit of the target: smaller values mean nothing."""
    tolerance: float = Field(ge=0.0)
    """The largest difference of a replay that counts as the same result."""
    cost: Cost
    """What the whole case cost."""
    environment: Environment
    """Where it ran."""
    disclaimer: Literal["statistical-not-causal"] = DISCLAIMER
    """What an attribution is not: it is a statistical association, not a cause and not a proof of compliance."""
    redacted: bool
    """Whether the texts were left out and only their digests kept."""
    integrity: Integrity | None = None
    """Its place in the ledger; None before it is appended."""

    @model_validator(mode="after")
    def _keeps_its_promise(self) -> "DecisionRecord":
        if self.redacted:
            shown = [name for name, present in _texts(self).items() if present]
            if shown:
                raise ValueError(f"a redacted record holds text in {', '.join(shown)}")
        return self

    def redact(self) -> "DecisionRecord":
        """The same record without any text of the patient or of a generated answer; the digests stay."""
        generated = self.decision.kind == "generated"
        fields = [
            field.model_copy(update={"value": None, "wording": None, "start": None, "end": None})
            for field in self.input.fields
        ]
        attributions = [each.without_text(generated) for each in self.attributions]
        search = self.counterfactual
        if search is not None:
            changes = [change.model_copy(update={"before": None, "after": None}) for change in search.changes]
            kept = None if generated else search.decision
            search = search.model_copy(update={"changes": tuple(changes), "decision": kept})
        return DecisionRecord(
            **dict(self)
            | {
                "input": self.input.model_copy(update={"text": None, "fields": tuple(fields)}),
                "decision": self.decision.model_copy(update={"output": None, "token_ids": None}),
                "attributions": tuple(attributions),
                "counterfactual": search,
                "redacted": True,
                "integrity": None,
            }
        )


def _texts(record: DecisionRecord) -> dict[str, bool]:
    """The places where a record could hold text of a patient or of an answer, and whether each does."""
    generated = record.decision.kind == "generated"
    changes = record.counterfactual.changes if record.counterfactual else ()
    return {
        "input.text": record.input.text is not None,
        "input.fields": any(
            part is not None
            for field in record.input.fields
            for part in (field.value, field.wording, field.start, field.end)
        ),
        "decision.output": record.decision.output is not None or record.decision.token_ids is not None,
        "attributions.labels": any(a.level != "field" and a.labels is not None for a in record.attributions),
        "attributions.spans": any(a.spans is not None for a in record.attributions),
        "attributions.outputs": generated and any(a.outputs is not None for a in record.attributions),
        "counterfactual.changes": any(c.before is not None or c.after is not None for c in changes),
        "counterfactual.decision": generated
        and record.counterfactual is not None
        and record.counterfactual.decision is not None,
    }
