"""Vision-language models: a picture and a text in, the log-probabilities of answers out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from pellucid.errors import InputError, ModelError
from pellucid.models.base import AbstractEmbedded, AbstractModel, Baseline, BoundTarget, Meter
from pellucid.models.fingerprint import fingerprint
from pellucid.models.hub import HubPreprocessing
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.packing import Packing
from pellucid.models.picture_text import PictureText, PictureTextInputs, halves, kinds, named, pair
from pellucid.models.pictures import Picture
from pellucid.models.seeing import Texts, around
from pellucid.models.text import written
from pellucid.models.tokens import TextInputs
from pellucid.records import Feature, Fingerprint
from pellucid.targets import AbstractTarget, Alternative

PICTURE_BASELINES = ("mean", "blur", "black", "zero")
TEXT_BASELINES = ("mask", "pad", "eos", "unk", "zero", "mean")
_PROBE = "a"
HalfT = TypeVar("HalfT", bound=AbstractModel[Any, Any])


class VisionLanguage(AbstractModel[PictureTextInputs, PictureText]):
    """A network that reads a picture and a text and answers with a text, such as LLaVA.

    Its features are those of the picture, then those of the text, in one explanation. To gradients the input is one
    sequence: a vector for each region of the picture, then one for each token (see ``Packing``).

    Args:
        module: a transformers model that takes ``pixel_values`` [batch, channel, height, width] beside ``input_ids`` or
            ``inputs_embeds``, and puts the picture's features where the placeholder token stands. Asked in evaluation
            mode and otherwise left as it is.
        processor: its processor, with ``tokenizer``, ``image_processor`` and ``image_token``.
        name: what to call the model in results.
        chat: wrap picture and text in the processor's chat template; None: where it has one.
        system: the system message of the chat template; None: the template's own.
        chat_options: further arguments of the chat template.
        background: pictures that stand for the data, to draw absent parts and baselines from.

    Raises:
        InputError: a system message or a template is asked for where there is none.
        ModelError: module and processor do not work together in that way.
    """

    modality = "vision-language"
    module: PreTrainedModel

    def __init__(
        self,
        module: PreTrainedModel,
        processor: Any,
        *,
        name: str = "",
        chat: bool | None = None,
        system: str | None = None,
        chat_options: Mapping[str, Any] | None = None,
        background: Sequence[Picture] = (),
    ) -> None:
        self.module, self.name, self.meter = module, name or type(module).__name__, Meter()
        self._processor = processor
        self._image_token_id = _image_token_id(module, processor, self.name)
        preprocessing = HubPreprocessing(processor.image_processor)
        surrounding = around(processor, chat, system, dict(chat_options or {}))
        self._pictures = ImageClassifier(module, (), preprocessing, name=self.name, background=background)
        self._shape, slots = self._of_a_picture()
        self._texts = Texts(module, processor, self.name, surrounding, slots)
        self.chat = self._texts.chat
        self._check_template()

    @property
    def pictures(self) -> ImageClassifier:
        """What the model reads of pictures; it gives no label to any."""
        return self._half(self._pictures)

    @property
    def texts(self) -> Texts:
        """What the model reads of texts."""
        return self._half(self._texts)

    def _half(self, half: HalfT) -> HalfT:
        # Somebody may have put another network into a copy of this model.
        view = copy(half)
        view.module, view.meter = self.module, self.meter
        return view

    # The input and its features

    def encode(self, raw: Any) -> PictureTextInputs:
        """A picture with a text: {"image": picture, "text": text} or (picture, text). Raises InputError."""
        picture, text = pair(raw)
        encoded = self.texts.encode(text)
        seen = self.pictures.encode(picture)
        if tuple(seen.row.shape) != self._shape:
            raise InputError(
                f"the processor of {self.name} makes {list(seen.row.shape)} of this picture and {list(self._shape)} of "
                "a square one; cut the picture to a square first."
            )
        return PictureTextInputs(self.pictures.divided(seen, "patch"), encoded, "patch+word")

    def default_kind(self, inputs: PictureTextInputs) -> str:
        return f"patch+{self.texts.default_kind(inputs.text)}"

    def divided(self, inputs: PictureTextInputs, kind: str) -> PictureTextInputs:
        picture, _ = kinds(kind)
        return replace(inputs, picture=self.pictures.divided(inputs.picture, picture or "patch"), kind=kind)

    def features(self, inputs: PictureTextInputs, kind: str) -> tuple[Feature, ...]:
        """Those of the picture, then those of the text, such as ``patch:16+word``; a kind of one half alone is that."""
        picture, text = kinds(kind)
        found = self.pictures.features(inputs.picture, picture) if picture else ()
        return found + self._written(inputs, text) if text else found

    def _written(self, inputs: PictureTextInputs, kind: str) -> tuple[Feature, ...]:
        """The features of the text without the tokens that stand for the picture, which are no part of it."""
        slots = self.slots(inputs.text)
        found = self.texts.features(inputs.text, kind)
        return tuple(each for each in found if each.index is None or not slots[each.index])

    def owners(self, inputs: PictureTextInputs, features: Sequence[Feature]) -> Int[Tensor, " seq"]:
        """For each region, then for each token, the index of its feature, or -1."""
        seen, read = halves(features)
        assert inputs.picture.regions is not None
        regions = torch.arange(int(inputs.picture.regions.max()) + 1)
        tokens = self.texts.owners(inputs.text, read)
        first = regions if seen else torch.full_like(regions, -1)
        return torch.cat([first, torch.where(tokens >= 0, tokens + len(seen), -1)])

    def ladder(self, inputs: PictureTextInputs, kind: str) -> dict[str, tuple[Feature, ...]]:
        """The text's rungs, with the features of the picture on each of them as they are."""
        picture, text = kinds(kind)
        seen = self.pictures.features(inputs.picture, picture) if picture else ()
        return {rung: seen + read for rung, read in self.texts.ladder(inputs.text, text).items()} if text else {}

    def drawing(self, inputs: PictureTextInputs) -> dict[str, np.ndarray]:
        return self.pictures.drawing(inputs.picture) if kinds(inputs.kind)[0] else {}

    # The target

    def bind(self, target: AbstractTarget | None, inputs: PictureTextInputs) -> BoundTarget:
        """As for a language model: the default is each token of the model's own answer.

        Raises InputError on an answer that goes on after the token that stands for a picture.
        """
        bound = self._seeing(inputs).bind(target, inputs.text)
        if any(self._image_token_id in answer[:-1] for answer in bound.alternatives):
            token = self._processor.image_token
            raise InputError(f"the answer holds {token!r}, which stands for a picture; name an Answer without it.")
        return bound

    def predicted(self, inputs: PictureTextInputs) -> str:
        return self._seeing(inputs).predicted(inputs.text)

    def alternatives(self, rows: Sequence[PictureText], target: BoundTarget) -> list[Alternative]:
        pixels = torch.stack([row.pixels for row in rows]).to(self.like)
        return self.texts.seeing(pixels).alternatives([row.text for row in rows], target)

    def embedded(self, inputs: PictureTextInputs, target: BoundTarget, offset: int) -> AbstractEmbedded:
        return _EmbeddedPictureText(self, inputs, target)

    def _seeing(self, inputs: PictureTextInputs) -> Texts:
        return self.texts.seeing(inputs.picture.row[None].to(self.like))

    def slots(self, inputs: TextInputs) -> Bool[Tensor, " seq"]:
        """Which tokens stand for the picture."""
        return torch.tensor(inputs.row.ids) == self._image_token_id

    def packing(self, inputs: PictureTextInputs) -> Packing:
        """How picture and text lie in one sequence."""
        assert inputs.picture.regions is not None
        hidden = self.texts.embed(torch.tensor([0])).shape[1]
        return Packing(inputs.picture.regions, len(inputs.picture.row), hidden)

    # What stands for an absent position

    def preferred_baseline(self) -> str:
        return f"{self.pictures.preferred_baseline()}+{self.texts.preferred_baseline()}"

    def baseline(self, name: str, inputs: PictureTextInputs) -> Baseline:
        """That of the picture and that of the text: ``PICTURE+TEXT``, or a name that one or both of them have."""
        seen, read = named(name, PICTURE_BASELINES, TEXT_BASELINES)
        picture = self.pictures.baseline(seen or self.pictures.preferred_baseline(), inputs.picture)
        text = self.texts.baseline(read or self.texts.preferred_baseline(), inputs.text)
        places = self.pictures.to_sequence(inputs.picture.row)
        whole = Baseline(picture.embedding.expand(1, *places.shape), picture.described)
        tokens = Baseline(text.embedding.expand(1, inputs.text.positions, -1), text.described)
        both = self._joined(inputs, whole, tokens)
        return both._replace(embedding=both.embedding[0])

    def background_draws(
        self, inputs: PictureTextInputs, count: int, generator: torch.Generator, background: Sequence[Any]
    ) -> Baseline:
        """Whole pictures of the background, given alone or with a text, and random tokens of the vocabulary."""
        seen = self.pictures.background_draws(inputs.picture, count, generator, pictures_of(background))
        return self._joined(inputs, seen, self.texts.background_draws(inputs.text, count, generator, ()))

    def _joined(self, inputs: PictureTextInputs, picture: Baseline, text: Baseline) -> Baseline:
        pixels = self.pictures.to_tensor(picture.embedding, inputs.picture)
        described = f"picture: {picture.described}; text: {text.described}"
        return Baseline(self.packing(inputs).packed(pixels.to(self.like), text.embedding), described)

    @contextmanager
    def nudged(self, inputs: PictureTextInputs, radius: float, seed: int) -> Iterator[PictureTextInputs]:
        picture, text = self.pictures.nudged(inputs.picture, radius, seed), self.texts.nudged(inputs.text, radius, seed)
        with picture as seen, text as read:
            yield replace(inputs, picture=seen, text=read)

    def fingerprint(self) -> Fingerprint:
        processor = written(self.texts.tokenizer) + self.pictures.preprocessing.to_bytes()
        return fingerprint(self, processor, self.texts.template)

    # Whether module and processor fit

    def _of_a_picture(self) -> tuple[tuple[int, ...], int]:
        """The shape of an encoded picture, and how many tokens stand for it."""
        blank = Image.new("RGB", (64, 64))
        shape = tuple(self.pictures.preprocessing.tensor(blank).shape)
        ids = self._processor(images=blank, text=self._processor.image_token, return_tensors="pt")["input_ids"]
        slots = int((ids == self._image_token_id).sum())
        if len(shape) != 3 or not slots:
            raise ModelError(
                f"{type(self._processor).__name__} makes a tensor {list(shape)} and {slots} placeholder tokens of a "
                "picture; models that read one tensor [channel, height, width] in place of tokens are explained."
            )
        return shape, slots

    def _check_template(self) -> None:
        before, after = self.texts.unexpanded
        whole = f"{before}{_PROBE}{after}"
        special = self.texts.begins_with_special(whole)
        blank = Image.new("RGB", (64, 64))
        theirs = self._processor(images=blank, text=whole, add_special_tokens=special, return_tensors="pt")
        if self.texts.encode(_PROBE).row.ids != tuple(theirs["input_ids"][0].tolist()):
            raise ModelError(
                f"{type(self._processor).__name__} writes more around a picture than its placeholder tokens, and such "
                "models are not explained yet; use one of the LLaVA architecture."
            )


