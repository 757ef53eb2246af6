"""Causal language models: a prompt in, the log-probabilities of answers out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from pellucid.errors import InputError
from pellucid.models.base import AbstractEmbedded, BoundTarget, alternative
from pellucid.models.generating import generated_ids
from pellucid.models.text import AbstractTextModel
from pellucid.models.tokens import Row, TextInputs
from pellucid.targets import AbstractPlace, AbstractTarget, Alternative, Choice, Generated, Logit, Margin, Token

# [batch or 1, head, position, channel] each; heads and channels may differ from layer to layer.
Cache = list[tuple[Float[Tensor, "_ _ _ _"], Float[Tensor, "_ _ _ _"]]]


ATTENTION_LAYERS = ("full_attention", "sliding_attention", "chunked_attention")


class Logits(NamedTuple):
    """What one call of the network gives."""

    logits: Float[Tensor, "batch token vocab"]
    """Logits at the last positions."""
    cache: Cache
    """Keys and values of every layer at all positions; empty unless asked for."""


class _Stored(DynamicCache):
    """Keys and values of a past, lent to every row of a batch without a copy.

    Unless they are to be kept, those of the new positions are handed to each layer and forgotten, so that a large batch
    needs the memory of one layer and not of all.
    """

    def __init__(self, past: Cache, batch: int, *, keep: bool) -> None:
        super().__init__()
        for key, value in past:
            make: Callable[[], DynamicLayer] = DynamicLayer if keep else _Lent
            layer = make()
            layer.lazy_initialization(key, value)
            layer.keys, layer.values = key.expand(batch, -1, -1, -1), value.expand(batch, -1, -1, -1)
            self.layers.append(layer)

    @property
    def contents(self) -> Cache:
        """Keys and values of every layer."""
        layers = cast(list[DynamicLayer], self.layers)
        return [(cast(Tensor, layer.keys), cast(Tensor, layer.values)) for layer in layers]


class _Lent(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer's past that is read and never grows."""

    keys: Tensor
    values: Tensor

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Past and new keys and values, one after the other."""
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)


class CausalLM(AbstractTextModel):
    """A decoder that continues a text. The answer is teacher-forced: one pass scores all of its tokens."""

    _chats = True

    @property
    def hides_padding(self) -> bool:
        """Whether no position sees what is masked: not so for recurrent layers."""
        kinds = getattr(self.module.config.get_text_config(), "layer_types", None) or ()
        stateful = bool(getattr(self.module, "_is_stateful", False))
        return not stateful and all(kind in ATTENTION_LAYERS for kind in kinds)

    @property
    def reuses_prefix(self) -> bool:
        """Whether keys and values are all that is needed of a prefix: not so where more than the end of it is read."""
        return self.hides_padding and bool(getattr(self.module, "reads_the_end_alone", True))

    def beside(self, batch: int) -> dict[str, Tensor]:
        """What the network takes beside its tokens, for a batch of so many rows."""
        return {}

    def bind(self, target: AbstractTarget | None, inputs: TextInputs) -> BoundTarget:
        """Make a target concrete: generate the answer, find the preferred option or token, encode the alternatives.

        The default target is ``Generated()``: each token of the model's own answer.
        """
        target = Generated() if target is None else target
        if isinstance(target, AbstractPlace):
            raise InputError(
                f"{self.name} answers in text, and a {type(target).__name__} is a place of a map; use Answer."
            )
        if isinstance(target, Generated):
            ids = target.token_ids or self.generate(inputs, target)
            target = target.model_copy(update={"token_ids": ids})
            answers: tuple[tuple[int, ...], ...] = (ids,)
        elif isinstance(target, Logit | Margin | Token) and not isinstance(target.label, str):
            token = self._token(target.label, inputs)
            answers = ((token,),)
            target = target.model_copy(update={"label": self._named(token)})
        else:
            answers = tuple(self.answer_ids(text) for text in target.alternatives)
        self._check_length(len(inputs.row.ids) + max(len(ids) for ids in answers) - 1)
        if isinstance(target, Choice) and target.chosen is None:
            with torch.no_grad():
                scores = target.all.score(self.alternatives([inputs.row], BoundTarget(target, answers, ())))
            target = target.model_copy(update={"chosen": target.options[int(scores[0].argmax())]})
        pieces = [[self.piece(token) for token in ids] for ids in answers]
        return BoundTarget(target, answers, tuple(target.output_names(pieces)))

    def _token(self, given: int | None, inputs: TextInputs) -> int:
        """The token's id, or that of the one that the model prefers. Raises InputError where there is none such."""
        if given is None:
            return int(self.next_logits(inputs).argmax())
        size = int(self.module.config.get_text_config().vocab_size)
        if not 0 <= given < size:
            raise InputError(f"{self.name} has no token {given}: its {size} tokens are 0 to {size - 1}.")
        return given

    def _named(self, token: int) -> str | int:
        """A token as text, or as its id where that text is read as something else, such as half of a character."""
        piece = self.piece(token)
        ids = self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return piece if tuple(ids) == (token,) else token

    def predicted(self, inputs: TextInputs) -> str:
        return self.piece(int(self.next_logits(inputs).argmax()))

    def answer_ids(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer, as they follow the prompt."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise InputError(f"the answer {text!r} has no tokens; give a text that the model could say.")
        return tuple(ids)

    def generate(self, inputs: TextInputs, target: Generated) -> tuple[int, ...]:
        """The model's own answer, as the target says it is found; the end-of-text token is not part of it."""
        ids, visible, _ = self.batch([inputs.row], "left")
        self._check_length(ids.shape[1] + target.max_new_tokens - 1)
        given = {"input_ids": ids, "attention_mask": visible.long(), **self.beside(1)}
        tokenizer = self.tokenizer
        ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        with self.evaluating(), self._counting():
            return generated_ids(self.module, given, target, pad=tokenizer.pad_token_id, ends=ends)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Inside, calls of the network by others are metered."""

        def count(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
            self.meter.forwards += 1
            self.meter.rows += len(ids)
            self.meter.tokens += ids.numel()

        hook = self.module.register_forward_pre_hook(count, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def next_logits(self, inputs: TextInputs) -> Float[Tensor, " vocab"]:
        """Logits of the token that follows the prompt."""
        with torch.no_grad():
            return self.run(*self.batch([inputs.row], "left"), keep=1).logits[0, 0]

    def alternatives(self, rows: Sequence[Row], target: BoundTarget) -> list[Alternative]:
        found = []
        for answer in target.alternatives:
            forced = [Row(row.ids + answer[:-1], row.visible + (True,) * (len(answer) - 1)) for row in rows]
            with torch.no_grad():
                out = self.run(*self.batch(forced, "left"), keep=len(answer))
            found.append(alternative(out.logits, torch.tensor(answer, device=self.device)))
        return found

    def embedded(self, inputs: TextInputs, target: BoundTarget, offset: int) -> AbstractEmbedded:
        return _EmbeddedPrompt(self, inputs, target, offset if self.reuses_prefix else 0)

    def run(
        self,
        ids: Int[Tensor, "batch seq"] | Float[Tensor, "batch seq dim"],
        visible: Bool[Tensor, "batch total"],
        lengths: Int[Tensor, " batch"],
        *,
        keep: int,
        past: Cache | None = None,
        cache: bool = False,
    ) -> Logits:
        """One call of the network, the only one there is.

        Args:
            ids: token ids, or their embeddings, padded on the left.
            visible: attention mask over the past and the new tokens.
            lengths: how many of the new tokens are no padding; a token hidden on purpose still has a position.
            keep: at how many of the last positions logits are wanted; the output head sees no other position.
            past: keys and values of the positions before, of batch 1 or of this batch.
            cache: whether keys and values are wanted back.
        """
        batch, new = ids.shape[:2]
        before = visible.shape[1] - new
        padding = new - lengths[:, None]
        positions = (torch.arange(before, before + new, device=ids.device) - padding).clamp(min=0)
        stored = _Stored(past or [], batch, keep=cache) if past or cache else None
        names = "inputs_embeds" if ids.is_floating_point() else "input_ids"
        with self.evaluating():
            out = self.module(
                **{names: ids},
                attention_mask=None if visible.all() else visible.long(),
                position_ids=positions,
                past_key_values=stored,
                use_cache=stored is not None,
                # As indices they give the head a contiguous tensor; of a slice it would read its weights for each row.
                logits_to_keep=torch.arange(new - keep, new, device=ids.device),
                **self.beside(batch),
            )
        self.meter.forwards += 1
        self.meter.rows += batch
        self.meter.tokens += batch * new
        kept = stored.contents if stored is not None and cache else []
        return Logits(out.logits, kept)


class _EmbeddedPrompt(AbstractEmbedded):
    """A prompt whose tokens from ``offset`` on are given as embeddings; those before are cached once."""

    def __init__(self, model: CausalLM, inputs: TextInputs, target: BoundTarget, offset: int) -> None:
        ids, self._visible, _ = model.batch([inputs.row], "left")
        self._model, self._target, self.offset = model, target, offset
        self.embeddings = model.embed(ids[0, offset:])
        self._past: Cache = []
        if offset:
            with torch.no_grad():
                before = Row(inputs.row.ids[:offset], inputs.row.visible[:offset])
                self._past = model.run(*model.batch([before], "left"), keep=1, cache=True).cache

    def __call__(self, embeddings: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch target"]:
        batch = len(embeddings)
        forced = {answer[:-1] for answer in self._target.alternatives}
        logits = {fed: self._logits(embeddings, fed) for fed in forced}
        scored = [
            alternative(logits[answer[:-1]].expand(batch, -1, -1), torch.tensor(answer, device=embeddings.device))
            for answer in self._target.alternatives
        ]
        return self._target.target.score(scored)  # type: ignore[no-any-return]

    def _logits(
        self, embeddings: Float[Tensor, "batch seq dim"], fed: tuple[int, ...]
    ) -> Float[Tensor, "batch token vocab"]:
        """Logits at the last prompt position and at each teacher-forced token ``fed`` after it."""
        batch = len(embeddings)
        answer = self._model.embed(torch.tensor(fed, dtype=torch.long)).expand(batch, -1, -1)
        visible = self._visible.expand(batch, -1)
        visible = torch.cat([visible, visible.new_ones(batch, len(fed))], 1)
        whole = torch.cat([embeddings, answer], 1)
        lengths = torch.full((batch,), whole.shape[1], device=whole.device)
        return self._model.run(whole, visible, lengths, keep=len(fed) + 1, past=self._past).logits
