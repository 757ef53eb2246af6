"""Faithfulness by soft removal: numbers of the embeddings are dropped at random, more of them where scores are low."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pellucid.facts import MetricFacts
from pellucid.games import Path, Question
from pellucid.metrics.base import AbstractFaithfulness, Example, scaled
from pellucid.metrics.functional import soft
from pellucid.metrics.functional.inputs import pooled
from pellucid.metrics.graded import graded_baseline
from pellucid.metrics.removal import NO_BOUND

Retained = Annotated[float, Field(gt=0, lt=1)]


class _Soft(AbstractFaithfulness):
    """A metric over random halves of the embeddings.

    A number that is dropped takes the baseline's value, which is what the imputer puts there; ``baseline="zero"`` is
    the paper's. A baseline that cannot be reached by degrees, such as deletion, is refused.
    """

    scale: Literal["probability"] = "probability"
    """It is made of probabilities."""
    draws: Annotated[int, Field(ge=1)] = 32
    """Draws over which the mean is taken."""
    retained: Retained | None = 0.5
    """Pi, the mean share that stays, the same for every attribution; None: whatever min-max scaling makes it."""
    baseline: str | None = None
    """What stands for a dropped number; None: what the imputer puts there."""
    least_drop: Retained = soft.LEAST_DROP
    """Least fall of the probability, from the whole input to the empty one, of which a share is taken."""

    @property
    def compares_models(self) -> bool:
        return False

    def rows(self, players: int) -> int:
        return self.draws + 2

    def conditions(self, question: Question) -> tuple[str, ...]:
        return (f"graded to {graded_baseline(self, question, self.baseline)}", question.unit, self.scale)

    @abstractmethod
    def shares(self, values: Float[np.ndarray, " player"]) -> Float[np.ndarray, " player"] | None:
        """The probability with which each feature's numbers stay; None where it is undefined."""

    @abstractmethod
    def reduced(self, full: float, empty: float, kept: Float[np.ndarray, " draw"]) -> float:
        """The score, from the probabilities on the input, on the empty one and on the draws."""

    @final
    def score(self, example: Example) -> float:
        question = example.question
        path = Path(question, graded_baseline(self, question, self.baseline))
        shares = self.shares(pooled(example.values, self.sign))
        if shares is None:
            return float("nan")
        # The ends first: a target without a probability is refused before the draws are asked.
        full, empty = scaled(question, path.value(torch.stack([path.input, path.baseline])).cpu().numpy(), self.scale)
        drawn = [path.value(points).cpu() for points in _drawn(path, shares, self.draws, example.seed)]
        kept = scaled(question, torch.cat(drawn).numpy(), self.scale)
        return self.reduced(float(full), float(empty), kept)


def _drawn(
    path: Path, shares: Float[np.ndarray, " player"], draws: int, seed: int
) -> Iterator[Float[Tensor, "draw seq dim"]]:
    """Batches of draws. All attributions of one input and seed share their random numbers."""
    generator = torch.Generator().manual_seed(seed)
    # A position of no feature is the same at both ends, whatever is drawn for it.
    stay = torch.from_numpy(shares)[path.owner.cpu().clamp(min=0)][:, None]
    for part in path.chunks(draws):
        uniform = [torch.rand(path.input.shape, generator=generator) for _ in range(part.stop - part.start)]
        kept = (torch.stack(uniform) < stay).to(path.input.device)
        yield torch.where(kept, path.input, path.baseline)


@final
class SoftNs(_Soft):
    """What is left when numbers of high-scoring features stay: soft normalised sufficiency [zhao2023]. High is good.

    (S - S0) / (1 - S0), S = 1 - max(0, p(x) - p(x')). With ``retained`` every attribution keeps as much, pi-Soft-NS
    [huang2026]; without, one whose scores are high on the average keeps more and scores higher for that alone.
    NaN where the probability of the empty input is not lower by ``least_drop``.
    """

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="soft_ns",
        title="Soft normalised sufficiency (pi-Soft-NS)",
        family="removal",
        higher_is_better=True,
        range=(NO_BOUND[0], 1.0),
        signed=True,
        scale_invariant=True,
        chance="a random map's",
        cost="draws + 2",
        source="Zhao & Aletras 2023, section 3; retained share: Huang & Chan 2026",
    )

    def shares(self, values: Float[np.ndarray, " player"]) -> Float[np.ndarray, " player"] | None:
        return soft.kept_shares(values, self.retained)

    def reduced(self, full: float, empty: float, kept: Float[np.ndarray, " draw"]) -> float:
        return soft.soft_sufficiency(full, empty, kept, self.least_drop)


@final
class SoftNc(_Soft):
    """What is lost when numbers of low-scoring features stay: soft normalised comprehensiveness [zhao2023].

    High is good. max(0, p(x) - p(x')) / (1 - S0). With ``retained`` every attribution keeps as much, pi-Soft-NC
    [huang2026]; without, one whose scores are high on the average drops more and scores higher for that alone.
    NaN where the probability of the empty input is not lower by ``least_drop``.
    """

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="soft_nc",
        title="Soft normalised comprehensiveness (pi-Soft-NC)",
        family="removal",
        higher_is_better=True,
        range=(0.0, NO_BOUND[1]),
        signed=True,
        scale_invariant=True,
        chance="a random map's",
        cost="draws + 2",
        source="Zhao & Aletras 2023, section 3; retained share: Huang & Chan 2026",
    )

    def shares(self, values: Float[np.ndarray, " player"]) -> Float[np.ndarray, " player"] | None:
        return soft.kept_shares(-values, self.retained)

    def reduced(self, full: float, empty: float, kept: Float[np.ndarray, " draw"]) -> float:
        return soft.soft_comprehensiveness(full, empty, kept, self.least_drop)
