"""The contract of a method: settings are fields, facts are data, ``attribute`` computes."""

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
from jaxtyping import Float

from pellucid.account import Account
from pellucid.facts import Facts
from pellucid.games import AbstractGame, Question
from pellucid.records import Check
from pellucid.settings import AbstractSettings


class Attribution(NamedTuple):
    """What a method computes, before it becomes an explanation."""

    values: Float[np.ndarray, "target player"]
    """Signed scores in the unit of the target."""
    base_values: Float[np.ndarray, " target"]
    """The target with all features absent."""
    full_values: Float[np.ndarray, " target"]
    """The target on the input itself."""
    standard_error: Float[np.ndarray, "target player"] | None = None
    """Standard error of each score; None where nothing is sampled."""
    baseline: str = ""
    """What stood in for an absent feature, where the method itself decided that and not the game."""
    checks: tuple[Check, ...] = ()
    """Evidence that only the method itself can give, such as the convergence of an integral."""
    places: Float[np.ndarray, "target player place"] | None = None
    """The score of each feature at each place where it stands; None where a feature stands in one place alone."""
    layers: Float[np.ndarray, "target layer player"] | None = None
    """The score of each feature at each layer, the first one first; None where the method looks at no layers."""
    layer_names: tuple[str, ...] = ()
    """The modules that are those layers."""
    experts: Float[np.ndarray, "target layer player expert"] | None = None
    """The score of what each expert gave at each feature; None where the network has none, or nobody looks at them."""
    expert_layer_names: tuple[str, ...] = ()
    """The modules that hold them."""
    account: Account | None = None
    """Where relevance went, where the method was asked to keep that."""
    settings: Mapping[str, Any] = MappingProxyType({})
    """What the run decided for itself, such as the number of samples until a tolerance was met."""


class AbstractMethod(AbstractSettings):
    """A method: its fields are its settings, ``facts`` says what it is, ``attribute`` runs it."""

    facts: ClassVar[Facts]

    @abstractmethod
    def rows(self, players: int) -> int:
        """The most model evaluations that a run over so many players will spend."""

    @abstractmethod
    def attribute(self, question: Question) -> Attribution:
        """Score every feature of the question."""


class AbstractGameMethod(AbstractMethod):
    """A method that sees the model only through the values of coalitions."""

    @final
    def attribute(self, question: Question) -> Attribution:
        return self.estimate(question.game, np.random.default_rng(question.seed))

    @abstractmethod
    def estimate(self, game: AbstractGame, generator: np.random.Generator) -> Attribution:
        """Score every player of the game. Spends at most ``rows(game.players)`` evaluations."""
