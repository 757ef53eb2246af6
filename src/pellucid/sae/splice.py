"""An autoencoder spliced into a model: what passes at a site of one input, as a sum over latents and what they leave.

At every place of the site h = sum over latents j of z_j W_dec[j], plus the decoder's bias, plus the error e that the
reconstruction leaves; so the network computes what it always did, and each term of the sum can be asked about.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import cycle
from math import isqrt
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pellucid.errors import InputError, ModelError
from pellucid.models import AbstractTextModel, BoundTarget, Model
from pellucid.models.base import AbstractEmbedded, AbstractInputs
from pellucid.models.picture_text import PictureTextInputs
from pellucid.models.tokens import TextInputs
from pellucid.models.vision_language import VisionLanguage
from pellucid.sae.autoencoder import SAE
from pellucid.sae.codes import Codes
from pellucid.sae.site import Site, edited
from pellucid.sae.store.tables import spaced

OTHERS, ERROR, BIAS, MASSIVE = "other latents", "reconstruction error", "decoder bias", "massive activations"
"""What is no latent by itself: those beyond the most that were asked for, what no latent explains, a constant; and all
that passes where it is ``MASSIVE_AT`` times as long as at the median place."""
MASSIVE_AT = 10.0
"""A decoder's first token, and few others, pass activations hundreds of times as long as all others, which serve as a
bias of attention (Sun et al. 2024, "Massive activations in large language models"). Latents that fire there fire on no
concept, and would drown the others."""

MASSIVE_IN = 16
"""One place in so many may be such, and one of fewer."""


class Terms(NamedTuple):
    """The activations of one run as a sum: ``z @ directions`` + the wholes + the rest, which is no feature."""

    z: Float[Tensor, "place latent"]
    """Activations of the latents that are features, in the order of ``Splice.latents``."""
    wholes: Float[Tensor, "whole place dim"]
    """What is moved as one at each place, in the order of ``Splice.wholes``."""
    rest: Float[Tensor, "place dim"]
    """What is no feature."""


class Event(NamedTuple):
    """Where features are active, sorted by feature."""

    features: Int[Tensor, " event"]
    """Index of the feature."""
    places: Int[Tensor, " event"]
    """Column of ``Splice.coordinates``."""
    activations: Float[Tensor, " event"]
    """How active it is there; of what is no latent the length of its vector."""


class Splice:
    """One input of a model, taken apart at a site.

    A target that scores several answers makes a run of the network for each, of which every one begins with the places
    of the prompt: these are one column each, and the places of the answers follow.

    Args:
        model: the model.
        inputs: the encoded input.
        target: what is explained; its answers are read on as the model is asked about them.
        sae: the autoencoder.
        site: where it reads.
        most: only so many latents are features of their own, the largest; None: all that are active.
        whole: make features of the decoder's bias, and of massive activations where there are such; otherwise they
            always stay.

    Raises:
        UnknownNameError: no module of the network has the site's name.
        InputError: the site holds no [batch, seq, d_in] of the autoencoder's width, or no latent is active.
        ModelError: the network runs without the site.
    """

    latents: Int[Tensor, " latent"]
    """Index in the dictionary of each latent that is a feature, the largest first."""
    wholes: tuple[str, ...]
    """The features after them."""
    active: int
    """How many latents are active at some place."""
    places: int
    """Columns of ``coordinates``: places of the prompt, then those of answers that are read on."""

    def __init__(
        self,
        model: Model,
        inputs: AbstractInputs,
        target: BoundTarget,
        sae: SAE,
        site: Site,
        *,
        most: int | None = None,
        whole: bool = False,
    ) -> None:
        self.model, self.sae, self.site = model, sae.to(model.device), site
        self.plain = model.embedded(inputs, target, 0)
        # As the model goes through them, where answers are read on.
        fed = [*{answer[:-1] for answer in target.alternatives}]
        hiddens = self._hiddens()
        self._run_of = {each: min(run, len(hiddens) - 1) for run, each in enumerate(fed)}
        self.columns, self.pieces = _laid_out(model, inputs, fed, [len(each) for each in hiddens])
        self.places = len(self.pieces)
        codes = [self._codes_at(each.to(sae.W_enc.dtype)) for each in hiddens]
        ranked = self._ranked(hiddens, codes)
        self.active, self.latents = len(ranked), ranked[:most]
        self._feature_of = torch.full((sae.width,), -1, device=model.device)
        self._feature_of[self.latents] = torch.arange(len(self.latents), device=model.device)
        gathered = any(bool((self._feature_of[each.latents] < 0).any()) for each in codes)
        self.has_massive = any(bool(_massive(each).any()) for each in hiddens)
        beside = [BIAS, MASSIVE] if self.has_massive else [BIAS]
        self.wholes = (*([OTHERS] if gathered else []), ERROR, *(beside if whole else []))
        self.directions = sae.W_dec[self.latents]
        self.runs = [self.terms(each) for each in hiddens]
        self.error_share = self._share(hiddens)
        self._codes, self._hidden_dtype = codes, hiddens[0].dtype

    @property
    def features(self) -> int:
        """How many there are: latents, then wholes."""
        return len(self.latents) + len(self.wholes)

    @property
    def bias_is_kept(self) -> bool:
        """Whether the decoder's bias is no feature, and so always there."""
        return BIAS not in self.wholes

    def terms(self, hidden: Float[Tensor, "place dim"]) -> Terms:
        """Activations at the site as a sum, its terms those of this input's features."""
        x = hidden.detach().to(self.sae.W_dec.dtype)
        codes, massive = self._codes_at(x), _massive(x)[:, None]
        bias = self.sae.decode_codes(_selected(codes, torch.zeros_like(codes.latents, dtype=torch.bool)), x)
        feature = self._feature_of[codes.latents]
        z = x.new_zeros(len(x), len(self.latents))
        own = feature >= 0
        scale = self._scale(x)
        z[codes.tokens[own], feature[own]] = (codes.values * scale[codes.tokens])[own]
        known = {ERROR: torch.where(massive, 0, x - self.sae.decode_codes(codes, x))}
        known |= {BIAS: torch.where(massive, 0, bias), MASSIVE: torch.where(massive, x, 0)}
        if OTHERS in self.wholes:
            known[OTHERS] = self.sae.decode_codes(_selected(codes, ~own), x) - bias
        wholes = torch.stack([known[name] for name in self.wholes])
        return Terms(z, wholes, known[BIAS] + known[MASSIVE] if self.bias_is_kept else torch.zeros_like(bias))

    @property
    def coordinates(self) -> Float[Tensor, "feature place"]:
        """Each latent's activation at each place, and 1 for what is there as a whole: a point that can be moved."""
        found = self.directions.new_zeros(self.features, self.places)
        for terms, columns in zip(self.runs, self.columns, strict=True):
            found[: len(self.latents), columns] = terms.z.T
            found[len(self.latents) :, columns] = 1
        return found

    def composed(self, run: int, point: Float[Tensor, "batch feature place"]) -> Float[Tensor, "batch _ dim"]:
        """The activations of a run at a point, as operations of torch that relevance and gradients go through."""
        terms, count = self.runs[run], len(self.latents)
        own = point.index_select(2, self.columns[run])
        h = nn.functional.linear(own[:, :count].transpose(1, 2), self.directions.T)
        for row, whole in enumerate(terms.wholes, count):
            h = h + own[:, row, :, None] * whole
        return (h + terms.rest if self.bias_is_kept else h).to(self._hidden_dtype)

    def ablated(
        self, hidden: Float[Tensor, "place dim"], terms: Terms, absent: Bool[Tensor, "batch feature"]
    ) -> Float[Tensor, "batch place dim"]:
        """Activations with the terms of absent features taken out; exactly themselves where none is absent."""
        gone, count = absent.to(terms.z), len(self.latents)
        taken = (gone[:, None, :count] * terms.z) @ self.directions
        taken = taken + torch.einsum("bw,wsd->bsd", gone[:, count:], terms.wholes)
        return (hidden - taken).to(hidden.dtype)

    def runs_of(self, target: BoundTarget) -> list[int]:
        """The run of each alternative of a target, in the order in which a model scores them."""
        return [self._run_of[answer[:-1]] for answer in target.alternatives]

    def on(self, model: Model, inputs: AbstractInputs, target: BoundTarget) -> "Splice":
        """The same features of the same network in another dtype."""
        twin = copy(self)
        twin.model, twin.plain = model, model.embedded(inputs, target, 0)
        hiddens = twin._hiddens()
        twin._hidden_dtype, twin.runs = hiddens[0].dtype, [twin.terms(each) for each in hiddens]
        return twin

    def events(self) -> Event:
        """Where each feature is active on this input."""
        codes, columns = self._codes, self.columns
        features = [self._feature_of[each.latents] for each in codes]
        found = self.directions.new_zeros(self.features, self.places)
        for each, feature, column in zip(codes, features, columns, strict=True):
            own = feature >= 0
            found[feature[own], column[each.tokens[own]]] = each.values[own]
        for terms, column in zip(self.runs, columns, strict=True):
            found[len(self.latents) :, column] = terms.wholes.norm(dim=-1)
        places = found.nonzero()
        return Event(places[:, 0], places[:, 1], found[places[:, 0], places[:, 1]])

    def _hiddens(self) -> list[Float[Tensor, "place dim"]]:
        found: list[Tensor] = []

        def look(hidden: Tensor) -> Tensor:
            if hidden.ndim != 3 or len(hidden) != 1:
                raise InputError(
                    f"{str(self.site)!r} holds {list(hidden.shape)}, and latents are read of activations "
                    "[batch, seq, d_in]; take a site such as a block of a transformer."
                )
            # Raises where the width is another one.
            self.sae.normalised(hidden)
            found.append(hidden[0].detach())
            return hidden

        with torch.no_grad(), edited(self.model.module, self.site, look):
            self.plain(self.plain.embeddings[None])
        if not found:
            raise ModelError(f"the model ran without {str(self.site)!r}; take a site that it passes through.")
        return found

    def _codes_at(self, x: Float[Tensor, "place dim"]) -> Codes:
        """Active latents, without those of places whose activations are massive."""
        codes = self.sae.codes(x)
        return _selected(codes, ~_massive(x)[codes.tokens])

    def _ranked(self, hiddens: Sequence[Tensor], codes: Sequence[Codes]) -> Int[Tensor, " latent"]:
        """Active latents by their share in what passes, the largest first: sum over places of z ||W_dec|| / ||h||."""
        length = self.sae.W_dec.norm(dim=1)
        size = torch.zeros_like(length)
        for hidden, each in zip(hiddens, codes, strict=True):
            x = hidden.to(self.sae.W_dec.dtype)
            scale = self._scale(x) / x.norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
            size.index_add_(0, each.latents, each.values * scale[each.tokens] * length[each.latents])
        active = size.nonzero()[:, 0]
        if not len(active):
            raise InputError(f"no latent of the autoencoder is active at {str(self.site)!r} on this input.")
        return active[size[active].argsort(descending=True, stable=True)]

    def _scale(self, x: Float[Tensor, "place dim"]) -> Float[Tensor, " place"]:
        """What an activation counts at each place, where every token is normalised by itself; else 1."""
        undo = self.sae.normalised(x)[1]
        return x.new_ones(len(x)) if undo is None else undo.scale[:, 0]

    def _share(self, hiddens: Sequence[Tensor]) -> float:
        error = self.wholes.index(ERROR)
        left = sum(float(terms.wholes[error].double().pow(2).sum()) for terms in self.runs)
        whole = sum(float(each[~_massive(each)].double().pow(2).sum()) for each in hiddens)
        return left / max(whole, torch.finfo(torch.float32).tiny)


