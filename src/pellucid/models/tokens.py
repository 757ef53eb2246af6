"""What a network over tokens reads: rows of token ids, batches of them, and an encoded text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Int
from torch import Tensor

from pellucid.models.base import AbstractInputs
from pellucid.models.template import Prompt


class Row(NamedTuple):
    """One sequence of tokens as the network sees it."""

    ids: tuple[int, ...]
    """Token ids, special tokens and chat template included."""
    visible: tuple[bool, ...]
    """The attention mask."""

    @classmethod
    def of(cls, ids: Sequence[int]) -> "Row":
        """A row in which every token is visible."""
        return cls(tuple(ids), (True,) * len(ids))


class Batch(NamedTuple):
    """Several rows as tensors, padded on one side."""

    ids: Int[Tensor, "batch seq"]
    """Token ids."""
    visible: Bool[Tensor, "batch seq"]
    """Attention mask; False at padding, and at tokens that are hidden on purpose."""
    lengths: Int[Tensor, " batch"]
    """Length of each row without its padding."""


@dataclass(frozen=True)
class TextInputs(AbstractInputs):
    """An encoded input: the prompt, its tokens, and where each token stands in the user's text."""

    prompt: Prompt
    """What the person gave."""
    row: Row
    """Its tokens."""
    spans: tuple[tuple[int, int] | None, ...]
    """Characters of the user's text that each token covers; None for a token of the template."""
    pieces: tuple[str, ...]
    """Each token as readable text."""

    @property
    def positions(self) -> int:
        return len(self.row.ids)
