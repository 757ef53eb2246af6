"""From documents to samples: windows of texts, conversations in the model's template, pictures with their texts."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from pellucid.errors import ContextLengthError, InputError, ModelError
from pellucid.models import VisionLanguage
from pellucid.models.text import AbstractTextModel
from pellucid.sae.store.corpora import Document, Message
from pellucid.sae.store.encoded import ROLES, Encoded, of_text

CONTEXT = 256
JOINED = 1_000_000
"""Characters of documents that are joined into one."""
_PROBE = "a"
_MARK = "qzTurn{}Zq"
_MARKS = re.compile(_MARK.format(r"(\d+)"))
Readable = AbstractTextModel | VisionLanguage


class Tokens(NamedTuple):
    """A text as tokens."""

    ids: np.ndarray
    """int32."""
    roles: np.ndarray
    """Index into ``ROLES``."""
    special: np.ndarray
    """Whether it is a special token."""
    offsets: np.ndarray
    """First character, and one past the last."""


class Encoder:
    """Makes samples of documents.

    Args:
        model: what will read them.
        context: tokens of a window, into which texts and conversations are cut; a picture with its text is one sample.
            None: 256, or what the model reads where that is less.

    Raises:
        InputError: a window of less than 2 tokens. ContextLengthError: more than the model reads.
    """

    def __init__(self, model: Readable, context: int | None) -> None:
        self._model = model
        self._texts = model.texts if isinstance(model, VisionLanguage) else model
        self.context = context = min(CONTEXT, self._texts.context) if context is None else context
        if context - sum(map(len, self._around)) < 2:
            raise InputError(f"the context is {context} tokens, and a window needs at least 2 besides special ones.")
        if context > self._texts.context:
            raise ContextLengthError(context, self._texts.context)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What cuts texts into tokens."""
        return self._texts.tokenizer

    def piece(self, token: int) -> str:
        """A token as readable text."""
        return self._texts.piece(token)

    def samples(self, document: Document) -> Iterator[Encoded]:
        """The samples of one document, in order. Raises InputError where the model cannot read it."""
        try:
            if document.image is not None:
                yield self._of_picture(document)
            elif document.messages:
                yield from self._windows(document, *self._conversation(document))
            else:
                yield from self._windows(document, document.text, self._tokens(document.text))
        except InputError as error:
            raise InputError(f"document {document.id!r}: {error}") from None

    def joined(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Texts one after another as long ones, with the tokenizer's end of text between them."""
        between = str(self.tokenizer.eos_token or "\n\n")
        kept: list[Document] = []
        for each in documents:
            if each.messages or each.image is not None:
                raise InputError(f"only plain texts are joined, and document {each.id!r} is none.")
            kept.append(each)
            if sum(one.characters for one in kept) >= JOINED:
                yield Document(kept[0].id, between.join(one.text for one in kept))
                kept = []
        if kept:
            yield Document(kept[0].id, between.join(one.text for one in kept))

    # Texts

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and after a text."""
        bare = self.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        whole = self.tokenizer(_PROBE)["input_ids"]
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
        raise ModelError(f"the tokenizer of {self._model.name} changes a text where it puts special tokens around it.")

    @cached_property
    def _special(self) -> np.ndarray:
        added = self.tokenizer.added_tokens_decoder
        found = {*self.tokenizer.all_special_ids, *(number for number, one in added.items() if one.special)}
        # An unknown word is a word.
        return np.array(sorted(found - {self.tokenizer.unk_token_id}))

    def _tokens(self, text: str, role: str = "document") -> Tokens:
        found: Any = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = np.array(found["input_ids"], np.int32)
        special = np.isin(ids, self._special)
        roles = np.where(special, ROLES.index("template"), ROLES.index(role)).astype(np.int8)
        return Tokens(ids, roles, special, np.array(found["offset_mapping"], np.int32).reshape(-1, 2))

    def _windows(self, document: Document, text: str, tokens: Tokens) -> Iterator[Encoded]:
        """A text in windows, each with the special tokens around it that the tokenizer puts around a text."""
        # A chat template writes its own.
        before, after = ([], []) if document.messages else self._around
        step = self.context - len(before) - len(after)
        for start in range(0, len(tokens.ids), step):
            ids, roles, special, offsets = (column[start : start + step] for column in tokens)
            first, last = int(offsets[0, 0]), int(offsets[-1, 1])
            places = np.full((len(before) + len(ids) + len(after), 2), -1, np.int32)
            places[len(before) : len(places) - len(after)] = offsets - first
            yield of_text(
                document.id,
                np.concatenate([np.array(before, np.int32), ids, np.array(after, np.int32)]),
                np.pad(roles, (len(before), len(after)), constant_values=ROLES.index("template")),
                np.pad(special, (len(before), len(after)), constant_values=True),
                places,
                text,
                (first, last),
            )

    # Conversations

    def _conversation(self, document: Document) -> tuple[str, Tokens]:
        """A conversation as the model's template writes it; each token has the role of whoever says it."""
        if not self.tokenizer.chat_template:
            raise InputError(f"it is a conversation, and {self._model.name} has no chat template to write it in.")
        text = self._written(document.messages)
        tokens = self._tokens(text, "template")
        for each, (first, last) in zip(document.messages, self._turns(document.messages, text), strict=True):
            # Templates often put a space at the end of a line into the token of the first word.
            inside = (tokens.offsets[:, 1] > first) & (tokens.offsets[:, 0] < last) & ~tokens.special
            tokens.roles[inside] = ROLES.index(each.role)
        return text, tokens

    def _written(self, messages: Sequence[Message]) -> str:
        return str(self.tokenizer.apply_chat_template([each._asdict() for each in messages], tokenize=False))

    def _turns(self, messages: Sequence[Message], text: str) -> list[tuple[int, int]]:
        """The characters of each turn in what the template wrote; of one that says nothing, none.

        What is said may stand in the template's own words as well, so that it cannot be sought: the template writes the
        same conversation with a mark in place of each turn, and what is between the marks is its own.
        """
        spoken = [number for number, each in enumerate(messages) if each.content.strip()]
        marked = [each._replace(content=_MARK.format(n)) if n in spoken else each for n, each in enumerate(messages)]
        first, *parts = _MARKS.split(self._written(marked))
        found, place = [(0, 0)] * len(messages), len(first)
        is_same = text.startswith(first) and sorted(map(int, parts[::2])) == spoken
        for number, after in zip(map(int, parts[::2]), parts[1::2], strict=True):
            said = next((one for one in _trimmed(messages[number].content) if text.startswith(one + after, place)), "")
            found[number] = (place, place + len(said))
            place += len(said) + len(after)
            is_same &= bool(said)
        if not is_same or place != len(text):
            raise InputError("the model's chat template rewrites what is said, so no token can be traced back.")
        return found

    # Pictures

    def _of_picture(self, document: Document) -> Encoded:
        if not isinstance(self._model, VisionLanguage):
            raise InputError(f"it has a picture, and {self._model.name} reads none.")
        inputs = self._texts.encode(document.text)
        answer = self._tokens(document.answer, "assistant")
        ids = np.array([*inputs.row.ids, *answer.ids], np.int32)
        if len(ids) > self._texts.context:
            raise ContextLengthError(len(ids), self._texts.context)
        offsets = np.array([span or (-1, -1) for span in inputs.spans], np.int32)
        roles = np.where(offsets[:, 0] >= 0, ROLES.index("user"), ROLES.index("template")).astype(np.int8)
        seen = self._model.slots(inputs).numpy()
        roles[seen] = ROLES.index("user")
        rest = np.zeros(len(answer.ids), bool)
        shown = np.concatenate([seen, rest])
        spans = np.where(shown, 0, -1).astype(np.int16)
        places, grid = _grid(int(seen.sum()))
        patches = np.full((len(ids), 2), -1, np.int16)
        patches[shown] = places
        behind = answer.offsets + len(document.text) + 1
        return Encoded(
            document.id, ids, np.concatenate([roles, answer.roles]), np.isin(ids, self._special) & ~shown, spans,
            patches, np.concatenate([offsets, behind]), f"{document.text} {document.answer}".rstrip(), document.image,
            grid,
        )  # fmt: skip


def _trimmed(content: str) -> tuple[str, ...]:
    """What a template may make of it, the longest first."""
    return content, content.rstrip(), content.lstrip(), content.strip()


def _grid(slots: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Row and column of each position of a picture, and how many there are of both.

    One position more than a square is the class token of the vision tower, which stands before the patches.
    """
    side = isqrt(slots)
    if side * side == slots:
        return np.stack(np.divmod(np.arange(slots), side), 1), (side, side)
    side = isqrt(slots - 1)
    if side * side == slots - 1:
        patches = np.stack(np.divmod(np.arange(slots - 1), side), 1)
        return np.concatenate([np.full((1, 2), -1), patches]), (side, side)
    return np.stack(np.divmod(np.arange(slots), slots), 1), (1, slots)
