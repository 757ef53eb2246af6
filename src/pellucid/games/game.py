"""The black-box core: coalitions of players in, target values out."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

Coalitions = Bool[np.ndarray, "coalition player"]
Values = Float[np.ndarray, "coalition target"]


class AbstractGame(ABC):
    """A cooperative game whose players are features: the value of a coalition is the target with the others absent.

    ``value`` plays every coalition once in the game's life, whoever asks: a method, a metric or a check. So
    ``evaluations`` counts distinct coalitions, not requests.
    """

    players: int
    """How many players there are."""

    def __init__(self, players: int) -> None:
        self.players = players
        self._known: dict[bytes, Float[np.ndarray, " target"]] = {}

    @property
    def evaluations(self) -> int:
        """Distinct coalitions played so far."""
        return len(self._known)

    def value(self, coalitions: Coalitions) -> Values:
        """The target, float64, for each coalition (True: the player is present)."""
        keys = [row.tobytes() for row in np.packbits(coalitions, axis=1)]
        unknown = {key: row for row, key in enumerate(keys) if key not in self._known}
        if unknown:
            fresh = self._play(coalitions[list(unknown.values())])
            self._known.update(zip(unknown, fresh, strict=True))
        return np.stack([self._known[key] for key in keys])

    @property
    def full(self) -> Float[np.ndarray, " target"]:
        """The target with every player present."""
        return np.asarray(self.value(np.ones((1, self.players), dtype=bool))[0])

    @property
    def empty(self) -> Float[np.ndarray, " target"]:
        """The target with every player absent."""
        return np.asarray(self.value(np.zeros((1, self.players), dtype=bool))[0])

    @abstractmethod
    def _play(self, coalitions: Coalitions) -> Values:
        """Score distinct, not yet known coalitions."""


class FunctionGame(AbstractGame):
    """A game given by a function of coalitions; the ground truths of the tests are of this kind."""

    def __init__(self, function: Callable[[Coalitions], Values], players: int) -> None:
        super().__init__(players)
        self._function = function

    def _play(self, coalitions: Coalitions) -> Values:
        return np.asarray(self._function(coalitions), dtype=np.float64)
