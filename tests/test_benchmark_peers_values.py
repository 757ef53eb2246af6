"""Captum, SHAP and LIME as methods: their numbers against pellucid's own, and against numbers made by hand."""

import itertools

import numpy as np
import pytest
import torch

import pellucid
from peer_questions import (
    COLUMNS,
    ROW,
    TARGET,
    background,
    boosted,
    classifier,
    convolutions,
    of_picture,
    of_text,
    perceptron,
    picture,
)
from pellucid import Logit, Margin
from pellucid.api import Asked, explain
from pellucid.benchmark.peers import make_peer
from pellucid.benchmark.peers.halving import halves
from pellucid.errors import InputError, ModelError
from pellucid.games import FunctionGame
from pellucid.models import Tabular


def test_feature_ablation_is_occlusion():
    for baseline in ("mask", "delete"):
        expected = of_text("occlusion", baseline).values
        np.testing.assert_allclose(of_text(make_peer("captum:feature_ablation"), baseline).values, expected, atol=1e-6)


def test_shap_over_all_coalitions_is_the_exact_value():
    exact = of_text("exact_shapley", "mask").values
    kernel = make_peer("shap:kernel", samples=64, l1_reg=0)
    np.testing.assert_allclose(of_text(kernel, "mask").values, exact, atol=1e-5)
    # Ten features are kept at the most; with three, a score is missing.
    assert (of_text(make_peer("shap:kernel", samples=64, l1_reg="num_features(3)"), "mask").values == 0).sum() == 2


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("captum:shapley_value_sampling", {"permutations": 400}),
        ("captum:kernel_shap", {"samples": 4000}),
        ("shap:permutation", {"permutations": 200}),
    ],
)
def test_samplers_come_near_the_exact_value(name, settings):
    exact = of_text("exact_shapley", "mask").values[0]
    found = of_text(make_peer(name, **settings), "mask").values[0]
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()
    assert np.abs(found[::-1] - exact).max() > 0.1 * np.abs(exact).max()


def test_the_partition_is_the_owen_value_of_its_tree():
    """Over four words, halved twice: the mean over the orders in which neither half is interrupted."""
    question = Asked.of(
        classifier(), "tumour grows fast today", target=TARGET, features="word", imputer="mask"
    ).question
    game, expected = question.game, np.zeros(4)
    orders = [order for order in itertools.permutations(range(4)) if {order[0], order[1]} in ({0, 1}, {2, 3})]
    for order in orders:
        present = np.zeros(4, dtype=bool)
        for player in order:
            before = game.value(present[None])[0, 0]
            present[player] = True
            expected[player] += (game.value(present[None])[0, 0] - before) / len(orders)
    found = make_peer("shap:partition", samples=200).attribute(question).values[0]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_halves_of_a_text_and_of_a_picture():
    question = Asked.of(classifier(), "tumour grows fast today", target=TARGET, features="word").question
    np.testing.assert_array_equal(halves(question), [[0, 1, 1, 2], [2, 3, 1, 2], [4, 5, 2, 4]])
    wide = Asked.of(convolutions(), picture(), target=Logit("a"), features="patch:8").question
    # Rows first: the upper two of four patches make a branch.
    np.testing.assert_array_equal(halves(wide)[:, :2], [[0, 1], [2, 3], [4, 5]])


def test_lime_on_a_text_is_our_lime_with_its_penalty():
    ours = of_text("lime", "mask", samples=4000, alpha=1.0).values[0]
    theirs = of_text(make_peer("lime:text", samples=4000), "mask").values[0]
    assert np.abs(theirs - ours).max() < 0.1 * np.abs(ours).max()
    assert np.abs(theirs[::-1] - ours).max() > 0.1 * np.abs(ours).max()
    assert (of_text(make_peer("lime:text", samples=400, num_features=2), "mask").values != 0).sum() == 2


def test_lime_on_a_picture_finds_an_additive_model():
    """Where the target is a sum, an unshrunk regression of any coalitions has the addends."""
    addends = np.array([2.0, -1.0, 0.5, 0.0])
    question = Asked.of(convolutions(), picture(), target=Logit("a"), features="patch:8").question
    question = question._replace(game=FunctionGame(lambda rows: (rows @ addends)[:, None], 4))
    found = make_peer("lime:image", samples=2000).attribute(question).values[0]
    np.testing.assert_allclose(found, addends, atol=0.02)


