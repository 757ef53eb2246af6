"""What a language model is asked and what it answers, whichever it is and wherever it runs."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pellucid.records import Record
from pellucid.sae.interpretation.examples import Picture


class Shown(Record):
    """A picture in a question."""

    picture: Picture
    """It, and its patches."""
    outlined: tuple[int, ...]
    """Patches that are outlined, numbered row by row."""


class Question(Record):
    """One call of a language model."""

    system: str
    """What it is told about its task."""
    user: str
    """What it is asked. Questions about one latent begin alike, so that a model that can may read that part once."""
    pictures: tuple[Shown, ...] = ()
    """Shown after the text, in this order."""
    answers: dict[str, Any] | None = None
    """JSON schema of the answer; None for plain text."""
    labels: int = 0
    """How many zeros and ones are asked for; 0 where the answer is a text."""
    begin: str = ""
    """What the answer is made to begin with, where the model runs here: it keeps a small one to the question."""
    most_tokens: int = 64
    """The longest answer."""

    @property
    def digest(self) -> str:
        """SHA-256 of all that is asked, in hex."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class Step(NamedTuple):
    """One token of an answer."""

    token: str
    """Its text."""
    alternatives: dict[str, float]
    """Log-probability of each token that was considered, by its text."""


class Answer(NamedTuple):
    """What a language model said."""

    text: str
    """The answer."""
    steps: tuple[Step, ...] = ()
    """Its tokens; none where the model does not tell their log-probabilities."""
    tokens_in: int = 0
    """Tokens that were read."""
    tokens_out: int = 0
    """Tokens that were written."""
    cached: bool = False
    """Whether it was known from before, and cost nothing."""


class Ledger(Record):
    """What was spent on a language model."""

    calls: int = 0
    """Answers that were paid for."""
    cached: int = 0
    """Answers that were known from before."""
    tokens_in: int = 0
    """Tokens read in the calls."""
    tokens_out: int = 0
    """Tokens written in the calls."""
    retries: int = 0
    """Attempts beyond the first of each call."""
    seconds: float = 0.0
    """Time spent in calls, summed over those that ran side by side."""

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(**{name: getattr(self, name) + getattr(other, name) for name in Ledger.model_fields})

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.tokens_in + self.tokens_out

    def cost(self, price_in: float, price_out: float) -> float:
        """What the calls cost, for prices of a million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


@runtime_checkable
class LLM(Protocol):
    """A language model that answers questions."""

    @property
    def name(self) -> str:
        """What results call it."""

    @property
    def sees(self) -> bool:
        """Whether it looks at pictures."""

    @property
    def per_prompt(self) -> int:
        """How many examples it is best asked about at a time."""

    @property
    def ledger(self) -> Ledger:
        """What was spent since it was made."""

    @property
    def notes(self) -> list[str]:
        """What it could not be asked for as intended, a sentence each."""

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers, in order. Raises ModelError where none comes, or the budget is used up."""
