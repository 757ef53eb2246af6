"""What the adapters of other libraries share: the same question, their own code, and what they ask."""

import random
import threading
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Num

from pellucid.errors import MissingPackageError, ModelError, PellucidError
from pellucid.facts import Modality
from pellucid.games import AbstractGame, Coalitions, Question
from pellucid.games.game import Values
from pellucid.methods import AbstractMethod, Attribution

ANY: tuple[Modality, ...] = ("text", "image", "tabular", "vision-language")
_ONE_AT_A_TIME = threading.Lock()


class ForeignCode:
    """Runs code that draws from the global generators and that warns: inside, both are its own.

    Only one such run goes on at a time; while it waits for the model (``outside``) another may go on. So what a run
    draws depends on its seed alone, whatever else is running.
    """

    def __init__(self, number: int) -> None:
        self._seed: int | None = number
        self._inner: tuple[Any, ...] = ()
        self._outer: tuple[Any, ...] = ()
        self._quiet = warnings.catch_warnings()

    def __enter__(self) -> "ForeignCode":
        _ONE_AT_A_TIME.acquire()
        self._outer = _states()
        if self._seed is None:
            _restore(self._inner)
        else:
            random.seed(self._seed)
            np.random.seed(self._seed % 2**32)
            torch.default_generator.manual_seed(self._seed)
            self._seed = None
        self._quiet = warnings.catch_warnings()
        self._quiet.__enter__()
        warnings.simplefilter("ignore")
        return self

    def __exit__(self, *raised: object) -> None:
        self._quiet.__exit__(None, None, None)
        self._inner = _states()
        _restore(self._outer)
        _ONE_AT_A_TIME.release()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Inside this, everything is as it was before the run."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


def _states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


class AskedGame:
    """A game as a peer sees it: every request is counted, repeated ones too."""

    def __init__(self, game: AbstractGame, code: ForeignCode, seed: int) -> None:
        self._game, self._code = game, code
        self.players = game.players
        with code.outside():
            self.full, self.empty = game.full, game.empty
        self.targets = len(self.full)
        self.seed = seed % 2**32
        self.rows_asked = 0

    def value(self, presence: Num[np.ndarray, "coalition player"] | Coalitions) -> Values:
        """The target for each coalition, given by truth values or by numbers: 1 where a player is there, else 0."""
        self.rows_asked += len(presence)
        with self._code.outside():
            return self._game.value(presence > 0.5)


class AbstractPeer(AbstractMethod):
    """A method of another library, run by that library's own code on pellucid's question.

    What it asked of the model, repeated requests included, is ``rows_asked`` among the settings of the result. An error
    of the library becomes a ModelError. Raises MissingPackageError where the library is not installed.
    """

    library: ClassVar[str]
    """What it is imported as, and the extra that installs it."""

    def attribute(self, question: Question) -> Attribution:
        require(self.library)
        code = ForeignCode(question.seed)
        try:
            with code:
                return self.run(question, code)
        except PellucidError:
            raise
        except Exception as error:
            said = " ".join(str(error).split()).rstrip(".") or "nothing more"
            raise ModelError(f"{self.facts.name} raised {type(error).__name__}: {said[:200]}.") from error

    @abstractmethod
    def run(self, question: Question, code: ForeignCode) -> Attribution:
        """Ask the library."""


class AbstractGamePeer(AbstractPeer):
    """A peer that is handed the players of a game as inputs that are there or not."""

    def run(self, question: Question, code: ForeignCode) -> Attribution:
        game = AskedGame(question.game, code, question.seed)
        values = np.asarray(self.scores(game, question), dtype=np.float64)
        return Attribution(values, game.empty, game.full, settings={"rows_asked": game.rows_asked})

    @abstractmethod
    def scores(self, game: AskedGame, question: Question) -> Float[np.ndarray, "target player"]:
        """Score every player for every target."""


def require(library: str) -> None:
    """Raise MissingPackageError where a library is not installed."""
    if find_spec(library) is None:
        raise MissingPackageError(f"{library}, whose methods are compared,", f"pip install 'pellucid[{library}]'")
