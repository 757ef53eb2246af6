"""G2: the smallest networks in which features need, replace or exclude one another."""

from typing import Any

import numpy as np
from torch import nn

from pellucid.ground_truth.networks import LABEL, Numbers, Polynomial, relu_sum, slopes, table_model
from pellucid.ground_truth.reasons import FIT, LEAVE_ONE_OUT, LOCAL, PATH, SEMIVALUE
from pellucid.ground_truth.truth import GroundTruth
from pellucid.targets import Logit

LOCALS = dict.fromkeys(("gradient", "input_x_gradient", "smoothgrad"), LOCAL)
TOGETHER = LOCALS | {"occlusion": LEAVE_ONE_OUT, "lime": FIT}
PATHS = dict.fromkeys(("integrated_gradients", "path_integral", "expected_gradients"), PATH)


def known(
    name: str,
    says: str,
    module: nn.Module,
    raw: Numbers,
    contributions: Numbers,
    *,
    means: Numbers = (),
    path: Numbers | None = None,
    **stated: Any,
) -> GroundTruth:
    """A truth about one input of a network of the table whose baseline is the columns' means, 0 unless given."""
    means = list(means) or [0.0] * len(raw)
    gains = np.array([contributions])
    return GroundTruth(
        name=name,
        says=says,
        model=table_model(name, module, means=means),
        raws=(list(raw),),
        target=Logit(LABEL),
        features="column",
        baseline="zero",
        background=(means,),
        contributions=gains,
        path=None if path is None else np.array([path]),
        sensitivity=slopes(gains, [raw], means),
        **stated,
    )


def pair(strength: float, players: int = 2) -> np.ndarray:
    """Shapley interactions of a game in which only the first two players interact."""
    found = np.zeros((players, players))
    found[0, 1] = found[1, 0] = strength
    return found


def interaction_truths() -> list[GroundTruth]:
    """Products, Boolean functions in their ReLU forms, and a maximum."""
    return [*_products(), *_boolean(), _maximum()]


def _products() -> list[GroundTruth]:
    both = "symmetry and completeness: what all need together is shared equally"
    return [
        known(
            "product",
            "x1 x2",
            Polynomial([(1.0, [1, 1])]),
            [2.0, 3.0],
            [3.0, 3.0],
            rung="G2",
            interactions=pair(6.0),
            axiom=both,
            exposes="the whole product given to each factor",
            fails=TOGETHER,
            source="Sundararajan et al. 2017, section 3",
        ),
        known(
            "product-3",
            "x1 x2 x3",
            Polynomial([(1.0, [1, 1, 1])]),
            [1.0, 2.0, 4.0],
            [8 / 3] * 3,
            rung="G2",
            axiom=both,
            exposes="values that weigh coalitions otherwise: Banzhaf's sum to 6 of 8",
            fails=TOGETHER | {"banzhaf": SEMIVALUE, "sparse_linear": FIT},
            source="Wang & Jia 2023, section 4",
        ),
    ]


def _boolean() -> list[GroundTruth]:
    share = "symmetry and completeness"
    source = "Shapley 1953; failures: Li et al. 2016, Shrikumar et al. 2017"
    conjunction = [(1, [1, 1], -1)]
    return [
        known(
            "and",
            "relu(x1 + x2 - 1) at (1, 1)",
            relu_sum(conjunction, 2),
            [1.0, 1.0],
            [0.5, 0.5],
            rung="G2",
            interactions=pair(1.0),
            axiom=share,
            exposes="what two features share counted twice",
            fails=TOGETHER,
            source=source,
        ),
        known(
            "and-at-0",
            "AND at (0, 0), baseline (1, 1)",
            relu_sum([(1, [1, 1], 1)], 2),
            [0.0, 0.0],
            [-0.5, -0.5],
            means=[1.0, 1.0],
            rung="G2",
            interactions=pair(1.0),
            axiom=share,
            exposes="a gradient of 0 where both features were turned off, and one alone turns nothing on",
            fails=TOGETHER,
            source=source,
        ),
        known(
            "or",
            "min(x1 + x2, 1) at (1, 1)",
            relu_sum([(1, [1, 1], 0), (-1, [1, 1], -1)], 2),
            [1.0, 1.0],
            [0.5, 0.5],
            rung="G2",
            interactions=pair(-1.0),
            axiom=share,
            exposes="redundancy: either feature is enough, so that losing one costs nothing",
            fails=TOGETHER,
            source=source,
        ),
        known(
            "xor",
            "XOR(x1, x2) + x3 / 2 at (1, 1, 2)",
            relu_sum([(1, [1, 1, 0], 0), (-2, [1, 1, 0], -1), (0.5, [0, 0, 1], 0)], 3),
            [1.0, 1.0, 2.0],
            [0.0, 0.0, 1.0],
            rung="G2",
            interactions=pair(-2.0, 3),
            axiom=share,
            exposes="an interaction that no score of single features can show: its index is -2",
            fails=TOGETHER,
            source=source,
        ),
    ]


def _maximum() -> GroundTruth:
    return known(
        "max",
        "max(x1, x2) at (2, 1)",
        relu_sum([(1, [0, 1], 0), (-1, [0, -1], 0), (1, [1, -1], 0)], 2),
        [2.0, 1.0],
        [1.5, 0.5],
        path=[2.0, 0.0],
        rung="G2",
        interactions=pair(-1.0),
        axiom="Shapley: mean over both orders; path: x1 is ahead all the way",
        exposes="that two complete methods answer two questions",
        fails=TOGETHER | PATHS,
        source="Sundararajan & Najmi 2020, section 3",
    )
