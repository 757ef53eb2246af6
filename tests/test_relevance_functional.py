"""The relevance rules as functions of tensors, against replicas that loop over the units of an explicit matrix."""

import itertools
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional as F

from oracles import relevance as slow
from pellucid.errors import InputError, UnknownNameError
from pellucid.relevance.functional import backtrace, contrast, lrp, pooling
from pellucid.relevance.functional import linear_form as forms
from pellucid.relevance.functional.convolution import conv_transpose, convolution
from pellucid.relevance.functional.division import reduced_to

FIXTURES = Path(__file__).parent / "fixtures" / "backtrace" / "functions.safetensors"


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(found, expected, relative=1e-12):
    expected = torch.as_tensor(expected, dtype=torch.float64).reshape(found.shape)
    assert (found - expected).abs().max() <= relative * max(1.0, float(expected.abs().max())), (found, expected)


def pair(positive, negative):
    return torch.stack([positive, negative])


def w(*shape):
    return normal(*shape, seed=1)


def b(*shape):
    return normal(*shape, seed=2)


def x(*shape):
    return normal(*shape, seed=3)


def conv(x, weight, bias=None, **options):
    dims = weight.ndim - 2
    return convolution(x, weight, bias, **options), (F.conv1d, F.conv2d, F.conv3d)[dims - 1](x, weight, bias, **options)


def transposed(x, weight, bias=None, **options):
    operation = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.ndim - 3]
    return conv_transpose(x, weight, bias, **options), operation(x, weight, bias, **options)


def product(x, weight, bias=None, weight_first=False):
    value = weight @ x if weight_first else x @ weight
    form = forms.matmul(x, weight, bias, weight_first=weight_first)
    return form, value if bias is None else value + bias


def summed(equation, x, weight, weight_first=False):
    operands = (weight, x) if weight_first else (x, weight)
    return forms.einsum(equation, x, weight, weight_first=weight_first), torch.einsum(equation, *operands)


def map_of(function, x):
    return forms.nonnegative_map(function, x), function(x)


