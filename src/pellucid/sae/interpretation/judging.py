"""Judges: who say of examples whether an explained latent is there."""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, final, runtime_checkable

import numpy as np

from pellucid.errors import InputError, ModelError
from pellucid.sae.interpretation.asking import LLM, Answer, Ledger, Question, Step
from pellucid.sae.interpretation.prompts import Item, judging, read_labels
from pellucid.sae.interpretation.scoring import Verdict

NONSENSE = 32
"""So many answers of which none can be read end the work: the model does not understand what it is asked."""
Each = TypeVar("Each")
_AROUND = " \t\n[](){},:\"'`.▁Ġ"


class Task(NamedTuple):
    """Examples to be judged by one explanation."""

    scorer: str
    """``detection``, ``fuzzing`` or ``embedding``."""
    explanation: str
    """The phrase."""
    items: tuple[Item, ...]
    """What is judged, in the order in which it is asked."""


class Judged(NamedTuple):
    """What became of a task."""

    verdicts: list[Verdict]
    """One of each item."""
    prompts: tuple[tuple[Question, Answer], ...] = ()
    """What was asked and answered, for the record."""


@runtime_checkable
class Judge(Protocol):
    """Says whether a latent is there."""

    @property
    def name(self) -> str:
        """What results call it."""

    @property
    def scorers(self) -> tuple[str, ...]:
        """What it can judge."""

    def judge(self, tasks: Sequence[Task]) -> list[Judged]:
        """Verdicts on each task. Raises ModelError."""


@final
class LLMJudge:
    """A language model, asked about a few examples at a time.

    Args:
        llm: the model.
        per_prompt: examples a prompt; None: as suits the model.
    """

    scorers = ("detection", "fuzzing")

    def __init__(self, llm: LLM, per_prompt: int | None = None) -> None:
        if per_prompt is not None and per_prompt < 1:
            raise InputError(f"a prompt holds at least 1 example, not {per_prompt}.")
        self.name, self._llm, self._per_prompt = llm.name, llm, per_prompt or llm.per_prompt
        self._unread, self._answers = 0, 0

    @property
    def ledger(self) -> Ledger:
        """What was spent."""
        return self._llm.ledger

    def judge(self, tasks: Sequence[Task]) -> list[Judged]:
        """Verdicts on each task; all of their questions are asked together. Raises ModelError."""
        groups = [grouped(task.items, self._per_prompt) for task in tasks]
        questions = [
            [judging(task.scorer, task.explanation, group, self._llm.sees) for group in some]
            for task, some in zip(tasks, groups, strict=True)
        ]
        answers = iter(self._llm.ask([question for some in questions for question in some]))
        judged = []
        for asked, some in zip(questions, groups, strict=True):
            prompts = tuple((question, next(answers)) for question in asked)
            verdicts = [
                each
                for (_, answer), group in zip(prompts, some, strict=True)
                for each in self._read(answer, len(group))
            ]
            judged.append(Judged(verdicts, prompts))
        return judged

    def _read(self, answer: Answer, count: int) -> list[Verdict]:
        labels = read_labels(answer, count)
        self._answers += 1
        if labels is None:
            self._unread += 1
            if self._unread == self._answers >= NONSENSE:
                raise ModelError(
                    f"{self.name} answers nonsense: none of {NONSENSE} answers could be read, the last being "
                    f"{answer.text[:80]!r}; use another model, or fewer examples a prompt (--per-prompt 1)."
                )
            return [Verdict(None)] * count
        found = beliefs(answer.steps, labels)
        return [Verdict(label, belief) for label, belief in zip(labels, found, strict=True)]


def grouped(items: Sequence[Each], size: int) -> list[Sequence[Each]]:
    """Items in their order, so many at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def beliefs(steps: Sequence[Step], labels: Sequence[bool]) -> Sequence[float | None]:
    """Log p(1) - log p(0) at the token of each label; None of all where the tokens are not the labels'."""
    at = [step for step in steps if _bare(step.token) in ("0", "1")]
    if [_bare(step.token) == "1" for step in at] != [*labels]:
        return [None] * len(labels)
    return [_log_odds(step) for step in at]


def _bare(token: str) -> str:
    return token.strip(_AROUND)


def _log_odds(step: Step) -> float | None:
    """None where only one of the two was considered and nothing bounds the other."""
    known = {digit: [value for text, value in step.alternatives.items() if _bare(text) == digit] for digit in "01"}
    # What is not among the alternatives is at most as likely as the least likely of them.
    least = min(step.alternatives.values(), default=-math.inf)
    one, zero = (float(np.logaddexp.reduce(found)) if found else least for found in (known["1"], known["0"]))
    difference = one - zero
    return difference if math.isfinite(difference) else None


@final
class Oracle:
    """A judge that knows the truth and errs at a set rate: what a score means, and a test of the counting.

    Its balanced accuracy is 1 - ``error`` up to chance, whatever the explanation says. The beliefs are those of a judge
    that knows its own error rate. The same item gets the same verdict each time.

    Args:
        error: probability of the wrong answer, from 0 to 1.
        unreadable: probability of an answer that cannot be read, from 0 to 1.
        seed: of both.
    """

    scorers = ("detection", "fuzzing")

    def __init__(self, error: float = 0.0, unreadable: float = 0.0, seed: int = 0) -> None:
        for name, value in (("error", error), ("unreadable", unreadable)):
            if not 0 <= value <= 1:
                raise InputError(f"the oracle's {name} is a probability, and {value} is none.")
        self.name, self._error, self._unreadable, self._seed = f"oracle({error:g})", error, unreadable, seed

    def judge(self, tasks: Sequence[Task]) -> list[Judged]:
        """Verdicts on each task."""
        return [Judged([self._verdict(task, item) for item in task.items]) for task in tasks]

    def _verdict(self, task: Task, item: Item) -> Verdict:
        place = (self._seed, task.scorer, task.explanation, item.example.sample, item.example.position, item.marks)
        digest = hashlib.sha256(repr(place).encode()).digest()
        drawn = np.random.default_rng(list(digest)).random(3)
        if drawn[0] < self._unreadable:
            return Verdict(None)
        answer = item.truth != bool(drawn[1] < self._error)
        sure = 1 - min(max(self._error, 1e-3), 1 - 1e-3)
        # A little noise in place of ties, in which an AUC could not be told from the accuracy.
        return Verdict(answer, math.log(sure / (1 - sure)) * (1 if answer else -1) + 1e-6 * float(drawn[2]))
