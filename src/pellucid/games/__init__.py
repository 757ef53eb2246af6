"""One black-box core for every method and metric that asks the model about parts of an input."""

from pellucid.games.game import AbstractGame, Coalitions, FunctionGame, Values
from pellucid.games.imputer import AbstractImputer
from pellucid.games.input_game import AbstractInputGame
from pellucid.games.path import Path, summed
from pellucid.games.question import MOST_PLAYERS, Question, ask, make_game, require_model
from pellucid.games.scoring import PrefixScorer
from pellucid.games.tensor import TensorGame
from pellucid.games.tensor_imputers import make_tensor_imputer
from pellucid.games.text import TextGame
from pellucid.games.text_imputers import make_text_imputer

__all__ = [
    "MOST_PLAYERS",
    "AbstractGame",
    "AbstractImputer",
    "AbstractInputGame",
    "Coalitions",
    "FunctionGame",
    "Path",
    "PrefixScorer",
    "Question",
    "TensorGame",
    "TextGame",
    "Values",
    "ask",
    "make_game",
    "make_tensor_imputer",
    "make_text_imputer",
    "require_model",
    "summed",
]