# Each a linear form and what torch itself gives for the same operation.
FORMS = {
    "linear": lambda: (forms.linear(x(5), w(4, 5), b(4)), F.linear(x(5), w(4, 5), b(4))),
    "linear, batch": lambda: (forms.linear(x(2, 3, 5), w(4, 5), b(4)), F.linear(x(2, 3, 5), w(4, 5), b(4))),
    "linear, no bias": lambda: (forms.linear(x(2, 5), w(4, 5)), F.linear(x(2, 5), w(4, 5))),
    "linear, one unit": lambda: (forms.linear(x(2, 5), w(5), b()), F.linear(x(2, 5), w(5)) + b()),
    "conv1d": lambda: conv(x(2, 3, 7), w(4, 3, 3), b(4), stride=2, padding=1),
    "conv1d, unbatched": lambda: conv(x(3, 7), w(4, 3, 3), b(4), stride=3, padding=2),
    # torch warns that it copies its input here, so the expected value is of the padding written out.
    "conv1d, same, even kernel": lambda: (
        convolution(x(1, 2, 6), w(3, 2, 4), b(3), padding="same"),
        F.conv1d(F.pad(x(1, 2, 6), (1, 2)), w(3, 2, 4), b(3)),
    ),
    "conv1d, stride beyond kernel": lambda: conv(x(1, 2, 9), w(3, 2, 2), b(3), stride=4),
    "conv2d": lambda: conv(x(2, 2, 5, 6), w(3, 2, 3, 2), b(3), stride=(2, 1), padding=(1, 0)),
    "conv2d, unbatched": lambda: conv(x(2, 5, 4), w(3, 2, 2, 2), b(3), stride=2),
    "conv2d, dilation": lambda: conv(x(1, 2, 7, 8), w(2, 2, 2, 3), b(2), dilation=(3, 2), padding=1, stride=2),
    "conv2d, groups": lambda: conv(x(1, 4, 4, 4), w(6, 2, 2, 2), b(6), groups=2, padding=[1]),
    "conv2d, depthwise": lambda: conv(x(2, 3, 4, 4), w(3, 1, 3, 3), b(3), groups=3, padding=1, stride=2),
    "conv2d, depthwise multiplied": lambda: conv(x(1, 2, 4, 4), w(4, 1, 2, 2), b(4), groups=2),
    "conv2d, same": lambda: conv(x(1, 2, 5, 5), w(2, 2, 3, 3), b(2), padding="same", dilation=(1, 2)),
    "conv2d, same, uneven": lambda: (
        convolution(x(1, 2, 5, 5), w(2, 2, 2, 3), b(2), padding="same", dilation=(3, 1)),
        F.conv2d(F.pad(x(1, 2, 5, 5), (1, 1, 1, 2)), w(2, 2, 2, 3), b(2), dilation=(3, 1)),
    ),
    "conv2d, valid": lambda: conv(x(1, 2, 4, 4), w(2, 2, 3, 3), padding="valid"),
    "conv3d": lambda: conv(x(1, 2, 3, 4, 5), w(2, 2, 2, 2, 3), b(2), stride=(1, 2, 2), padding=(0, 1, 1)),
    "conv3d, same": lambda: conv(x(2, 3, 2, 3), w(2, 2, 3, 1, 3), b(2), padding="same"),
    "conv_transpose1d": lambda: transposed(x(2, 3, 4), w(3, 2, 3), b(2), stride=3, output_padding=2, padding=1),
    "conv_transpose1d, dilated": lambda: transposed(x(3, 4), w(3, 2, 2), b(2), dilation=3, output_padding=2),
    "conv_transpose2d": lambda: transposed(x(1, 4, 3, 2), w(4, 2, 2, 3), b(4), stride=2, groups=2, padding=(1, 0)),
    "conv_transpose2d, depthwise": lambda: transposed(x(2, 2, 2, 3), w(2, 1, 2, 2), b(2), groups=2, stride=(2, 1)),
    "conv_transpose3d": lambda: transposed(
        x(1, 2, 2, 2, 3), w(2, 2, 2, 1, 2), b(2), stride=2, output_padding=(1, 0, 1)
    ),
    "matmul": lambda: product(x(3, 4), w(4, 2)),
    "matmul, bias": lambda: product(x(3, 4), w(4, 2), b(2)),
    "matmul, constant first": lambda: product(x(4, 2), w(3, 4), weight_first=True),
    "matmul, batches": lambda: product(x(2, 3, 4), w(2, 4, 2)),
    "matmul, batch of the constant": lambda: product(x(3, 4), w(2, 4, 2)),
    "matmul, batch of the constant, first": lambda: product(x(4, 2), w(2, 3, 4), weight_first=True),
    "matmul, broadcast batch": lambda: product(x(1, 2, 3, 4), w(3, 1, 4, 2)),
    "matmul, vector": lambda: product(x(4), w(4, 3)),
    "matmul, vector with batch": lambda: product(x(4), w(2, 4, 3)),
    "matmul, vector with batch, first": lambda: product(x(4), w(2, 3, 4), weight_first=True),
    "matmul, by a vector": lambda: product(x(2, 3, 4), w(4)),
    "matmul, vector first": lambda: product(x(2, 4, 3), w(4), weight_first=True),
    "matmul, vectors": lambda: product(x(4), w(4)),
    "matmul, vectors, constant first": lambda: product(x(4), w(4), weight_first=True),
    "addmm": lambda: (
        forms.addmm(b(3), x(2, 4), w(4, 3), beta=0.5, alpha=-2),
        torch.addmm(b(3), x(2, 4), w(4, 3), beta=0.5, alpha=-2),
    ),
    "baddbmm": lambda: (
        forms.addmm(b(2, 1, 3), x(2, 2, 4), w(2, 4, 3), alpha=0.25),
        torch.baddbmm(b(2, 1, 3), x(2, 2, 4), w(2, 4, 3), alpha=0.25),
    ),
    "addmm, constant first": lambda: (
        forms.addmm(b(2, 3), x(4, 3), w(2, 4), weight_first=True),
        torch.addmm(b(2, 3), w(2, 4), x(4, 3)),
    ),
    "einsum": lambda: summed("bqhd, hdo -> bqo", x(2, 2, 2, 3), w(2, 3, 2)),
    "einsum, constant first": lambda: summed("ij,bjk->bki", x(2, 3, 2), w(4, 3), weight_first=True),
    "einsum, outer": lambda: summed("i,j->ij", x(3), w(2)),
    "einsum, lone letter": lambda: summed("ij,k->ik", x(3, 2), w(2)),
    "einsum, diagonal": lambda: summed("ii,i->i", x(3, 3), w(3)),
    "einsum, ellipsis": lambda: summed("...i,ij->...j", x(2, 2, 3), w(3, 2)),
    "einsum, implicit": lambda: summed("ij,jk", x(2, 3), w(3, 2)),
    "einsum, size 1": lambda: summed("ij,ij->i", x(3, 1), w(3, 2)),
    "mean": lambda: map_of(lambda t: t.mean((0, 2)), x(2, 3, 2)),
    "sum": lambda: map_of(lambda t: t.sum(-1, keepdim=True), x(2, 3)),
    "avg_pool1d": lambda: map_of(lambda t: F.avg_pool1d(t, 3, 2, 1), x(1, 2, 6)),
    "avg_pool2d": lambda: map_of(
        lambda t: F.avg_pool2d(t, (3, 2), 2, 1, ceil_mode=True, count_include_pad=False), x(1, 2, 5, 5)
    ),
    "avg_pool3d": lambda: map_of(lambda t: F.avg_pool3d(t, 2), x(1, 2, 2, 4, 3)),
    "adaptive_avg_pool2d": lambda: map_of(lambda t: F.adaptive_avg_pool2d(t, (2, 3)), x(2, 2, 5, 4)),
}


@pytest.fixture(params=FORMS, scope="module")
def case(request):
    """A form and its value according to torch."""
    return FORMS[request.param]()


def relevance_of(form, seed=4):
    return normal(*form.value().shape, seed=seed)


def flattened(form):
    """Matrix, input and bias of a form as lists, for the replicas."""
    bias = torch.zeros(()) if form.bias is None else form.bias
    full = bias.expand(form.value().shape)
    return slow.matrix(form.product, form.x, form.weight), form.x.flatten().tolist(), full.flatten().tolist()


def test_a_form_is_its_operation(case):
    form, value = case
    close(form.value(), value)
    expected = torch.tensor(slow.matrix(form.product, form.x, form.weight), dtype=torch.float64)
    r = relevance_of(form)
    close(form.adjoint(r, form.weight), expected.T @ r.flatten())
    assert form.adjoint(r, form.weight).shape == form.x.shape


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid", "softmax", "swish"])
def test_backtrace_linear(case, activation):
    weights, values, bias = flattened(case[0])
    for scale in (1.0, 3.0):
        form = case[0]._replace(x=case[0].x * scale)
        r = relevance_of(form)
        listed = weights, [scale * value for value in values], bias, r.flatten().tolist(), activation
        expected, absorbed = slow.backtrace(*listed), slow.backtrace_absorbed(*listed)
        for known in (None, form.value()):
            close(backtrace.linear(form, r, activation, known), expected)
            close(backtrace.linear_absorbed(form, r, activation, known), absorbed)


