"""Implementation and input invariance: networks that are one function, and methods that do and do not see that."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from oracles import metrics_end_to_end as oracle
from pellucid import explain
from pellucid.errors import InputError, ModelError
from pellucid.games import ask
from pellucid.methods import make_method
from pellucid.metrics.calls import MetricFunction
from pellucid.metrics.functional.axioms import invariance
from pellucid.metrics.invariance import ImplementationInvariance, InputInvariance
from pellucid.metrics.rewritten import equal_model
from pellucid.models import CausalLM, Column, ImageClassifier, Tabular, TextClassifier
from pellucid.models.pictures import Preprocessing
from pellucid.targets import Logit

implementation_invariance, input_invariance = MetricFunction(ImplementationInvariance), MetricFunction(InputInvariance)
ROW = [0.8, -1.1, 0.4, 1.7]
X = np.array(ROW)
KEEPING = ("gradient", "input_x_gradient", "integrated_gradients", "exact_shapley", "occlusion")


def tabular(module, labels=("low", "high"), name="small"):
    return Tabular(module, [Column(name=f"x{number}") for number in range(4)], list(labels), name=name)


def normalised_table(seed=0):
    """Two hidden layers with batch normalisation that does something."""
    module = oracle.network(
        lambda: nn.Linear(4, 6), lambda: nn.BatchNorm1d(6), nn.ReLU, lambda: nn.Linear(6, 5, bias=False),
        lambda: nn.BatchNorm1d(5), nn.ReLU, lambda: nn.Linear(5, 2), seed=seed,
    )  # fmt: skip
    return tabular(shaken(module))


def shaken(module):
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean = torch.randn(part.num_features, generator=generator, dtype=torch.float64)
            part.running_var = 0.5 + torch.rand(part.num_features, generator=generator, dtype=torch.float64)
    return module.requires_grad_(False)


class Residual(nn.Module):
    """A convolution whose output is read by its batch normalisation, and a second one beside it."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(1, 3, 3, padding=1)
        self.shortcut, self.act, self.head = nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Linear(3 * 24, 2)

    def forward(self, x):
        return self.head((self.act(self.norm(self.conv(x))) + self.shortcut(x)).flatten(1))


def picture_model():
    module = shaken(oracle.network(Residual)[0])
    preprocessing = Preprocessing(size=(4, 6), mean=(0.4,), std=(0.3,))
    return ImageClassifier(module, ["no", "yes"], preprocessing, name="picture")


PICTURE = np.random.default_rng(0).integers(0, 256, (4, 6)).astype(np.uint8)


def cases():
    yield normalised_table(), ROW, {}, {"_SplitLinear", "_ScaledReLU", "Identity"}
    yield picture_model(), PICTURE, {"features": "patch:2"}, {"_SplitConv2d", "_SplitLinear", "_ScaledReLU", "Identity"}
    text = "two nodes hurt two"
    yield TextClassifier(*tiny.encoder("bert"), name="bert"), text, {"features": "word"}, {"_SplitLinear"}
    yield CausalLM(*tiny.decoder("llama"), name="llama"), text, {"features": "word"}, {"_SplitLinear"}


@pytest.mark.parametrize(("model", "raw", "options", "parts"), list(cases()), ids=["table", "picture", "bert", "llama"])
def test_an_equal_network_is_equal_and_written_otherwise(model, raw, options, parts):
    question = ask(model, raw, **options)
    before = copy.deepcopy(model.module.state_dict())
    twin = equal_model(question)
    kinds = {type(part).__name__ for part in twin.module.modules()}
    assert parts <= kinds
    assert not kinds & {"Linear", "Conv2d", "BatchNorm1d", "BatchNorm2d", "ReLU"}
    masks = np.random.default_rng(0).random((20, len(question.features))) < 0.5
    other = question._replace(model=twin).of(question.inputs)
    np.testing.assert_allclose(other.game.value(masks), question.game.value(masks), rtol=1e-4, atol=1e-5)
    assert all(map(torch.equal, before.values(), model.module.state_dict().values()))
    assert not {id(each) for each in model.module.parameters()} & {id(each) for each in twin.module.parameters()}
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in twin.module.modules())
    assert twin.meter is model.meter


@pytest.mark.parametrize("method", KEEPING)
@pytest.mark.parametrize("model", [normalised_table(), picture_model()], ids=["table", "picture"])
def test_what_asks_for_the_function_alone_keeps_implementation_invariance(method, model):
    raw, options = (ROW, {}) if isinstance(model, Tabular) else (PICTURE, {"features": "patch:2"})
    values = explain(model, raw, method=method, checks="none", **options)
    found = implementation_invariance(model, raw, values, method=make_method(method), **options)
    assert float(found) < 1e-5
    negated = implementation_invariance(model, raw, -values.values[0], method=make_method(method), **options)
    assert float(negated) == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize("method", ["zplus", "alpha-beta", "lrp-gamma", "backtrace"])
def test_rules_of_layers_that_part_the_signs_of_weights_do_not(method):
    model = normalised_table()
    values = explain(model, ROW, method=method, checks="none")
    assert float(implementation_invariance(model, ROW, values, method=make_method(method))) > 0.01


def doubled():
    """relu(x0) - relu(x1) + x2 + x3 in two ways: each hidden unit as it is, and as two of half the size."""
    weights = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).double()
    outer = torch.tensor([[1.0, -1, 1, 1], [0, 0, 0, 0]]).double()
    found = []
    for copies in (1, 2):
        first, last = nn.Linear(4, 4 * copies, bias=False).double(), nn.Linear(4 * copies, 2, bias=False).double()
        first.weight.data, last.weight.data = weights.repeat(copies, 1), outer.repeat(1, copies) / copies
        found.append(tabular(nn.Sequential(first, nn.ReLU(), last), name=f"{copies} of each"))
    return found


