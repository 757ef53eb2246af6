"""One black-box core for every method and metric that asks the model about parts of an input."""

from pellucid.games.game import AbstractGame, Coalitions, FunctionGame, Values
from pellucid.games.imputers import AbstractImputer, make_imputer
from pellucid.games.scoring import PrefixScorer
from pellucid.games.text import TextGame

__all__ = [
    "AbstractGame",
    "AbstractImputer",
    "Coalitions",
    "FunctionGame",
    "PrefixScorer",
    "TextGame",
    "Values",
    "make_imputer",
]