def test_captums_lime_shrinks_what_is_small():
    question = Asked.of(convolutions(), picture(), target=Logit("a"), features="patch:8").question
    question = question._replace(game=FunctionGame(lambda rows: (rows @ np.array([2.0, 1.0, 0.5, 0.001]))[:, None], 4))
    found = make_peer("captum:lime", samples=500).attribute(question).values[0]
    assert found[3] == 0
    assert found[0] > found[1] > found[2] > 0


def test_gradient_methods_are_ours():
    for theirs, ours, settings in (
        ("captum:input_x_gradient", "input_x_gradient", {}),
        ("captum:integrated_gradients", "integrated_gradients", {"steps": 7, "baseline": "mask"}),
    ):
        expected = of_text(pellucid.methods.make_method(ours, **settings)).values
        np.testing.assert_allclose(of_text(make_peer(theirs, **settings)).values, expected, atol=1e-6)


def test_saliency_is_the_sum_of_absolute_slopes():
    model = perceptron()
    row = model.encode(ROW).row.double().requires_grad_()
    (slope,) = torch.autograd.grad(model.module(row[None])[0, 1], row)
    expected = [*slope[:3].abs().tolist(), float(slope[3:].abs().sum())]
    found = explain(model, ROW, method=make_peer("captum:saliency"), target=Logit("yes"), checks="none").values[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["captum:gradient_shap", "shap:gradient"])
def test_random_points_of_the_path_come_near_the_integral(name):
    """SHAP draws from rows of the background; where all are the training mean, both integrate the same path."""
    model = perceptron(torch.nn.Tanh)
    mean = [0.0, 0.0, 0.0, "b"]
    options = {"target": Logit("yes"), "checks": "none", "background": [mean] * 3}
    exact = explain(model, [1.0, 2.0, -1.0, "b"], method="integrated_gradients", baseline="mean", **options).values[0]
    found = explain(model, [1.0, 2.0, -1.0, "b"], method=make_peer(name, samples=2000), **options).values[0]
    if name == "shap:gradient":
        exact = explain(model, ROW, method="expected_gradients", samples=2000, **options).values[0]
    assert np.abs(found - exact).max() < 0.15 * np.abs(exact).max()


def test_deep_lift_is_the_rescale_rule():
    """The multiplier of a unit is the difference that comes out of it by the one that goes in."""
    model = perceptron()
    first, _, last = model.module
    question = Asked.of(model, ROW, target=Logit("yes")).question
    model.module.requires_grad_(False)
    row, base = question.inputs.row.double(), model.baseline("mean", question.inputs).embedding[:, 0]
    into = first(row) - first(base)
    out = first(row).relu() - first(base).relu()
    by_number = (row - base) * ((out / into * last.weight[1]) @ first.weight)
    expected = [*by_number[:3].tolist(), by_number[3:].sum().item()]
    found = make_peer("captum:deep_lift").attribute(question)
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-5)
    assert float(found.values.sum()) == pytest.approx(float(found.full_values[0] - found.base_values[0]))


def test_deep_lift_passes_by_what_it_has_no_rule_for():
    """Captum knows ReLU and not ReLU6: what comes out is Input x Gradient, and the sum shows it."""
    model = perceptron(torch.nn.ReLU6)
    options = {"target": Logit("yes"), "checks": "free"}
    found = explain(model, ROW, method=make_peer("captum:deep_lift"), **options)
    gradient = explain(model, ROW, method="input_x_gradient", baseline="mean", **options)
    np.testing.assert_allclose(found.values, gradient.values, rtol=1e-5)
    gap = {check.name: check for check in found.checks.items}["completeness"]
    assert not gap.passed


def test_grad_cam_is_the_weighted_sum_of_the_last_maps():
    model = convolutions()
    tensor = model.encode(picture()).row.double()
    last = [part for part in model.module.modules() if isinstance(part, torch.nn.Conv2d)][-1]
    kept = []
    hook = last.register_forward_hook(lambda part, given, out: kept.append(out))
    logits = model.module(tensor[None])
    hook.remove()
    (slope,) = torch.autograd.grad(logits[0, 0], kept[0])
    cam = (slope.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True)
    wide = torch.nn.functional.interpolate(cam, (16, 16), mode="bilinear")[0, 0].detach()
    expected = wide.unfold(0, 4, 4).unfold(1, 4, 4).sum((2, 3)).flatten()
    found = of_picture(make_peer("captum:grad_cam"), model)
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-5)
    assert found.settings["layer"] == "features.4"


