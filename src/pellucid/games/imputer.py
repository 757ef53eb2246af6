"""What every imputer is, of texts, pictures and tables alike: one way of being absent."""

from abc import ABC, abstractmethod
from typing import Any

from pellucid.games.game import Coalitions


class AbstractImputer(ABC):
    """One way of being absent, for one input and its features."""

    name: str
    """What it is called by."""
    draws: int = 1
    """Rows per coalition, over which the game averages."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What is written into the result as its baseline."""

    @abstractmethod
    def rows(self, coalitions: Coalitions) -> Any:
        """``draws`` rows of the network's input for each coalition, those of one coalition together."""
