"""What networks do beside the usual: attention of constant operands, hidden calls, half precision, odd requests."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid
from pellucid import Logit, trace
from pellucid.errors import InputError, ModelError, NoRuleError
from pellucid.relevance import Kind
from pellucid.relevance.lrp import Gamma

WITH_RULES = [name for name in pellucid.composites() if name not in ("gradient", "input-x-gradient")]
HOLDING_WEIGHTS = ("lrp-0", "lrp-epsilon", "cp-lrp", "decompx", "alpha-beta", "zplus")
CARRYING_RELEVANCE = ("lrp-gamma", "alpha-beta", "zplus", "backtrace", "backtrace-contrast")


class Network(nn.Module):
    """A function of a module and its input, under a linear map to three outputs."""

    def __init__(self, function, **members):
        super().__init__()
        self.function = function
        self.head = nn.Linear(8, 3)
        for name, each in members.items():
            setattr(self, name, each)

    def forward(self, x):
        return self.head(self.function(self, x))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def drawn(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype)


def written_out(query, key, value, mask=None):
    scores = query @ key.mT * query.shape[-1] ** -0.5
    return (scores if mask is None else scores + mask).softmax(-1) @ value


ATTENTIONS = {
    "a learned query": lambda attend, net, x: attend(net.query.expand(2, 1, 8), x, x + 1),
    "a learned memory": lambda attend, net, x: attend(x, net.memory.expand(2, 6, 8), net.memory.expand(2, 6, 8) + 1),
    "learned values": lambda attend, net, x: attend(x, x * 2, net.memory[:5].expand(2, 5, 8)),
    "learned keys": lambda attend, net, x: attend(x, net.memory[:5].expand(2, 5, 8), x),
    "a mask from the input": lambda attend, net, x: attend(x, x + 1, x, x @ x.mT),
}


@pytest.mark.parametrize("composite", WITH_RULES)
@pytest.mark.parametrize("operands", ATTENTIONS)
def test_fused_attention_with_constant_operands_is_the_same_written_out(operands, composite):
    made = ATTENTIONS[operands]
    members = {"query": nn.Parameter(drawn(1, 8)), "memory": nn.Parameter(drawn(6, 8))}
    fused = Network(lambda net, x: made(F.scaled_dot_product_attention, net, x).mean(1), **members).double()
    eager = Network(lambda net, x: made(written_out, net, x).mean(1), **members).double()
    eager.load_state_dict(fused.state_dict())
    x = drawn(2, 5, 8)
    if operands in ("a learned memory", "learned values") and composite in HOLDING_WEIGHTS:
        # Only the attention weights depend on the input.
        with pytest.raises(ModelError, match="does not depend on the input"):
            trace(fused, x, Logit(1), composite=composite)
        return
    found, expected = (trace(each, x, Logit(1), composite=composite).input for each in (fused, eager))
    assert found.abs().max() > 0
    # A stabiliser stands in other places.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("composite", WITH_RULES)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_whose_operands_are_named_in_any_order(composite, causal):
    placed = Network(lambda net, x: F.scaled_dot_product_attention(x, x + 1, x * 2, is_causal=causal).mean(1))
    named = Network(
        lambda net, x: F.scaled_dot_product_attention(value=x * 2, is_causal=causal, key=x + 1, query=x).mean(1)
    )
    named.load_state_dict(placed.state_dict())
    x = drawn(2, 5, 8)
    found, expected = (trace(each.double(), x, Logit(1), composite=composite).input for each in (named, placed))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_grouped_masked_attention_with_learned_keys():
    kept = torch.tensor([[True, True, False, True], [False] * 4])

    def function(net, x):
        query, value = x.view(2, 2, 4, 4), x.view(2, 2, 4, 4)[:, :1]
        attended = F.scaled_dot_product_attention(
            query, net.keys.expand(2, 1, 4, 4), value, attn_mask=kept[:, None, None], enable_gqa=True, scale=0.3
        )
        return attended.reshape(2, 4, 8).mean(1)

    network, x = Network(function, keys=nn.Parameter(drawn(4, 4))).double(), drawn(2, 4, 8)
    for composite in CARRYING_RELEVANCE:
        found = trace(network, x, Logit(1), composite=composite)
        assert torch.isfinite(found.input).all()
        # The second row attends to nothing.
        assert found.input[0].abs().max() > 0
        assert found.input[1].abs().max() == 0


@pytest.mark.parametrize("composite", WITH_RULES)
def test_a_function_transform_is_refused(composite):
    network = nn.Sequential(nn.Linear(8, 8), nn.GELU()).double()
    mapped, x = Network(lambda net, x: torch.vmap(net.part)(x), part=network).double(), drawn(2, 8)
    with pytest.raises(NoRuleError, match=r"'vmap or another function transform' at 'part\.0'"):
        trace(mapped, x, Logit(1), composite=composite)
    if composite in CARRYING_RELEVANCE:
        with pytest.raises(ModelError, match="cannot take it to first order"):
            trace(mapped, x, Logit(1), composite=composite, strict=False)
    else:
        found = trace(mapped, x, Logit(1), composite=composite, strict=False)
        assert ("vmap or another function transform", "part.1") in found.approximated


def test_a_transform_of_constants_is_none_of_our_business():
    network = Network(lambda net, x: x * torch.vmap(lambda row: row * 2)(torch.arange(8.0))).double()
    found = trace(network, drawn(2, 8), Logit(1))
    assert not found.approximated


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, slope):
        return slope * 2


@pytest.mark.parametrize("composite", CARRYING_RELEVANCE)
def test_what_is_hidden_is_never_passed_through_its_adjoint_as_relevance(composite):
    network = Network(lambda net, x: Doubled.apply(x)).double()
    with pytest.raises(ModelError, match=r"what 'Doubled' computes .* cannot be seen"):
        trace(network, drawn(2, 8), Logit(1), composite=composite, strict=False)


ODD = {
    "prod": lambda net, x: x * x.prod(-1, keepdim=True),
    "cumprod": lambda net, x: torch.cumprod(x, 1),
    "atan2": lambda net, x: torch.atan2(x, x + 1),
    "logaddexp": lambda net, x: torch.logaddexp(x, 2 * x),
    "cummax": lambda net, x: torch.cummax(x, 1)[0],
}


@pytest.mark.parametrize("composite", WITH_RULES)
@pytest.mark.parametrize("name", ODD)
def test_what_has_no_rule_is_taken_to_first_order_under_every_composite(name, composite):
    network, x = Network(ODD[name]).double(), drawn(2, 8)
    found = trace(network, x, Logit(1), composite=composite, strict=False)
    assert found.approximated == ((name, ""),)
    assert found.input.shape == x.shape
    assert torch.isfinite(found.input).all()
    assert found.account()
    both = trace(network, x, [Logit(0), Logit(1)], composite=composite, strict=False)
    torch.testing.assert_close(both.input[1], found.input)


@pytest.mark.parametrize("composite", ["backtrace", "backtrace-contrast", "zplus"])
def test_first_order_is_x_times_the_gradient_over_the_value(composite):
    network, x = Network(lambda net, x: torch.cumprod(x, 1)).double(), drawn(1, 8)
    arrived = trace(network.head, torch.cumprod(x, 1), Logit(1), composite=composite).input[0]
    jacobian = torch.autograd.functional.jacobian(lambda each: torch.cumprod(each, 0), x[0])
    expected = x[0] * (jacobian.T @ (arrived / torch.cumprod(x[0], 0)))
    found = trace(network, x, Logit(1), composite=composite, strict=False).input[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_complex_numbers_are_refused_in_one_sentence():
    network = Network(lambda net, x: torch.fft.fft(x).real).double()
    with pytest.raises(ModelError, match="'fft_fft' gives complex numbers"):
        trace(network, drawn(2, 8), Logit(1), composite="zplus", strict=False)


@pytest.mark.parametrize("composite", [*pellucid.composites()])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_relevance_of_half_precision_is_float32(composite, dtype):
    network, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype), drawn(2, 8, dtype=dtype)
    found = trace(network, x, Logit(1), composite=composite, keep="*")
    assert (found.input.dtype, found["0"].dtype) == (torch.float32, torch.float32)


def test_a_module_compiled_in_place_is_refused():
    network = nn.Sequential(nn.Linear(8, 3))
    network[0].compile(backend="eager")
    with pytest.raises(ModelError, match=r"'0' was compiled by its method compile\(\)"):
        trace(network, torch.randn(2, 8))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"target": []}, "no target was given"),
        ({"x": torch.full((2, 8), torch.nan)}, "the input holds NaN"),
    ],
)
def test_odd_requests_get_one_sentence(asked, message):
    network = nn.Sequential(nn.Linear(8, 3))
    with pytest.raises(InputError, match=message):
        trace(**{"module": network, "x": torch.randn(2, 8), **asked})


def test_a_rule_of_another_kind_is_refused_or_left_out():
    known = pellucid.composite("lrp-gamma")
    with pytest.raises(InputError, match="cannot treat operations of kind 'rectifier', only: linear, mixing"):
        known.with_rule(Kind.RECTIFIER, Gamma())
    network, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), drawn(2, 8, dtype=torch.float32)
    found = trace(network, x, Logit(1), composite=known.with_rule(F.relu, Gamma()))
    torch.testing.assert_close(found.input, trace(network, x, Logit(1), composite=known).input)


class Looking(nn.Module):
    """Vectors of ids and of what a function makes of them, under a linear map."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.words, self.others, self.head = nn.Embedding(9, 4), nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, *ids):
        return self.head(self.function(self, *ids))


