"""Every entrant's attribution of one input, and what it costs.

Methods that only play the game play it together; the others run one after another on the same game, so that nothing is
computed twice. What an entrant is charged is what it would have spent alone: the coalitions that it asked for, whoever
paid, and its own time plus those rows at the price of the shared batches.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from pellucid.benchmark.entrants import Entrant
from pellucid.benchmark.references import oracle_method
from pellucid.benchmark.rounds import GameView, play_together
from pellucid.errors import NumericalError, PellucidError
from pellucid.games import Coalitions, Question
from pellucid.games.game import Values
from pellucid.games.input_game import AbstractInputGame
from pellucid.memory import PeakMemory
from pellucid.methods import AbstractGameMethod, AbstractMethod, Attribution

ORACLE = "\0oracle"
"""Its place among the players; no entrant is called that."""


class Price(NamedTuple):
    """What one attribution costs."""

    rows: int
    """Rows of the network."""
    backwards: int
    """Rows of them that were differentiated."""
    tokens: int
    """Positions in them; of shared rows the mean of their batches."""
    seconds: float
    """Time, shared rows at the price of their batches."""
    memory: int | None
    """Peak above the start in bytes; None where forward passes are shared."""


class _OfARow(NamedTuple):
    """What a row of the shared batches took, mean."""

    seconds: float
    tokens: float


class Attributed(NamedTuple):
    """What came of one entrant with one seed."""

    entrant: Entrant
    """Who."""
    seed: int
    """Which seed."""
    method: AbstractMethod | None
    """With all settings; None where it could not be made for this input."""
    attribution: Attribution | None
    """The scores; None where there are none."""
    price: Price | None
    """What they cost."""
    error: Exception | None
    """Why there are none."""


class Field(NamedTuple):
    """All attributions of one input."""

    attributed: list[Attributed]
    """By entrant, seeds within."""
    oracle: Float[np.ndarray, " player"]
    """The reference attribution."""


def attribute_all(question: Question, entrants: Sequence[Entrant], seeds: Sequence[int], rows: int) -> Field:
    """Run every entrant on one question, those that draw once a seed.

    Args:
        question: the input.
        entrants: the methods.
        seeds: seeds of the methods that draw; the others run with the first.
        rows: what a method that draws may spend.

    Raises:
        NumericalError: the network returned NaN for some coalition.
    """
    players = len(question.features)
    todo: list[Attributed] = []
    for entrant in entrants:
        for seed in seeds if entrant.facts.sampled else seeds[:1]:
            try:
                method, error = entrant.method(players, rows, question.game.imputer.draws), None
            except PellucidError as refusal:
                method, error = None, refusal
            todo.append(Attributed(entrant, seed, method, None, None, error))
    gaming = {str(place): each for place, each in enumerate(todo) if isinstance(each.method, AbstractGameMethod)}
    shared, best, row = _played_together(question, gaming)
    done = [
        shared.get(str(place)) or (each if each.method is None else _alone(question, each, row))
        for place, each in enumerate(todo)
    ]
    return Field(done, best)


def _played_together(
    question: Question, gaming: dict[str, Attributed]
) -> tuple[dict[str, Attributed], Float[np.ndarray, " player"], _OfARow]:
    """What came of the methods that play the game and of the oracle, and what a row took."""

    def player(method: AbstractMethod, seed: int) -> Callable[[AbstractInputGame], Attribution]:
        return lambda game: method.attribute(question._replace(game=game, seed=question.seed + seed))

    players = {place: player(each.method, each.seed) for place, each in gaming.items() if each.method is not None}
    players[ORACLE] = player(oracle_method(len(question.features)), 0)
    before = question.model.meter.snapshot()
    shared = play_together(question.game, players)
    spent = question.model.meter - before
    seconds, tokens = (each / max(1, spent.rows) for each in (shared.seconds, spent.tokens))
    best = shared.played[ORACLE].result
    if isinstance(best, Exception):
        raise best
    found = {}
    for place, each in gaming.items():
        played = shared.played[place]
        cost = Price(played.rows, 0, round(played.rows * tokens), played.seconds + played.rows * seconds, None)
        found[place] = _finished(each, played.result, cost)
    return found, best.values.sum(0), _OfARow(seconds, tokens)


def _alone(question: Question, todo: Attributed, row: _OfARow) -> Attributed:
    """Run a method that looks at more than the game, or draws in its own way."""
    assert todo.method is not None
    meter, fresh = question.model.meter, [0]

    def through(coalitions: Coalitions) -> Values:
        before = meter.rows
        found = question.game.value(coalitions)
        fresh[0] += meter.rows - before
        return found

    view = GameView(question.game, through)
    before, begun = meter.snapshot(), time.perf_counter()
    result: Attribution | Exception
    with _random_state_kept(question.seed + todo.seed), PeakMemory() as memory:
        try:
            result = todo.method.attribute(question._replace(game=view, seed=question.seed + todo.seed))
        except Exception as error:
            result = error
    seconds, spent = time.perf_counter() - begun, meter - before
    # What somebody else had asked for before it.
    shared = view.rows - fresh[0]
    cost = Price(
        spent.rows + shared,
        spent.backwards,
        spent.tokens + round(shared * row.tokens),
        seconds + shared * row.seconds,
        None if view.evaluations else max(0, memory.above_bytes),
    )
    return _finished(todo, result, cost)


def _finished(todo: Attributed, result: Attribution | Exception, price: Price) -> Attributed:
    if isinstance(result, Attribution):
        if np.isfinite(result.values).all():
            return todo._replace(attribution=result, price=price)
        result = NumericalError(f"{todo.entrant.name} gave NaN or infinite scores: the model is not finite here.")
    return todo._replace(error=result)


@contextmanager
def _random_state_kept(seed: int) -> Iterator[None]:
    """Inside, what draws from the global random state draws from the seed; afterwards the state is what it was."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)