def test_contrast_linear(case):
    form, value = case
    positive, negative = relevance_of(form), relevance_of(form, 5)
    expected = slow.contrast(*flattened(form), positive.flatten().tolist(), negative.flatten().tolist())
    for known in (None, value):
        found = contrast.linear(form, pair(positive, negative), known)
        close(found[0], expected[0], 1e-11)
        close(found[1], expected[1], 1e-11)


LRP = {
    "lrp-0": (lambda f, r, v: lrp.epsilon(f, r, 0.0, v), lambda m, r: slow.epsilon(*m, r, 0.0)),
    "epsilon": (lambda f, r, v: lrp.epsilon(f, r, 0.25, v), lambda m, r: slow.epsilon(*m, r, 0.25)),
    "gamma": (lambda f, r, v: lrp.gamma(f, r, 0.25, 0.0, v), lambda m, r: slow.gamma(*m, r, 0.25, 0.0)),
    "gamma, epsilon": (lambda f, r, v: lrp.gamma(f, r, 2.0, 0.1, v), lambda m, r: slow.gamma(*m, r, 2.0, 0.1)),
    "alpha2-beta1": (lambda f, r, v: lrp.alpha_beta(f, r, value=v), lambda m, r: slow.alpha_beta(*m, r, 2, 1, 0)),
    "alpha3-beta2": (
        lambda f, r, v: lrp.alpha_beta(f, r, 3.0, 2.0, 0.1, v),
        lambda m, r: slow.alpha_beta(*m, r, 3, 2, 0.1),
    ),
    "zplus": (lambda f, r, v: lrp.zplus(f, r, value=v), lambda m, r: slow.alpha_beta(*m, r, 1, 0, 0)),
    "w_square": (lambda f, r, v: lrp.w_square(f, r), lambda m, r: slow.w_square(m[0], r)),
    "z_box": (
        lambda f, r, v: lrp.z_box(f, -5.0, 6.0, r),
        lambda m, r: slow.z_box(m[0], m[1], [-5.0] * len(m[1]), [6.0] * len(m[1]), r, 0.0),
    ),
}


@pytest.mark.parametrize("rule", LRP)
def test_lrp_rules(case, rule):
    form, value = case
    r, (fast, replica) = relevance_of(form), LRP[rule]
    expected = replica(flattened(form), r.flatten().tolist())
    for known in (None, value):
        close(fast(form, r, known), expected, 1e-11)


def test_flat(case):
    form, _ = case
    r = relevance_of(form)
    connected = slow.matrix(form.product, form.x, torch.ones_like(form.weight))
    close(lrp.flat(form, r), slow.flat(connected, r.flatten().tolist()))


def test_the_first_order_rule_of_a_linear_map_is_epsilon(case):
    form, value = case
    r = relevance_of(form)
    found = lrp.first_order(form.x, value, lambda each: form.adjoint(each, form.weight), r, 0.1)
    close(found, lrp.epsilon(form, r, 0.1))


ABSORBED = {
    "lrp-0": (partial(lrp.epsilon, epsilon=0.0), partial(lrp.epsilon_absorbed, epsilon=0.0)),
    "epsilon": (partial(lrp.epsilon, epsilon=0.3), partial(lrp.epsilon_absorbed, epsilon=0.3)),
    "gamma": (partial(lrp.gamma, gamma=0.5), partial(lrp.gamma_absorbed, gamma=0.5)),
    "gamma, epsilon": (
        partial(lrp.gamma, gamma=0.5, epsilon=0.3),
        partial(lrp.gamma_absorbed, gamma=0.5, epsilon=0.3),
    ),
    "backtrace": (backtrace.linear, backtrace.linear_absorbed),
    "backtrace, tanh": (
        partial(backtrace.linear, following="tanh"),
        partial(backtrace.linear_absorbed, following="tanh"),
    ),
    "w_square": (lrp.w_square, lambda form, r: torch.zeros_like(r)),
    "flat": (lrp.flat, lambda form, r: torch.zeros_like(r)),
    "z_box": (lambda form, r: lrp.z_box(form, -9, 9, r), lambda form, r: torch.zeros_like(r)),
}


@pytest.mark.parametrize("name", ABSORBED)
def test_what_goes_in_and_what_is_absorbed_make_what_came(case, name):
    form, _ = case
    r, (rule, absorbed) = relevance_of(form), ABSORBED[name]
    # A unit that nothing reaches (output padding) has its bias at most, which these three do not read.
    reached = form.product(torch.ones_like(form.x), form.weight.abs()) > 0
    r = r * reached if name in ("w_square", "flat", "z_box") else r
    close(rule(form, r).sum() + absorbed(form, r).sum(), r.sum(), 1e-9)


@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (2, 1), (3.5, 2.5)])
def test_alpha_beta_accounts_for_each_side(case, alpha, beta):
    form, value = case
    r, whole = relevance_of(form), form.sizes().value()
    # As published, the part of alpha or beta for a side that is not there is lost.
    r = r * (whole - value.abs() > 1e-9 * whole) if beta else r * (whole + value > 1e-9 * whole)
    found = lrp.alpha_beta(form, r, alpha, beta, 1e-3).sum() + lrp.alpha_beta_absorbed(form, r, alpha, beta, 1e-3).sum()
    close(found, r.sum(), 1e-9)


def test_alpha_and_beta_must_differ_by_one():
    form = FORMS["linear"]()[0]
    with pytest.raises(InputError, match=r"alpha - beta must be 1 and beta >= 0 \(got alpha=2, beta=0.5\)"):
        lrp.alpha_beta(form, relevance_of(form), 2, 0.5)
    with pytest.raises(InputError, match="beta >= 0"):
        lrp.alpha_beta(form, relevance_of(form), 0.5, -0.5)


