"""G3: one small network for each failure that the field knows, in the manner of XAI-Units [lee2025]."""

from dataclasses import replace

import numpy as np

from pellucid.ground_truth.interaction import LOCALS, PATHS, TOGETHER, known
from pellucid.ground_truth.networks import Polynomial, affine, relu_sum, slopes, table_model
from pellucid.ground_truth.reasons import OTHER_BASELINE
from pellucid.ground_truth.truth import GroundTruth
from pellucid.models import Column, Tabular
from pellucid.targets import Margin

UNITS = "in the manner of XAI-Units, Lee et al. 2025"
TEETH, HEIGHT = 8, 0.125
"""Teeth of the shattered gradient, and how high each is."""


def unit_truths() -> list[GroundTruth]:
    """Each network with its stated attribution and the axiom that it follows from."""
    return [
        _cancellation(),
        _switch(),
        _saturation(),
        _plateau(),
        _shattered(),
        _pertinent_negative(),
        _dummy(),
        _symmetric(),
        _common_shift(),
    ]


def _cancellation() -> GroundTruth:
    return known(
        "cancellation",
        "x1 - 2 x2 + x3 at (4, 2.5, 1): f(x) = f(0)",
        affine([[1.0, -2.0, 1.0]], [0.0]),
        [4.0, 2.5, 1.0],
        [4.0, -5.0, 1.0],
        rung="G3",
        axiom="linearity: what cancels in the sum is still there",
        exposes="scores without a sign, and limits taken relative to f(x) - f(b) = 0",
        source=UNITS,
    )


def _switch() -> GroundTruth:
    return known(
        "switch",
        "relu(x1 - 4 x2) at (2, 1): x2 turns x1 off",
        relu_sum([(1, [1, -4], 0)], 2),
        [2.0, 1.0],
        [1.0, -1.0],
        path=[0.0, 0.0],
        rung="G3",
        axiom="completeness and the mean over both orders; path: the switch wins all the way",
        exposes="an input that was silenced: gradients and their integral see nothing of either",
        fails=TOGETHER | PATHS,
        source=UNITS + " (conflicting features)",
    )


def _saturation() -> GroundTruth:
    return known(
        "saturation",
        "1 - relu(1 - x1) + x2 / 4 at (2, 1)",
        relu_sum([(-1, [-1, 0], 1), (0.25, [0, 1], 0)], 2),
        [2.0, 1.0],
        [1.0, 0.25],
        rung="G3",
        axiom="sensitivity (a): the one feature that changes the output must not score 0",
        exposes="a gradient of 0 behind a saturated unit",
        fails=LOCALS,
        source="Shrikumar et al. 2017, figure 1; Sundararajan et al. 2017, section 2.1",
    )


def _plateau() -> GroundTruth:
    return known(
        "maximum-of-f",
        "2 x1 - x1^2 + x2 / 4 at (1, 1), the top of the hill",
        Polynomial([(2.0, [1, 0]), (-1.0, [2, 0]), (0.25, [0, 1])]),
        [1.0, 1.0],
        [1.0, 0.25],
        rung="G3",
        axiom="sensitivity (a)",
        exposes="a gradient of 0 at the point that the model likes best",
        fails=LOCALS,
        source="Shrikumar et al. 2017, section 2.2",
    )


def _shattered() -> GroundTruth:
    # Triangular teeth: up from 0, then down and up again at every half tooth; the last one ends at the input.
    half = 4.0 / (2 * TEETH)
    steep = HEIGHT / half
    turns = [(2 * steep * (-1) ** turn, [0.0, 1.0], -half * turn) for turn in range(1, 2 * TEETH)]
    return known(
        "shattered",
        f"x1 / 4 + {TEETH} teeth of height {HEIGHT} in x2, at (2, 4), the foot of the last",
        relu_sum([(0.25, [1.0, 0.0], 0.0), (steep, [0.0, 1.0], 0.0), *turns], 2),
        [2.0, 4.0],
        [0.5, 0.0],
        rung="G3",
        axiom="additivity: teeth that end where they began give nothing",
        exposes=f"a slope of -{steep} that leads nowhere, multiplied by the whole distance",
        fails=LOCALS,
        source=UNITS + "; Balduzzi et al. 2017",
    )


def _pertinent_negative() -> GroundTruth:
    weights, raw = [1.0, -2.0], [1.0, 0.0]
    columns = [Column(name="x1"), Column(name="x2", median=1.0)]
    truth = known(
        "absent-matters",
        "x1 - 2 x2 at (1, 0), baseline (0, 1)",
        affine([weights], [2.0]),
        raw,
        [1.0, 2.0],
        rung="G3",
        axiom="linearity, under the baseline that says what absence means",
        exposes="input times gradient gives nothing to an input that is 0, however much that matters",
        fails={"smoothgrad": OTHER_BASELINE},
        source=UNITS + " (pertinent negatives)",
    )
    model = Tabular(truth.model.module, columns, ["f"], name=truth.name)
    contributions = np.array([[1.0, 2.0]])
    return replace(
        truth,
        model=model,
        baseline="median",
        background=([0.0, 1.0],),
        sensitivity=slopes(contributions, [raw], [0.0, 1.0]),
    )


def _dummy() -> GroundTruth:
    return known(
        "dummy",
        "x1 x2, x3 unread, at (2, 1, 5)",
        Polynomial([(1.0, [1, 1, 0])]),
        [2.0, 1.0, 5.0],
        [1.0, 1.0, 0.0],
        rung="G3",
        axiom="dummy: what the network does not read scores 0",
        exposes="scores that come from the input and not from the network",
        fails=TOGETHER,
        source="Shapley 1953",
    )


def _symmetric() -> GroundTruth:
    return known(
        "symmetric",
        "relu(x1 + x2 + x3 - 1.5) at (1, 1, 1)",
        relu_sum([(1, [1, 1, 1], -1.5)], 3),
        [1.0, 1.0, 1.0],
        [0.5] * 3,
        rung="G3",
        axiom="symmetry and completeness",
        exposes="orders drawn unevenly, and values that do not sum to f(x) - f(b)",
        fails=TOGETHER,
        source="Shapley 1953",
    )


def _common_shift() -> GroundTruth:
    raw, gains = [2.0, 3.0], np.array([[4.0, 0.0]])
    module = affine([[2.0, 5.0], [0.0, 5.0]], [0.0, 0.0])
    return GroundTruth(
        name="common-shift",
        rung="G3",
        says="margin of f = 2 x1 + 5 x2 over g = 5 x2, at (2, 3)",
        model=table_model("common-shift", module, players=2, labels=("f", "g")),
        raws=(raw,),
        target=Margin("f"),
        features="column",
        baseline="zero",
        background=([0.0, 0.0],),
        contributions=gains,
        sensitivity=slopes(gains, [raw], [0.0, 0.0]),
        axiom="dummy: what raises all logits alike changes no decision",
        exposes="explaining a raw logit, where x2 would come first",
        source=UNITS + " (uncertainty)",
    )
