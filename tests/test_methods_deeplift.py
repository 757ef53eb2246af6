"""DeepLIFT by hand, complete on every network that it takes, and captum's where captum's is right."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import tiny
from peers import captum
from pellucid import Logit, Margin, explain
from pellucid.errors import ModelError, NoRuleError
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.pictures import Preprocessing
from pellucid.models.tabular import Column, Tabular
from test_image_classifier import drawn

QUIET = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
PICTURE = drawn(8, 8, 3)
LABELS = ["cat", "dog", "owl"]


def network(activation=torch.nn.ReLU, pool=lambda: torch.nn.MaxPool2d(2), cells=96):
    def build():
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 5, 3, padding=1),
            torch.nn.BatchNorm2d(5),
            activation(),
            pool(),
            torch.nn.Conv2d(5, 6, 3, padding=1),
            activation(),
            torch.nn.Flatten(),
            torch.nn.Linear(cells, 3),
        )

    module = tiny.randomised(build).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        module[1].running_mean.copy_(torch.randn(5, generator=generator))
        for part in (module[0], module[4], module[7]):
            part.bias.copy_(torch.randn(part.bias.shape, generator=generator))
    return module


def model_of(module, size=(8, 8)):
    return ImageClassifier(module, LABELS, Preprocessing(size, (0.5,) * 3, (0.25,) * 3))


def deeplift(module, target=None, **options):
    target = target or Logit("dog")
    return explain(model_of(module), PICTURE, method="deeplift", features="pixel", target=target, **options)


def gap(found):
    return abs(float(found.values.astype(float).sum() - (found.full_values - found.base_values)[0]))


def test_the_rescale_rule_by_hand():
    """One hidden unit: contributions are w (x - b) times the difference ratio of the ReLU."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2)).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[2.0, -1], [1, 1]]))
        module[0].bias.copy_(torch.tensor([-1.0, 0]))
        module[2].weight.copy_(torch.tensor([[0.0, 0], [3, -2]]))
        module[2].bias.zero_()
    model = Tabular(module, [Column(name="x"), Column(name="y")], ["no", "yes"])
    found = explain(model, [2.0, 1.0], method="deeplift", target=Logit("yes"))
    # The first unit goes from -1 to 2, its ReLU from 0 to 2: ratio 2/3. The second from 0 to 3, ratio 1.
    first, second = 3 * 2 / 3, -2.0
    np.testing.assert_allclose(found.values[0], [2 * 2 * first + 2 * second, -1 * first + second], rtol=1e-6)
    assert found.base_values[0] == 0
    # The gradient times the input overlooks that the first unit was closed at the reference.
    plain = explain(model, [2.0, 1.0], method="input_x_gradient", target=Logit("yes"))
    assert not np.allclose(plain.values, found.values)


def test_a_maximum_goes_to_where_the_larger_one_stands():
    """max(x, y) from max(0, 0) = 0 to max(1, 3) = 3 belongs to y; where the reference's is larger, to its place."""
    module = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 2)), torch.nn.MaxPool1d(2), torch.nn.Flatten(), torch.nn.Linear(1, 2, bias=False)
    ).double()
    with torch.no_grad():
        module[3].weight.copy_(torch.tensor([[0.0], [1.0]]))
    columns = [Column(name="x", mean=0.0, std=1.0), Column(name="y", mean=0.0, std=1.0)]
    model = Tabular(module, columns, ["no", "yes"])
    for row, expected in (([1.0, 3.0], [0, 3]), ([-1.0, -3.0], [-0.5, -0.5]), ([2.0, -5.0], [2, 0])):
        found = explain(model, row, method="deeplift", target=Logit("yes"))
        assert found.values.sum() == pytest.approx(found.full_values[0] - found.base_values[0])
        if row[0] > 0:
            np.testing.assert_allclose(found.values[0], expected, atol=1e-7)


def blurred(model):
    """The reference "blur" as a tensor; in one of a single colour all places tie, and rounding chooses."""
    inputs = model.encode(PICTURE)
    return model.baseline("blur", inputs).embedding.double().T.reshape(1, *inputs.row.shape)


@QUIET
@pytest.mark.parametrize(
    "activation", [torch.nn.ReLU, torch.nn.Tanh, torch.nn.Sigmoid, torch.nn.ELU, torch.nn.Softplus]
)
@pytest.mark.parametrize("pool", ["maximum", "average"])
def test_it_is_captums_on_networks_of_separate_modules(activation, pool):
    pools = {"maximum": lambda: torch.nn.MaxPool2d(2), "average": lambda: torch.nn.AvgPool2d(2)}
    module = network(activation, pools[pool])
    if pool == "maximum":
        # Where the pool and an activation touch, captum misses its own convergence: see the next test.
        module = torch.nn.Sequential(module[0], module[3], module[1], module[2], *module[4:])
    model = model_of(module)
    row = model.encode(PICTURE).row.double()[None]
    expected = captum.DeepLift(module).attribute(row, blurred(model), target=1)[0].sum(0).detach()
    found = deeplift(module, baseline="blur")
    np.testing.assert_allclose(found.values[0], expected.flatten().numpy(), rtol=1e-4, atol=1e-7)
    assert gap(found) < 1e-5
    assert found.reliable
    assert found.cost.rows == 2
    assert found.cost.backwards == 1


