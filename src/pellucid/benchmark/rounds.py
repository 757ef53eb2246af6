"""Games of one input played by several at once: what they ask for goes through the network together.

Each player of the game runs in a thread of its own. A request waits until everybody has asked or is done; then the
coalitions that nobody has asked for before make one batch. So no coalition is computed twice, batches are full, and the
same requests always meet in the same rounds.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from pellucid.games import Coalitions
from pellucid.games.game import Values
from pellucid.games.input_game import AbstractInputGame

Result = TypeVar("Result")


class GameView(AbstractInputGame):
    """A game as one player sees it: what it asks for is counted as if nobody else had asked."""

    def __init__(self, game: AbstractInputGame, through: Callable[[Coalitions], Values]) -> None:
        super().__init__(game.players, game.imputer)
        self._game, self._through = game, through

    @property
    def rows(self) -> int:
        """Rows of the network that the coalitions stand for; the whole input is the same in every draw."""
        whole = np.packbits(np.ones((1, self.players), dtype=bool), axis=1)[0].tobytes() in self._known
        return (self.evaluations - whole) * self.imputer.draws + whole

    def self_test(self) -> float | None:
        return self._game.self_test()

    def _play(self, coalitions: Coalitions) -> Values:
        return self._through(coalitions)


@dataclass(frozen=True, slots=True)
class Played(Generic[Result]):
    """What came of one player."""

    result: Result | Exception
    """What it returned, or what it raised."""
    evaluations: int
    """Distinct coalitions that it asked for."""
    rows: int
    """Rows of the network that these stand for."""
    seconds: float
    """CPU time of its own thread, without the network."""


@dataclass(frozen=True, slots=True)
class Shared(Generic[Result]):
    """What came of all of them."""

    played: dict[str, Played[Result]]
    """By name."""
    evaluations: int
    """Distinct coalitions that were computed."""
    seconds: float
    """Time that the network took for them."""


class _Stopped(BaseException):
    """Ends the thread of a player whose game is over."""


class _Meeting(Generic[Result]):
    """Where requests wait for one another."""

    def __init__(self, game: AbstractInputGame, players: Mapping[str, Callable[[AbstractInputGame], Result]]) -> None:
        self._game, self._players = game, players
        self._changed = threading.Condition()
        self._asked: dict[str, Coalitions] = {}
        self._answered: dict[str, Values] = {}
        self._done: dict[str, Played[Result]] = {}
        self._over = False

    def hold(self) -> Shared[Result]:
        """Run every player to its end. Raises what the network raises; then nobody goes on."""
        context = copy_context()
        threads = [
            threading.Thread(target=context.copy().run, args=(self._run, name), name=f"pellucid-{name}", daemon=True)
            for name in self._players
        ]
        before, seconds = self._game.evaluations, 0.0
        for thread in threads:
            thread.start()
        try:
            while asked := self._round():
                begun = time.perf_counter()
                self._game.value(np.concatenate(list(asked.values())))
                seconds += time.perf_counter() - begun
                self._answer({name: self._game.value(coalitions) for name, coalitions in asked.items()})
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            for thread in threads:
                thread.join()
        done = {name: self._done[name] for name in self._players}
        return Shared(done, self._game.evaluations - before, seconds)

    def _round(self) -> dict[str, Coalitions]:
        """What is asked for once everybody has asked or is done, in the order of the players; empty in the end."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._asked) + len(self._done) == len(self._players))
            return {name: self._asked[name] for name in self._players if name in self._asked}

    def _answer(self, found: dict[str, Values]) -> None:
        with self._changed:
            self._asked.clear()
            self._answered.update(found)
            self._changed.notify_all()

    def _request(self, name: str, coalitions: Coalitions) -> Values:
        with self._changed:
            self._asked[name] = coalitions
            self._changed.notify_all()
            self._changed.wait_for(lambda: name in self._answered or self._over)
            if name not in self._answered:
                raise _Stopped
            return self._answered.pop(name)

    def _run(self, name: str) -> None:
        view = GameView(self._game, lambda coalitions: self._request(name, coalitions))
        result: Result | Exception
        try:
            result = self._players[name](view)
        except Exception as error:
            result = error
        except _Stopped:
            return
        with self._changed:
            self._done[name] = Played(result, view.evaluations, view.rows, time.thread_time())
            self._changed.notify_all()


def play_together(
    game: AbstractInputGame, players: Mapping[str, Callable[[AbstractInputGame], Result]]
) -> Shared[Result]:
    """Let every player play the game, all requests of a round as one batch.

    What a player raises is its own result; what the network raises (NumericalError, KeyboardInterrupt) ends all.
    """
    return _Meeting(game, players).hold()
