"""The game of one input of a model: what all of them share, of texts, pictures and table rows."""

from pellucid.games.game import AbstractGame
from pellucid.games.imputer import AbstractImputer


class AbstractInputGame(AbstractGame):
    """The game of one input of a model."""

    def __init__(self, players: int, imputer: AbstractImputer) -> None:
        super().__init__(players)
        self.imputer = imputer

    def self_test(self) -> float | None:
        """How far the game's way of scoring is from the plain one on the full input; None where they are the same."""
        return None