@QUIET
def test_a_maximum_behind_an_activation_is_right_here_and_not_in_captum():
    """Multipliers a window and a channel at a time; captum 0.9 misses its own convergence there."""
    parts = (
        torch.nn.Conv2d(3, 2, 1),
        torch.nn.Tanh(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 3),
    )
    module = tiny.randomised(lambda: torch.nn.Sequential(*parts)).double()
    model = model_of(module)
    row, reference = model.encode(PICTURE).row.double()[None], blurred(model)
    (u, v), (x, r) = (
        [(layer(each)[0].detach().numpy()) for each in (row, reference)] for layer in (module[0], module[:2])
    )
    head = module[4].weight[1].detach().numpy().reshape(2, 4, 4)
    multiplier = np.zeros_like(x)
    for channel in range(2):
        for down in range(4):
            for right in range(4):
                window = (channel, slice(2 * down, 2 * down + 2), slice(2 * right, 2 * right + 2))
                larger = x[window] if x[window].max() > r[window].max() else r[window]
                at = np.unravel_index(larger.argmax(), (2, 2))
                place = (channel, 2 * down + at[0], 2 * right + at[1])
                share = (x[window].max() - r[window].max()) / (x[place] - r[place])
                multiplier[place] = head[channel, down, right] * share * (x[place] - r[place]) / (u[place] - v[place])
    weight = module[0].weight[:, :, 0, 0].detach().numpy()
    expected = (np.einsum("cyx,cd->dyx", multiplier, weight) * (row - reference)[0].numpy()).sum(0)
    found = deeplift(module, baseline="blur")
    np.testing.assert_allclose(found.values[0], expected.ravel(), rtol=1e-5, atol=1e-9)
    assert gap(found) < 1e-6
    _, missed = captum.DeepLift(module).attribute(row, reference, target=1, return_convergence_delta=True)
    assert abs(float(missed)) > 1e-3


class Written(torch.nn.Module):
    """A residual network with one ReLU module for all places, functions, and sums in place."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.head = torch.nn.ReLU(inplace=True), torch.nn.Linear(4, 3)

    def forward(self, x):
        x = self.act(self.first(x))
        x = x + torch.tanh(self.act(self.second(x)) - 1)
        x += 0.5
        x = functional.max_pool2d(functional.silu(x), 3, stride=1, padding=1)
        return self.head(self.act(x).mean((2, 3)))


@QUIET
def test_what_captums_hooks_do_not_see_is_complete_here():
    module = tiny.randomised(Written).double()
    found = deeplift(module)
    difference = abs(float((found.full_values - found.base_values)[0]))
    assert difference > 0.05
    assert gap(found) < 1e-5 * difference + 1e-6
    row = model_of(module).encode(PICTURE).row.double()[None]
    try:
        theirs = captum.DeepLift(module).attribute(row, torch.zeros_like(row), target=1).sum()
    except (RuntimeError, AssertionError):
        return
    assert abs(float(theirs.detach()) - float((found.full_values - found.base_values)[0])) > 0.02 * difference


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pool", [lambda: torch.nn.MaxPool2d(3, 1, 1), lambda: torch.nn.AdaptiveMaxPool2d(3)])
def test_overlapping_maxima_keep_the_sum(pool, dtype):
    cells = 6 * (64 if pool().__class__ is torch.nn.MaxPool2d else 9)
    found = deeplift(network(pool=pool, cells=cells).to(dtype))
    assert gap(found) < 1e-4 * abs(float((found.full_values - found.base_values)[0]))


@pytest.mark.parametrize("baseline", ["black", "blur"])
def test_any_reference_and_a_curved_target_are_complete(baseline):
    """A margin is the logit minus a logsumexp: its slope is averaged between the two runs' logits."""
    found = deeplift(network(), Margin("dog"), baseline=baseline)
    assert gap(found) < 1e-4 * np.abs(found.values).max() + 1e-5
    assert found.reliable


def test_a_linear_network_gives_its_weights():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)).double()
    row = model_of(module).encode(PICTURE).row.double()
    expected = (row * module[1].weight[1].detach().view(3, 8, 8)).sum(0)
    np.testing.assert_allclose(deeplift(module).values[0], expected.flatten().numpy(), rtol=1e-6)


class Gated(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.part, self.head = kind, torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 3)
        self.norm = torch.nn.LayerNorm([4, 6, 6])

    def forward(self, x):
        x = self.part(x)
        if self.kind == "mul":
            x = x * x.sigmoid()
        elif self.kind == "layer_norm":
            x = self.norm(x)
        elif self.kind == "softmax":
            x = x.softmax(1)
        elif self.kind == "divisor":
            x = x / (1 + x.abs().mean(1, keepdim=True))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("kind", ["mul", "layer_norm", "softmax", "divisor"])
def test_what_has_no_rule_is_refused_by_name(kind):
    with pytest.raises(NoRuleError, match=rf"no rule for '{kind}' at .* in 'deeplift'; .*use integrated_gradients"):
        deeplift(tiny.randomised(lambda: Gated(kind)).double())


def test_a_network_that_takes_another_way_is_refused():
    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = torch.nn.Linear(192, 3)

        def forward(self, x):
            flat = self.part(x.flatten(1))
            return flat.relu() if bool(x.any()) else flat

    with pytest.raises(ModelError, match="other operations on the input than on the reference"):
        deeplift(Branching().double())
