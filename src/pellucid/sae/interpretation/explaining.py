"""From marked examples to a phrase."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol, final, runtime_checkable

from pellucid.sae.interpretation.asking import LLM, Answer, Question
from pellucid.sae.interpretation.examples import Example
from pellucid.sae.interpretation.prompts import WORDS, explaining, read_explanation


class Explained(NamedTuple):
    """What an explainer said of one latent."""

    phrase: str | None
    """At most 20 words; None where the answer could not be read."""
    prompts: tuple[tuple[Question, Answer], ...] = ()
    """What was asked and answered, for the record."""


@runtime_checkable
class Explainer(Protocol):
    """Says in a phrase what a latent stands for."""

    @property
    def name(self) -> str:
        """What results call it."""

    def explain(self, latents: Sequence[Sequence[Example]]) -> list[Explained]:
        """A phrase for the examples of each latent. Raises ModelError."""


@final
class LLMExplainer:
    """A language model that is shown the examples."""

    def __init__(self, llm: LLM) -> None:
        self.name, self._llm = llm.name, llm

    def explain(self, latents: Sequence[Sequence[Example]]) -> list[Explained]:
        """A phrase for the examples of each latent; all are asked for together. Raises ModelError."""
        questions = [explaining(examples, self._llm.sees) for examples in latents]
        answers = self._llm.ask(questions)
        return [
            Explained(read_explanation(answer), ((question, answer),))
            for question, answer in zip(questions, answers, strict=True)
        ]


@final
class TokenExplainer:
    """The tokens on which the latent is most active, as a phrase: what any better explanation has to beat."""

    name = "tokens"

    def __init__(self, tokens: int = 6) -> None:
        self._tokens = min(tokens, WORDS // 2)

    def explain(self, latents: Sequence[Sequence[Example]]) -> list[Explained]:
        """``the tokens A, B, C``, those with the largest sum of levels first."""
        return [Explained(self._phrase(examples)) for examples in latents]

    def _phrase(self, examples: Sequence[Example]) -> str | None:
        sums: Counter[str] = Counter()
        for example in examples:
            if example.on_picture:
                sums["parts of pictures"] += sum(example.picture.levels) if example.picture else 0
            for piece, level in zip(example.pieces, example.levels, strict=True):
                if level and piece.strip():
                    sums["".join(piece.split())] += level
        # Of equal sums the first in the alphabet, so that the order of the examples does not matter.
        first = sorted(sums, key=lambda token: (-sums[token], token))[: self._tokens]
        return f"the tokens {', '.join(first)}" if first else None