class SplicedInput(AbstractEmbedded):
    """An input whose argument is the point of its latents: the target as a function of ``Splice.coordinates``."""

    offset = 0
    by_place = True
    where = "the latents"

    def __init__(self, splice: Splice) -> None:
        self._splice = splice
        self.embeddings = splice.coordinates

    def __call__(self, embeddings: Float[Tensor, "batch feature place"]) -> Float[Tensor, "batch target"]:
        splice, graded = self._splice, torch.is_grad_enabled()
        runs = cycle(range(len(splice.runs)))
        point = embeddings.to(splice.directions.dtype)
        joined: list[Tensor] = []

        def exchange(hidden: Tensor) -> Tensor:
            # What comes before the site is no function of the latents.
            torch.set_grad_enabled(graded)
            joined.append(splice.composed(next(runs), point))
            return joined[-1]

        with torch.no_grad(), _ungraded(splice.model.module), edited(splice.model.module, splice.site, exchange):
            scores: Tensor = splice.plain(splice.plain.embeddings.expand(len(embeddings), -1, -1))
        self.joined = joined if graded else ()
        return scores


@contextmanager
def _ungraded(module: nn.Module) -> Iterator[None]:
    """Inside, every call of a network begins without gradients."""

    def begin(*_: object) -> None:
        torch.set_grad_enabled(False)

    hook = module.register_forward_pre_hook(begin)
    try:
        yield
    finally:
        hook.remove()


