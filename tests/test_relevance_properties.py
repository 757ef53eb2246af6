"""What holds for relevance of all shapes and options, and single cases that others got wrong."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.relevance.functional import backtrace, contrast, lrp
from pellucid.relevance.functional import linear_form as forms
from pellucid.relevance.functional.convolution import conv_transpose, convolution
from relevance_forms import FORMS, RULES, close, normal, pair, relevance_of, w, x

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
