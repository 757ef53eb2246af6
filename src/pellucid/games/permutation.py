"""Values from the orders in which players join: Shapley's over all orders, Owen's over those that keep blocks together.

A tree of players is a player's index, or a tuple of trees. The flat tree ``(0, 1, 2)`` has no blocks, and its Owen
value is the Shapley value.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pellucid.errors import InputError
from pellucid.games.estimate import Estimate, budgets
from pellucid.games.game import AbstractGame, Coalitions
from pellucid.games.table import all_coalitions, shapley_weights

Tree = int | tuple[Any, ...]
Orders = Int[np.ndarray, "order player"]
CELLS_AT_ONCE = 2**24


def leaves(tree: Tree) -> list[int]:
    """The players of a tree, from left to right."""
    return [tree] if isinstance(tree, int) else [leaf for child in tree for leaf in leaves(child)]


def coalitions_needed(tree: Tree) -> int:
    """How many coalitions the exact Owen value plays: at each branch all subsets, in every context from above."""

    def partial(branch: Tree, contexts: int) -> int:
        if isinstance(branch, int):
            return 0
        own = contexts * ((1 << len(branch)) - 2)
        return own + sum(partial(child, contexts * (1 << len(branch) - 1)) for child in branch)

    return 2 + partial(tree, 1)


def sampled_rows(orders: int, players: int) -> int:
    """The most coalitions that so many orders play: the proper prefixes of each, the empty and the full coalition."""
    return 2 + orders * (players - 1)


def owen_rounds(
    game: AbstractGame, tree: Tree, generator: np.random.Generator, orders: int, most: int
) -> Iterator[Estimate]:
    """Ever better Owen values [owen1977, for trees winter1989], after ``orders`` orders, twice as many, ... ``most``.

    The average marginal contribution over random orders that keep every branch of the tree together, each with its
    reverse [castro2009; mitchell2022]; standard errors are those of the mean over pairs. Each estimate
    sums to v(N) - v(empty). Exact, and the last, once the orders would cost as much as ``coalitions_needed(tree)``.
    orders, most: even, at least 4. Raises InputError where the tree does not hold every player once.
    """
    if sorted(leaves(tree)) != list(range(game.players)):
        raise InputError(f"a tree over {game.players} players must hold each of 0 to {game.players - 1} exactly once.")
    needed = coalitions_needed(tree)
    moments = _Moments()
    seen: set[bytes] = set()
    for total in budgets(orders, most):
        if needed <= sampled_rows(total, game.players):
            values = exact_owen(game, tree)
            yield Estimate(values, np.zeros_like(values), total, exact=True)
            return
        fresh = _fresh_orders(tree, generator, total // 2 - moments.count, seen)
        size = max(1, CELLS_AT_ONCE // (2 * game.players**2))
        for start in range(0, len(fresh), size):
            part = fresh[start : start + size]
            moments.add((marginals(game, part) + marginals(game, part[:, ::-1])) / 2)
        yield Estimate(moments.mean, moments.standard_error, total, exact=False)


def exact_owen(game: AbstractGame, tree: Tree) -> Float[np.ndarray, "target player"]:
    """The Owen value of every player by enumeration, at the price of ``coalitions_needed(tree)``."""
    values = np.empty((len(game.full), game.players))
    nobody = np.zeros((1, game.players), dtype=bool)
    for player, before, weights in _contexts(tree, nobody, np.ones(1)):
        after = before.copy()
        after[:, player] = True
        values[:, player] = weights @ (game.value(after) - game.value(before))
    return values


def marginals(game: AbstractGame, orders: Orders) -> Float[np.ndarray, "order target player"]:
    """What each player adds when it joins those before it in the order."""
    rank = np.argsort(orders, axis=1)
    prefixes = rank[:, None, :] < np.arange(game.players + 1)[:, None]
    values = game.value(prefixes.reshape(-1, game.players))
    steps = np.diff(values.reshape(len(orders), game.players + 1, -1), axis=1)
    return np.take_along_axis(steps, rank[:, :, None], axis=1).swapaxes(1, 2)


def _fresh_orders(tree: Tree, generator: np.random.Generator, pairs: int, seen: set[bytes]) -> Orders:
    """Random orders that keep branches together; none equal to, or the reverse of, another one ever drawn."""
    # A repeated pair would tell of no spread where there is one. Enough distinct pairs are left: if all orders were
    # fewer than 2 * pairs, they would have fewer prefixes than the budget, and the value would be enumerated.
    drawn: list[list[int]] = []
    while len(drawn) < pairs:
        order = _shuffled(tree, generator)
        key = np.array(min(order, order[::-1])).tobytes()
        if key not in seen:
            seen.add(key)
            drawn.append(order)
    return np.array(drawn)


def _shuffled(tree: Tree, generator: np.random.Generator) -> list[int]:
    if isinstance(tree, int):
        return [tree]
    return [leaf for child in generator.permutation(len(tree)) for leaf in _shuffled(tree[child], generator)]


def _contexts(
    tree: Tree, outside: Coalitions, weights: Float[np.ndarray, " coalition"]
) -> Iterator[tuple[int, Coalitions, Float[np.ndarray, " coalition"]]]:
    """For each player, the coalitions that it may find when it joins, with their probabilities."""
    if isinstance(tree, int):
        yield tree, outside, weights
        return
    members: Bool[np.ndarray, "child player"] = np.zeros((len(tree), outside.shape[1]), dtype=bool)
    for row, child in enumerate(tree):
        members[row, leaves(child)] = True
    earlier = all_coalitions(len(tree) - 1)
    chances = shapley_weights(len(tree))[earlier.sum(1)]
    for row, child in enumerate(tree):
        siblings = (earlier[:, :, None] & np.delete(members, row, axis=0)).any(1)
        contexts = (outside[:, None] | siblings).reshape(-1, outside.shape[1])
        yield from _contexts(child, contexts, np.outer(weights, chances).ravel())


class _Moments:
    """Running mean and spread of contributions, around the first one so that nothing cancels."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, pairs: Float[np.ndarray, "pair target player"]) -> None:
        if not self.count:
            self.origin = pairs[0]
            self.first = self.second = np.zeros_like(pairs[0])
        self.count += len(pairs)
        self.first = self.first + (pairs - self.origin).sum(0)
        self.second = self.second + ((pairs - self.origin) ** 2).sum(0)

    @property
    def mean(self) -> Float[np.ndarray, "target player"]:
        mean: Float[np.ndarray, "target player"] = self.origin + self.first / self.count
        return mean

    @property
    def standard_error(self) -> Float[np.ndarray, "target player"]:
        spread = np.maximum(self.second - self.first**2 / self.count, 0)
        error: Float[np.ndarray, "target player"] = np.sqrt(spread / (self.count - 1) / self.count)
        return error
