"""A latent as what is explained: output to latents to tokens, the second half."""

from collections.abc import Sequence
from copy import copy
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.games import Question, ask, make_game
from pellucid.games.input_game import AbstractInputGame
from pellucid.models import AbstractInputs, AbstractTensorClassifier, AbstractTextModel, BoundTarget, CausalLM, Model
from pellucid.models.picture_text import PictureTextInputs
from pellucid.models.tokens import TextInputs
from pellucid.models.vision_language import VisionLanguage
from pellucid.sae.codes import Codes
from pellucid.sae.dictionary import Dictionary
from pellucid.sae.readout import Readout, Scope
from pellucid.sae.site import capture
from pellucid.targets import Latent, Logit

MOST_NAMED = 5
"""Latents that are named where another one is not active."""


class LatentTargetQuestion(Question):
    """A question whose model gives the activation of a latent in place of its logits."""

    def _game(self, imputer: str) -> AbstractInputGame:
        _check_in_place(cast(Readout, self.model.module), imputer)
        rows = _by_rows(self.model)
        return make_game(rows, self.inputs, self.features, self.target, imputer, self.background, self.seed)


def ask_of_latent(
    model: Model,
    raw: Any,
    dictionary: Dictionary,
    *,
    target: Latent,
    imputer: str | None = None,
    background: Sequence[Any] = (),
    seed: int = 0,
    **options: Any,
) -> LatentTargetQuestion:
    """Put a question about a latent's activation to a model. Arguments as in ``games.ask``.

    Raises InputError where the latent is not active, where the autoencoder is not the one that the target names, and
    where a site holds no sequence.
    """
    sae = dictionary.sae.to(model.device)
    digest = dictionary.digest
    if target.latent >= sae.width:
        raise InputError(f"this autoencoder has no latent {target.latent}: its {sae.width} are 0 to {sae.width - 1}.")
    if target.digest and target.digest != digest:
        raise InputError(
            f"the autoencoder at {dictionary.name!r} is not the one that this target names: its weights are others."
        )
    # A stand-in that every model can bind; the output of the network is replaced by the latent below.
    plain = ask(model, raw, target=Logit(0), features=options.pop("features", None), seed=seed, **options)
    hidden = _hidden(model, plain.inputs, plain.target, dictionary)
    scope = _scope(model, plain.inputs, sae.codes(hidden), target)
    named = target.model_copy(update={"sae": dictionary.name, "site": str(dictionary.site), "digest": digest})
    bound = BoundTarget(named, ((0,),), (f"latent {target.latent}{_where(plain.inputs, scope)}",))
    by_token = isinstance(model, CausalLM | VisionLanguage)
    view = copy(model)
    view.module = Readout(model.module, dictionary, target.latent, scope, linear=True, by_token=by_token)
    if isinstance(view, AbstractTensorClassifier):
        view._labels = list(bound.output_names)
    question = LatentTargetQuestion(**plain._asdict() | {"model": view, "target": bound, "background": background})
    chosen = imputer if imputer or not scope.is_given else _in_place(model)
    _check_in_place(view.module, chosen or "")
    game = make_game(_by_rows(view), plain.inputs, plain.features, bound, chosen, background, seed)
    return question._replace(game=game)


def _by_rows(model: Model) -> Model:
    """The model with the latent read by rows."""
    view = copy(model)
    view.module = cast(Readout, model.module).by_rows()
    return view


def _hidden(
    model: Model, inputs: AbstractInputs, target: BoundTarget, dictionary: Dictionary
) -> Float[Tensor, "seq dim"]:
    """What passes at the site on the whole input."""

    def call() -> None:
        model.alternatives([inputs.row], target)

    with torch.no_grad():
        hidden = capture(model.module, [dictionary.site], call)[dictionary.site]
    if hidden.ndim != 3 or len(hidden) != 1:
        raise InputError(
            f"{str(dictionary.site)!r} holds {list(hidden.shape)}, and latents are read of activations "
            "[batch, seq, d_in]; take a site such as a block of a transformer."
        )
    model.meter.forwards += 1
    model.meter.rows += 1
    model.meter.tokens += hidden.shape[1]
    return hidden[0]


def _scope(model: Model, inputs: AbstractInputs, codes: Codes, target: Latent) -> Scope:
    """Where the latent is read. Raises InputError where it is not active there."""
    own = _own(model, inputs, codes.token_count)
    first, last = int(own.int().argmax()), int(own.flip(0).int().argmax())
    found = codes.values.new_zeros(codes.token_count)
    mine = codes.latents == target.latent
    found[codes.tokens[mine]] = codes.values[mine]
    counted = torch.arange(codes.token_count, device=found.device)
    counted = (counted >= first) & (counted < codes.token_count - last)
    if target.position is not None and target.position >= codes.token_count:
        raise InputError(
            f"the site holds no place {target.position}: its {codes.token_count} are 0 to {codes.token_count - 1}."
        )
    place = int(torch.where(counted, found, -1).argmax()) if target.position is None else target.position
    if not found[place] > 0:
        there = counted if target.position is None else torch.arange(codes.token_count, device=found.device) == place
        raise InputError(f"latent {target.latent} is not active there; {_most_active(codes, there)}.")
    return Scope(codes.token_count, first, last, place, target.position is not None)


def _most_active(codes: Codes, counted: Tensor) -> str:
    own = counted[codes.tokens]
    latents, values = codes.latents[own], codes.values[own]
    order = values.argsort(descending=True)
    names = [*dict.fromkeys(latents[order].tolist())][:MOST_NAMED]
    return f"the most active ones are {', '.join(map(str, names))}" if names else "no latent is"


def _own(model: Model, inputs: AbstractInputs, count: int) -> Tensor:
    """Which places are the input's own, and not what a template writes around it."""
    text = inputs.text if isinstance(inputs, PictureTextInputs) else inputs if isinstance(inputs, TextInputs) else None
    if text is None or text.positions != count:
        return torch.ones(count, dtype=torch.bool)
    own = torch.tensor([span is not None for span in text.spans])
    return own | model.slots(text) if isinstance(model, VisionLanguage) else own


def _where(inputs: AbstractInputs, scope: Scope) -> str:
    text = inputs.text if isinstance(inputs, PictureTextInputs) else inputs if isinstance(inputs, TextInputs) else None
    if text is None or text.positions != scope.length:
        return f" at {scope.place}"
    return f" at {scope.place} ({text.pieces[scope.place]!r})"


def _check_in_place(readout: Readout, imputer: str) -> None:
    """Raises InputError where a place is asked for, and the baseline would move it."""
    moving = set(imputer.split("+")) & {"delete", "neutral", "background"}
    if readout.scope.is_given and moving:
        raise InputError(
            f"position {readout.scope.place} names a place of the whole input, and the baseline {imputer!r} moves it; "
            "use pad or mask, or leave the position out."
        )


def _in_place(model: Model) -> str | None:
    """A baseline that leaves every token in its place."""
    if not isinstance(model, AbstractTextModel):
        return None
    return "pad" if model.tokenizer.mask_token is None else "mask"
