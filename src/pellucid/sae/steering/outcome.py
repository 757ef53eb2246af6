"""What an experiment ends with, as frozen records: the form of ``summary.json``."""

from typing import Any, Literal

from pellucid.records import Record
from pellucid.sae.steering.intervals import Interval
from pellucid.sae.steering.plan import Condition

Direction = Literal["promote", "suppress"]


class Change(Record):
    """What happened to one other concept, as shares of all answers."""

    added: float
    """It appears and did not before."""
    dropped: float
    """It appeared before and does not."""
    flipped: Interval | None
    """Either."""


class Point(Record):
    """One condition over all prompts. Intervals draw prompts again; a missing one had no prompt to draw from."""

    condition: Condition
    """Which."""
    answers: int
    """How many."""
    empty: int
    """Those without a token: the model ended at once."""
    unknown: int
    """Those on which the matcher gave no usable answer; they are in no rate."""
    on_target: Interval | None
    """Share of answers in which the concept appears."""
    gain: Interval | None
    """That share less the unsteered one, prompt by prompt."""
    others: dict[str, Change]
    """What happened to the other concepts."""
    flips: Interval | None
    """Share of the other concepts that appeared or vanished; None where there are none."""
    shift: Interval | None
    """How much the activations of the other latents differ from those on the unsteered answers, in [0, 1]."""
    own: Interval | None
    """Mean activation of the steered latents on the answers, read by the unsteered model."""
    perplexity: float | None
    """Under the unsteered model: exp of the mean over prompts of the negative log-probability of a token."""
    ratio: Interval | None
    """Perplexity over that of the unsteered answers."""
    distinct: Interval | None
    """Share of neighbouring pairs of tokens that differ from each other."""
    kept_distinct: float | None
    """That over the unsteered one."""
    run: Interval | None
    """Tokens in the longest stretch that repeats itself."""
    edit: Interval | None
    """Edit distance to the unsteered answers, in [0, 1]."""
    harmonic: Interval | None
    """Harmonic mean of the ratings of concept, instruction and fluency, from 0 to 2; None without a judge."""
    within: bool
    """Whether all else changed no more than the budget allows."""


class Best(Record):
    """The strength that did most within the budget, in one direction, and whether that is more than chance."""

    mode: str
    """The way to steer."""
    direction: Direction
    """Whether the concept is to appear or to vanish."""
    tried: int
    """Strengths that were tried in this direction."""
    strength: float | None
    """The best of them; None where none is within the budget."""
    rate: float | None
    """Share of answers with the concept there."""
    unsteered: float | None
    """The same without steering."""
    p: dict[str, float]
    """One-sided p, by exact sign flips over prompts, against unsteered answers and each control that no one chose."""
    level: float
    """What p is held against: 0.05 over the strengths that were tried, since the best of them was picked."""
    holds: bool | None
    """Whether the latent steers as labelled; None where that cannot be told."""
    reason: str
    """Why, in one sentence."""


class Example(Record):
    """What was answered to one prompt, to be read side by side."""

    prompt: str
    """The prompt's words."""
    answers: dict[str, str]
    """For some conditions the answer."""


class SubjectSummary(Record):
    """What came of one subject."""

    name: str
    """The latents."""
    latents: tuple[int, ...]
    """Which."""
    concept: str
    """What they are said to stand for."""
    matcher: str
    """What decides whether it appears."""
    scales: tuple[float, ...]
    """The activation of each that a strength of 1 stands for."""
    points: tuple[Point, ...]
    """Every condition, the unsteered one first."""
    best: tuple[Best, ...]
    """For each way to steer and each direction."""
    examples: tuple[Example, ...]
    """Answers to the first prompts: unsteered, asked in words, steered at the best strengths, and along a random
    direction at these."""


class Share(Record):
    """How many of the subjects steer as labelled."""

    mode: str
    """The way to steer."""
    direction: Direction
    """Whether the concept is to appear or to vanish."""
    holding: int
    """Those that do."""
    told: int
    """Those of which it can be told."""
    untold: int
    """Those of which it cannot."""
    interval: Interval | None
    """The share with Wilson's interval; None where none can be told."""
    sentence: str
    """The same in words."""


class Summary(Record):
    """What came of an experiment."""

    version: Literal[1] = 1
    """Of this file's form."""
    plan: dict[str, Any]
    """All that decided what was generated."""
    subjects: tuple[SubjectSummary, ...]
    """One for each."""
    shares: tuple[Share, ...]
    """For each way to steer and each direction that was tried."""
    notes: tuple[str, ...] = ()
    """What has to be known to read the numbers, a sentence each."""
