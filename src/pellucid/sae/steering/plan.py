"""What a steering experiment consists of: its subjects, its settings and the conditions that follow from them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from pellucid.errors import InputError, UnknownNameError
from pellucid.records import Record
from pellucid.sae.steering.generating import Sampling
from pellucid.sae.steering.matchers import AbstractMatcher
from pellucid.sae.steering.modes import mode_of
from pellucid.sae.steering.positions import Positions

Control = Literal["random-direction", "random-latent", "difference-of-means", "prompted"]
CONTROLS: tuple[Control, ...] = get_args(Control)
NULLS = ("random-direction", "random-latent")
"""Controls that no one chose for the concept: what they do is what any push of that length does."""
ACTIVATIONS, LENGTHS = (1.0, 2.0, 4.0, 8.0), (0.25, 0.5, 1.0, 2.0)
"""Strengths that are tried where none are given: multiples of an activation, or of the length of activations."""
UNSTEERED, STEERED, PROMPTED = "unsteered", "steered", "prompted"


@final
@dataclass(frozen=True)
class Subject:
    """Latents that are steered together, and what they are said to stand for."""

    latents: tuple[int, ...]
    """Which."""
    matcher: AbstractMatcher
    """Who says whether the concept appears in a text."""
    label: str = ""
    """The concept in words, for judges and pages."""
    prefix: str = ""
    """What is put before a prompt to ask for the concept in words; empty: no such control."""

    @property
    def name(self) -> str:
        """The latents' numbers."""
        return "+".join(map(str, self.latents))

    @property
    def concept(self) -> str:
        """The concept in words, or what it is recognised by."""
        return self.label or self.matcher.described


class Budget(Record):
    """How much else may change for a strength to count; what is above it is too strong, whatever it achieves."""

    flips: float = Field(default=0.2, ge=0, le=1)
    """Share of the other concepts that appear or vanish, on average over prompts; without others nothing is asked."""
    perplexity: float = Field(default=3.0, gt=0)
    """Perplexity under the unsteered model, over that of the unsteered answer."""
    distinct: float = Field(default=0.6, ge=0, le=1)
    """Share of different pairs of tokens, over that of the unsteered answer."""
    empty: float = Field(default=0.2, ge=0, le=1)
    """Share of the answers that are empty, beyond those that are without steering."""


class Settings(Record):
    """How steering is tried out. Raises InputError, one sentence, on what does not fit."""

    strengths: tuple[float, ...] = ()
    """Multiples of the scale; those below 0 are to suppress the concept. Empty: 1, 2, 4 and 8 both ways, or a quarter
    to 2 where the scale is the length of the activations."""
    modes: tuple[str, ...] = ("add",)
    """Ways to steer."""
    positions: str = "answer"
    """Where: see ``Positions``."""
    scale: Literal["activation", "norm"] | float = "norm"
    """What a strength of 1 is: the 99.9th percentile of the latent's activations, the median length of the model's
    activations, or a number of the latent's unit."""
    controls: tuple[Control, ...] = ("random-direction", "random-latent")
    """What is tried beside."""
    sampling: Sampling = Sampling()
    """How answers are found."""
    budget: Budget = Budget()
    """How much else may change."""
    rows: int = Field(default=32, ge=1)
    """Prompts that are answered at a time; other numbers change the last bits."""
    seed: int = Field(default=0, ge=0)
    """Of the controls and the intervals."""

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InputError.from_validation("the settings of steering", error) from None

    @field_validator("controls", mode="before")
    @classmethod
    def _known(cls, given: Sequence[str]) -> Sequence[str]:
        for name in given:
            if name not in CONTROLS:
                raise UnknownNameError("control", name, CONTROLS)
        return tuple(dict.fromkeys(given))

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        """What is not given is written out, so that a plan says it."""
        if not isinstance(given, dict) or given.get("strengths"):
            return given
        steps = LENGTHS if given.get("scale", "norm") == "norm" else ACTIVATIONS
        return {**given, "strengths": (*(-each for each in reversed(steps)), *steps)}

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if not self.modes:
            raise InputError("steering needs at least one mode; give some.")
        if not all(math.isfinite(each) for each in self.strengths) or len(set(self.strengths)) < len(self.strengths):
            raise InputError(f"strengths are finite and differ from each other; got {listed(self.strengths)}.")
        if isinstance(self.scale, float) and not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"a scale is above 0; got {self.scale:g}.")
        if self.sampling.samples > 1 and not self.sampling.temperature:
            raise InputError(
                f"{self.sampling.samples} answers to each prompt were asked for, and without a temperature they are "
                "all the same; give a temperature, or one sample."
            )
        for name in self.modes:
            mode_of(name)
        Positions.of(self.positions)
        return self


class Condition(Record):
    """One way in which every prompt is answered."""

    arm: Literal["unsteered", "steered", "prompted", "random-direction", "random-latent", "difference-of-means"]
    """What is done: nothing, steering, asking in words, or steering along another direction."""
    mode: str = ""
    """The way to steer."""
    strength: float | None = None
    """How strongly; None where nothing is steered."""

    @property
    def key(self) -> str:
        """A name for it."""
        return self.arm if self.strength is None else f"{self.arm} {self.mode} {self.strength:.12g}"


def conditions(subject: Subject, settings: Settings) -> Iterator[Condition]:
    """Every condition of one subject, beside the unsteered one that all have in common."""
    if PROMPTED in settings.controls and subject.prefix:
        yield Condition(arm=PROMPTED)
    pushed = [name for name in settings.controls if name != PROMPTED]
    for mode in settings.modes:
        # What has no strength takes the latent away, which is the mildest way to suppress.
        strengths = settings.strengths if mode_of(mode).has_strength else (0.0,)
        for strength in strengths:
            for arm in (STEERED, *pushed):
                yield Condition.model_validate({"arm": arm, "mode": mode, "strength": strength})


def is_promoting(condition: Condition) -> bool:
    """Whether a condition of steering is to make a concept appear, and not vanish."""
    pushes = mode_of(condition.mode).pushes
    return pushes == "up" or (pushes == "by sign" and (condition.strength or 0.0) > 0)


def text_of(prompt: Any) -> str:
    """The words of a prompt, which may come with a picture."""
    if isinstance(prompt, Mapping):
        return str(prompt["text"])
    return str(prompt[1] if isinstance(prompt, tuple) else prompt)


def asking_for(prefix: str, prompt: Any) -> Any:
    """A prompt with a text before it."""
    text = f"{prefix} {text_of(prompt)}"
    if isinstance(prompt, Mapping):
        return {**prompt, "text": text}
    return (prompt[0], text) if isinstance(prompt, tuple) else text


def listed(numbers: Sequence[float]) -> str:
    """Numbers with commas between them."""
    return ", ".join(f"{each:g}" for each in numbers)
