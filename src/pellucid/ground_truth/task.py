"""The planted task: sentences whose label follows from a few words, so that it is known which tokens can matter."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

LENGTH = 12
"""Words of a sentence."""
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[MASK]")
POSITIVE = ("good", "bright", "kind", "calm")
NEGATIVE = ("bad", "dim", "harsh", "tense")
NEGATORS = ("not", "never")
NEUTRAL = (
    "river", "lamp", "stone", "garden", "paper", "window", "train", "cloud", "apple", "music", "winter", "bread",
    "green", "seven", "north", "table", "slow", "round", "early", "coat", "island", "letter", "morning", "bridge",
)  # fmt: skip
LABELS = ("negative", "positive")
MOST_KEYWORDS = 4
NEGATED = 0.3
"""Chance that a negator stands before a keyword."""


class Planted(NamedTuple):
    """One sentence of the task."""

    words: tuple[str, ...]
    """Its words."""
    rationale: Bool[np.ndarray, " word"]
    """The words that can matter: keywords and their negators."""
    label: str
    """The sign of the sum over keywords: +1 or -1, turned around by a negator right before."""


def vocabulary() -> dict[str, int]:
    """Number of each token."""
    return {word: number for number, word in enumerate((*SPECIAL, *NEUTRAL, *POSITIVE, *NEGATIVE, *NEGATORS))}


def draw(generator: np.random.Generator) -> Planted:
    """One sentence whose keywords do not balance."""
    while True:
        words = [str(word) for word in generator.choice(NEUTRAL, LENGTH)]
        planted = np.zeros(LENGTH, dtype=bool)
        # Places two apart leave room for a negator before each keyword.
        pairs = generator.choice(LENGTH // 2, generator.integers(1, MOST_KEYWORDS + 1), replace=False)
        total = 0
        for place in 2 * pairs + 1:
            sign, negated = int(generator.choice((-1, 1))), bool(generator.random() < NEGATED)
            words[place] = str(generator.choice(POSITIVE if sign > 0 else NEGATIVE))
            planted[place] = True
            if negated:
                words[place - 1] = str(generator.choice(NEGATORS))
                planted[place - 1] = True
            total += -sign if negated else sign
        if total:
            return Planted(tuple(words), planted, LABELS[total > 0])
