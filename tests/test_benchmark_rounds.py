"""Games played by several at once: the same results as alone, every coalition once, full batches."""

import threading

import numpy as np
import pytest

from pellucid.benchmark.rounds import play_together
from pellucid.errors import NumericalError
from pellucid.games.imputer import AbstractImputer
from pellucid.games.input_game import AbstractInputGame
from pellucid.methods import make_method

PLAYERS = 7


class Nothing(AbstractImputer):
    """Stands for nothing: the game below knows the value of every coalition."""

    name, description, draws = "nothing", "nothing", 1

    def rows(self, coalitions):
        raise AssertionError


class Counting(AbstractInputGame):
    """A game with interactions that remembers its batches."""

    def __init__(self, fails_after=None):
        super().__init__(PLAYERS, Nothing())
        self.batches, self.fails_after = [], fails_after
        generator = np.random.default_rng(0)
        self.weights, self.pairs = generator.normal(size=PLAYERS), generator.normal(size=(PLAYERS, PLAYERS))

    def _play(self, coalitions):
        self.batches.append(coalitions)
        if self.fails_after is not None and len(self.batches) > self.fails_after:
            raise NumericalError("the model returned NaN.")
        present = coalitions.astype(float)
        return (present @ self.weights + np.einsum("ci,ij,cj->c", present, self.pairs, present))[:, None]


METHODS = {
    "occlusion": make_method("occlusion"),
    "kernel_shap": make_method("kernel_shap", samples=40),
    "kernel_shap, rounds": make_method("kernel_shap", samples=20, tolerance=1e-9, max_samples=60),
    "permutation_shapley": make_method("permutation_shapley", permutations=6),
    "exact_shapley": make_method("exact_shapley"),
    "lime": make_method("lime", samples=50),
}


def player(method, seed=3):
    return lambda game: method.estimate(game, np.random.default_rng(seed))


def test_each_gets_what_it_gets_alone_and_pays_what_it_pays_alone():
    shared = play_together(Counting(), {name: player(method) for name, method in METHODS.items()})
    for name, method in METHODS.items():
        alone = Counting()
        expected = player(method)(alone)
        np.testing.assert_array_equal(shared.played[name].result.values, expected.values)
        assert shared.played[name].evaluations == alone.evaluations


def test_no_coalition_is_computed_twice_and_a_round_is_one_batch():
    game = Counting()
    shared = play_together(game, {name: player(method) for name, method in METHODS.items()})
    rows = np.concatenate(game.batches)
    assert len(np.unique(rows, axis=0)) == len(rows) == shared.evaluations == 2**PLAYERS
    # Exact Shapley asks for all in the first round, so nothing is left to ask.
    assert len(game.batches) == 1
    asked = sum(each.evaluations for each in shared.played.values())
    assert asked > 1.5 * shared.evaluations


def test_rounds_are_the_same_every_time():
    def batches():
        game = Counting()
        play_together(game, {name: player(METHODS[name]) for name in METHODS if name != "exact_shapley"})
        return game.batches

    first, second = batches(), batches()
    assert len(first) == len(second) > 1
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_one_raises_is_its_own():
    def broken(game):
        game.value(np.ones((1, PLAYERS), dtype=bool))
        raise ValueError("no luck")

    shared = play_together(Counting(), {"broken": broken, "occlusion": player(METHODS["occlusion"])})
    assert isinstance(shared.played["broken"].result, ValueError)
    assert shared.played["occlusion"].result.values.shape == (1, PLAYERS)


@pytest.mark.parametrize("fails_after", [0, 1])
def test_what_the_network_raises_ends_all_and_leaves_no_thread(fails_after):
    players = {name: player(METHODS[name]) for name in METHODS if name != "exact_shapley"}
    with pytest.raises(NumericalError):
        play_together(Counting(fails_after), players)
    assert not [each for each in threading.enumerate() if each.name.startswith("pellucid-")]


def test_nobody_plays():
    assert play_together(Counting(), {}).evaluations == 0
