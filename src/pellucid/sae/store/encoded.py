"""One sample: what the network reads in one row, and what is known of each of its positions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Integer

ROLES = ("template", "document", "system", "user", "assistant", "tool")
"""Who says a token: the chat template or the tokenizer, a plain text, or somebody in a conversation."""
MODALITIES = ("text", "image")


@dataclass(frozen=True)
class Encoded:
    """Token ids of one row of a batch, with the positions of a picture counted one by one."""

    document: str
    """The document it is from."""
    ids: Integer[np.ndarray, " seq"]
    """Token ids."""
    roles: Integer[np.ndarray, " seq"]
    """Index into ``ROLES``."""
    special: Bool[np.ndarray, " seq"]
    """Whether it is a special token of the tokenizer."""
    spans: Integer[np.ndarray, " seq"]
    """Number of the picture that the position stands for a part of; -1 for text."""
    patches: Integer[np.ndarray, "seq 2"]
    """Row and column of that part; -1 for text."""
    offsets: Integer[np.ndarray, "seq 2"]
    """Characters of ``text`` that the token covers; -1 for none."""
    text: str
    """What was read, without what the tokenizer or the template put in."""
    image: Path | None = None
    """The picture."""
    grid: tuple[int, int] | None = None
    """Rows and columns of its positions."""
    whole: str = ""
    """What ``text`` was cut from; empty where it was not cut."""
    begin: int = 0
    """The character of it with which ``text`` begins."""

    def has_role(self, role: str) -> Bool[np.ndarray, " seq"]:
        """Which positions somebody says."""
        found: np.ndarray = self.roles == ROLES.index(role)
        return found

    def covers(self, wording: str) -> Bool[np.ndarray, " seq"]:
        """Which tokens have a character in common with a wording, wherever it stands; a cut may go through it."""
        found = np.zeros(len(self.ids), bool)
        whole, reach = self.whole or self.text, len(wording)
        first, last = max(0, self.begin - reach + 1), self.begin + len(self.text) + reach - 1
        start = whole.find(wording, first, last) if wording else -1
        while start >= 0:
            place = start - self.begin
            found |= (self.offsets[:, 0] >= 0) & (self.offsets[:, 0] < place + reach) & (self.offsets[:, 1] > place)
            start = whole.find(wording, start + 1, last)
        return found


def of_text(
    document: str,
    ids: Integer[np.ndarray, " seq"],
    roles: Integer[np.ndarray, " seq"],
    special: Bool[np.ndarray, " seq"],
    offsets: Int[np.ndarray, "seq 2"],
    whole: str,
    cut: tuple[int, int],
) -> Encoded:
    """A sample without a picture: the characters of a text from the first of ``cut`` on that come before the second."""
    none = np.full(len(ids), -1, np.int16)
    begin, end = cut
    return Encoded(
        document, ids, roles, special, none, np.stack([none, none], 1), offsets, whole[begin:end], whole=whole,
        begin=begin,
    )  # fmt: skip