def wires(question):
    """A method that counts the weights on each column, and so explains the network and not the function."""
    weight = question.model.module[0].weight
    return weight.abs().sum(0).numpy(force=True) * question.inputs.row.numpy()


def test_a_method_that_counts_wires_is_found_by_twice_as_many():
    model, other = doubled()
    question = ask(model, ROW, target=Logit("low"))
    options = {"target": Logit("low"), "method": wires, "other": other}
    assert float(implementation_invariance(model, ROW, wires(question), **options)) == pytest.approx(1)
    function = make_method("input_x_gradient")
    values = explain(model, ROW, method=function, target=Logit("low"), checks="none")
    kept = implementation_invariance(model, ROW, values, target=Logit("low"), method=function, other=other)
    assert float(kept) == 0
    named = ImplementationInvariance(other=other).named(question)
    assert named == "implementation_invariance [column, beside 2 of each]"


def test_two_functions_are_no_two_ways_of_writing_one():
    model, other = doubled()
    with torch.no_grad():
        other.module[2].weight[0, 0] += 0.01
    with pytest.raises(ModelError, match="only two networks that are one function"):
        implementation_invariance(model, ROW, ROW, method=wires, other=other)
    with pytest.raises(InputError, match="does not read what"):
        implementation_invariance(model, ROW, ROW, method=wires, other=tabular(other.module, ("a", "b")))


class Product(nn.Module):
    """A network of parameters alone."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return x @ self.weight


def test_a_network_without_layers_cannot_be_written_otherwise():
    with pytest.raises(InputError, match="give an equal model as other="):
        implementation_invariance(tabular(Product()), ROW, ROW, method=make_method("gradient"))


# Input invariance


def linear(bias=0.3):
    module = nn.Linear(4, 2).double()
    module.weight.data = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.0, 0.0, 0.0, 0.0]]).double()
    module.bias.data = torch.tensor([bias, 0.0]).double()
    return tabular(module.requires_grad_(False))


WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0])


def shifted_score(method, model=None, raw=ROW, shift=0.75, **options):
    """The score of a method with its settings, which imputes as the question does."""
    model = model or linear()
    target = {"target": Logit(model.labels[0])}
    question = ask(model, raw, **target, **options)
    explained = make_method(method[0], **method[1])
    values = explained.attribute(question).values.sum(0)
    return float(input_invariance(model, raw, values, method=explained, shift=shift, **target, **options))


@pytest.mark.parametrize("shift", [0.75, -2.0])
def test_input_times_gradient_takes_the_shift_for_a_contribution(shift):
    expected = abs(shift) * np.linalg.norm(WEIGHTS) / np.linalg.norm(X * WEIGHTS)
    assert shifted_score(("input_x_gradient", {}), shift=shift) == pytest.approx(expected, rel=1e-6)
    # A path from zeros adds the same, and one from the mean, which is shifted too, nothing.
    from_zero = shifted_score(("integrated_gradients", {"baseline": "zero"}), shift=shift)
    assert from_zero == pytest.approx(expected, rel=1e-6)
    for baseline in ("mean", "median"):
        assert shifted_score(("integrated_gradients", {"baseline": baseline}), shift=shift) < 1e-6


@pytest.mark.parametrize(("imputer", "kept"), [("mean", True), ("marginal", True), ("zero", False)])
def test_the_imputer_moves_with_the_data_if_it_comes_of_them(imputer, kept):
    background = ([0.0, 1.0, 2.0, 0.5], [1.0, 0.0, 0.0, -1.0])
    found = shifted_score(("exact_shapley", {}), imputer=imputer, background=background)
    assert found < 1e-6 if kept else found > 0.1


@pytest.mark.parametrize(("imputer", "kept"), [("mean", True), ("blur", True), ("black", True), ("zero", False)])
def test_pictures_are_shifted_too(imputer, kept):
    found = shifted_score(("occlusion", {}), picture_model(), PICTURE, features="patch:2", imputer=imputer)
    assert found < 1e-5 if kept else found > 0.1


def test_the_gradient_and_a_constant_map_are_input_invariant():
    for model, raw, options in ((normalised_table(), ROW, {}), (picture_model(), PICTURE, {"features": "patch:2"})):
        assert shifted_score(("gradient", {}), model, raw, **options) < 1e-5
        count = len(ask(model, raw, **options).features)
        still = np.arange(1.0, 1 + count)
        assert float(input_invariance(model, raw, still, method=lambda _, still=still: still, **options)) == 0
        away = input_invariance(model, raw, -still, method=lambda _, still=still: still, **options)
        assert float(away) == pytest.approx(2)


def test_the_shift_leaves_the_model_as_it_was():
    model = linear()
    module, known = model.module, dict(vars(model))
    shifted_score(("input_x_gradient", {}), model)
    assert model.module is module
    assert vars(model) == known


def test_a_text_has_nothing_to_shift():
    model = TextClassifier(*tiny.encoder("bert"), name="bert")
    with pytest.raises(InputError, match="bert reads text; use implementation_invariance"):
        input_invariance(model, "two nodes", [1.0, 2.0], method=make_method("gradient"), features="word")


def test_invariance_is_the_relative_change():
    assert invariance(np.array([3.0, -4.0]), np.array([3.0, -4.0])) == 0
    assert invariance(np.array([3.0, -4.0]), np.array([0.0, -4.0])) == pytest.approx(0.6)
    assert invariance(np.zeros(2), np.zeros(2)) == 0
    assert np.isnan(invariance(np.zeros(2), np.ones(2)))
