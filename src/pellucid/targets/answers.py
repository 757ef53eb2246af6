"""Targets over texts that a language model could answer."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from pellucid.errors import InputError
from pellucid.targets.base import AbstractTarget, Alternative


class _OneAnswer(AbstractTarget):
    """A target over the tokens of one answer."""

    answer: str
    """The answer, as text."""
    unit = "log-probability"

    def __init__(self, answer: str, **named: Any) -> None:
        super().__init__(answer=answer, **named)

    @property
    def alternatives(self) -> tuple[str, ...]:
        return (self.answer,)


class Tokens(_OneAnswer):
    """The log-probability of each token of an answer: a matrix, one target a token."""

    kind: Literal["tokens"] = "tokens"

    def __init__(self, answer: str, **named: Any) -> None:
        super().__init__(answer, **named)

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        return alternatives[0].log_prob

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        return list(tokens[0])


class Answer(_OneAnswer):
    """The log-probability of a whole answer: the sum over its tokens."""

    kind: Literal["answer"] = "answer"

    def __init__(self, answer: str, **named: Any) -> None:
        super().__init__(answer, **named)

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        return alternatives[0].log_prob.sum(1, keepdim=True)


class Options(AbstractTarget):
    """The log-probability of each of several given answers, normalised over them: a matrix, one target an answer."""

    kind: Literal["options"] = "options"
    options: tuple[str, ...] = Field(min_length=2)
    """The answers."""
    unit = "log-probability"

    def __init__(self, options: Sequence[str], **named: Any) -> None:
        super().__init__(options=options, **named)

    @model_validator(mode="after")
    def _distinct(self) -> "Options":
        if len(set(self.options)) != len(self.options):
            raise ValueError("the options must differ from one another")
        return self

    @property
    def alternatives(self) -> tuple[str, ...]:
        return self.options

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        return torch.stack([each.log_prob.sum(1) for each in alternatives], 1).log_softmax(1)

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        return list(self.options)


class Choice(AbstractTarget):
    """The log-probability of one of several given answers, normalised over them."""

    kind: Literal["choice"] = "choice"
    options: tuple[str, ...] = Field(min_length=2)
    """The answers to choose among."""
    chosen: str | None = None
    """The explained option; None stands for the one that the model prefers on the full input."""
    unit = "log-probability"

    def __init__(self, options: Sequence[str], chosen: str | None = None, **named: Any) -> None:
        super().__init__(options=options, chosen=chosen, **named)

    @model_validator(mode="after")
    def _among_the_options(self) -> "Choice":
        if self.chosen is not None and self.chosen not in self.options:
            raise ValueError(f"{self.chosen!r} is not among the options {list(self.options)}")
        return self

    @property
    def all(self) -> Options:
        """The same options, each explained."""
        return Options(self.options)

    @property
    def alternatives(self) -> tuple[str, ...]:
        return self.options

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        if self.chosen is None:
            raise InputError("this choice names no option; ask a model to bind it first.")
        return self.all.score(alternatives)[:, [self.options.index(self.chosen)]]

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        return [self.chosen or ""]


class Contrast(AbstractTarget):
    """The log-probability of one answer minus that of another: why this, rather than that."""

    kind: Literal["contrast"] = "contrast"
    answer: str
    """The answer that is explained."""
    foil: str
    """The answer it is held against."""
    unit = "log-odds"

    def __init__(self, answer: str, foil: str, **named: Any) -> None:
        super().__init__(answer=answer, foil=foil, **named)

    @property
    def alternatives(self) -> tuple[str, ...]:
        return (self.answer, self.foil)

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        answer, foil = (each.log_prob.sum(1, keepdim=True) for each in alternatives)
        return answer - foil

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        return [f"{self.answer} rather than {self.foil}"]


class Generated(AbstractTarget):
    """The log-probability of each token of the answer that the model itself gives to the full input."""

    kind: Literal["generated"] = "generated"
    max_new_tokens: int = Field(default=16, ge=1)
    """The longest answer that is generated."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 takes the likeliest token each time; above 0 the answer is sampled with ``seed``."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampling; without effect on an answer that is searched for."""
    beams: int = Field(default=1, ge=1)
    """Above 1 the answer is searched for with so many beams: the one of the highest mean log-probability a token."""
    token_ids: tuple[int, ...] = ()
    """The answer that came out, filled in when a model binds the target."""
    unit = "log-probability"

    def __init__(
        self, max_new_tokens: int = 16, temperature: float = 0.0, seed: int = 0, beams: int = 1, **named: Any
    ) -> None:
        super().__init__(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, beams=beams, **named)

    @model_validator(mode="after")
    def _sampled_or_searched(self) -> "Generated":
        if self.beams > 1 and self.temperature > 0:
            raise ValueError("an answer is sampled or searched for: give a temperature or several beams, not both")
        return self

    @property
    def alternatives(self) -> tuple[str, ...]:
        return ()

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        return alternatives[0].log_prob

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        return list(tokens[0])
