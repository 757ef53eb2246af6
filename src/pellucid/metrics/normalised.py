"""The area over the perturbation curve between its limits, the one removal score that compares two models."""

from typing import Annotated, ClassVar, Literal, final

import numpy as np
from pydantic import Field

from pellucid.errors import InputError
from pellucid.facts import MetricFacts
from pellucid.games import Question
from pellucid.games.table import all_coalitions
from pellucid.metrics.base import AbstractFaithfulness, Example, outcomes
from pellucid.metrics.functional import removal
from pellucid.metrics.functional.inputs import pooled
from pellucid.metrics.functional.limits import MOST_PLAYERS, Limits, beam_limits, exact_limits, normalised_aopc
from pellucid.metrics.removal import NO_BOUND


@final
class Naopc(AbstractFaithfulness):
    """AOPC between the worst and the best order of this model and input, (AOPC - low) / (high - low) [edin2025].

    High is good: 0 for the worst order, 1 for the best. Beam search finds limits inside the true ones, so that a very
    good or a very bad order may lie a little outside of 0 to 1. NaN where no order is better than another.
    """

    limits: Literal["beam", "exact"] = "beam"
    """How the limits over all orders are found: by beam search, or exactly, for at most 12 features."""
    width: Annotated[int, Field(ge=1)] = 5
    """Width of the beam: how many beginnings of an order are kept at each step, best and worst alike."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="naopc",
        title="Normalised area over the perturbation curve",
        family="removal",
        higher_is_better=True,
        range=NO_BOUND,
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's",
        cost="about width n (n + 1) by beam, shared by all attributions of an input; 2^n exactly",
        source="Edin et al. 2025",
    )

    def rows(self, players: int) -> int:
        if self.limits == "exact":
            return 1 << players
        return players + 1 + self.width * players * (players + 1)

    def score(self, example: Example) -> float:
        values, question = pooled(example.values, self.sign), example.question
        players = len(values)
        if self.limits == "exact" and players > MOST_PLAYERS:
            raise InputError(
                f"the input has {players} features of kind {question.unit!r}, and exact limits ask for all 2^n "
                f"coalitions of at most {MOST_PLAYERS}; use limits='beam' or coarser features."
            )
        along = removal.removed(removal.order(values, example.seed), np.arange(players + 1))
        curve = outcomes(question, along, self.scale)
        return normalised_aopc(removal.aopc(curve), self._limits(question, players), float(np.abs(curve).max()))

    def _limits(self, question: Question, players: int) -> Limits:
        if self.limits == "exact":
            return exact_limits(outcomes(question, all_coalitions(players), self.scale))
        return beam_limits(lambda masks: outcomes(question, masks, self.scale), players, self.width)
