"""Guided backpropagation is captum's where captum sees every ReLU, and fails the randomisation of weights."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn import functional

import pellucid
import tiny
from peers import captum
from pellucid import Logit, explain
from pellucid.errors import InputError, NoRuleError
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.pictures import Preprocessing
from pellucid.ranks import spearman
from test_image_classifier import drawn

QUIET = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
PICTURE = drawn(8, 8, 3)


def network(activation=torch.nn.ReLU):
    def build():
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 5, 3, padding=1),
            torch.nn.BatchNorm2d(5),
            activation(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(5, 6, 3, padding=1),
            activation(),
            torch.nn.Flatten(),
            torch.nn.Linear(96, 3),
        )

    return tiny.randomised(build).double()


def model_of(module):
    return ImageClassifier(module, ["cat", "dog", "owl"], Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3))


def norms_by_captum(module, model):
    row = model.encode(PICTURE).row.double()[None].requires_grad_()
    found = captum.GuidedBackprop(module).attribute(row, target=1)
    return found[0].norm(dim=0).detach().numpy().ravel()


def guided(module, **options):
    return explain(
        model_of(module), PICTURE, method="guided_backprop", features="pixel", target=Logit("dog"), **options
    )


@QUIET
def test_it_is_captums_where_every_relu_is_a_module_of_its_own():
    module = network()
    found = guided(module)
    np.testing.assert_allclose(found.values[0], norms_by_captum(module, model_of(module)), rtol=1e-5, atol=1e-9)
    assert found.values.any()
    assert found.base_values == found.full_values
    assert found.cost.backwards == 1
    plain = explain(model_of(module), PICTURE, method="gradient", features="pixel", target=Logit("dog"))
    assert not np.allclose(found.values, plain.values, rtol=0.1)


def test_by_hand_on_two_layers():
    """y = relu(x) w1 relu(.) w2: the way back is closed at a negative gradient and at a closed ReLU."""
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(4, 3, bias=False), torch.nn.ReLU(), torch.nn.Linear(3, 2, bias=False)
    ).double()
    first = torch.tensor([[1.0, -2, 0, 1], [0, 1, 1, 0], [-1, -1, -1, -1]])
    second = torch.tensor([[3.0, -1, 5], [0, 0, 0]])
    with torch.no_grad():
        module[1].weight.copy_(first)
        module[3].weight.copy_(second)
    model = ImageClassifier(module, ["a", "b"], Preprocessing((2, 2), (0.0,), (1.0,)))
    picture = np.full((2, 2), 100, np.uint8)
    picture[0, 1] = 20
    found = explain(model, picture, method="guided_backprop", features="pixel", target=Logit("a"))
    # The first unit is open and speaks for the target; the second speaks against it, and the third is closed.
    np.testing.assert_allclose(found.values[0], [3, 6, 0, 3], rtol=1e-6)


class Functional(torch.nn.Module):
    """The network above with its ReLUs called as functions, in place, and one of them by a clamp."""

    def __init__(self, inner, second):
        super().__init__()
        self.inner, self.second = inner, second

    def forward(self, x):
        parts = self.inner
        x = functional.relu_(parts[1](parts[0](x)))
        return parts[7](parts[6](self.second(parts[4](parts[3](x)))))


@QUIET
@pytest.mark.parametrize(
    "second", [torch.relu, functional.relu, lambda x: x.clamp(min=0), lambda x: x.clamp_min(0), torch.Tensor.relu_]
)
def test_a_relu_is_one_however_it_is_called(second):
    """Captum, which hooks modules, gives the plain gradient here and says nothing."""
    module = network()
    bare = Functional(module, second)
    expected = guided(module).values
    np.testing.assert_allclose(guided(bare).values, expected, rtol=1e-6)
    row = model_of(bare).encode(PICTURE).row.double()[None].requires_grad_()
    theirs = captum.GuidedBackprop(bare).attribute(row, target=1)[0].norm(dim=0).detach().numpy().ravel()
    assert not np.allclose(theirs, expected[0], rtol=0.1)


def test_a_capped_relu_is_closed_above_its_cap():
    module, row = network(torch.nn.ReLU6), None
    row = model_of(module).encode(PICTURE).row.double()[None] * 3
    first = module[1](module[0](row)).detach()
    assert (first > 6).any()
    x = first.requires_grad_()
    y = x.clamp(0, 6)
    z = module[4](module[3](y))
    (from_z,) = torch.autograd.grad(module[7](module[6](z.clamp(0, 6)))[0, 1], z)
    (from_x,) = torch.autograd.grad(
        y, x, torch.autograd.grad(z, y, from_z.clamp(min=0), retain_graph=True)[0].clamp(min=0)
    )
    (expected,) = torch.autograd.grad(module[1](module[0](leaf := row.clone().requires_grad_())), leaf, from_x)
    model = model_of(module)
    model.preprocessing = Preprocessing((8, 8), (0.5,) * 3, (0.25 / 3,) * 3)
    found = explain(model, PICTURE, method="guided_backprop", features="pixel", target=Logit("dog"))
    np.testing.assert_allclose(found.values[0], expected[0].norm(dim=0).numpy().ravel(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("activation", "name"),
    [(torch.nn.GELU, "gelu"), (torch.nn.SiLU, "silu"), (torch.nn.Tanh, "tanh"), (torch.nn.Sigmoid, "sigmoid"),
     (torch.nn.LeakyReLU, "leaky_relu"), (torch.nn.Hardtanh, "hardtanh"), (torch.nn.ELU, "elu")],
)  # fmt: skip
def test_another_nonlinearity_is_refused_by_name(activation, name):
    with pytest.raises(
        NoRuleError, match=rf"no rule for '{name}' at '2' in 'guided_backprop'; .*networks of ReLUs; use gradient"
    ):
        guided(network(activation))


def test_texts_are_refused():
    with pytest.raises(InputError, match="guided_backprop explains image, and"):
        explain(pellucid.load(tiny.encoder("bert")), "a word", method="guided_backprop")


def boxes(seed):
    generator, (y, x) = np.random.default_rng(seed), np.mgrid[:28, :28]
    picture = np.zeros((28, 28))
    for _ in range(3):
        (down, right), size = generator.integers(6, 22, 2), generator.integers(3, 9)
        picture += ((abs(y - down) < size) & (abs(x - right) < size)) * generator.integers(60, 200)
    return picture.clip(0, 255).astype(np.uint8)


def test_it_fails_where_the_head_is_made_random():
    """Its map hardly changes when the network forgets its classes, which a faithful one must: a test of the test."""
    model = pellucid.load("fashion-cnn")
    forgot = deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in forgot.module.head.parameters():
            torch.nn.init.normal_(parameter, std=float(parameter.std()))

    def likeness(method):
        options = {"method": method, "features": "patch:2", "checks": "none"}
        found = []
        for seed in range(10):
            pair = [explain(each, boxes(seed), target=Logit(seed), **options) for each in (model, forgot)]
            found.append(spearman(*(np.abs(each.values[0]) for each in pair)))
        return np.mean(found)

    assert likeness("guided_backprop") > 0.7
    assert likeness("integrated_gradients") < 0.4
