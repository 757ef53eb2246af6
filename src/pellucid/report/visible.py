"""Text of unknown origin made fit to be looked at: nothing hidden, nothing reordered, nothing endless."""

from collections.abc import Iterator
from itertools import groupby
from typing import Literal, NamedTuple
from unicodedata import category

LIMIT = 300
"""Characters of one text that are displayed, unless a place asks for fewer or more."""
MOST_COMBINING = 4
"""Combining marks that may stand on one character; a longer stack would reach into the lines above and below."""
MOST_REPEATED = 3
"""Times that a hidden character is written out in a row."""

# Categories Cc Cf Cs Co Cn Zl Zp cover controls, bidi, zero-width, surrogates; these draw nothing and are not in them.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_JOINER, _PICTURE = "\u200d", "\ufe0f"


class Piece(NamedTuple):
    """A run of text that is drawn in one way."""

    kind: Literal["plain", "escape", "break", "note"]
    """As it is; a hidden character by its code point; a line break; a remark of ours."""
    text: str
    """What is drawn."""


def _is_emoji_part(text: str, index: int) -> bool:
    """Whether a joiner or picture selector does its work inside an emoji, where it hides nothing."""
    before = text[index - 1] if index else ""
    pictorial = bool(before) and (category(before) in {"So", "Sk"} or before == _PICTURE)
    if text[index] == _PICTURE:
        return pictorial and before != _PICTURE
    return pictorial and index + 1 < len(text) and category(text[index + 1]) == "So"


def _is_hidden(text: str, index: int) -> bool:
    character = text[index]
    if character in (_JOINER, _PICTURE):
        return not _is_emoji_part(text, index)
    selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return selector or character in _BLANK or category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _pieces(text: str) -> Iterator[Piece]:
    run, marks = "", 0
    for index, character in enumerate(text):
        marks = marks + 1 if category(character).startswith("M") else 0
        if character == "\n":
            piece = Piece("break", "⏎")
        elif character == "\t":
            piece = Piece("escape", "⇥")
        elif _is_hidden(text, index) or marks > MOST_COMBINING:
            piece = Piece("escape", f"⟨U+{ord(character):04X}⟩")
        else:
            run += character
            continue
        if run:
            yield Piece("plain", run)
        run = ""
        yield piece
    if run:
        yield Piece("plain", run)


def _runs(text: str) -> Iterator[list[Piece]]:
    """Pieces, where a hidden character repeated more than ``MOST_REPEATED`` times stands once, with its count."""
    for piece, group in groupby(_pieces(text)):
        same = list(group)
        many = piece.kind == "escape" and len(same) > MOST_REPEATED
        yield [Piece("escape", f"{piece.text}\N{MULTIPLICATION SIGN}{len(same)}")] if many else same


def pieces(text: str, limit: int = LIMIT) -> list[Piece]:
    """The text as runs, hidden characters as ``⟨U+202E⟩``, at most ``limit`` characters and then the true length."""
    shown = [piece for same in _runs(text[:limit]) for piece in same]
    if len(text) > limit:
        shown.append(Piece("note", f"… ({len(text):,} characters)"))
    return shown


def visible(text: str, limit: int = LIMIT) -> str:
    r"""The same as one plain string, for attributes and terminals.

    >>> visible("a\u202eb\x00c"), visible("x" * 1000, limit=3)
    ('a⟨U+202E⟩b⟨U+0000⟩c', 'xxx… (1,000 characters)')
    """
    return "".join(piece.text for piece in pieces(text, limit))
