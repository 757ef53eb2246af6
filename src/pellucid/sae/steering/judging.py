"""A language model as judge: whether a concept appears, and ratings and their harmonic mean as in AxBench [wu2025]."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, final, get_args

from pellucid.sae.interpretation.asking import LLM, Question
from pellucid.sae.steering.matchers import AbstractMatcher

Aspect = Literal["concept", "instruction", "fluency"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
_SYSTEM = "You judge texts that a language model wrote. Answer as briefly as you are asked to."
_YES = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<!\w)[-+\u2212.,]*\d+(?:[.,]\d+)*")
_RATING = re.compile(r"([0-2])(?:\.0+)?")
# What makes a number part of a fraction, a range, a share or a word.
_PART = re.compile(r"\s*(?:[/%]|(?:out\s+of|of|to|or)\b|[-\u2013\u2014]\s*\d)|\w", re.IGNORECASE)
_QUESTIONS: dict[Aspect, str] = {
    "concept": "How far does the answer deal with this concept: {concept}? 0: not at all; 1: it is touched, or forced "
    "into the text; 2: it clearly belongs to what is said.",
    "instruction": "How far does the answer do what the prompt asks? 0: it has nothing to do with it; 1: in part; "
    "2: it does.",
    "fluency": "How fluent is the answer? 0: it cannot be read, or repeats itself without end; 1: it reads oddly; "
    "2: it reads well. Judge the language alone and not what is said.",
}


@final
class Judged(AbstractMatcher):
    """A language model that is asked whether the concept appears. An empty text is not asked about: it has none.

    Args:
        name: what the concept is called.
        judge: who is asked.
        concept: the concept in words.
    """

    def __init__(self, name: str, judge: LLM, concept: str) -> None:
        self.name, self._judge, self._concept = name, judge, concept

    @property
    def described(self) -> str:
        return f"{self._judge.name} asked about {self._concept}"

    def found(self, texts: Sequence[str]) -> list[bool | None]:
        asked = [place for place, text in enumerate(texts) if text.strip()]
        said = self._judge.ask([self._question(texts[place]) for place in asked]) if asked else []
        verdicts: list[bool | None] = [False] * len(texts)
        for place, answer in zip(asked, said, strict=True):
            word = _YES.match(answer.text)
            verdicts[place] = None if word is None else word[1].lower() == "yes"
        return verdicts

    def _question(self, text: str) -> Question:
        asked = f"Does the following text mention or deal with this concept: {self._concept}?"
        return Question(
            system=_SYSTEM,
            user=f"{asked}\n\n<text>\n{text}\n</text>\n\nAnswer with one word, yes or no.",
            most_tokens=4,
        )


class Rating(NamedTuple):
    """What a judge says of one answer, from 0 to 2 each; None where it gave no number."""

    concept: float | None
    """How far the concept is in it."""
    instruction: float | None
    """How far it still answers the prompt."""
    fluency: float | None
    """How fluent it is."""

    @property
    def harmonic(self) -> float | None:
        """The harmonic mean, 0 if any rating is 0, None if any is missing.

        >>> Rating(2, 2, 1).harmonic
        1.5
        """
        found = [each for each in self if each is not None]
        if len(found) < len(self):
            return None
        return 0.0 if 0 in found else len(found) / sum(1 / each for each in found)


def rate(judge: LLM, concept: str, prompts: Sequence[str], texts: Sequence[str]) -> list[Rating]:
    """Ratings of the answers to some prompts for one concept: a question for each aspect of each answer."""
    questions = [
        Question(system=_SYSTEM, user=_rating(aspect, concept, prompt, text), most_tokens=8)
        for prompt, text in zip(prompts, texts, strict=True)
        for aspect in ASPECTS
    ]
    numbers = [_number(answer.text) for answer in judge.ask(questions)]
    size = len(ASPECTS)
    return [Rating(*numbers[start : start + size]) for start in range(0, len(numbers), size)]


def _rating(aspect: Aspect, concept: str, prompt: str, text: str) -> str:
    question = _QUESTIONS[aspect].format(concept=concept)
    shown = f"<prompt>\n{prompt}\n</prompt>\n\n<answer>\n{text}\n</answer>"
    return f"{question}\n\n{shown}\n\nAnswer with one number, 0, 1 or 2."


def _number(said: str) -> float | None:
    """The first number that was said, where it is one of the scale and stands for itself; else None.

    >>> _number("2.0"), _number("1 out of 2"), _number("0.5")
    (2.0, None, None)
    """
    found = _NUMBER.search(said)
    rating = None if found is None else _RATING.fullmatch(found[0])
    if found is None or rating is None or _PART.match(said, found.end()):
        return None
    return float(rating[1])
