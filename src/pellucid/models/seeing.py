"""A language model with a picture before it: the half of a vision-language model that reads the text."""

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from pellucid.errors import InputError, ModelError
from pellucid.models.base import Baseline
from pellucid.models.causal_lm import CausalLM
from pellucid.models.template import Prompt
from pellucid.models.text import SENTINEL, surroundings
from pellucid.models.tokens import TextInputs


class Texts(CausalLM):
    """What a vision-language model reads of texts: a language model with a picture before it.

    In the text around the user's, placeholder tokens stand for the picture. The network puts its features there.

    Args:
        module: takes ``pixel_values`` beside tokens or embeddings.
        processor: the library's processor of pictures and texts.
        name: what to call the model in results.
        around: what the chat template writes before and after the user's text, and whether it strips that; None: no
            template, and the picture stands on a line of its own before the text.
        slots: how many placeholders stand for a picture.
    """

    pixels: Float[Tensor, "batch channel height width"]

    def __init__(
        self, module: PreTrainedModel, processor: Any, name: str, around: tuple[str, str, bool] | None, slots: int
    ) -> None:
        super().__init__(module, processor.tokenizer, name=name, chat=False)
        before, after, self._strips = around or (f"{processor.image_token}\n", "", False)
        self.chat = around is not None
        self.unexpanded = (before, after)
        picture = processor.image_token * slots
        self._before, self._after = (each.replace(processor.image_token, picture) for each in (before, after))
        self._image_token = str(processor.image_token)

    @property
    def reuses_prefix(self) -> bool:
        """Never: what the placeholders hold depends on the picture."""
        return False

    @property
    def template(self) -> str:
        """What stands around the user's text."""
        return self._before + SENTINEL + self._after

    def encode(self, raw: str | Sequence[str] | Prompt) -> TextInputs:
        prompt = Prompt.ensure(raw)
        if self._image_token in prompt.text:
            raise InputError(
                f"the text holds {self._image_token!r}, which stands for the picture, and {self.name} puts it in by "
                "itself; leave it out of the text."
            )
        return super().encode(prompt)

    def background_draws(
        self, inputs: TextInputs, count: int, generator: torch.Generator, background: Sequence[Any]
    ) -> Baseline:
        """Random tokens of the vocabulary but for the placeholder, which stands for a picture wherever it is."""
        (placeholder,) = self.tokenizer([self._image_token], add_special_tokens=False)["input_ids"][0]
        ids = torch.randint(len(self.tokenizer) - 1, (count, inputs.positions), generator=generator)
        return Baseline(self.embed(ids + (ids >= placeholder)), "random tokens of the vocabulary")

    def begins_with_special(self, rendered: str) -> bool:
        """Whether the tokenizer is to add its special tokens: not where the template wrote the first of them."""
        first = self.tokenizer.bos_token
        return first is None or not rendered.startswith(str(first))

    def _tokenize(self, rendered: str) -> Any:
        special = self.begins_with_special(rendered)
        return self.tokenizer(rendered, add_special_tokens=special, return_offsets_mapping=True, verbose=False)

    def seeing(self, pixels: Float[Tensor, "batch channel height width"]) -> "Texts":
        """The same with a picture for all rows, or with one for each row."""
        view = copy(self)
        view.pixels = pixels
        return view

    def beside(self, batch: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixels.expand(batch, -1, -1, -1)}


def around(
    processor: Any, chat: bool | None, system: str | None, options: dict[str, Any]
) -> tuple[str, str, bool] | None:
    """What the chat template writes before and after the text, the picture's placeholder once in it; None without."""
    template = getattr(processor, "chat_template", None)
    if not (bool(template) if chat is None else chat):
        if system is not None:
            raise InputError("a system message was given and the model has no chat template to put it in.")
        return None
    if not template:
        raise InputError("the model has no chat template; load it with chat=False.")

    def rendered(text: str) -> str:
        messages: list[dict[str, Any]] = []
        if system is not None:
            messages.append({"role": "system", "content": [{"type": "text", "text": system}]})
        messages.append({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]})
        return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options))

    before, after, strips = surroundings(rendered)
    places = (before + after).count(processor.image_token)
    if places != 1:
        raise ModelError(
            f"the chat template has {places} places for one picture; it should write {processor.image_token!r} once."
        )
    return before, after, strips
