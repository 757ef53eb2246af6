"""What all models of text share: chat templates, tokens and their places, features, and the ladder between them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pellucid.errors import ContextLengthError, InputError, ModelError, UnknownNameError
from pellucid.models.base import AbstractModel, Baseline, Meter
from pellucid.models.fingerprint import fingerprint
from pellucid.models.segments import Span, sentences, words
from pellucid.models.template import Prompt
from pellucid.models.tokens import Batch, Row, TextInputs
from pellucid.records import Feature, Fingerprint

TextKind = Literal["token", "token+template", "word", "sentence", "field"]
TEXT_KINDS: tuple[str, ...] = get_args(TextKind)
SENTINEL = "pellucid-user-text"
_BASELINE_TOKENS = ("mask", "pad", "eos", "unk")


class AbstractTextModel(AbstractModel[TextInputs, Row]):
    """A network over tokens, with its tokenizer.

    Args:
        module: a transformers model. It is asked in evaluation mode and otherwise left as it is: its modes come back
            after every call, and whether its parameters take gradients is never touched.
        tokenizer: its tokenizer; one of the fast kind, which knows where each token stands in the text.
        name: what to call the model in results.
        chat: wrap the text in the tokenizer's chat template; None: where it has one.
        system: the system message of the chat template; None: the template's own.
        chat_options: further arguments of the chat template, such as ``enable_thinking``.
    """

    modality = "text"
    module: PreTrainedModel

    def __init__(
        self,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "",
        chat: bool | None = None,
        system: str | None = None,
        chat_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} does not know where its tokens stand; use its fast form."
            )
        self.module = module
        self.tokenizer = tokenizer
        self.name = name or type(module).__name__
        self.meter = Meter()
        self._before, self._after, self._strips = "", "", False
        if chat is None:
            chat = self._chats and bool(tokenizer.chat_template)
        if chat:
            self._before, self._after, self._strips = _surroundings(tokenizer, system, dict(chat_options or {}))
        elif system is not None:
            raise InputError("a system message was given and the model has no chat template to put it in.")
        self.chat = chat

    _chats: bool = False

    # Encoding

    def encode(self, raw: str | Sequence[str] | Prompt) -> TextInputs:
        """Tokens of a text, chat template included. Raises InputError, ContextLengthError."""
        prompt = Prompt.ensure(raw)
        self._refuse_control_tokens(prompt.text)
        rendered = self._rendered(prompt.text)
        encoding = self._tokenize(rendered)
        skipped = len(prompt.text) - len(prompt.text.lstrip()) if self._strips else 0
        first, last = len(self._before), len(rendered) - len(self._after)
        spans: list[Span | None] = []
        for start, end in encoding["offset_mapping"]:
            start, end = max(start, first), min(end, last)
            spans.append((start - first + skipped, end - first + skipped) if start < end else None)
        row = Row.of(encoding["input_ids"])
        self._check_length(len(row.ids))
        return TextInputs(prompt, row, tuple(spans), tuple(self.piece(token) for token in row.ids))

    def piece(self, token: int) -> str:
        """A token as readable text."""
        return str(self.tokenizer.decode([token]))

    def row(self, text: str) -> Row:
        """Tokens of an altered text, which may be empty."""
        ids = self._tokenize(self._rendered(text))["input_ids"]
        if not ids:
            ids = [self.start_token]
        self._check_length(len(ids))
        return Row.of(ids)

    @property
    def start_token(self) -> int:
        """What stands for a text of no tokens: the first of the tokenizer's bos, eos and pad tokens."""
        known = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        found = next((token for token in known if token is not None), None)
        if found is None:
            raise ModelError(f"{self.name} has no bos, eos or pad token, so nothing can stand for an empty text.")
        return int(found)

    def _rendered(self, text: str) -> str:
        return self._before + (text.strip() if self._strips else text) + self._after

    def _tokenize(self, rendered: str) -> Any:
        # A chat template writes its own special tokens.
        return self.tokenizer(rendered, add_special_tokens=not self.chat, return_offsets_mapping=True, verbose=False)

    def _refuse_control_tokens(self, text: str) -> None:
        """A control token in a user's text would end the user's turn: what follows would not be the user's words."""
        if not self.chat:
            return
        added = self.tokenizer.added_tokens_decoder.values()
        for token in dict.fromkeys([*self.tokenizer.all_special_tokens, *(str(one) for one in added if one.special)]):
            if token in text:
                raise InputError(
                    f"the text holds the model's control token {token!r} at position {text.index(token)}; "
                    "remove it, or load the model with chat=False to write the whole template yourself."
                )

    @property
    def context(self) -> int:
        """The most tokens that the network reads."""
        config = self.module.config.get_text_config()
        limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
        limit = next((int(value) for value in limits if value and value > 0), 1 << 62)
        return min(limit - self.first_position, int(self.tokenizer.model_max_length))

    @property
    def first_position(self) -> int:
        """Where positions start: 0, but RoBERTa numbers them from its padding index on and uses no row before."""
        positions = [
            child for name, child in self.module.named_modules() if name.endswith("embeddings.position_embeddings")
        ]
        padding = getattr(positions[0], "padding_idx", None) if positions else None
        return 0 if padding is None else int(padding) + 1

    def _check_length(self, tokens: int) -> None:
        if tokens > self.context:
            raise ContextLengthError(tokens, self.context)

    # Features

    def features(self, inputs: TextInputs, kind: str) -> tuple[Feature, ...]:
        """The features of one kind: token, token+template, word, sentence or field."""
        makers: dict[str, Callable[[TextInputs], list[Feature]]] = {
            "token": lambda given: [feature for feature in _tokens(given) if feature.role == "input"],
            "token+template": _tokens,
            "word": lambda given: _spanned(given, "word", given.prompt.words or words(given.prompt.text)),
            "sentence": lambda given: _spanned(given, "sentence", sentences(given.prompt.text)),
            "field": _fields,
        }
        if kind not in makers:
            raise UnknownNameError("kind of feature", kind, makers)
        features = makers[kind](inputs)
        if not features:
            hint = "; build the input with pellucid.Template(...)" if kind == "field" else ""
            raise InputError(f"the text has no {kind} to explain{hint}.")
        return tuple(features)

    def default_kind(self, inputs: TextInputs) -> str:
        return "field" if inputs.prompt.fields else "word"

    def ladder(self, inputs: TextInputs, kind: str) -> dict[str, tuple[Feature, ...]]:
        rungs = ["token", "word", "sentence"]
        start = rungs.index(kind.partition("+")[0]) + 1 if kind.partition("+")[0] in rungs else len(rungs)
        coarser = [*rungs[start:], *(["field"] if inputs.prompt.fields and start < 3 else [])]
        return {rung: self.features(inputs, rung) for rung in coarser}

    def owners(self, inputs: TextInputs, features: Sequence[Feature]) -> Int[Tensor, " seq"]:
        """For each token the index of the feature that covers most of its characters, or -1."""
        by_index = {feature.index: number for number, feature in enumerate(features) if feature.index is not None}
        if by_index:
            return torch.tensor([by_index.get(position, -1) for position in range(len(inputs.spans))])
        return torch.tensor([_owner(span, features) if span else -1 for span in inputs.spans])

    # Tensors

    def batch(self, rows: Sequence[Row], side: Literal["left", "right"]) -> Batch:
        """Several rows as tensors, padded on one side."""
        longest = max(len(row.ids) for row in rows)
        padding = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        ids = torch.full((len(rows), longest), padding)
        visible = torch.zeros((len(rows), longest), dtype=torch.bool)
        for index, row in enumerate(rows):
            place = slice(longest - len(row.ids), None) if side == "left" else slice(len(row.ids))
            ids[index, place] = torch.tensor(row.ids)
            visible[index, place] = torch.tensor(row.visible)
        lengths = torch.tensor([len(row.ids) for row in rows])
        return Batch(ids.to(self.device), visible.to(self.device), lengths.to(self.device))

    def embed(self, ids: Int[Tensor, "*batch seq"]) -> Tensor:
        """The word embeddings of token ids [..., seq, dim]."""
        table = self.module.get_input_embeddings()
        if table is None:
            raise ModelError(f"{self.name} has no word embeddings, so gradients have nothing to start from.")
        with torch.no_grad():
            embeddings: Tensor = table(ids.to(self.device))
        return embeddings

    # What stands for an absent token

    def preferred_baseline(self) -> str:
        """The tokenizer's mask token, else its padding token, else its end-of-text token, else zeros.

        Zeros come last: a normalisation layer is at its steepest there, and integrals along a path from zero converge
        badly.
        """
        known = {name: getattr(self.tokenizer, f"{name}_token_id") for name in ("mask", "pad", "eos")}
        return next((name for name, token in known.items() if token is not None), "zero")

    def baseline(self, name: str, inputs: TextInputs) -> Baseline:
        """The embedding of zeros, of the mean over the vocabulary, or of the mask, pad, eos or unk token."""
        if name == "zero":
            return Baseline(torch.zeros_like(self.embed(torch.tensor([0]))[0]), "zero embedding")
        if name == "mean":
            return Baseline(self.embed(torch.arange(len(self.tokenizer))).mean(0), "mean embedding")
        if name not in _BASELINE_TOKENS:
            raise UnknownNameError("baseline", name, ["zero", "mean", *_BASELINE_TOKENS])
        token = getattr(self.tokenizer, f"{name}_token_id")
        if token is None:
            raise InputError(f"{self.name} has no {name} token; use the baseline 'zero' or 'mean'.")
        described = f"embedding of the {name} token {self.tokenizer.convert_ids_to_tokens(int(token))}"
        return Baseline(self.embed(torch.tensor([int(token)]))[0], described)

    def background_draws(
        self, inputs: TextInputs, count: int, generator: torch.Generator, background: Sequence[Any]
    ) -> Baseline:
        """Random tokens of the vocabulary in every place; a text has no other background."""
        ids = torch.randint(len(self.tokenizer), (count, inputs.positions), generator=generator)
        return Baseline(self.embed(ids), "random tokens of the vocabulary")

    @contextmanager
    def nudged(self, inputs: TextInputs, radius: float, seed: int) -> Iterator[TextInputs]:
        """Inside, the embedding table is moved: each token by a noise of its own, wherever it stands."""
        table = self.module.get_input_embeddings()
        vectors = self.embed(torch.tensor(inputs.row.ids))
        ids = torch.tensor(sorted(set(inputs.row.ids)))
        generator = torch.Generator().manual_seed(seed)
        uniform = 2 * torch.rand((len(ids), vectors.shape[-1]), generator=generator) - 1
        noise = (uniform * radius * float(vectors.float().std())).to(vectors)
        ids = ids.to(vectors.device)

        def move(_: torch.nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            place = torch.searchsorted(ids, given[0].contiguous()).clamp(max=len(ids) - 1)
            moved: Tensor = out + noise[place] * (ids[place] == given[0])[..., None]
            return moved

        hook = table.register_forward_hook(move)
        try:
            yield inputs
        finally:
            hook.remove()

    def fingerprint(self) -> Fingerprint:
        return fingerprint(
            self,
            written(self.tokenizer),
            self._before + SENTINEL + self._after if self.chat else "",
        )


def written(tokenizer: PreTrainedTokenizerBase) -> bytes:
    """A tokenizer as bytes, whatever it was last asked: a call leaves its padding and truncation in it.

    The tokenizers library writes these two before everything else; taking the text apart would cost 40 ms each time.
    """
    whole = str(tokenizer.backend_tokenizer.to_str())
    before, start, rest = whole.partition('"added_tokens"')
    return (start + rest if start else before).encode()


def _owner(span: Span, features: Sequence[Feature]) -> int:
    best, most = -1, 0
    for number, feature in enumerate(features):
        assert feature.start is not None
        assert feature.end is not None
        shared = min(span[1], feature.end) - max(span[0], feature.start)
        if shared > most:
            best, most = number, shared
    return best


def _tokens(inputs: TextInputs) -> list[Feature]:
    text = inputs.prompt.text
    features = []
    for index, (span, piece) in enumerate(zip(inputs.spans, inputs.pieces, strict=True)):
        start, end = span or (None, None)
        value = piece if span is None else text[span[0] : span[1]]
        role: Literal["input", "template"] = "template" if span is None else "input"
        features.append(Feature(label=value, kind="token", value=value, start=start, end=end, index=index, role=role))
    return features


def _spanned(inputs: TextInputs, kind: Literal["word", "sentence"], spans: Sequence[Span]) -> list[Feature]:
    text = inputs.prompt.text
    return [Feature(label=text[a:b], kind=kind, value=text[a:b], start=a, end=b) for a, b in spans]


def _fields(inputs: TextInputs) -> list[Feature]:
    return [
        Feature(label=field.name, kind="field", value=field.value, start=field.start, end=field.end)
        for field in inputs.prompt.fields
    ]


def _surroundings(
    tokenizer: PreTrainedTokenizerBase, system: str | None, options: dict[str, Any]
) -> tuple[str, str, bool]:
    """What the chat template writes before and after the user's text, and whether it strips that text."""
    if not tokenizer.chat_template:
        raise InputError("the model has no chat template; load it with chat=False.")

    def rendered(text: str) -> str:
        messages = [{"role": "system", "content": system}] if system is not None else []
        messages.append({"role": "user", "content": text})
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options))

    return surroundings(rendered)


def surroundings(rendered: Callable[[str], str]) -> tuple[str, str, bool]:
    """What a chat template writes before and after a text, and whether it strips it. Raises ModelError if it does more.

    ``rendered`` is the whole template with a text in it.
    """
    before, found, after = rendered(SENTINEL).partition(SENTINEL)
    for text, strips in ((f" {SENTINEL} ", False), (SENTINEL, True)):
        if found and rendered(f" {SENTINEL} ") == before + text + after:
            return before, after, strips
    raise ModelError(
        "the model's chat template rewrites the user's text, so no token can be traced back to it; use chat=False."
    )


__all__ = ["TEXT_KINDS", "AbstractTextModel", "TextKind"]
