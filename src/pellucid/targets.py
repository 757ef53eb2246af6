"""The scalar that is explained. A target is an object, never a bare index.

Every target is defined over *alternatives*: a class of a classifier, or a text that a language model could answer.
An alternative is scored token by token (a class has one token): ``logit`` of the token, and ``rest``, the logsumexp of
all other logits at that place. From these follow, without cancellation,

    margin = logit - rest          log p = -softplus(rest - logit)

so that a target never needs to know which kind of model it is asked of.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from pellucid.errors import InputError


class Alternative(NamedTuple):
    """How a batch of inputs scores one class or one answer."""

    logit: Float[Tensor, "batch token"]
    """Logit of each token of the answer, given the tokens before it."""
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


Target = Annotated[
    Logit | Margin | Token | Tokens | Answer | Options | Choice | Contrast | Generated, Field(discriminator="kind")
]
"""Any target; the fixed registry that saved explanations are read with."""
