"""Cutting a text into words and sentences by the Unicode rules (UAX 29)."""

from collections.abc import Iterable
from itertools import pairwise

import regex
from uniseg.sentencebreak import sentences as unicode_sentences

# With the WORD flag, \b is the word boundary of UAX 29 instead of a change between \w and \W.
_BOUNDARY = regex.compile(r"(?V1w)\b")

Span = tuple[int, int]


def words(text: str) -> list[Span]:
    """Spans of the words; a mark of punctuation is a word of its own, white space is none.

    >>> text = "Mr. O'Neill didn't pay $3.50!"
    >>> [text[start:end] for start, end in words(text)]
    ['Mr', '.', "O'Neill", "didn't", 'pay', '$', '3.50', '!']
    """
    cuts = sorted({0, *(match.start() for match in _BOUNDARY.finditer(text)), len(text)})
    return _stripped(text, pairwise(cuts))


def sentences(text: str) -> list[Span]:
    """Spans of the sentences, without the white space around them.

    >>> text = "It hurts. Does it? Yes!"
    >>> [text[start:end] for start, end in sentences(text)]
    ['It hurts.', 'Does it?', 'Yes!']
    """
    cuts = [0]
    for sentence in unicode_sentences(text):
        cuts.append(cuts[-1] + len(sentence))
    return _stripped(text, pairwise(cuts))


def _stripped(text: str, spans: Iterable[Span]) -> list[Span]:
    """Spans without the white space at their ends; spans of nothing else are dropped."""
    kept = []
    for start, end in spans:
        piece = text[start:end]
        if piece.strip():
            kept.append((start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))))
    return kept
