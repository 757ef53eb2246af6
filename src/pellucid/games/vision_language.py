"""The game of a picture with a text: absent regions and absent words, each by an imputer of its own."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Float

from pellucid.errors import InputError
from pellucid.games.game import Coalitions, Values
from pellucid.games.imputer import AbstractImputer
from pellucid.games.input_game import AbstractInputGame
from pellucid.games.scoring import BATCH_TOKENS
from pellucid.games.tensor_imputers import make_tensor_imputer
from pellucid.games.text_imputers import make_text_imputer
from pellucid.models import BoundTarget
from pellucid.models.picture_text import PictureText, PictureTextInputs, halves, named
from pellucid.models.vision_language import VisionLanguage, pictures_of
from pellucid.progress import progress
from pellucid.records import Feature

PICTURE_IMPUTERS = ("mean", "blur", "black", "zero", "marginal", "noisy-linear")
TEXT_IMPUTERS = ("delete", "mask", "pad", "neutral")


@final
class PictureTextImputer(AbstractImputer):
    """Fills the absent regions of the picture by one imputer, and the absent features of the text by another.

    A half without features is always there.
    """

    def __init__(
        self,
        name: str | None,
        model: VisionLanguage,
        inputs: PictureTextInputs,
        features: Sequence[Feature],
        background: Sequence[Any] = (),
        seed: int = 0,
    ) -> None:
        seen, read = named(name, PICTURE_IMPUTERS, TEXT_IMPUTERS)
        regions, words = halves(features)
        if (seen and not regions) or (read and not words):
            half = "picture" if seen and not regions else "text"
            raise InputError(f"the baseline {name!r} fills a {half}, and no feature of the {half} is explained.")
        self._inputs, self._regions = inputs, len(regions)
        others = pictures_of(background)
        self._picture = (
            make_tensor_imputer(seen, model.pictures, inputs.picture, regions, others, seed) if regions else None
        )
        self._text = make_text_imputer(read, model.texts, inputs.text, words) if words else None
        self._halves = [each for each in (self._picture, self._text) if each is not None]
        self.name = "+".join(each.name for each in self._halves)
        self.draws = 1 if self._picture is None else self._picture.draws

    @property
    def description(self) -> str:
        kinds = [kind for kind, each in (("picture", self._picture), ("text", self._text)) if each is not None]
        return "; ".join(f"{kind}: {each.description}" for kind, each in zip(kinds, self._halves, strict=True))

    def rows(self, coalitions: Coalitions) -> list[PictureText]:
        count = len(coalitions)
        whole = self._inputs.row
        pictures = (
            [whole.pixels] * count if self._picture is None else self._picture.rows(coalitions[:, : self._regions])
        )
        texts = [whole.text] * count if self._text is None else self._text.rows(coalitions[:, self._regions :])
        every = [text for text in texts for _ in range(self.draws)]
        return [PictureText(picture, text) for picture, text in zip(pictures, every, strict=True)]


class PictureTextGame(AbstractInputGame):
    """A game whose players are the features of one picture and of the text about it."""

    def __init__(
        self,
        model: VisionLanguage,
        features: Sequence[Feature],
        target: BoundTarget,
        imputer: PictureTextImputer,
        tokens: int,
    ) -> None:
        super().__init__(len(features), imputer)
        self._model, self._target, self._imputer = model, target, imputer
        budget = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"])
        longest = tokens + max(len(answer) for answer in target.alternatives) - 1
        self._rows_at_once = max(1, budget // longest)
        self._coalitions_at_once = max(1, self._rows_at_once // imputer.draws)

    def _play(self, coalitions: Coalitions) -> Values:
        found = []
        with progress("Asking the model", len(coalitions)) as advance:
            for start in range(0, len(coalitions), self._coalitions_at_once):
                part = coalitions[start : start + self._coalitions_at_once]
                scores = self._scores(self._imputer.rows(part))
                found.append(scores.reshape(len(part), self._imputer.draws, -1).mean(1))
                advance(len(part))
        return np.concatenate(found)

    def _scores(self, rows: Sequence[PictureText]) -> Float[np.ndarray, "row target"]:
        batches = [rows[start : start + self._rows_at_once] for start in range(0, len(rows), self._rows_at_once)]
        scored = [self._target.target.score(self._model.alternatives(batch, self._target)) for batch in batches]
        return np.concatenate([scores.double().cpu().numpy() for scores in scored])


def make_picture_text_game(
    model: VisionLanguage,
    inputs: PictureTextInputs,
    features: Sequence[Feature],
    target: BoundTarget,
    imputer: str | None,
    background: Sequence[Any] = (),
    seed: int = 0,
) -> PictureTextGame:
    """The game of a picture with a text. ``imputer`` is ``PICTURE+TEXT``, one half's name, or None for the defaults."""
    made = PictureTextImputer(imputer, model, inputs, features, background, seed)
    return PictureTextGame(model, features, target, made, inputs.positions)
