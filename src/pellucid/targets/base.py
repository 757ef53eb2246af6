"""What every target is: an object that names what must be scored, and turns the scores into scalars."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from pellucid.errors import InputError


class Alternative(NamedTuple):
    """How a batch of inputs scores one class or one answer."""

    logit: Float[Tensor, "batch token"]
    """Logit of each token of the answer, given the tokens before it; of a class in a region of each of its pixels."""
    rest: Float[Tensor, "batch token"]
    """Logsumexp of all other logits at the same place."""

    @property
    def log_prob(self) -> Float[Tensor, "batch token"]:
        """Log-probability of each token."""
        return torch.nn.functional.logsigmoid(self.logit - self.rest)


class AbstractTarget(BaseModel):
    """A target of an explanation. ``alternatives`` names what must be scored, ``score`` turns that into scalars."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    unit: ClassVar[str]
    """The unit of the explained scalar, and so of every attribution."""

    def __init__(self, **named: Any) -> None:
        try:
            super().__init__(**named)
        except ValidationError as error:
            raise InputError.from_validation(type(self).__name__, error) from None

    @property
    @abstractmethod
    def alternatives(self) -> tuple[str, ...]:
        """The labels or answers that must be scored, in the order ``score`` expects them."""

    @abstractmethod
    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        """The explained scalars, one column a target."""

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        """A name for each target column; ``tokens`` are the alternatives' tokens as text."""
        return [self.alternatives[0]]
