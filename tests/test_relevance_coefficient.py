"""The rules of the coefficient carrier, each against a replica written from its formula."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from oracles import coefficient as oracle
from pellucid import Logit
from pellucid.errors import InputError
from pellucid.relevance import Kind, composite, trace
from pellucid.relevance.coefficient import ConstantGates, Epsilon, Ratio, SignAgreement
from relevance_tools import Net, backed, layer, near, randn

LINEAR = {
    "linear": (lambda: nn.Linear(5, 4), (5,)),
    "linear_nobias": (lambda: nn.Linear(5, 4, bias=False), (2, 5)),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, stride=2, padding=1), (1, 2, 7)),
    "conv1d_same": (lambda: nn.Conv1d(2, 2, 3, padding="same", dilation=2), (1, 2, 6)),
    "conv2d_groups": (lambda: nn.Conv2d(4, 4, 2, groups=2, padding=(1, 0)), (1, 4, 3, 3)),
    "conv2d_depthwise": (lambda: nn.Conv2d(3, 6, 2, groups=3, bias=False), (1, 3, 3, 3)),
    "conv2d_reflect": (lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), (1, 1, 3, 4)),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2, stride=(1, 2, 1)), (1, 1, 2, 3, 3)),
    "transposed1d": (lambda: nn.ConvTranspose1d(2, 3, 3, stride=2, output_padding=1, padding=1), (1, 2, 4)),
    "transposed2d": (lambda: nn.ConvTranspose2d(2, 2, 2, groups=2, dilation=2), (1, 2, 2, 3)),
    "transposed3d": (lambda: nn.ConvTranspose3d(1, 1, 2, stride=2), (1, 1, 2, 1, 2)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_maps_by_lrp_0_and_epsilon(name):
    make, shape = LINEAR[name]
    module, x = layer(make), randn(*shape, seed=1)
    with torch.no_grad():
        for rules, epsilon in ((composite("lrp-0"), 0.0), (epsilons(0.25), 0.25), (composite("lrp-epsilon"), 1e-6)):
            found, r = backed(module, x, rules)
            near(found, oracle.linear(module, x, r, epsilon), 1e-8)


def epsilons(epsilon):
    return composite("lrp-epsilon").with_rule(Kind.LINEAR, Epsilon(epsilon))


def test_a_unit_whose_value_is_0_hands_on_nothing():
    module = nn.Linear(2, 2).double()
    module.weight.data = torch.tensor([[1.0, -1.0], [1.0, 2.0]]).double()
    module.bias.data.zero_()
    x = torch.ones(1, 2).double()
    found = trace(nn.Sequential(module, nn.Flatten()), x, Logit(1), composite="lrp-epsilon")
    near(found.input, torch.tensor([[1.0, 2.0]]).double(), 1e-5)
    assert trace(module, x, Logit(0), composite="lrp-epsilon").input.tolist() == [[0.0, 0.0]]


ACTIVATIONS = {
    "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "mish": F.mish, "elu": F.elu,
    "selu": torch.selu, "celu": lambda x: F.celu(x, 0.7), "relu6": F.relu6, "hardswish": F.hardswish,
    "hardtanh": F.hardtanh, "softsign": F.softsign, "tanhshrink": F.tanhshrink, "tanh": torch.tanh, "erf": torch.erf,
    "softplus": F.softplus, "softplus_beta": lambda x: F.softplus(x, beta=2.0), "logsigmoid": F.logsigmoid,
    "square": lambda x: x**2, "cube": lambda x: torch.pow(x, 3), "clamp": lambda x: x.clamp(-0.5, 0.25),
    "clamp_above_0": lambda x: torch.clamp(x, min=0.2), "atan": torch.arctan, "expm1": torch.expm1, "sin": torch.sin,
    "relu": F.relu, "leaky": lambda x: F.leaky_relu(x, 0.1), "abs": abs,
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_lets_relevance_through_but_for_its_constant(name):
    f, x = ACTIVATIONS[name], randn(3, 4, seed=2)
    # Where the activation is 0 there is nothing to hand on.
    x = torch.where(f(x) == 0, x.abs() + 0.1, x)
    found, r = backed(f, x, "attnlrp")
    near(found, oracle.activation(f, x, r))


@pytest.mark.parametrize("name", ["gelu", "tanh", "softplus", "logsigmoid", "square", "sin"])
def test_at_0_an_activation_counts_by_its_derivative(name):
    # z = 0 * x + x' keeps z = 0 alive: its relevance is c 0 = 0, and that of its two parts is c f'(0) times each.
    f, x = ACTIVATIONS[name], torch.tensor([[1.5, -1.5]]).double()
    found = trace(Net(lambda x: f(x.sum(1, keepdim=True)) * 2), x, Logit(0), composite="attnlrp").input
    slope = torch.autograd.functional.jacobian(f, torch.zeros((), dtype=torch.float64))
    near(found, 2 * slope * x)


def test_near_0_the_constant_of_an_activation_does_not_drown_its_slope():
    x = torch.tensor([[1.0, -1.0 + 2**-22]])
    found = trace(Net(lambda x: F.softplus(x.sum(1, keepdim=True))), x, Logit(0), composite="attnlrp").input
    torch.testing.assert_close(found, x / 2, rtol=1e-3, atol=0)


def test_an_activation_with_limits_for_each_channel_has_a_constant_for_each():
    low = torch.tensor([0.3, -1.0, 0.1, -0.2]).double()
    x = randn(3, 4, seed=3)
    found, r = backed(lambda x: torch.clamp(x, min=low), x, "attnlrp")
    y = torch.maximum(x, low)
    near(found, r * (y - low.clamp_min(0)) / y)


def test_a_module_of_several_operations_may_be_one_activation():
    swish = Net(lambda x: x * torch.sigmoid(1.7 * x) + 0.25)
    rules = composite("lrp-epsilon").with_rule(Net, Ratio())
    module, x = nn.Sequential(swish, nn.Flatten()), randn(2, 3, seed=4)
    with torch.no_grad():
        r = randn(2, 3, seed=5)
        near(trace(module, x, composite=rules, start=r).input, oracle.activation(swish, x, r))


def test_an_activation_module_in_place_does_not_write_over_what_its_rule_needs():
    module, x = nn.Sequential(layer(lambda: nn.Linear(3, 4)), nn.SiLU(inplace=True)), randn(2, 3, seed=4)
    expected = trace(module, x, Logit(1), composite="cp-lrp").input
    rules = composite("cp-lrp").with_rule(nn.SiLU, Ratio())
    near(trace(module, x, Logit(1), composite=rules).input, expected)


def test_a_gate_is_a_constant_however_the_product_is_called():
    for f in (lambda x: x * torch.tanh(x * 2), lambda x: torch.mul(x, other=torch.tanh(x * 2))):
        found, r = backed(f, randn(2, 3, seed=1), composite("cp-lrp").with_rule(Kind.PRODUCT, ConstantGates()))
        near(found, r)
    found, r = backed(lambda x, y: torch.mul(x, other=torch.tanh(y)), (randn(2, 3), randn(2, 3, seed=2)), "decompx")
    of_x, of_y = found
    near(of_x + of_y, r)


def test_a_ratio_of_anything_but_an_elementwise_function_is_refused():
    rules = composite("attnlrp").with_rule(Net, Ratio())
    with pytest.raises(InputError, match="Ratio is a rule for an elementwise function"):
        trace(nn.Sequential(Net(lambda x: x.sum(1, keepdim=True))), randn(2, 3), Logit(0), composite=rules)


# Products


def test_a_product_of_two_is_halved_also_of_one_with_itself():
    x, y = randn(2, 3, seed=1), randn(2, 3, seed=2)
    (of_x, of_y), r = backed(lambda x, y: x * y, (x, y), "attnlrp")
    near(of_x, r / 2)
    near(of_y, r / 2)
    found, r = backed(lambda x: x * x, x, "attnlrp")
    near(found, r)


@pytest.mark.parametrize("rules", ["lrp-0", "attnlrp", "cp-lrp"])
def test_a_matrix_product_of_two_is_halved(rules):
    a, b = randn(2, 3, seed=1), randn(3, 2, seed=2)
    (of_a, of_b), r = backed(torch.matmul, (a, b), rules)
    with torch.no_grad():
        near(of_a, oracle.linear(lambda a: a @ b, a, r) / 2)
        near(of_b, oracle.linear(lambda b: a @ b, b, r) / 2)


def test_a_product_of_three_in_one_einsum_is_shared_by_three():
    x, y, z = (randn(3, seed=seed) for seed in (1, 2, 3))
    (of_x, of_y, of_z), r = backed(lambda *xs: torch.einsum("i,i,i->i", *xs), (x[None][0], y, z), "attnlrp")
    for found in (of_x, of_y, of_z):
        near(found, r / 3)


# Residual sums


@pytest.mark.parametrize("gamma", [0.5, 1.0, 4.0])
def test_a_residual_sum_favours_the_branch_that_agrees(gamma):
    rules = composite("reslrp").with_rule(Kind.SUM, SignAgreement(gamma))
    a, b = randn(4, 5, seed=1), randn(4, 5, seed=2)
    a[0], b[1], a[2, :2], b[2, :2] = 0, 0, 0, 0
    sums = {
        "a + b": (lambda a, b: a + b, 1), "add": (lambda a, b: torch.add(a, b, alpha=-0.5), -0.5),
        "a - b": (lambda a, b: a - b, -1), "rsub": (lambda a, b: torch.rsub(b, a), -1),
        "in place": (lambda a, b: (a * 1.0).add_(b, alpha=3), 3),
    }  # fmt: skip
    for f, factor in sums.values():
        z = f(a, b)
        r = torch.where(z == 0, 0, randn(4, 5, seed=3))
        of_a, of_b = trace(Net(f), (a, b), composite=rules, start=r).input
        expected = oracle.agreeing(a, factor * b, r, gamma)
        near(of_a, expected[0])
        near(of_b, expected[1])
        near(of_a + of_b, r)
        assert bool((of_a.abs() + of_b.abs() <= (1 + 2 / gamma) * r.abs() + 1e-12).all())


def test_a_sum_that_is_0_carries_nothing():
    a = randn(1, 3, seed=1)
    rules = composite("reslrp").with_rule(Kind.SUM, SignAgreement())
    found = trace(Net(lambda a, b: (a + b).sum(1, keepdim=True)), (a, -a), Logit(0), composite=rules).input
    assert not any(each.any() for each in found)


def test_only_a_branch_that_was_computed_from_the_other_makes_a_residual_sum():
    inner, x = layer(lambda: nn.Linear(4, 4)), randn(2, 4, seed=1)

    def halves(x):
        a, b = x.chunk(2, 1)
        return a + torch.tanh(b)

    def seen(f):
        return {
            row.operation for row in trace(Net(f), x, Logit(0), composite=probe).account() if abs(row.leaked) > 1e-9
        }

    # A rule that leaks on purpose shows where it was used.
    probe = composite("attnlrp").with_rule(Kind.RESIDUAL, Broken())
    assert seen(lambda x: x + inner(x)) == {"add"}
    assert seen(lambda x: inner(x) + x) == {"add"}
    assert seen(lambda x: inner(x) + torch.tanh(x)) == set()
    assert seen(halves) == set()
    assert seen(lambda x: x + x) == set()


# Whole networks


class Broken(SignAgreement.__bases__[0]):
    """A rule that loses a quarter."""

    kinds = frozenset({Kind.RESIDUAL})

    def forward(self, ctx, func, args, kwargs):
        return func(*args, **kwargs)

    def backward(self, ctx, *carriers):
        return carriers[0] * 0.75, carriers[0] * 0.75


def network():
    return layer(lambda: nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 4), nn.Softmax(1)))


def test_gradient_and_input_x_gradient_are_those_of_autograd():
    module, x = network(), randn(3, 5, seed=1)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(module(leaf)[:, 2].sum(), leaf)
    near(trace(module, x, Logit(2), composite="gradient").input, slope)
    near(trace(module, x, Logit(2), composite="input-x-gradient").input, slope * x)


def test_lrp_0_of_a_network_of_relus_is_input_x_gradient():
    make = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 8),
        nn.LeakyReLU(),
    )
    module, x = layer(lambda: make), randn(3, 2, 6, 6, seed=1)
    expected = trace(module, x, Logit(2), composite="input-x-gradient").input
    near(trace(module, x, Logit(2), composite="lrp-0").input, expected)


def test_decompx_is_cp_lrp_without_epsilon():
    module = layer(lambda: nn.TransformerEncoderLayer(8, 2, 12, activation="gelu", batch_first=True))
    x = randn(2, 4, 8, seed=1)
    plain = composite("cp-lrp").with_rule(Kind.LINEAR, Epsilon(0.0))
    expected, _ = backed(module, x, plain)
    near(backed(module, x, "decompx")[0], expected)


@pytest.mark.parametrize("key", [torch.add, "*", Net, Kind.RESIDUAL])
def test_a_rule_for_residual_sums_alone_is_met_under_any_key(key):
    class Favoured(SignAgreement):
        kinds = frozenset({Kind.RESIDUAL})

    w = randn(4, 4)
    network = Net(lambda x: x + x @ w)
    plain, found = (
        trace(network, randn(2, 4), Logit(1), composite=rules).input
        for rules in (composite("lrp-0"), composite("lrp-0").with_rule(key, Favoured(5.0)))
    )
    assert not torch.allclose(plain, found)