def test_an_unknown_activation_is_refused():
    form = FORMS["linear"]()[0]
    with pytest.raises(UnknownNameError, match="no activation with limits is called 'tan'; did you mean 'tanh'"):
        backtrace.linear(form, relevance_of(form), "tan")


# The published implementation's own numbers.


@pytest.fixture(scope="module")
def published():
    values = load_file(FIXTURES)
    groups = {name.split(".")[0] for name in values}
    return {
        group: {name.split(".")[1]: v for name, v in values.items() if name.startswith(f"{group}.")} for group in groups
    }


@pytest.mark.parametrize("activation", ["None", "linear", "sigmoid", "tanh"])
def test_published_dense(published, activation):
    of = published[f"fc_{activation}"]
    following = None if activation == "None" else activation
    close(backtrace.linear(forms.linear(of["x"], of["W"], of["b"]), of["R"], following), of["out"])


def test_published_contrast_dense(published):
    of = published["contrast_fc"]
    found = contrast.linear(forms.linear(of["x"], of["W"], of["b"]), pair(of["rp"], of["rn"]))
    close(found[0], of["op"])
    close(found[1], of["on"])


def test_published_sums(published):
    of = published["residual"]
    first, second = backtrace.addition((of["a"], of["b"]), of["R"])
    close(first, of["ra"])
    close(second, of["rb"])
    of = published["contrast_add"]
    first, second = contrast.addition((of["a"], of["b"]), pair(of["rp"], of["rn"]))
    for found, name in zip((*first, *second), ("ap", "an", "bp", "bn"), strict=True):
        close(found, of[name])


def test_published_pools(published):
    of = published["maxpool"]
    close(pooling.max_pool(of["x"], of["R"], 2, kernel=2).permute(2, 1, 0), of["out"])
    of = published["avgpool"]
    close(
        backtrace.linear(forms.nonnegative_map(lambda x: F.avg_pool2d(x, 2), of["x"]), of["R"]).permute(2, 1, 0),
        of["out"],
    )
    of = published["gavgpool"]
    mean = forms.nonnegative_map(lambda x: x.mean((1, 2), keepdim=True), of["x"])
    close(backtrace.linear(mean, of["R"]).permute(2, 1, 0), of["out"])


