"""G4: a small forest, written down, whose features go together in the background."""

import numpy as np
from jaxtyping import Float

from pellucid.ground_truth.networks import LABEL, table_model
from pellucid.ground_truth.reasons import FIT, LEAVE_ONE_OUT, SEMIVALUE
from pellucid.ground_truth.trees import LEAF, Tree, TreeEnsemble, interventional_shapley
from pellucid.ground_truth.truth import GroundTruth
from pellucid.targets import Logit

Node = tuple[int, int, int, float, float, float]
"""Left, right, feature, threshold, value, cover."""
NODES: list[list[Node]] = [
    [
        (1, 4, 0, 0.0, 0.0, 8),
        (2, 3, 1, 0.5, 0.0, 5),
        (LEAF, LEAF, 0, 0.0, 3.0, 4),
        (LEAF, LEAF, 0, 0.0, -6.0, 1),
        (5, 6, 2, -0.5, 0.0, 3),
        (LEAF, LEAF, 0, 0.0, 9.0, 1),
        (LEAF, LEAF, 0, 0.0, 0.0, 2),
    ],
    [
        (1, 4, 1, 1.0, 0.0, 8),
        (2, 3, 3, 0.0, 0.0, 6),
        (LEAF, LEAF, 0, 0.0, -3.0, 1),
        (LEAF, LEAF, 0, 0.0, 1.5, 5),
        (5, 6, 1, 1.75, 0.0, 2),
        (LEAF, LEAF, 0, 0.0, 6.0, 1),
        (LEAF, LEAF, 0, 0.0, 9.0, 1),
    ],
    [
        (1, 2, 0, 0.25, 0.0, 8),
        (LEAF, LEAF, 0, 0.0, 0.0, 5),
        (3, 4, 1, 0.875, 0.0, 3),
        (LEAF, LEAF, 0, 0.0, 3.0, 1),
        (5, 6, 3, 0.0, 0.0, 2),
        (LEAF, LEAF, 0, 0.0, -6.0, 1),
        (LEAF, LEAF, 0, 0.0, 24.0, 1),
    ],
]
BACKGROUND = [
    [-2.0, -1.5, 0.0, 1.0],
    [-1.0, -1.0, -1.0, 0.5],
    [-0.5, 0.0, 1.0, -1.0],
    [-0.25, 0.25, -0.75, 2.0],
    [0.0, 1.5, 0.5, -0.5],
    [0.5, 0.75, -1.0, 1.5],
    [1.5, 1.0, 0.25, 0.25],
    [3.0, 2.0, 2.0, -2.0],
]
"""The rows that the covers of the trees count."""
INPUTS = [[2.5, 1.25, -1.0, 1.0], [-1.5, 1.5, 0.5, -0.5]]


def forest() -> TreeEnsemble:
    """The mean of three trees over four features."""
    trees = []
    for nodes in NODES:
        left, right, feature, threshold, value, cover = (np.array(each) for each in zip(*nodes, strict=True))
        trees.append(Tree(left, right, feature, threshold, value[:, None], cover))
    return TreeEnsemble(trees)


def tree_truths() -> list[GroundTruth]:
    """The interventional Shapley values of the forest, by enumeration."""
    ensemble, players = forest(), len(BACKGROUND[0])
    rows: Float[np.ndarray, "row player"] = np.array(BACKGROUND)
    contributions = np.stack([interventional_shapley(ensemble, np.array(each), rows) for each in INPUTS])
    return [
        GroundTruth(
            name="forest",
            rung="G4",
            says="mean of three trees over four columns; absent columns come from eight rows",
            model=table_model("forest", ensemble, players=players),
            raws=tuple(INPUTS),
            target=Logit(LABEL),
            features="column",
            baseline="marginal",
            background=tuple(BACKGROUND),
            differentiable=False,
            contributions=contributions,
            axiom="Shapley 1953 over v(S) = mean over rows b of f(x_S, b_rest), all 16 coalitions",
            exposes="the path-dependent value function taken for the interventional one, and no gradient at all",
            fails={"occlusion": LEAVE_ONE_OUT, "banzhaf": SEMIVALUE, "lime": FIT, "sparse_linear": FIT},
            source="Lundberg et al. 2020; Janzing et al. 2020",
        )
    ]
