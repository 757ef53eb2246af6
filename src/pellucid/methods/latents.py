"""Latents of a sparse autoencoder as features: the question, and the game in which they are players."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any, cast, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pellucid.errors import InputError, UnknownNameError
from pellucid.games import AbstractImputer, Question, ask
from pellucid.games.game import AbstractGame, Coalitions, FunctionGame, Values
from pellucid.games.input_game import AbstractInputGame
from pellucid.games.scoring import BATCH_TOKENS
from pellucid.models import AbstractInputs, BoundTarget, CausalLM, Model
from pellucid.models.base import AbstractEmbedded, Baseline
from pellucid.models.vision_language import VisionLanguage
from pellucid.progress import progress
from pellucid.records import Dictionary as DictionaryRecord
from pellucid.records import Feature
from pellucid.sae.dictionary import Dictionary
from pellucid.sae.site import edited
from pellucid.sae.splice import Splice, SplicedInput
from pellucid.targets import AbstractTarget

LATENTS = "latents"
"""The kind of feature; ``latents:50`` makes features of the 50 largest, and one of all others together."""
ABLATION = "ablation"
"""What stands in for an absent latent: nothing."""
MOST_NUMBERS = 1 << 26
"""Activations of latents, over all coalitions of a batch, that are held at a time."""


@final
class Ablation(AbstractImputer):
    """An absent latent writes nothing at any place; what the autoencoder leaves unexplained stays as it is."""

    name = ABLATION

    def __init__(self, kept: str) -> None:
        self._kept = kept

    @property
    def description(self) -> str:
        return f"ablation: taken out at every place{self._kept}"

    def rows(self, coalitions: Coalitions) -> Any:
        return ~torch.from_numpy(coalitions)


@final
class LatentGame(AbstractInputGame):
    """A game whose players are the latents that are active on one input, and the error that they leave.

    A coalition's activations at the site are the input's own without the terms of those absent. What comes before the
    site is computed once for a batch of coalitions, in a batch of one, where a decoder lets its batch grow there.
    """

    def __init__(self, splice: Splice, dictionary: Dictionary, inputs: AbstractInputs, target: BoundTarget) -> None:
        super().__init__(splice.features, Ablation(_kept(splice)))
        self.splice, self.dictionary = splice, dictionary
        self._inputs, self._target = inputs, target
        tokens = BATCH_TOKENS.get(splice.model.device.type, BATCH_TOKENS["cuda"])
        self._at_once = max(1, min(tokens, MOST_NUMBERS // splice.features) // splice.places)
        self._grows = isinstance(splice.model, CausalLM | VisionLanguage)

    def _play(self, coalitions: Coalitions) -> Values:
        found = []
        with progress("Asking the model", len(coalitions)) as advance:
            for start in range(0, len(coalitions), self._at_once):
                part = self.imputer.rows(coalitions[start : start + self._at_once]).to(self.splice.model.device)
                found.append(self._scores(part))
                advance(len(part))
        return np.concatenate(found)

    def _scores(self, absent: Bool[Tensor, "batch player"]) -> Float[np.ndarray, "batch target"]:
        if self._grows:
            try:
                scores = self._asked(absent, rows=1)
            except (RuntimeError, IndexError, ValueError):
                # A part of the network that counted its rows before the site.
                scores = None
            if scores is not None and len(scores) == len(absent):
                return scores
            self._grows = False
        return self._asked(absent, rows=len(absent))

    def _asked(self, absent: Bool[Tensor, "batch player"], rows: int) -> Float[np.ndarray, "_ target"]:
        """The target with absences at the site, of which ``rows`` rows went into the network."""
        splice, model = self.splice, self.splice.model
        runs = cycle(splice.runs_of(self._target))

        def exchange(hidden: Tensor) -> Tensor:
            model.meter.rows += len(absent) - rows
            model.meter.tokens += (len(absent) - rows) * hidden.shape[1]
            return splice.ablated(hidden[0], splice.runs[next(runs)], absent)

        with edited(model.module, splice.site, exchange):
            scores = self._target.target.score(model.alternatives([self._inputs.row] * rows, self._target))
        return np.asarray(scores.double().cpu().numpy())

    def self_test(self) -> float | None:
        """How far a batch that grows at the site is from one that is computed whole, on the empty coalition."""
        if not self._grows or not self.evaluations:
            return None
        nothing = torch.ones(1, self.players, dtype=torch.bool, device=self.splice.model.device)
        plain = self._asked(nothing.expand(2, -1), rows=2)
        return float(np.abs(plain[0] - self.empty).max())


class LatentQuestion(Question):
    """A question whose features are latents: the same model, input and target, asked at a site inside."""

    @property
    def splice(self) -> Splice:
        """The input, taken apart at the site."""
        return cast(LatentGame, self.game).splice

    def drawing(self, places: Float[np.ndarray, "target player place"] | None = None) -> dict[str, Any]:
        splice, events = self.splice, self.splice.events()
        at = torch.stack([events.features, events.places], 1).cpu().numpy().astype(np.int32)
        values = None if places is None else places[:, at[:, 0], at[:, 1]].astype(np.float32)
        return {
            "pieces": splice.pieces,
            "event_places": at,
            "activations": events.activations.cpu().numpy().astype(np.float32),
            "event_values": values,
            "dictionary": described(splice, cast(LatentGame, self.game).dictionary),
        }

    @property
    def owners(self) -> Int[Tensor, " feature"]:
        return torch.arange(len(self.features))

    def embedded(self, offset: int) -> AbstractEmbedded:
        splice = (
            self.splice if self.model is self.splice.model else self.splice.on(self.model, self.inputs, self.target)
        )
        return SplicedInput(splice)

    def stand_in(self, name: str | None) -> Baseline:
        if name not in (None, "zero"):
            raise UnknownNameError("baseline of latents", name, ["zero"])
        zeros = self.splice.directions.new_zeros(self.splice.places)
        return Baseline(zeros, f"every latent and the error at 0{_kept(self.splice)}")

    def stand_ins(self, count: int, generator: torch.Generator) -> Baseline:
        raise InputError("latents have no background to draw baselines from; use integrated_gradients.")

    def deleting(self) -> AbstractGame:
        """Of latents alone: how they compare with other latents, and not with all that no latent explains."""
        latents, rest = len(self.splice.latents), len(self.splice.wholes)

        def value(coalitions: Coalitions) -> Values:
            return self.game.value(np.pad(coalitions, ((0, 0), (0, rest)), constant_values=True))

        return FunctionGame(value, latents)

    def of(self, inputs: AbstractInputs) -> Question:
        raise InputError("a question about latents is asked of one input; ask again about the other one.")

    def about(self, target: AbstractTarget) -> Question:
        raise InputError("a question about latents is asked of one target; ask again about the other one.")

    def imputed(self, imputer: str) -> Question:
        if imputer != ABLATION:
            raise UnknownNameError("baseline of latents", imputer, [ABLATION])
        return self


def most_of(features: str) -> int | None:
    """How many latents a kind of feature names, ``latents:50``; None for all. Raises InputError on another form."""
    kind, colon, most = features.partition(":")
    if kind != LATENTS or (colon and not (most.isdecimal() and int(most) > 0)):
        raise InputError(f"latents as features are 'latents' or 'latents:50', and {features!r} is neither.")
    return int(most) if colon else None


def ask_latents(
    model: Model,
    raw: Any,
    dictionary: Dictionary,
    *,
    features: str,
    imputer: str | None = None,
    whole: bool,
    most_features: int,
    **options: Any,
) -> LatentQuestion:
    """Put a question about latents to a model. Arguments as in ``games.ask``; ``whole`` as in ``Splice``.

    Raises InputError, UnknownNameError as ``Splice`` does, and where there are more latents than ``most_features``.
    """
    most = most_of(features)
    plain = ask(model, raw, **options)
    splice = Splice(model, plain.inputs, plain.target, dictionary.sae, dictionary.site, most=most, whole=whole)
    if splice.features > most_features:
        raise InputError(
            f"{splice.features} features are active latents or what they leave, and at most {most_features} are "
            "explained at once; name how many of the largest are wanted, such as features='latents:50'."
        )
    game = LatentGame(splice, dictionary, plain.inputs, plain.target)
    question = LatentQuestion(**plain._asdict())
    question = question._replace(features=_features(splice, dictionary), ladder={}, game=game)
    return question if imputer is None else cast(LatentQuestion, question.imputed(imputer))


def _kept(splice: Splice) -> str:
    """What stays where everything else is absent, in words."""
    if not splice.bias_is_kept:
        return ""
    return f"; the decoder's bias{' and massive activations stay' if splice.has_massive else ' stays'}"


def _features(splice: Splice, dictionary: Dictionary) -> tuple[Feature, ...]:
    numbers: Sequence[int] = splice.latents.tolist()
    latents = [
        Feature(label=f"latent {number}", kind="latent", value=dictionary.meanings.get(number, ""), index=number)
        for number in numbers
    ]
    return (*latents, *(Feature(label=name, kind="rest") for name in splice.wholes))


def described(splice: Splice, dictionary: Dictionary) -> DictionaryRecord:
    """What a result says of the autoencoder."""
    return DictionaryRecord(
        name=dictionary.name,
        digest=dictionary.digest,
        site=str(dictionary.site),
        width=dictionary.sae.width,
        active=splice.active,
        error_share=splice.error_share,
    )