def test_guided_grad_cam_wants_relu():
    assert np.abs(of_picture(make_peer("captum:guided_grad_cam")).values).max() > 0
    with pytest.raises(InputError, match="guides ReLU modules, and the network has none; use captum:grad_cam"):
        of_picture(make_peer("captum:guided_grad_cam"), convolutions("silu"))


def test_windows_slide_over_the_picture():
    """Each pixel has the mean loss of the windows over it; a patch has the sum, by the area of a window."""
    model = convolutions()
    tensor = model.encode(picture()).row.double()
    lost, counts = torch.zeros(16, 16, dtype=torch.float64), torch.zeros(16, 16)
    with torch.no_grad():
        full = model.module(tensor[None])[0, 0]
        for top, left in itertools.product(range(0, 9, 4), repeat=2):
            covered = tensor.clone()
            covered[:, top : top + 8, left : left + 8] = 0
            lost[top : top + 8, left : left + 8] += full - model.module(covered[None])[0, 0]
            counts[top : top + 8, left : left + 8] += 1
    expected = ((lost / counts) / 64).unfold(0, 4, 4).unfold(1, 4, 4).sum((2, 3)).flatten()
    found = of_picture(make_peer("captum:occlusion", windows=4), model)
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=r"one fixed picture, and 'noisy-linear' is none; use mean"):
        of_picture(make_peer("captum:occlusion"), model, baseline="noisy-linear")


@pytest.mark.parametrize("imputer", ["mean", "marginal"])
def test_trees_are_read_exactly(imputer):
    """Where every column is one number, the tree explainer's game is ours."""
    model = boosted(columns=COLUMNS[:3])
    asked = Asked.of(model, ROW[:3], target=Margin("yes"), imputer=imputer)
    expected = pellucid.methods.ExactShapley().attribute(asked.question).values
    found = make_peer("shap:tree").attribute(asked.question).values
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected).max() > 0.1


def test_trees_refuse_what_is_no_sum_of_logits():
    with pytest.raises(InputError, match=r"explains sums of logits, and .* of 3 classes is none; use the target Logit"):
        explain(boosted(classes=3), ROW, method=make_peer("shap:tree"), target=Margin("yes"))
    with pytest.raises(InputError, match="reads boosted trees, and perceptron is a network"):
        explain(perceptron(), ROW, method=make_peer("shap:tree"))


class Cut(torch.nn.Module):
    """A network that gives no gradient, and does not say so."""

    def __init__(self):
        super().__init__()
        self.inner = perceptron().module

    def forward(self, x):
        return self.inner(x).detach()


@pytest.mark.parametrize("name", ["captum:saliency", "captum:deep_lift", "shap:gradient"])
def test_no_gradient_no_scores(name):
    method = make_peer(name, **({"samples": 4} if name == "shap:gradient" else {}))
    model = Tabular(Cut(), COLUMNS, ["no", "yes"], name="cut", background=background())
    with pytest.raises(ModelError, match="cut gives no gradient of its output"):
        explain(model, ROW, method=method)


def test_lime_on_a_table_tells_what_the_quartile_adds():
    """A target that is 3 where the first number lies in the input's quartile, and 0 elsewhere."""
    edge = float(np.quantile([row[0] for row in background()], 0.75))

    class Step(torch.nn.Module):
        def forward(self, x):
            high = 3.0 * (x[:, 0] > edge)
            return torch.stack([torch.zeros_like(high), high], 1)

    model = Tabular(Step(), COLUMNS, ["no", "yes"], name="step", background=background())
    method = make_peer("lime:tabular", samples=2000)
    found = explain(model, [edge + 1, 0.0, 0.0, "a"], method=method, target=Logit("yes"), checks="none")
    np.testing.assert_allclose(found.values[0], [3.0, 0, 0, 0], atol=0.05)
    assert found.baseline == "rows drawn from the quartiles of 30 of the background"
