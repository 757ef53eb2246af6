"""The lime package on texts and pictures, handed the players of a game as the words and regions that it hides."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float
from pydantic import Field

from pellucid.benchmark.peers.base import AbstractGamePeer, AskedGame
from pellucid.facts import Facts
from pellucid.games import Question
from pellucid.games.game import Values

VERSION = "lime 0.2"


@final
class LimeText(AbstractGamePeer):
    """``lime.lime_text.LimeTextExplainer`` on a text of as many words as there are features [ribeiro2016, eq. 1].

    Its words are numbers; those that it takes out of its text are absent from ours, by the imputer of the question.
    """

    samples: int = Field(default=5000, ge=2)
    """Coalitions of the regression (``num_samples``)."""
    num_features: int = Field(default=10, ge=1)
    """How many features get a score; the others get 0."""
    library: ClassVar[str] = "lime"
    facts: ClassVar[Facts] = Facts(
        name="lime:text",
        title=f"LimeTextExplainer ({VERSION})",
        family="perturbation",
        modalities=("text",),
        needs=("baseline",),
        sampled=True,
        cost="samples + 2, by default 5002",
        source="Ribeiro et al. 2016, eq. 1",
        notice="By default only ten features get a score that is not 0, shrunk by a ridge of penalty 1.",
    )

    def rows(self, players: int) -> int:
        return self.samples + 2

    def scores(self, game: AskedGame, question: Question) -> Float[np.ndarray, "target player"]:
        from lime.lime_text import LimeTextExplainer

        def values(texts: Sequence[str]) -> Values:
            coalitions = np.zeros((len(texts), game.players), dtype=bool)
            for coalition, text in zip(coalitions, texts, strict=True):
                coalition[[int(word[1:]) for word in text.split()]] = True
            return game.value(coalitions)

        explainer = LimeTextExplainer(random_state=np.random.RandomState(game.seed))
        found = explainer.explain_instance(
            " ".join(f"w{player}" for player in range(game.players)),
            values,
            labels=range(game.targets),
            num_features=self.num_features,
            num_samples=self.samples,
        )
        return weights(found, game.targets, game.players)


@final
class LimeImage(AbstractGamePeer):
    """``lime.lime_image.LimeImageExplainer`` on a picture of one pixel for each feature [ribeiro2016, eq. 1].

    The pixels that it blackens are absent from our picture, by the imputer of the question.
    """

    samples: int = Field(default=1000, ge=2)
    """Coalitions of the regression (``num_samples``)."""
    num_features: int = Field(default=100_000, ge=1)
    """How many features get a score; the others get 0."""
    library: ClassVar[str] = "lime"
    facts: ClassVar[Facts] = Facts(
        name="lime:image",
        title=f"LimeImageExplainer ({VERSION})",
        family="perturbation",
        modalities=("image",),
        needs=("baseline",),
        sampled=True,
        cost="samples + 2, by default 1002",
        source="Ribeiro et al. 2016, eq. 1",
        notice="Its ridge has penalty 1, which shrinks the scores.",
    )

    def rows(self, players: int) -> int:
        return self.samples + 2

    def scores(self, game: AskedGame, question: Question) -> Float[np.ndarray, "target player"]:
        from lime import lime_image

        explainer = lime_image.LimeImageExplainer(random_state=np.random.RandomState(game.seed))
        with _no_bar(lime_image):
            found = explainer.explain_instance(
                np.ones((1, game.players, 3)),
                lambda pictures: game.value(pictures[:, 0, :, 0]),
                labels=range(game.targets),
                top_labels=None,
                hide_color=0,
                num_features=self.num_features,
                num_samples=self.samples,
                batch_size=self.samples,
                segmentation_fn=lambda _: np.arange(game.players)[None],
            )
        return weights(found, game.targets, game.players)


def weights(explanation: Any, targets: int, players: int) -> Float[np.ndarray, "target player"]:
    """What ``lime`` found: one list of (feature, weight) for each target."""
    scores = np.zeros((targets, players))
    for target in range(targets):
        for player, weight in explanation.local_exp[target]:
            scores[target, player] = weight
    return scores


@contextmanager
def _no_bar(module: Any) -> Iterator[None]:
    """Inside, the module draws no progress bar: it knows no other way of leaving that out."""
    bar = module.tqdm
    module.tqdm = iter
    try:
        yield
    finally:
        module.tqdm = bar