class _EmbeddedPictureText(AbstractEmbedded):
    """A picture and a text whose pixels and embeddings are arguments, as one sequence."""

    offset = 0

    def __init__(self, model: VisionLanguage, inputs: PictureTextInputs, target: BoundTarget) -> None:
        self._texts, self._inputs, self._target = model.texts, inputs.text, target
        self._packing = model.packing(inputs)
        self._slots = model.slots(inputs.text)[:, None].to(model.device)
        self._tokens = model.texts.embed(torch.tensor(inputs.text.row.ids))
        self.embeddings = self._packing.packed(inputs.picture.row.to(model.like), self._tokens)

    def __call__(self, embeddings: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch target"]:
        # The network finds its placeholders by their embedding, and they are no part of the input.
        tokens = torch.where(self._slots, self._tokens, self._packing.tokens(embeddings))
        seeing = self._texts.seeing(self._packing.pictures(embeddings))
        return seeing.embedded(self._inputs, self._target, 0)(tokens)


def pictures_of(background: Sequence[Any]) -> list[Picture]:
    """The pictures of other inputs, each given alone or with its text."""
    return [pair(each)[0] if isinstance(each, Mapping | tuple) else each for each in background]


def _image_token_id(module: PreTrainedModel, processor: Any, name: str) -> int:
    """Raises ModelError where the processor is none of pictures and texts, or the network knows no placeholder."""
    missing = [each for each in ("tokenizer", "image_processor", "image_token") if not getattr(processor, each, None)]
    if missing:
        raise ModelError(
            f"a processor of pictures and texts has a tokenizer, an image_processor and an image_token, and "
            f"{type(processor).__name__} has no {' and no '.join(missing)}."
        )
    known = getattr(module.config, "image_token_id", None)
    if known is None:
        raise ModelError(f"the configuration of {name} names no image_token_id, so nothing can stand for a picture.")
    return int(known)