# Sums, products and pairs of traced operands.


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 3)], [(2, 3), (3,), (2, 1)], [(3,), (2, 3)], [(), (2, 3), (1, 1)]])
def test_sums(shapes):
    terms = [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    positive, negative = normal(2, 3, seed=8), normal(2, 3, seed=9)
    expected = [torch.zeros(2, 3, dtype=torch.float64) for _ in range(3 * len(terms))]
    for at in itertools.product(range(2), range(3)):
        # One unit without weights to speak of: each term is an input of weight 1.
        row = [[1.0] * len(terms)], [float(term.expand(2, 3)[at]) for term in terms]
        plain = slow.backtrace(*row, [0.0], [float(positive[at])])
        both = slow.contrast(*row, [0.0], [float(positive[at])], [float(negative[at])])
        for table, value in zip(expected, (*plain, *both[0], *both[1]), strict=True):
            table[at] = value
    wanted = [reduced_to(table, shape) for table, shape in zip(expected, shapes * 3, strict=True)]
    pairs = contrast.addition(terms, pair(positive, negative))
    found = [*backtrace.addition(terms, positive), *(p[0] for p in pairs), *(p[1] for p in pairs)]
    for each, value, shape in zip(found, wanted, shapes * 3, strict=True):
        assert each.shape == shape
        close(each, value)


def test_a_sum_of_zeros_passes_nothing_on():
    zero, one = torch.zeros(2, 1), torch.ones(2, 1)
    assert all(not part.any() for part in backtrace.addition((zero, zero), one))
    assert not any(both.any() for both in contrast.addition((zero, -zero), pair(one, one)))


def test_products():
    a, c, r, q = x(2, 3), w(3), normal(2, 3, seed=8), normal(2, 3, seed=9)
    close(backtrace.multiplication((a, c), r)[0], r / 2)
    close(backtrace.multiplication((a, c), r)[1], (r / 2).sum(0))
    close(backtrace.multiplication((a, a, c), r)[1], r / 3)
    first, second = contrast.multiplication(a, c, pair(r, q))
    close(first[0], r * c.abs() / (a.abs() + c.abs()))
    close(second[1], (q * a.abs() / (a.abs() + c.abs())).sum(0))
    nothing = torch.zeros(2, 3, dtype=torch.float64)
    first, second = contrast.multiplication(nothing, nothing, pair(r, q))
    close(first[0], r / 2)
    close(second[1], q / 2)


def pairs_of_forms(equation, a, c):
    return forms.einsum(equation, a, c), forms.einsum(equation, c, a, weight_first=True)


@pytest.mark.parametrize("known", [False, True])
def test_a_product_of_two_traced_matrices(known):
    a, c = x(2, 3, 4), w(2, 4, 2)
    a[0, 1], c[1, :, 0] = 0.0, c[1, :, 0].abs()
    r, q = normal(2, 3, 2, seed=8), normal(2, 3, 2, seed=9)
    wanted = [torch.zeros_like(t) for t in (a, c, a, c, a, c)]
    for batch, row, column in itertools.product(range(2), range(3), range(2)):
        parts = (a[batch, row] * c[batch, :, column]).tolist()
        unit = [[1.0] * 4], parts, [0.0]
        here = float(r[batch, row, column]), float(q[batch, row, column])
        rules = (slow.backtrace(*unit, here[:1]), *slow.contrast(*unit, here[:1], here[1:]))
        for which, each in enumerate(rules):
            wanted[2 * which][batch, row] += torch.tensor(each, dtype=torch.float64) / 2
            wanted[2 * which + 1][batch, :, column] += torch.tensor(each, dtype=torch.float64) / 2
    by_matmul = forms.matmul(a, c), forms.matmul(c, a, weight_first=True)
    for first, second in (by_matmul, pairs_of_forms("bqk,bkd->bqd", a, c)):
        found = [*backtrace.bilinear(first, second, r)]
        left, right = contrast.bilinear(first, second, pair(r, q), a @ c if known else None)
        for each, value in zip([*found, left[0], right[0], left[1], right[1]], wanted, strict=True):
            close(each, value, 1e-11)


def test_masked_positions_get_nothing():
    kept = torch.tensor([[True, False], [True, True]])
    r = normal(3, 2, 2)
    assert torch.equal(backtrace.masked(kept, r), r * kept)


# Max-pools.

MAX_POOLS = [
    (1, (2, 3, 7), {"kernel": 3, "stride": 2, "padding": 1}),
    (1, (3, 9), {"kernel": 2, "stride": 3, "dilation": 3, "ceil_mode": True}),
    (2, (2, 2, 5, 6), {"kernel": 2}),
    (2, (2, 5, 6), {"kernel": (3, 2), "stride": (1, 2), "padding": (1, 0), "ceil_mode": True}),
    (2, (1, 2, 7, 7), {"kernel": 3, "stride": 2, "padding": 1, "dilation": 2}),
    (2, (1, 1, 7, 8), {"kernel": [2, 3], "stride": [3, 4], "dilation": (1, 2)}),
    (3, (1, 2, 3, 4, 5), {"kernel": 2, "stride": (1, 2, 2), "padding": (0, 1, 1), "ceil_mode": True}),
]


def flat_places(sides, windows_of_sides):
    """For each window of the product of windows, the places in a flattened picture of these sides."""
    grid = torch.arange(int(torch.tensor(sides).prod())).reshape(sides)
    return [[int(grid[at]) for at in itertools.product(*window)] for window in itertools.product(*windows_of_sides)]


def pooled(picture, r, dims, windows):
    places = flat_places(picture.shape[-dims:], windows)
    planes = zip(picture.reshape(-1, *picture.shape[-dims:]), r.reshape(-1, len(places)), strict=True)
    return torch.tensor(
        [slow.max_pool(plane.flatten().tolist(), each.tolist(), places) for plane, each in planes], dtype=torch.float64
    )


def with_ties(*shape):
    """Small whole numbers, and many zeros: what a ReLU leaves."""
    return normal(*shape).mul(2).round().clamp(min=0)


@pytest.mark.parametrize(("dims", "shape", "options"), MAX_POOLS)
@pytest.mark.parametrize("draw", [normal, with_ties])
def test_max_pool(dims, shape, options, draw):
    picture, named = draw(*shape), {"stride": None, "padding": 0, "dilation": 1} | options
    operation = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims - 1]
    value = operation(
        picture,
        options["kernel"],
        named["stride"],
        named["padding"],
        named["dilation"],
        options.get("ceil_mode", False),
    )
    r = normal(*value.shape, seed=6)
    kernel, stride, padding, dilation = (
        [size] * dims if isinstance(size, int) else [*size]
        for size in (named["kernel"], named["stride"] or named["kernel"], named["padding"], named["dilation"])
    )
    sides = zip(shape[-dims:], kernel, stride, padding, dilation, value.shape[-dims:], strict=True)
    expected = pooled(picture, r, dims, [slow.windows_of(*side) for side in sides])
    close(pooling.max_pool(picture, r, dims, **options), expected)
    close(pooling.max_pool(picture, r, dims, **options, value=value), expected)


@pytest.mark.parametrize(
    ("dims", "shape", "count"),
    [
        (1, (2, 7), (3,)),
        (1, (2, 3), (5,)),
        (2, (1, 2, 6, 5), (2, 3)),
        (2, (2, 4, 6), (2, 3)),
        (3, (2, 3, 4, 5), (2, 2, 3)),
    ],
)
@pytest.mark.parametrize("draw", [normal, with_ties])
def test_adaptive_max_pool(dims, shape, count, draw):
    picture = draw(*shape)
    r = normal(*shape[:-dims], *count, seed=6)
    windows = [slow.adaptive_windows(*side) for side in zip(shape[-dims:], count, strict=True)]
    close(pooling.adaptive_max_pool(picture, r, dims), pooled(picture, r, dims, windows))


@pytest.mark.parametrize(("dim", "keepdim"), [(1, False), (1, True), ((0, -1), False), (-2, False), (None, False)])
def test_maximum_over_dimensions(dim, keepdim):
    picture = with_ties(2, 3, 4)
    over = (0, 1, 2) if dim is None else dim
    value = picture.amax(over, keepdim=keepdim)
    r = normal(*value.shape, seed=6)
    inside = {each % 3 for each in ((over,) if isinstance(over, int) else over)}
    kept = picture.amax(over, keepdim=True)
    expected = torch.zeros_like(picture)
    spots = [[slice(None)] if d in inside else range(n) for d, n in enumerate(picture.shape)]
    for spot, each in zip(itertools.product(*spots), r.flatten(), strict=True):
        block = picture[spot]
        expected[spot] = each * (block == block.max()) / (block == block.max()).sum()
    assert kept.numel() == r.numel()
    close(pooling.maximum(picture, r, dim, keepdim), expected)


# Under vmap, and inside autograd, as the engine calls them.

