"""The published numbers, and the rules of sums, products and pools; several relevances at once."""

import itertools
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from oracles import relevance as slow
from pellucid.relevance.functional import backtrace, contrast, lrp, pooling
from pellucid.relevance.functional import linear_form as forms
from pellucid.relevance.functional.division import reduced_to
from relevance_forms import FORMS, RULES, close, normal, pair, w, x

FIXTURES = Path(__file__).parent / "fixtures" / "backtrace" / "functions.safetensors"


@pytest.fixture(params=FORMS, scope="module")
def case(request):
    """A form and its value according to torch."""
    return FORMS[request.param]()


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
