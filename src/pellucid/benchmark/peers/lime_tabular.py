"""The lime package on table rows, with rows of its own making."""

from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pellucid.benchmark.peers.base import AbstractPeer, ForeignCode
from pellucid.benchmark.peers.lime_games import VERSION
from pellucid.facts import Facts
from pellucid.games import Question
from pellucid.methods import Attribution
from pellucid.models import Tabular


@final
class LimeTabular(AbstractPeer):
    """``lime.lime_tabular.LimeTabularExplainer``: is the column in the input's quartile, or not [ribeiro2016, eq. 1].

    It draws rows from the quartiles of the background, whatever the question's imputer; categories from their shares.
    A number is handed to it standardised, a category as the number of its level.
    """

    samples: int = Field(default=5000, ge=2)
    """Rows of the regression (``num_samples``)."""
    num_features: int = Field(default=10, ge=1)
    """How many columns get a score; the others get 0."""
    library: ClassVar[str] = "lime"
    facts: ClassVar[Facts] = Facts(
        name="lime:tabular",
        title=f"LimeTabularExplainer ({VERSION})",
        family="perturbation",
        modalities=("tabular",),
        needs=("background",),
        sampled=True,
        cost="samples + 2, by default 5002",
        source="Ribeiro et al. 2016, eq. 1",
        notice="By default ten columns get a score that is not 0; its question is the quartile, not the value.",
    )

    def rows(self, players: int) -> int:
        return self.samples + 2

    def run(self, question: Question, code: ForeignCode) -> Attribution:
        model = question.model
        assert isinstance(model, Tabular)
        coded = Coded(model, question)
        with code.outside():
            full, empty = question.game.full, question.game.empty
        values = np.zeros((len(full), len(model.columns)))
        for target in range(len(full)):
            for column, weight in self._asked(coded, target, question.seed % 2**32):
                values[target, column] = weight
        drawn = f"rows drawn from the quartiles of {len(coded.background)} of the background"
        return Attribution(values, empty, full, baseline=drawn, settings={"rows_asked": coded.rows_asked})

    def _asked(self, coded: "Coded", target: int, seed: int) -> list[tuple[int, float]]:
        from lime.lime_tabular import LimeTabularExplainer

        explainer = LimeTabularExplainer(
            coded.background,
            mode="regression",
            categorical_features=coded.categories,
            random_state=np.random.RandomState(seed),
        )
        found = explainer.explain_instance(
            coded.input,
            lambda rows: coded.value(rows)[:, target],
            num_features=self.num_features,
            num_samples=self.samples,
        )
        return [(int(column), float(weight)) for column, weight in found.local_exp[1]]


class Coded:
    """Table rows of one number for each column, and the target as a function of them."""

    def __init__(self, model: Tabular, question: Question) -> None:
        self._model, self._question = model, question
        ends = np.cumsum([column.width for column in model.columns])
        self._spans = [slice(end - column.width, end) for end, column in zip(ends, model.columns, strict=True)]
        self.categories = [place for place, column in enumerate(model.columns) if column.kind == "category"]
        self.background = self._coded(model.background(question.background))
        self.input = self._coded(question.inputs.row[None])[0]
        self.rows_asked = 0

    def value(self, rows: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row target"]:
        """The target of each row."""
        self.rows_asked += len(rows)
        bound: Any = self._question.target
        scores: Tensor = bound.target.score(self._model.alternatives(self._encoded(rows), bound))
        return np.asarray(scores.double().cpu().numpy())

    def _coded(self, rows: Float[Tensor, "row position"]) -> Float[np.ndarray, "row column"]:
        numbers = rows.double().cpu().numpy()
        parts = [
            numbers[:, span].argmax(1).astype(float) if place in self.categories else numbers[:, span.start]
            for place, span in enumerate(self._spans)
        ]
        return np.stack(parts, axis=1)

    def _encoded(self, rows: Float[np.ndarray, "row column"]) -> Float[Tensor, "row position"]:
        whole = np.zeros((len(rows), self._spans[-1].stop))
        for place, span in enumerate(self._spans):
            if place in self.categories:
                whole[np.arange(len(rows)), span.start + rows[:, place].astype(int)] = 1
            else:
                whole[:, span.start] = rows[:, place]
        return torch.from_numpy(whole).to(self._model.like)