RULES = {
    "backtrace": backtrace.linear,
    "backtrace, tanh": partial(backtrace.linear, following="tanh"),
    "backtrace, swish": partial(backtrace.linear, following="swish"),
    "contrast": lambda form, r: contrast.linear(form, pair(r, -r))[0],
    "contrast, other": lambda form, r: contrast.linear(form, pair(r, r.square()))[1],
    "epsilon": lrp.epsilon,
    "gamma": lrp.gamma,
    "alpha_beta": lrp.alpha_beta,
    "zplus": lrp.zplus,
    "flat": lrp.flat,
    "w_square": lrp.w_square,
    "z_box": lambda form, r: lrp.z_box(form, -4.0, 4.0, r),
}


def test_what_is_absorbed_under_vmap():
    form = FORMS["linear, batch"]()[0]
    several = normal(3, *form.value().shape, seed=6)
    for rule in (backtrace.linear_absorbed, lrp.epsilon_absorbed, lrp.gamma_absorbed, lrp.alpha_beta_absorbed):
        close(torch.func.vmap(partial(rule, form))(several), torch.stack([rule(form, r) for r in several]))


def test_the_other_rules_under_vmap():
    a, c, picture, cube = x(2, 3), w(2, 1), with_ties(1, 2, 5, 5), x(2, 3, 4)
    first, second = pairs_of_forms("ik,kj->ij", x(2, 4), w(4, 3))
    rules = [
        lambda r: backtrace.addition((a, c), r)[1],
        lambda r: backtrace.multiplication((a, c), r)[1],
        lambda r: backtrace.bilinear(first, second, r)[0],
        lambda r: backtrace.masked(a > 0, r),
        lambda r: contrast.addition((a, c), pair(r, -r))[1][1],
        lambda r: contrast.multiplication(a, c, pair(r, -r))[1][1],
        lambda r: contrast.bilinear(first, second, pair(r, -r))[1][0],
        lambda r: pooling.max_pool(picture, r.reshape(1, 2, 3, 1), 2, 3, (1, 3)),
        lambda r: pooling.adaptive_max_pool(picture, r.reshape(1, 2, 3, 1), 2),
        lambda r: pooling.maximum(cube, r, -1),
    ]
    several = normal(3, 2, 3, seed=6)
    for rule in rules:
        close(torch.func.vmap(rule)(several), torch.stack([rule(r) for r in several]))


class Carried(torch.autograd.Function):
    """The operation of a form, whose backward pass is a rule."""

    @staticmethod
    def forward(ctx, x, form, rule):
        ctx.form, ctx.rule = form, rule
        return form.value()

    @staticmethod
    def backward(ctx, r):
        return ctx.rule(ctx.form, r), None, None


@pytest.mark.parametrize("name", RULES)
def test_several_relevances_in_one_backward_pass(case, name):
    form, _ = case
    several = normal(2, *form.value().shape, seed=6)
    leaf = form.x.clone().requires_grad_()
    output = Carried.apply(leaf, form, RULES[name])
    found = torch.func.vmap(lambda r: torch.autograd.grad(output, leaf, r, retain_graph=True)[0])(several)
    close(found, torch.stack([RULES[name](form, r) for r in several]))


# What holds for all shapes and options.

SEEDS = st.integers(0, 2**32 - 1)
DENSE = {
    "backtrace": lambda form, r: (backtrace.linear(form, r), backtrace.linear_absorbed(form, r)),
    "backtrace, sigmoid": lambda form, r: (
        backtrace.linear(form, r, "sigmoid"),
        backtrace.linear_absorbed(form, r, "sigmoid"),
    ),
    "backtrace, swish": lambda form, r: (
        backtrace.linear(form, r, "swish"),
        backtrace.linear_absorbed(form, r, "swish"),
    ),
    "contrast": lambda form, r: (contrast.linear(form, pair(r, r.square()))[0], torch.zeros_like(r)),
    "contrast, other": lambda form, r: (contrast.linear(form, pair(r.square(), r))[1], torch.zeros_like(r)),
    "gamma": lambda form, r: (lrp.gamma(form, r), lrp.gamma_absorbed(form, r)),
    "epsilon": lambda form, r: (lrp.epsilon(form, r, 0.5), lrp.epsilon_absorbed(form, r, 0.5)),
    "w_square": lambda form, r: (lrp.w_square(form, r), torch.zeros_like(r)),
    "flat": lambda form, r: (lrp.flat(form, r), torch.zeros_like(r)),
}


@st.composite
def dense(draw):
    """A dense layer with zeros in input and weight, units of one sign and dead units, and its relevance."""
    batch, units, inputs, seed = draw(st.tuples(*(st.integers(1, 5) for _ in range(3)), SEEDS))
    scale = draw(st.sampled_from([0.01, 1.0, 100.0]))
    weight, given_x = normal(units, inputs, seed=seed) * scale, normal(batch, inputs, seed=seed + 1)
    weight = weight * (normal(units, inputs, seed=seed + 2) > draw(st.sampled_from([-9.0, 0.0, 9.0])))
    given_x = given_x.clamp(min=0) if draw(st.booleans()) else given_x
    weight[0] = draw(st.sampled_from([weight[0], weight[0].abs(), -weight[0].abs(), 0 * weight[0]]))
    bias = normal(units, seed=seed + 3) * draw(st.sampled_from([0.0, 1.0])) if draw(st.booleans()) else None
    return forms.linear(given_x, weight, bias), normal(batch, units, seed=seed + 4)


def alive(name, form):
    """Which units have anything to hand their relevance to, or a bias that absorbs it."""
    if name in ("w_square", "flat"):
        reached = form.weight.abs() if name == "w_square" else torch.ones_like(form.weight)
        return form.product(torch.ones_like(form.x), reached) > 0
    something = form.product(form.x.abs(), form.weight.abs()) > 0
    if form.bias is None or name.startswith("contrast"):
        return something | (name == "epsilon")
    return something | (form.bias != 0) | (name == "epsilon")