def _massive(x: Float[Tensor, "place dim"]) -> Bool[Tensor, " place"]:
    """Where activations are so long that they are no content of the input: at few places, or it is another thing.

    The places of a picture may all be longer than those of the text about it.
    """
    length = x.float().norm(dim=1)
    found = torch.gt(length, MASSIVE_AT * length.median())
    return found if int(found.sum()) <= max(1, len(x) // MASSIVE_IN) else torch.zeros_like(found)


def _selected(codes: Codes, chosen: Bool[Tensor, " event"]) -> Codes:
    return Codes(codes.tokens[chosen], codes.latents[chosen], codes.values[chosen], codes.token_count, codes.width)


def _laid_out(
    model: Model, inputs: AbstractInputs, fed: Sequence[tuple[int, ...]], lengths: Sequence[int]
) -> tuple[list[Int[Tensor, " place"]], tuple[str, ...]]:
    """The column of each place of each run, and what stands in each column.

    Where the site holds the tokens, answers go on behind the prompt. Elsewhere, as in a picture, a place has a number.
    """
    text = inputs.text if isinstance(inputs, PictureTextInputs) else inputs if isinstance(inputs, TextInputs) else None
    device = model.device
    if text is None or lengths != [text.positions + len(each) for each in fed]:
        if len(set(lengths)) > 1:
            raise InputError(f"runs of the network pass {lengths} places at this site; explain one answer at a time.")
        return [torch.arange(lengths[0], device=device)] * len(lengths), tuple(map(str, range(lengths[0])))
    texts = model.texts if isinstance(model, VisionLanguage) else model
    assert isinstance(texts, AbstractTextModel)
    own = (*text.row.ids,)
    columns, pieces, prompt = [], _spaced(texts, own, text.pieces), torch.arange(text.positions, device=device)
    if isinstance(model, VisionLanguage):
        _name_patches(pieces, model.slots(text).nonzero()[:, 0].tolist())
    for answer in fed:
        behind = torch.arange(len(pieces), len(pieces) + len(answer), device=device)
        columns.append(torch.cat([prompt, behind]))
        said = [*text.pieces, *map(texts.piece, answer)]
        pieces += _spaced(texts, (*own, *answer), said)[text.positions :]
    return columns, tuple(pieces)


def _spaced(texts: AbstractTextModel, ids: tuple[int, ...], pieces: Sequence[str]) -> list[str]:
    """The tokens with the spaces between them, which some tokenizers drop where they decode one by one."""
    return spaced(pieces, str(texts.tokenizer.decode(list(ids))))


def _name_patches(pieces: list[str], slots: Sequence[int]) -> None:
    """Write what each place of a picture holds: row and column from 0, as patches are called where they are features.

    One place more than a square is the class token of the vision tower, which stands before the patches.
    """
    side = isqrt(len(slots))
    first = len(slots) - side * side
    for number, place in enumerate(slots):
        row, column = divmod(number - first, side)
        name = f"patch {row},{column}" if first <= 1 else f"patch {number}"
        pieces[place] = f" {name if number >= first or first > 1 else 'class token'}"
