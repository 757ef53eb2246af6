"""Owen values: Shapley values that respect which token belongs to which word, and which word to which field."""

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np
from pydantic import Field

from pellucid.errors import UnknownNameError
from pellucid.facts import Facts
from pellucid.games import Question
from pellucid.games.permutation import Tree, owen_rounds, sampled_rows
from pellucid.methods.base import AbstractMethod, Attribution
from pellucid.methods.sampled import refined
from pellucid.records import Feature, owner


@final
class Owen(AbstractMethod):
    """The Shapley value over the orders that keep every block together [owen1977; winter1989 for nested blocks].

    The blocks are the features' words and fields (sentences where there are no fields). A block's scores sum to the
    Shapley value that it would have as one single player, so coarser sums mean what they say. What lies in no block of
    the coarsest rung, such as a chat template's tokens, forms one block of its own. Without any coarser features it is
    the Shapley value. Enumerated where that costs no more than the orders would, otherwise sampled as
    permutation_shapley is.
    """

    facts: ClassVar[Facts] = Facts(
        name="owen",
        title="Owen value",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        complete=True,
        sampled=True,
        cost="permutations (n - 1) + 2, by default 20 (n - 1) + 2; at most 2^n",
        source="Owen 1977; Winter 1989",
    )

    rungs: tuple[str, ...] | None = None
    """Kinds of blocks, finest first; None: word and then field, or sentence where the input has no fields."""
    permutations: int = Field(default=20, ge=4, multiple_of=2)
    """Orders, reversed ones included (of a round, where a tolerance is set)."""
    tolerance: float | None = Field(default=None, gt=0)
    """Draw round after round until no standard error is larger, in the unit of the target; None: one round."""
    max_permutations: int = Field(default=1000, ge=4, multiple_of=2)
    """Where the rounds end, tolerance reached or not."""

    def rows(self, players: int) -> int:
        return min(1 << players, sampled_rows(self._most, players))

    def attribute(self, question: Question) -> Attribution:
        ladder = question.ladder
        kinds = self.rungs
        if kinds is None:
            kinds = tuple(kind for kind in ("word", "field" if "field" in ladder else "sentence") if kind in ladder)
        for kind in kinds:
            if kind not in ladder:
                raise UnknownNameError("coarser feature kind", kind, ladder)
        tree = feature_tree(question.features, [ladder[kind] for kind in kinds])
        generator = np.random.default_rng(question.seed)
        rounds = owen_rounds(question.game, tree, generator, self.permutations, self._most)
        return refined(self.facts.name, question.game, rounds, most=self._most, tolerance=self.tolerance)

    @property
    def _most(self) -> int:
        return self.permutations if self.tolerance is None else max(self.permutations, self.max_permutations)


def feature_tree(features: Sequence[Feature], rungs: Sequence[Sequence[Feature]]) -> Tree:
    """Nested tuples of feature indices: a branch for every coarse feature that holds some, by character span.

    A branch belongs to the coarse feature that holds its first feature's first visible character. What a rung does not
    hold goes on to the next; what the last does not hold is gathered in one branch.
    """
    nodes: list[tuple[Feature, Tree]] = [(feature, index) for index, feature in enumerate(features)]
    outside: list[tuple[Feature, Tree]] = []
    for coarse in rungs:
        homes = [owner(first, coarse) for first, _ in nodes]
        held: dict[int, list[tuple[Feature, Tree]]] = {}
        for home, node in zip(homes, nodes, strict=True):
            held.setdefault(home, []).append(node)
        outside = held.pop(len(coarse), [])
        nodes = [(inside[0][0], _branch(inside)) for inside in held.values()] + outside
    kept = nodes[: len(nodes) - len(outside)]
    return tuple(tree for _, tree in kept) + ((_branch(outside),) if outside else ())


def _branch(nodes: Sequence[tuple[Feature, Tree]]) -> Tree:
    """One tree of several; a single one needs no branch of its own."""
    return nodes[0][1] if len(nodes) == 1 else tuple(tree for _, tree in nodes)
