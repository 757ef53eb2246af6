"""KernelSHAP: the Shapley value as a weighted regression on coalitions, each played together with its complement."""

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Bool, Float

from pellucid.errors import InputError
from pellucid.games.estimate import Estimate, budgets
from pellucid.games.game import AbstractGame, Coalitions

GOLDEN = (5**0.5 - 1) / 2
LISTED_AT_MOST = 20_000


def kernel_shap_rounds(
    game: AbstractGame, generator: np.random.Generator, samples: int, most: int
) -> Iterator[Estimate]:
    """Ever better KernelSHAP values after ``samples`` coalitions, twice as many, ... ``most``.

    Minimises sum over S of k(S) (v(S) - v(empty) - sum of phi_i over S)^2 with sum phi = v(N) - v(empty) and
    k(S) = (n - 1) / (C(n, s) s (n - s)) [lundberg2017, theorem 2], over pairs of complements [covert2021].
    Exact, and the last, once all 2^n - 2 coalitions are played. ``samples`` counts them without the empty and the full
    one. Raises InputError where they are fewer than 2 n: n - 1 pairs at least determine the regression.
    """
    design = PairDesign(game.players, generator)
    if samples // 2 < design.smallest:
        raise InputError(
            f"samples={samples} is too few for {game.players} players: KernelSHAP needs at least "
            f"{2 * design.smallest}; give more samples or explain coarser features."
        )
    for total in budgets(samples, most):
        design.extend(total // 2)
        values, error = _fit(game, design)
        yield Estimate(values, error, 2 * len(design.pairs), design.complete)
        if design.complete:
            return


class PairDesign:
    """Pairs {S, N without S} in an order whose every beginning is a good design for the Shapley kernel.

    The sizes of S follow the kernel by a low-discrepancy sequence, S is uniform within its size and never repeated, so
    that sizes fill up one after another, the smallest first. A filled size enters with its exact weight, the others
    share the rest of the kernel's mass. Size 1 is filled from the start, which makes the regression solvable.
    """

    def __init__(self, players: int, generator: np.random.Generator) -> None:
        sizes = range(1, players // 2 + 1)
        middle = [2 * size == players for size in sizes]
        self.counts = [comb(players, size) // (1 + half) for size, half in zip(sizes, middle, strict=True)]
        self.mass = np.array([(2 - half) / (s * (players - s)) for s, half in zip(sizes, middle, strict=True)])
        self.drawn = [0] * len(self.counts)
        self.pairs: list[Bool[np.ndarray, " player"]] = []
        self._size_of: list[int] = []
        self._streams = [_subsets(players, size, generator) for size in sizes]
        self._phase = generator.random()
        for _ in range(self.smallest):
            self._draw(0)

    @property
    def smallest(self) -> int:
        """The fewest pairs that a design holds: those of size 1."""
        return self.counts[0] if self.counts else 0

    @property
    def complete(self) -> bool:
        """Whether every coalition is in the design."""
        return self.drawn == self.counts

    def extend(self, pairs: int) -> None:
        """Draw until the design holds so many pairs, or all there are."""
        while len(self.pairs) < pairs and not self.complete:
            open_sizes = [size for size, count in enumerate(self.counts) if self.drawn[size] < count]
            self._phase = (self._phase + GOLDEN) % 1
            reach = np.cumsum(self.mass[open_sizes])
            self._draw(open_sizes[int(np.searchsorted(reach[:-1], self._phase * reach[-1], side="right"))])

    def weights(self) -> Float[np.ndarray, " pair"]:
        """Weight of each pair in the regression."""
        filled = np.array([drawn == count for drawn, count in zip(self.drawn, self.counts, strict=True)], dtype=bool)
        drawn = np.array(self.drawn)
        shared = self.mass[~filled].sum() / max(1, drawn[~filled].sum())
        by_size: Float[np.ndarray, " size"] = np.where(filled, self.mass / np.maximum(drawn, 1), shared)
        return by_size[self._size_of]

    def unseen_fraction(self) -> Float[np.ndarray, " pair"]:
        """For each pair, the fraction of the pairs of its size that were not drawn: its share in the sampling error."""
        return np.array([1 - drawn / count for drawn, count in zip(self.drawn, self.counts, strict=True)])[
            self._size_of
        ]

    def _draw(self, size: int) -> None:
        self.pairs.append(next(self._streams[size]))
        self._size_of.append(size)
        self.drawn[size] += 1


def _subsets(players: int, size: int, generator: np.random.Generator) -> Iterator[Bool[np.ndarray, " player"]]:
    """The subsets of one size in random order; of half the players, one of each complementary two."""
    halves = 2 * size == players
    if comb(players, size) <= LISTED_AT_MOST:
        listed = np.array([chosen for chosen in combinations(range(players), size) if not halves or chosen[0] == 0])
        for row in generator.permutation(len(listed)):
            yield np.isin(np.arange(players), listed[row])
        return
    seen: set[bytes] = set()
    while True:
        subset = np.isin(np.arange(players), generator.choice(players, size, replace=False))
        subset = ~subset if halves and not subset[0] else subset
        if (key := np.packbits(subset).tobytes()) not in seen:
            seen.add(key)
            yield subset


def _fit(
    game: AbstractGame, design: PairDesign
) -> tuple[Float[np.ndarray, "target player"], Float[np.ndarray, "target player"]]:
    """Values and standard errors [target, player] of the regression under the efficiency constraint.

    A pair's two squares add up to a constant and (d - c.phi)^2 / 2 with d = v(S) - v(N without S), c = +1 in S, -1
    outside. So phi = e / n + K C'W (d - C e / n), where e = v(N) - v(empty) and K inverts C'WC on vectors of sum 0.
    The errors are the sandwich K C'W diag(r^2) W C K over the pairs of unfilled sizes.
    """
    even = (game.full - game.empty) / game.players
    if not design.pairs:
        return even[:, None], np.zeros((len(even), 1))
    coalitions: Coalitions = np.stack(design.pairs)
    played = game.value(np.concatenate([coalitions, ~coalitions]))
    signs = np.where(coalitions, 1.0, -1.0)
    difference = played[: len(signs)] - played[len(signs) :] - signs.sum(1, keepdims=True) * even
    weights = design.weights()
    centred = signs - signs.mean(1, keepdims=True)
    gram = centred.T @ (weights[:, None] * centred)
    # Adding the mean direction, which centred rows never touch, makes the matrix invertible and changes nothing else.
    influence = weights[:, None] * np.linalg.solve(gram + np.trace(gram) / game.players**2, centred.T).T
    change = difference.T @ influence
    residual = difference - centred @ change.T
    leverage = np.minimum((influence * centred).sum(1), 1 - 1e-9)
    spread = (residual / (1 - leverage)[:, None]) ** 2 * design.unseen_fraction()[:, None]
    return even[:, None] + change, np.sqrt(spread.T @ influence**2)
