"""SHAP's explainers that look inside a model: gradients of a network, and the trees of a boosted ensemble."""

from typing import Annotated, Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field

from pellucid.benchmark.peers.base import ANY, AbstractPeer, ForeignCode
from pellucid.benchmark.peers.scoring import Scored
from pellucid.benchmark.peers.shap_games import VERSION
from pellucid.errors import InputError
from pellucid.facts import Facts
from pellucid.games import Path, Question
from pellucid.games.path import summed
from pellucid.games.tensor_imputers import AbstractTensorImputer
from pellucid.methods import Attribution
from pellucid.models import AbstractTensorClassifier
from pellucid.models.networks import Boosting

BACKGROUND = 50
"""The most baselines that the gradient explainer draws from."""


@final
class GradientExplainer(AbstractPeer):
    """``shap.GradientExplainer``: gradients between the input and real ones [erion2021, eq. 4].

    In a text an input is one with a random token in place of each of a feature's. As many baselines as samples are
    drawn, at most 50.
    """

    samples: Annotated[int, Field(ge=1)] = 200
    """Points between the input and a baseline (``nsamples``)."""
    library: ClassVar[str] = "shap"
    facts: ClassVar[Facts] = Facts(
        name="shap:gradient",
        title=f"GradientExplainer ({VERSION})",
        family="gradient",
        modalities=ANY,
        needs=("gradient", "background"),
        sampled=True,
        cost="samples (forward + backward) a target + 51 forward passes, by default 200",
        source="Erion et al. 2021, eq. 4",
    )

    def rows(self, players: int) -> int:
        return self.samples + self._baselines + 1

    def run(self, question: Question, code: ForeignCode) -> Attribution:
        import shap

        path = Path(question, "zero")
        drawn = question.stand_ins(self._baselines, torch.Generator().manual_seed(question.seed))
        others = torch.where(
            (path.owner >= 0)[:, None], drawn.embedding[:, path.function.offset :].to(path.input), path.input
        )
        network = Scored(path)
        size = path.chunks(self.samples)[0].stop
        # It asks about every baseline when it is made, and would keep what a backward pass needs.
        with torch.no_grad():
            explainer = shap.GradientExplainer(network, others, batch_size=size)
        base = network.last.double().mean(0)
        found = explainer.shap_values(path.input[None], nsamples=self.samples, rseed=question.seed % 2**32)
        # [1, seq, dim, target] -> [target, seq]
        scores = torch.from_numpy(np.asarray(found)[0].sum(1).T.copy())
        return Attribution(
            path.to_features(scores),
            base.cpu().numpy(),
            path.value(path.input[None])[0].cpu().numpy(),
            baseline=drawn.described,
            settings={"rows_asked": network.rows_asked},
        )

    @property
    def _baselines(self) -> int:
        return min(self.samples, BACKGROUND)


@final
class TreeExplainer(AbstractPeer):
    """``shap.TreeExplainer``: exact Shapley values of boosted trees from the trees themselves [lundberg2020].

    Interventional: an absent column has the values of the question's imputer. The model is never asked. The players are
    the numbers that the network reads: those of one category are summed up, which is not that category's Shapley value.

    Raises InputError for a model that is no ensemble of trees, and for a target that is not linear in its logits.
    """

    library: ClassVar[str] = "shap"
    facts: ClassVar[Facts] = Facts(
        name="shap:tree",
        title=f"TreeExplainer ({VERSION})",
        family="perturbation",
        modalities=("tabular",),
        needs=("baseline",),
        complete=True,
        cost="2, whatever the number of features",
        source="Lundberg et al. 2020",
        notice="Reads boosted trees alone.",
    )

    def rows(self, players: int) -> int:
        return 2

    def run(self, question: Question, code: ForeignCode) -> Attribution:
        import shap

        model, imputer = question.model, question.game.imputer
        if not (isinstance(model, AbstractTensorClassifier) and isinstance(model.module, Boosting)):
            raise InputError(f"shap:tree reads boosted trees, and {model.name} is a network; use shap:permutation.")
        assert isinstance(imputer, AbstractTensorImputer)
        weights = _weights(model, question)
        others = imputer.rows(np.zeros((1, question.game.players), dtype=bool)).double().cpu().numpy()
        explainer = shap.TreeExplainer(
            {"trees": _trees(model.module), "base_offset": model.module.bias.double().numpy()}, others
        )
        row = question.inputs.row.double().numpy()[None]
        logits = np.asarray(explainer.shap_values(row, check_additivity=False))[0]
        scores = summed(torch.from_numpy((logits @ weights.T).T.copy()), question.owners, question.game.players)
        with code.outside():
            return Attribution(scores, question.game.empty, question.game.full, settings={"rows_asked": 0})


def _trees(module: Boosting) -> list[dict[str, Any]]:
    """The trees as SHAP reads them: children of node i are 2 i + 1 and 2 i + 2, and the leaves come last."""
    inner = module.feature.shape[1]
    node = np.arange(inner)
    leaf = np.full(inner + 1, -1)
    left = np.concatenate([2 * node + 1, leaf])
    blank = np.zeros(inner + 1)
    found = []
    for feature, threshold, leaves in zip(module.feature, module.threshold, module.leaves, strict=True):
        values = leaves.detach().double().numpy()
        found.append(
            {
                "children_left": left,
                "children_right": np.concatenate([2 * node + 2, leaf]),
                "children_default": left,
                "features": np.concatenate([feature.numpy(), blank]),
                "thresholds": np.concatenate([threshold.double().numpy(), blank]),
                "values": np.concatenate([np.zeros((inner, values.shape[1])), values]),
                "node_sample_weight": np.ones(2 * inner + 1),
            }
        )
    return found


def _weights(model: AbstractTensorClassifier[Any], question: Question) -> Float[np.ndarray, "target class"]:
    """The target as a sum of logits with these weights. Raises InputError where it is none."""
    count = len(model.labels)

    def score(logits: torch.Tensor) -> Float[np.ndarray, "row target"]:
        return np.asarray(question.target.target.score(model.scored(logits, question.target)).numpy())

    zero = torch.zeros(1, count, dtype=torch.float64)
    origin = score(zero)
    weights = np.asarray(score(torch.eye(count, dtype=torch.float64)) - origin)
    probe = torch.arange(1.0, 1.0 + count, dtype=torch.float64)[None] ** 2
    if not np.allclose(score(probe) - origin, probe.numpy() @ weights):
        raise InputError(
            f"shap:tree explains sums of logits, and {question.target.output_names[0]!r} in {question.target.unit} of "
            f"{count} classes is none; use the target Logit."
        )
    return np.asarray(weights.T)
