"""Who says whether a concept appears in a text: a regular expression, a classifier, or any function."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import final

from pellucid.errors import InputError, UnknownNameError
from pellucid.models import TextClassifier

ROWS = 32


class AbstractMatcher(ABC):
    """Whether one concept appears in a text."""

    name: str
    """What the concept is called."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What decides, in one line; a run goes on only where this is as it was."""

    @abstractmethod
    def found(self, texts: Sequence[str]) -> list[bool | None]:
        """Whether each text has the concept; None where whoever was asked gave no usable answer."""


@final
class Pattern(AbstractMatcher):
    r"""A regular expression that is found somewhere in the text; small and capital letters are alike.

    Raises InputError for a pattern that is none, and for one that is found in the empty text, and so everywhere.

    >>> Pattern("war", r"\b(war|army)\b").found(["An Army of ants", "warm"])
    [True, False]
    """

    def __init__(self, name: str, pattern: str) -> None:
        try:
            self._compiled = re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise InputError(f"the regular expression {pattern!r} of {name!r} cannot be read: {error}.") from None
        if self._compiled.search(""):
            raise InputError(
                f"the regular expression {pattern!r} of {name!r} is found in every text; write a stricter one."
            )
        self.name = name

    @property
    def described(self) -> str:
        return f"regular expression {self._compiled.pattern}"

    def found(self, texts: Sequence[str]) -> list[bool | None]:
        return [self._compiled.search(text) is not None for text in texts]


@final
class Classified(AbstractMatcher):
    """The label that a text classifier prefers. Raises UnknownNameError on a label that it does not have."""

    def __init__(self, name: str, classifier: TextClassifier, label: str) -> None:
        if label not in classifier.labels:
            raise UnknownNameError(f"label of {classifier.name}", label, classifier.labels)
        self.name, self._classifier, self._label = name, classifier, label

    @property
    def described(self) -> str:
        return f"{self._classifier.name} says {self._label}"

    def found(self, texts: Sequence[str]) -> list[bool | None]:
        wanted, said = self._classifier.labels.index(self._label), list[bool | None]()
        for start in range(0, len(texts), ROWS):
            rows = [self._classifier.row(text) for text in texts[start : start + ROWS]]
            said.extend((self._classifier.logits(rows).argmax(1) == wanted).tolist())
        return said


@final
class Called(AbstractMatcher):
    """Any function from a text to true or false, or to None where it cannot tell."""

    def __init__(self, name: str, function: Callable[[str], bool | None], described: str = "") -> None:
        self.name, self._function = name, function
        self._described = described or getattr(function, "__qualname__", type(function).__name__)

    @property
    def described(self) -> str:
        return f"function {self._described}"

    def found(self, texts: Sequence[str]) -> list[bool | None]:
        return [self._function(text) for text in texts]


def matcher_of(name: str, given: "AbstractMatcher | str | Callable[[str], bool | None]") -> AbstractMatcher:
    """A matcher, a regular expression, or a function, as a matcher."""
    if isinstance(given, AbstractMatcher):
        return given
    return Pattern(name, given) if isinstance(given, str) else Called(name, given)
