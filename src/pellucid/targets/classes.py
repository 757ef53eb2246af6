"""Targets over one class of a classifier, or one token of a language model."""

from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.targets.base import AbstractTarget, Alternative

# Each class below writes out its ``__init__``: type checkers make one of keywords alone where a model inherits it.


class _SingleToken(AbstractTarget):
    """A target over one class, or over one token of a language model's vocabulary."""

    label: int | str | None = None
    """The class label or token as text, or the index of the class or the id of the token; None stands for the one that
    the model prefers on the full input."""

    def __init__(self, label: int | str | None = None, **named: Any) -> None:
        super().__init__(label=label, **named)

    @property
    def alternatives(self) -> tuple[str, ...]:
        return () if self.label is None else (str(self.label),)

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        return [self.label] if isinstance(self.label, str) else [tokens[0][0]]

    def _only(self, alternatives: Sequence[Alternative]) -> Alternative:
        (alternative,) = alternatives
        if alternative.logit.shape[1] != 1:
            raise InputError(
                f"{self.label!r} is {alternative.logit.shape[1]} tokens and {type(self).__name__} explains one: "
                "use Answer for the whole text or Tokens for each of its tokens."
            )
        return alternative


class Logit(_SingleToken):
    """The raw logit of a class or of the next token."""

    kind: Literal["logit"] = "logit"
    unit = "logit"

    def __init__(self, label: int | str | None = None, **named: Any) -> None:
        super().__init__(label, **named)

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        return self._only(alternatives).logit


class Margin(_SingleToken):
    """Logit minus the logsumexp of all others: the log-odds of the class. The default for classifiers."""

    kind: Literal["margin"] = "margin"
    unit = "log-odds"

    def __init__(self, label: int | str | None = None, **named: Any) -> None:
        super().__init__(label, **named)

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        alternative = self._only(alternatives)
        return alternative.logit - alternative.rest


class Token(_SingleToken):
    """The log-probability of one class or next token."""

    kind: Literal["token"] = "token"
    unit = "log-probability"

    def __init__(self, label: int | str | None = None, **named: Any) -> None:
        super().__init__(label, **named)

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        return self._only(alternatives).log_prob
