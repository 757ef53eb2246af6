"""Shapley, Owen and Banzhaf values by the plainest reading of their definitions: dictionaries, loops and all orders."""

from collections.abc import Iterator
from itertools import chain, combinations, permutations, product
from typing import Any

Worth = dict[frozenset[int], float]


def shapley(worth: Worth, players: int) -> list[float]:
    """Mean marginal contribution over all n! orders."""
    return _mean_marginals(worth, [*permutations(range(players))], players)


def owen(worth: Worth, tree: Any, players: int) -> list[float]:
    """Mean marginal contribution over all orders in which every branch of the tree stays together."""
    return _mean_marginals(worth, [*orders_of(tree)], players)


def banzhaf(worth: Worth, players: int) -> list[float]:
    """Mean marginal contribution over all coalitions of the others."""
    values = []
    for player in range(players):
        others = [other for other in range(players) if other != player]
        subsets = [frozenset(s) for size in range(players) for s in combinations(others, size)]
        values.append(sum(worth[s | {player}] - worth[s] for s in subsets) / len(subsets))
    return values


def orders_of(tree: Any) -> Iterator[tuple[int, ...]]:
    """All orders of a tree's players: the branches in any order, and so within each branch."""
    if isinstance(tree, int):
        yield (tree,)
        return
    for children in permutations(tree):
        for parts in product(*[[*orders_of(child)] for child in children]):
            yield tuple(chain(*parts))


def _mean_marginals(worth: Worth, orders: list[tuple[int, ...]], players: int) -> list[float]:
    total = [0.0] * players
    for order in orders:
        before: frozenset[int] = frozenset()
        for player in order:
            total[player] += worth[before | {player}] - worth[before]
            before |= {player}
    return [value / len(orders) for value in total]