@pytest.mark.parametrize("name", DENSE)
@settings(max_examples=60, deadline=None)
@given(layer=dense())
def test_relevance_is_conserved_but_at_dead_units(name, layer):
    form, r = layer
    found, absorbed = DENSE[name](form, r)
    assert torch.isfinite(found).all()
    expected = (r * alive(name, form)).sum(-1)
    # Contributions of both signs may be large and cancel, so errors are measured by their sizes.
    size = 1 + found.abs().sum(-1) + r.abs().sum(-1) + absorbed.abs().sum(-1)
    assert ((found.sum(-1) + absorbed.sum(-1) - expected).abs() / size).max() < 1e-9


@pytest.mark.parametrize("name", DENSE)
@settings(max_examples=30, deadline=None)
@given(layer=dense(), factor=st.sampled_from([0.25, 3.0, -2.0]), seed=SEEDS)
def test_relevance_scales_and_does_not_know_the_order_of_units(name, layer, factor, seed):
    form, r = layer
    if not name.startswith("contrast"):
        close(DENSE[name](form, factor * r)[0], factor * DENSE[name](form, r)[0], 1e-11)
    order = torch.randperm(r.shape[1], generator=torch.Generator().manual_seed(seed))
    bias = None if form.bias is None else form.bias[order]
    shuffled = forms.linear(form.x, form.weight[order], bias)
    close(DENSE[name](shuffled, r[:, order])[0], DENSE[name](form, r)[0], 1e-9)
    order = torch.randperm(form.x.shape[1], generator=torch.Generator().manual_seed(seed))
    shuffled = forms.linear(form.x[:, order], form.weight[:, order], form.bias)
    close(DENSE[name](shuffled, r)[0], DENSE[name](form, r)[0][:, order], 1e-9)


@settings(max_examples=40, deadline=None)
@given(layer=dense(), factor=st.sampled_from([0.25, 3.0]))
def test_contrast_scales(layer, factor):
    form, r = layer
    both = pair(r, r.roll(1, -1))
    scaled = contrast.linear(form, factor * both)
    for found, each in zip(scaled, contrast.linear(form, both), strict=True):
        close(found, factor * each, 1e-9)


@st.composite
def convolutions(draw):
    """Sizes and options of a convolution or a transposed one, in the order that ``convolved`` takes them."""
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel, stride, dilation, spare = (
        draw(st.lists(st.integers(1, 3), min_size=dims, max_size=dims)) for _ in range(4)
    )
    reach = [gap * (k - 1) for k, gap in zip(kernel, dilation, strict=True)]
    padding = [draw(st.integers(0, most)) for most in reach]
    longer = [draw(st.integers(0, max(s, gap) - 1)) for s, gap in zip(stride, dilation, strict=True)]
    sides = [most + more for most, more in zip(reach, spare, strict=True)]
    channels, units = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    shape = [2, channels, *sides] if draw(st.booleans()) else [channels, *sides]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return shape, kernel, units, options, longer if draw(st.booleans()) else None, draw(st.booleans()), draw(SEEDS)


def convolved(shape, kernel, units, options, longer, biased, seed):
    channels, groups = shape[-len(kernel) - 1], options["groups"]
    bias = normal(units, seed=seed) if biased else None
    if longer is None:
        return convolution(normal(*shape), normal(units, channels // groups, *kernel, seed=seed + 1), bias, **options)
    weight = normal(channels, units // groups, *kernel, seed=seed + 1)
    return conv_transpose(normal(*shape), weight, bias, output_padding=longer, **options)


@settings(max_examples=150, deadline=None)
@given(layer=convolutions())
def test_convolutions_of_any_options(layer):
    form = convolved(*layer)
    r = relevance_of(form)
    # <r, W x> = <W^T r, x> for an x of our choice says that the adjoint is the transpose.
    other = normal(*form.x.shape, seed=9)
    close((form.product(other, form.weight) * r).sum(), (other * form.adjoint(r, form.weight)).sum(), 1e-10)
    reached = form.product(form.x.abs(), form.weight.abs()) + (0 if form.bias is None else form.bias.abs()) > 0
    kept = backtrace.linear(form, r).sum() + backtrace.linear_absorbed(form, r).sum()
    close(kept, (r * reached).sum(), 1e-10)
    fed = form.product(form.x.abs(), form.weight.abs()) > 0
    for found, label in zip(contrast.linear(form, pair(r, r.flip(0))), (r, r.flip(0)), strict=True):
        close(found.sum() / (1 + found.abs().sum()), (label * fed).sum() / (1 + found.abs().sum()), 1e-10)


# Single cases that others got wrong.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", RULES)
def test_the_number_type_stays(dtype, name):
    form = FORMS["conv2d"]()[0]
    form = form._replace(x=form.x.to(dtype), weight=form.weight.to(dtype), bias=form.bias.to(dtype))
    assert RULES[name](form, relevance_of(form).to(dtype)).dtype == dtype


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 0.1), (torch.float16, 0.02), (torch.float32, 1e-4)])
def test_both_sides_are_seen_in_half_precision(dtype, error):
    form = forms.linear(x(20, 64), w(64, 64))
    rounded = forms.linear(form.x.to(dtype), form.weight.to(dtype))
    r = relevance_of(form).abs()
    both = pair(r, 2 * r)
    found = lrp.alpha_beta(rounded, r.to(dtype)), contrast.linear(rounded, both.to(dtype))[0]
    for each, exact in zip(found, (lrp.alpha_beta(form, r), contrast.linear(form, both)[0]), strict=True):
        assert (each.double() - exact).abs().sum() / exact.abs().sum() < error


def test_a_dead_unit_passes_nothing_on():
    form = forms.linear(torch.zeros(1, 3), torch.ones(2, 3))
    r = torch.ones(1, 2)
    for name, rule in RULES.items():
        if name not in ("flat", "w_square", "z_box"):
            assert torch.equal(rule(form, r), torch.zeros(1, 3)), name


