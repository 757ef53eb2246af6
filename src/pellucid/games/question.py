"""A question put to a model: one input, its features, a target, and the game that they make."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import InputError
from pellucid.games.game import AbstractGame
from pellucid.games.input_game import AbstractInputGame
from pellucid.games.tensor import TensorGame
from pellucid.games.tensor_imputers import make_tensor_imputer
from pellucid.games.text import TextGame
from pellucid.games.text_imputers import make_text_imputer
from pellucid.games.vision_language import make_picture_text_game
from pellucid.models import (
    AbstractInputs,
    AbstractModel,
    AbstractTensorClassifier,
    AbstractTextModel,
    BoundTarget,
    Model,
)
from pellucid.models.base import AbstractEmbedded, Baseline
from pellucid.models.vision_language import VisionLanguage
from pellucid.records import Feature
from pellucid.targets import AbstractTarget

# Whoever plays a game needs a square of this at the least. A tokenizer that makes one unknown token of any word lets
# through texts of a megabyte, whose words would fill the memory.
MOST_PLAYERS = 8192


class Question(NamedTuple):
    """Everything a method or a metric may look at: one input of one model, its features, and the target."""

    model: Model
    """The model that is asked."""
    inputs: AbstractInputs
    """The encoded input."""
    features: tuple[Feature, ...]
    """The players."""
    ladder: dict[str, tuple[Feature, ...]]
    """Coarser features by kind, finest first."""
    target: BoundTarget
    """What is explained, resolved on this input."""
    game: AbstractInputGame
    """The same question as a game of coalitions; played only by those that perturb."""
    seed: int = 0
    """Seed of everything that samples."""
    background: Sequence[Any] = ()
    """Other inputs, to draw absent parts and baselines from."""

    @property
    def unit(self) -> str:
        """What one player is: token, word, field, column, pixel, patch."""
        return self.features[0].kind

    def drawing(self, places: Float[np.ndarray, "target player place"] | None = None) -> dict[str, Any]:
        """What it takes to show the input beside its scores, as fields of an ``Explanation``.

        ``places``: the score of each feature at each place, where a method tells them apart.
        """
        return dict(self.model.drawing(self.inputs))

    @property
    def owners(self) -> Int[Tensor, " seq"]:
        """For each position of ``embedded`` from the first of the input on, the index of its feature, or -1."""
        return self.model.owners(self.inputs, self.features)

    def embedded(self, offset: int) -> AbstractEmbedded:
        """The input as a function of the embeddings from position ``offset`` on."""
        return self.model.embedded(self.inputs, self.target, offset)

    def stand_in(self, name: str | None) -> Baseline:
        """The embedding that stands for an absent position; None: the one that the model prefers."""
        return self.model.baseline(name or self.model.preferred_baseline(), self.inputs)

    def stand_ins(self, count: int, generator: torch.Generator) -> Baseline:
        """``count`` whole baselines, drawn from the background. Raises InputError without one."""
        return self.model.background_draws(self.inputs, count, generator, self.background)

    def deleting(self) -> AbstractGame:
        """The game of a deletion curve, of the first features: others, if there are such, always stay."""
        return self.game

    def imputed(self, imputer: str) -> "Question":
        """The same question with another imputer. Raises InputError where that does not fit the features."""
        return self._replace(game=self._game(imputer))

    def of(self, inputs: AbstractInputs) -> "Question":
        """The same question about another encoding of the input, of as many features."""
        changed = self._replace(inputs=inputs)
        return changed._replace(game=changed._game(self.game.imputer.name))

    def about(self, target: AbstractTarget) -> "Question":
        """The same question about another target."""
        changed = self._replace(target=self.model.bind(target, self.inputs))
        return changed._replace(game=changed._game(self.game.imputer.name))

    def _game(self, imputer: str) -> AbstractInputGame:
        return make_game(self.model, self.inputs, self.features, self.target, imputer, self.background, self.seed)


def ask(
    model: Model,
    raw: Any,
    *,
    target: AbstractTarget | None = None,
    features: str | None = None,
    imputer: str | None = None,
    background: Sequence[Any] = (),
    seed: int = 0,
    most_features: int = MOST_PLAYERS,
) -> Question:
    """Encode an input, find its features, bind the target, and make the game. Arguments as in ``explain``.

    Raises InputError on a bad input, seed or target or too many features, UnknownNameError on an unknown name.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"a seed is a whole number from 0 on, not {seed!r}.")
    require_model(model)
    if target is not None and not isinstance(target, AbstractTarget):
        raise InputError(f"{target!r} is no target; write it as one, such as pellucid.Margin({str(target)[:40]!r}).")
    inputs = model.encode(raw)
    kind = features or model.default_kind(inputs)
    inputs = model.divided(inputs, kind)
    players = model.features(inputs, kind)
    if len(players) > most_features:
        raise InputError(
            f"the input has {len(players)} features of kind {kind!r}, and at most {most_features} are explained at "
            "once; choose a coarser kind or a shorter input."
        )
    bound = model.bind(target, inputs)
    game = make_game(model, inputs, players, bound, imputer, background, seed)
    return Question(model, inputs, players, model.ladder(inputs, kind), bound, game, seed, background)


def require_model(model: object) -> None:
    """Raise InputError for what cannot be asked, such as the name of a model."""
    if not isinstance(model, AbstractModel):
        raise InputError(f"{model!r} is no model that can be asked; pellucid.load makes one of a name or a folder.")


def make_game(
    model: Model,
    inputs: Any,
    features: Sequence[Feature],
    target: BoundTarget,
    imputer: str | None,
    background: Sequence[Any] = (),
    seed: int = 0,
) -> AbstractInputGame:
    """The game of one input. ``imputer`` None stands for the one that suits the model and the features."""
    if isinstance(model, AbstractTextModel):
        text_imputer = make_text_imputer(imputer, model, inputs, features, background)
        return TextGame(model, features, target, text_imputer, inputs.row)
    if isinstance(model, AbstractTensorClassifier):
        tensor_imputer = make_tensor_imputer(imputer, model, inputs, features, background, seed)
        return TensorGame(model, features, target, tensor_imputer)
    if isinstance(model, VisionLanguage):
        return make_picture_text_game(model, inputs, features, target, imputer, background, seed)
    raise InputError(f"{type(model).__name__} is no kind of model that a game is made of: text, image, tabular, both.")
