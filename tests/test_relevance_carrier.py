"""The rules that carry relevance, each through a trace of one operation, against the loops that its formula says."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from oracles import relevance as slow
from oracles.relevance_tape import affine
from pellucid import Logit, Margin
from pellucid.errors import InputError
from pellucid.relevance import Kind, composite, trace
from pellucid.relevance.backtrace import BacktraceLinear
from pellucid.relevance.lrp import AlphaBeta, Flat, WSquare, ZBox
from relevance_tools import Net, backed, classifier, layer, near, randn

FIXTURES = Path(__file__).parent / "fixtures" / "backtrace" / "functions.safetensors"
CARRIERS = ["backtrace", "backtrace-contrast", "lrp-gamma", "alpha-beta", "zplus"]
ACTIVATIONS = {"None": lambda z: z, "linear": lambda z: z, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


def mild():
    """A network whose softmax is not saturated: where one of P and N is next to nothing, contrast knows it roughly."""
    module = classifier()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.4)
    return module


@pytest.fixture(scope="module")
def published():
    found = {}
    for name, tensor in load_file(FIXTURES).items():
        case, _, part = name.rpartition(".")
        found.setdefault(case, {})[part] = tensor
    return found


def test_published_dense_layers_and_what_follows_them(published):
    """The saturation is that of the activation that the network itself applies."""
    cases = {case: of for case, of in published.items() if case.startswith("fc_")}
    assert cases
    for case, of in cases.items():
        name = case.split("_")[1]
        name = name if name in ACTIVATIONS else "None"

        def dense(x, of=of, name=name):
            return ACTIVATIONS[name](F.linear(x, of["W"], of["b"]))

        found = trace(Net(dense), of["x"], composite="backtrace", start=of["R"]).input
        assert (found - of["out"]).abs().max() < 1e-12


def test_saturation_can_be_switched_off():
    weight, x, r = randn(4, 3) * 4, randn(2, 3, seed=1), randn(2, 4, seed=2)
    rules = composite("backtrace").with_rule(Kind.LINEAR, BacktraceLinear(saturation=False))

    def found(f, composite):
        return trace(Net(f), x, composite=composite, start=r).input

    plain = found(lambda x: x @ weight.T, "backtrace")
    near(found(lambda x: torch.tanh(F.linear(x, weight)), rules), plain)
    assert (found(lambda x: torch.tanh(F.linear(x, weight)), "backtrace") - plain).abs().max() > 0.01


@pytest.mark.parametrize("name", CARRIERS)
def test_several_targets_and_starts_are_each_as_if_alone(name):
    module, x = mild(), randn(2, 4, 6, seed=1)
    targets = [Logit(2), Margin(0), Logit(1)]
    for start in ("value", "one"):
        together = trace(module, x, targets, composite=name, start=start)
        for row, target in enumerate(targets):
            alone = trace(module, x, target, composite=name, start=start)
            near(together.input[row], alone.input)
            if name == "backtrace-contrast":
                near(together.positive[row], alone.positive)
                near(together.negative[row], alone.negative)
                near(alone.input, alone.positive - alone.negative)
    for row in range(2):
        near(
            together.input[:, row : row + 1],
            trace(module, x[row : row + 1], targets, composite=name, start="one").input,
        )


def test_contrast_conserves_both_relevances():
    """But for what the bias of a residual sum of constants would keep, and there is none here."""
    module, x = mild(), randn(2, 4, 6, seed=1)
    z = module(x).detach()
    found = trace(module, x, Logit(1), composite="backtrace-contrast")
    near(found.positive.sum(), z[:, 1].sum())
    near(found.negative.sum(), z[:, [0, 2]].sum())
    ones = trace(module, x, Logit(1), composite="backtrace-contrast", start="one")
    near(ones.positive.sum(), torch.tensor(2.0, dtype=z.dtype))
    near(ones.negative.sum(), torch.tensor(4.0, dtype=z.dtype))


# Sums

SUMS = {
    "a + b": (lambda a, b: a + b, (1, 1)),
    "add alpha": (lambda a, b: torch.add(a, b, alpha=-2), (1, -2)),
    "a - b": (lambda a, b: a - b, (1, -1)),
    "sub alpha": (lambda a, b: torch.sub(input=a, other=b, alpha=3), (1, -3)),
    "rsub": (lambda a, b: torch.rsub(a, b, alpha=0.5), (-0.5, 1)),
    "+=": (lambda a, b: (y := a * 1.0, y.add_(b))[1], (1, 1)),
}
SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (2, 3))]


def summed(terms, r, rules):
    """(positive, negative) relevance of each of two terms, by the oracle of a unit with two inputs, weight 1."""
    wide = [t.expand(r.shape) for t in torch.broadcast_tensors(*terms)]
    found = [torch.zeros(r.shape, dtype=r.dtype) for _ in terms]
    for at in itertools.product(*map(range, r.shape)):
        row = [float(each[at]) for each in wide]
        unit = [[1.0, 1.0]], row, [0.0]
        if rules == "backtrace":
            shares = slow.backtrace(*unit, [float(r[at])])
        elif rules == "backtrace-contrast":
            shares = [p - n for p, n in zip(*slow.contrast(*unit, [float(r[at])], [0.0]), strict=True)]
        else:
            shares = slow.epsilon(*unit, [float(r[at])], 1e-6)
        for term, share in zip(found, shares, strict=True):
            term[at] = share
    return found


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("rules", ["backtrace", "backtrace-contrast", "zplus"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_sums_of_traced_operands_and_of_constants(name, rules, shapes):
    a, b = (randn(*shape, seed=seed) for seed, shape in enumerate(shapes))
    if name == "+=" and len(a.shape) < 2:
        return
    f, signs = SUMS[name]
    if name == "+=" and a.shape != torch.broadcast_shapes(*shapes):
        a, b = b, a
    r = randn(2, 3, seed=5).abs()
    expected = summed([sign * each for sign, each in zip(signs, (a, b), strict=True)], r, rules)
    both = trace(Net(f), (a, b), composite=rules, start=r).input
    for found, wide, term in zip(both, expected, (a, b), strict=True):
        near(found, wide.sum_to_size(term.shape))
    kept = trace(Net(lambda a: f(a, b)), a, composite=rules, start=r, account=True)
    near(kept.input, expected[0].sum_to_size(a.shape))
    if rules != "zplus":
        assert kept.account().leaked == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("rules", CARRIERS[:2])
def test_a_number_is_a_constant_term(rules):
    x, r = randn(2, 3), randn(2, 3, seed=1).abs()
    for f, terms in ((lambda x: 2.5 - x, (-x, 2.5)), (lambda x: x + 1, (x, 1.0)), (lambda x: x - 0.5, (x, -0.5))):
        expected = summed([terms[0], torch.tensor(terms[1], dtype=x.dtype)], r, rules)[0]
        near(trace(Net(f), x, composite=rules, start=r).input, expected)


@pytest.mark.parametrize("rules", CARRIERS)
def test_a_mask_of_minus_infinity_is_a_constant_term(rules):
    x = randn(1, 3, 4)
    mask = torch.zeros(3, 3, dtype=x.dtype).masked_fill(~torch.ones(3, 3, dtype=torch.bool).tril(), -torch.inf)

    def added(x):
        return (x @ x.mT + mask).softmax(-1) @ x

    def filled(x):
        return (x @ x.mT).masked_fill(mask < 0, -torch.inf).softmax(-1) @ x

    near(backed(added, x, rules)[0], backed(filled, x, rules)[0], 1e-5 if rules == "lrp-gamma" else 1e-9)


# Averages and maxima

AVERAGES = {
    "mean": lambda x: x.mean(1),
    "mean of all": lambda x: x.mean()[None],
    "sum over several": lambda x: x.sum((0, 2), keepdim=True),
    "avg_pool": lambda x: F.avg_pool1d(x, 2, stride=1, padding=1),
    "adaptive": lambda x: F.adaptive_avg_pool1d(x, 3),
    "cumsum": lambda x: x.cumsum(-1),
    "bilinear": lambda x: F.interpolate(x[None], scale_factor=1.5, mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x[None], size=(5, 7), mode="bicubic"),
    "bicubic, corners": lambda x: F.interpolate(x[None], scale_factor=(2, 1.5), mode="bicubic", align_corners=True),
    "bicubic, antialiased": lambda x: F.interpolate(x[None], size=(2, 3), mode="bicubic", antialias=True),
}


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("rules", ["backtrace", "backtrace-contrast", "zplus"])
def test_averages_are_linear_maps(name, rules):
    f, x = AVERAGES[name], randn(2, 3, 4)
    weights, bias = affine(f, x)
    y = f(x)
    r = randn(y.numel(), seed=2).abs().reshape(y.shape)
    found = trace(Net(f), x, composite=rules, start=r).input
    row, flat_r = x.flatten().tolist(), r.flatten().tolist()
    if rules == "backtrace":
        expected = slow.backtrace(weights, row, bias, flat_r)
    elif rules == "backtrace-contrast":
        positive, negative = slow.contrast(weights, row, bias, flat_r, [0.0] * len(flat_r))
        expected = [p - n for p, n in zip(positive, negative, strict=True)]
    else:
        expected = slow.epsilon(weights, row, bias, flat_r, 1e-6)
    near(found, torch.tensor(expected, dtype=x.dtype).reshape(x.shape))


MAXIMA = {
    "max_pool": (lambda x: F.max_pool1d(x, 3, 1, 1), [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4]]),
    "indices": (lambda x: F.max_pool1d(x, 2, return_indices=True)[0], [[0, 1], [2, 3]]),
    "ceil": (lambda x: F.max_pool1d(x, 2, ceil_mode=True), [[0, 1], [2, 3], [4]]),
    "adaptive": (lambda x: F.adaptive_max_pool1d(x, 2), [[0, 1, 2], [2, 3, 4]]),
    "amax": (lambda x: x.amax(-1, keepdim=True), [[0, 1, 2, 3, 4]]),
    "max": (lambda x: x.max(-1)[0][..., None], [[0, 1, 2, 3, 4]]),
}


@pytest.mark.parametrize("name", MAXIMA)
@pytest.mark.parametrize("rules", CARRIERS[:2])
@pytest.mark.parametrize("account", [False, True])
def test_ties_for_the_largest_share(name, rules, account):
    f, windows = MAXIMA[name]
    x = torch.tensor([[[1.0, 3.0, 3.0, 2.0, 2.0]]], dtype=torch.float64)
    r = randn(*f(x).shape, seed=1).abs()
    found = trace(Net(f), x, composite=rules, start=r, account=account)
    expected = slow.max_pool(x.flatten().tolist(), r.flatten().tolist(), windows)
    near(found.input.flatten(), torch.tensor(expected, dtype=x.dtype))
    assert found.account().leaked == pytest.approx(0.0, abs=1e-12)


# Products

EINSUMS = ["bij,bjk->bik", "bij,bkj->bik", "bij,bij->bi"]


@pytest.mark.parametrize("rules", CARRIERS[:2])
@pytest.mark.parametrize("equation", EINSUMS)
def test_a_product_of_two_traced_operands_by_einsum_and_otherwise(equation, rules):
    a, b = randn(2, 3, 3), randn(2, 3, 3, seed=1)
    plain = {
        "bij,bjk->bik": lambda a, b: a @ b,
        "bij,bkj->bik": lambda a, b: torch.bmm(a, b.mT),
        "bij,bij->bi": lambda a, b: (a[..., None, :] @ b[..., None])[..., 0, 0],
    }[equation]
    found, r = backed(lambda a, b: torch.einsum(equation, a, b), (a, b), rules)
    for one, other in zip(found, backed(plain, (a, b), rules)[0], strict=True):
        near(one, other)
    near(sum(each.sum() for each in found), r.sum())


def test_a_product_of_three_is_refused_in_one_sentence():
    x = randn(2, 3)
    for rules in CARRIERS[:2]:
        with pytest.raises(InputError, match="multiplies 3 tensors"):
            backed(lambda x: torch.einsum("bi,bi,bi->b", x, x, x), x, rules)
    found, r = backed(lambda x: torch.einsum("bi,bi,bi->b", x, x, x), x, "zplus")
    near(found.sum(), r.sum(), 1e-4)


@pytest.mark.parametrize("rules", CARRIERS)
@pytest.mark.parametrize("mask", [None, "causal", "bool", "float"])
def test_fused_attention_is_eager_attention(rules, mask):
    q, k, v = (randn(2, heads, 3, 4, seed=heads) for heads in (4, 2, 2))
    allowed = torch.ones(3, 3, dtype=torch.bool).tril()
    added = randn(3, 3, seed=8)
    options = {"causal": {"is_causal": True}, "bool": {"attn_mask": allowed.T}, "float": {"attn_mask": added}}

    def fused(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, scale=0.3, **options.get(mask, {}))

    def eager(q, k, v):
        k, v = (each.repeat_interleave(2, 1) for each in (k, v))
        scores = (q @ k.mT) * 0.3
        if mask in ("causal", "bool"):
            scores = scores.masked_fill(~(allowed if mask == "causal" else allowed.T), -torch.inf)
        return scores.softmax(-1) @ v

    if mask == "float":
        # There scores are scaled and masked at once, and the mask has no share of its own.
        found, r = backed(fused, (q, k, v), rules)
        if "backtrace" in rules:
            near(sum(each.sum() for each in found), r.sum())
        return
    for one, other in zip(backed(fused, (q, k, v), rules)[0], backed(eager, (q, k, v), rules)[0], strict=True):
        near(one, other)


def test_embeddings_receive_relevance():
    module = layer(lambda: nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2)))
    ids = torch.tensor([[1, 4], [2, 2]])
    r = randn(2, 2, seed=1)
    for rules in CARRIERS:
        vectors = module[0](ids).detach()
        inner = trace(module[1:], vectors, composite=rules, start=r).input
        near(trace(module, ids, composite=rules, start=r).input, inner.sum(-1))


# First layers, and refusals

FIRST = {
    "flat": (Flat(), lambda w, x, r: slow.flat([[1.0] * len(x) for _ in w], r)),
    "w-square": (WSquare(), lambda w, x, r: slow.w_square(w, r)),
    "z-box": (ZBox(-4.0, 4.0), lambda w, x, r: slow.z_box(w, x, [-4.0] * len(x), [4.0] * len(x), r, 1e-6)),
}


@pytest.mark.parametrize("name", FIRST)
def test_the_rule_of_a_first_layer_by_its_name(name):
    rule, oracle = FIRST[name]
    module = layer(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    x, r = randn(2, 3, seed=1), randn(2, 2, seed=2)
    for rules in ("lrp-gamma", "zplus"):
        found = trace(module, x, composite=composite(rules).with_rule("0", rule), start=r, account=True, keep="*")
        weights = module[0].weight.tolist()
        for row in range(2):
            expected = oracle(weights, x[row].tolist(), found["0"][row].tolist())
            near(found.input[row], torch.tensor(expected, dtype=x.dtype))
        (first,) = [entry for entry in found.account() if entry.module == "0"]
        assert first.leaked == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("weights", [(2, 0.5), (1, 1), (0.5, -0.5)])
def test_alpha_and_beta_must_differ_by_one(weights):
    with pytest.raises(InputError, match=r"alpha - beta must be 1 and beta >= 0 \(got alpha="):
        AlphaBeta(*weights)


def test_a_rule_of_another_carrier_is_refused():
    with pytest.raises(
        InputError, match="is a rule for the carrier relevance, and composite 'attnlrp' carries the coeff"
    ):
        composite("attnlrp").with_rule(Kind.LINEAR, AlphaBeta())
    with pytest.raises(InputError, match="carries the pair"):
        composite("backtrace-contrast").with_rule(Kind.LINEAR, BacktraceLinear())


# The account


def balanced(found, leaks=()):
    account = found.account()
    assert account.seeded == pytest.approx(account.arrived + account.absorbed + account.leaked, abs=1e-9)
    for entry in account:
        assert entry.in_ == pytest.approx(entry.out + entry.absorbed + entry.leaked, abs=1e-9)
        assert entry.operation in leaks or entry.leaked == pytest.approx(0.0, abs=1e-4)
    return account


@pytest.mark.parametrize("rules", CARRIERS[:3])
def test_an_account_of_a_network_balances(rules):
    module, x = mild(), randn(2, 4, 6, seed=1)
    balanced(trace(module, x, Logit(1), composite=rules, account=True))
    balanced(trace(module, x, [Logit(1), Margin(0)], composite=rules, account=True))


@pytest.mark.parametrize("rules", CARRIERS)
def test_what_constants_keep_is_absorbed(rules):
    x = randn(2, 3)
    steps = {"add": lambda x: x + 2.0, "cat": lambda x: torch.cat([x, torch.ones(2, 2, dtype=x.dtype)], 1)}
    steps["pad"] = lambda x: F.pad(x, (1, 1), value=1.0)
    for name, f in steps.items():
        r = randn(*f(x).shape, seed=1)
        account = balanced(trace(Net(f), x, composite=rules, start=r, account=True))
        (entry,) = [each for each in account if each.operation == name]
        assert abs(entry.absorbed) > 0.01


def test_a_unit_without_contributions_leaks():
    """And a bias keeps what such a unit gets, but under contrast, which knows no bias."""
    x, r = torch.tensor([[0.0, 0.0]], dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64)
    for rules, bias, leaked in (
        ("backtrace", None, 3.0),
        ("backtrace", 1.0, 0.0),
        ("backtrace-contrast", None, 3.0),
        ("backtrace-contrast", 1.0, 3.0),
        ("alpha-beta", None, 3.0),
    ):
        added = None if bias is None else torch.tensor([bias], dtype=torch.float64)
        weight = torch.ones(1, 2, dtype=torch.float64)
        found = trace(Net(lambda x: F.linear(x, weight, added)), x, composite=rules, start=r, account=True)  # noqa: B023
        (entry,) = found.account()
        assert (entry.in_, entry.out, entry.leaked) == (3.0, 0.0, leaked), rules
        assert not found.input.any()


@pytest.mark.parametrize(
    ("rules", "sign", "out"), [("zplus", -1, 0.0), ("alpha-beta", 1, 6.0), ("alpha-beta", -1, -3.0)]
)
def test_a_unit_with_one_side_only_leaks_under_alpha_beta(rules, sign, out):
    """As published: alpha R where all contributions are positive, -beta R where all are negative."""
    x, r = torch.ones(1, 2, dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64)
    weight = sign * torch.ones(1, 2, dtype=torch.float64)
    found = trace(Net(lambda x: F.linear(x, weight)), x, composite=rules, start=r, account=True)
    (entry,) = found.account()
    assert entry.out == pytest.approx(out, abs=1e-5)
    assert entry.leaked == pytest.approx(3.0 - out, abs=1e-5)