def test_bias_alone_absorbs_everything():
    form, r = forms.linear(torch.zeros(1, 3), torch.ones(2, 3), torch.tensor([1.0, -2.0])), torch.ones(1, 2)
    assert torch.equal(backtrace.linear_absorbed(form, r), r)
    assert torch.equal(lrp.gamma_absorbed(form, r), r)
    assert torch.equal(lrp.epsilon_absorbed(form, r), r)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_contrast_sends_both_labels_to_the_only_side(sign):
    """In single precision P or N of such a unit is rounding noise, whatever the bias says of its sign."""
    weight = sign * normal(50, 400).abs().float()
    form = forms.linear(normal(400, seed=1).abs().float(), weight, torch.full((50,), -sign * 1e4))
    both = pair(torch.ones(50), torch.full((50,), 2.0))
    found = contrast.linear(form, both)
    expected = backtrace.linear(form._replace(bias=None), both[0])
    assert torch.allclose(found[0], expected, rtol=1e-4)
    assert torch.allclose(found[1], 2 * expected, rtol=1e-4)


def test_contrast_ties():
    """An output of 0 counts as positive; of two equal relevances the positive one counts as the larger."""
    form = forms.linear(torch.tensor([1.0, 1.0]), torch.tensor([[1.0, -1.0]]))
    one = torch.ones(1)
    found = contrast.linear(form, pair(one, one))
    assert found[0].tolist() == [1.0, 0.0]
    assert found[1].tolist() == [0.0, 1.0]
    found = contrast.linear(form, pair(one, 2 * one))
    assert found[1].tolist() == [2.0, 0.0]


@pytest.mark.parametrize(("activation", "lower", "upper"), [("tanh", -2, 2), ("sigmoid", -4, 4), ("softmax", -1, 2)])
def test_a_limit_itself_does_not_saturate(activation, lower, upper):
    for output, shares in (
        (lower, [0.75, 0.25]),
        (lower - 0.5, [0.0, 1.0]),
        (upper, [0.75, 0.25]),
        (upper + 1, [1, 0]),
    ):
        form = forms.linear(torch.tensor([3.0, -1.0]), torch.tensor([[1.0, 1.0]]), torch.tensor([output - 2.0]))
        found = backtrace.linear(form, torch.ones(1), activation)
        sizes = torch.tensor([3.0, 1.0]) * torch.tensor([share > 0 for share in shares])
        assert torch.allclose(found, sizes / (sizes.sum() + abs(output - 2.0)))


def test_swish_switches_off_a_side_that_changes_nothing():
    """1e20 swallows 1 in the sum, so the activation is the same number without it: N off, or P off when mirrored."""
    weight = torch.ones(1, 2, dtype=torch.float64)
    form = forms.linear(torch.tensor([1e20, -1e5], dtype=torch.float64), weight)
    assert backtrace.linear(form, torch.ones(1, dtype=torch.float64), "swish")[1].abs() < 1e-14
    both = forms.linear(torch.tensor([3.0, -1.0], dtype=torch.float64), weight)
    close(backtrace.linear(both, torch.ones(1, dtype=torch.float64), "swish"), [0.75, 0.25])
    below = forms.linear(torch.tensor([1.0, -8.0], dtype=torch.float64), weight)
    close(backtrace.linear(below, torch.ones(1, dtype=torch.float64), "swish"), [0.0, 1.0])


def test_z_box_with_a_box_for_each_input(case):
    form, _ = case
    low, high = form.x - normal(*form.x.shape, seed=7).abs(), form.x + normal(*form.x.shape, seed=8).abs()
    weights, values, _ = flattened(form)
    r = relevance_of(form)
    expected = slow.z_box(weights, values, low.flatten().tolist(), high.flatten().tolist(), r.flatten().tolist(), 0.0)
    close(lrp.z_box(form, low, high, r), expected, 1e-11)


COSTS = {
    "backtrace": (lambda f, r, v: backtrace.linear(f, r), 2),
    "backtrace, tanh, known": (lambda f, r, v: backtrace.linear(f, r, "tanh", v), 3),
    "backtrace, tanh": (lambda f, r, v: backtrace.linear(f, r, "tanh"), 4),
    # Two of the three are those of both labels at once.
    "contrast": (lambda f, r, v: contrast.linear(f, pair(r, r), v), 3),
    "epsilon": (lambda f, r, v: lrp.epsilon(f, r, value=v), 1),
    "epsilon, absorbed": (lambda f, r, v: lrp.epsilon_absorbed(f, r, value=v), 0),
    "gamma": (lambda f, r, v: lrp.gamma(f, r, value=v), 3),
    "gamma, absorbed": (lambda f, r, v: lrp.gamma_absorbed(f, r, value=v), 1),
    "alpha_beta": (lambda f, r, v: lrp.alpha_beta(f, r, value=v), 3),
    "zplus": (lambda f, r, v: lrp.zplus(f, r, value=v), 3),
    "flat": (lambda f, r, v: lrp.flat(f, r), 2),
    "w_square": (lambda f, r, v: lrp.w_square(f, r), 2),
    "z_box": (lambda f, r, v: lrp.z_box(f, -1, 1, r), 4),
}


@pytest.mark.parametrize("name", COSTS)
def test_the_products_that_a_rule_spends(name):
    form, value = FORMS["linear, batch"]()
    spent = []

    def counted(operation):
        return lambda *operands: spent.append(1) or operation(*operands)

    rule, products = COSTS[name]
    rule(form._replace(product=counted(form.product), adjoint=counted(form.adjoint)), relevance_of(form), value)
    assert len(spent) == products