def looked_up(function, ids, like=None):
    network = Looking(function).double()
    if like is not None:
        network.load_state_dict(like.state_dict())
    return network, trace(network, ids, [Logit(0), Logit(1)], composite="input-x-gradient")


IDS, STEPS = torch.tensor([[1, 2, 3], [4, 7, 5]]), torch.arange(1.0, 4.0).double()[:, None]


@pytest.mark.parametrize("same", [IDS, IDS[:, :3]])
def test_the_same_ids_for_two_arguments_have_a_relevance_each(same):
    def function(net, first, second):
        return (net.words(first) + 2 * net.others(second)).sum(1)

    network, found = looked_up(function, (IDS, same))
    _, expected = looked_up(function, (IDS, IDS.clone()), like=network)
    for one, other in zip(found.input, expected.input, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("ids", [[[0, 1, 2]], [[0, 1, 3]]])
def test_positions_do_not_pass_for_ids_that_were_copied(ids):
    def function(net, ids):
        return (net.words(ids.long()) + 2 * net.others(torch.arange(ids.shape[1]))).sum(1)

    network, found = looked_up(function, torch.tensor(ids, dtype=torch.int32))
    expected = network.words(torch.tensor(ids)) @ network.head.weight.T
    torch.testing.assert_close(found.input, expected.detach().permute(2, 0, 1))
    assert found.beside["others"].shape == (2, 3)


SPELLED = {
    "transposed": (lambda net, ids: (net.words(ids.t()) * STEPS[:, None]).sum(0), IDS),
    "transposed, copied": (lambda net, ids: (net.words(ids.t().long()) * STEPS[:, None]).sum(0), IDS.int()),
    "copied, transposed": (lambda net, ids: (net.words(ids.long().t()) * STEPS[:, None]).sum(0), IDS.int()),
    "in another order in memory": (lambda net, ids: (net.words(ids) * STEPS).sum(1), IDS.t().contiguous().t()),
    "copied twice": (
        lambda net, ids: ((net.words(ids.long()) + net.words(ids.long())) * STEPS / 2).sum(1),
        IDS.int(),
    ),
}


@pytest.mark.parametrize("spelling", SPELLED)
def test_relevance_of_ids_stands_at_its_ids(spelling):
    network, expected = looked_up(lambda net, ids: (net.words(ids) * STEPS).sum(1), IDS)
    _, found = looked_up(*SPELLED[spelling], like=network)
    torch.testing.assert_close(found.input, expected.input)
    assert not found.beside


def test_a_single_id_has_one_relevance():
    _, found = looked_up(lambda net, word: net.words(word)[None], torch.tensor(3))
    assert found.input.shape == (2,)


def test_numbers_inside_a_tuple_are_refused():
    network, x, state = nn.LSTM(4, 5, batch_first=True).double(), drawn(2, 3, 4), (drawn(1, 2, 5), drawn(1, 2, 5))
    with pytest.raises(InputError, match=r"argument 1 is a tuple that holds a tensor \(1, 2, 5\)"):
        trace(network, (x, state))
    # By name it is a constant, as tables of positions are.
    assert trace(network, {"input": x, "hx": state}, Logit(1)).input["input"].any()
