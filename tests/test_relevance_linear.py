"""Relevance through linear maps of every kind, against replicas that loop over the units of an explicit matrix."""

from functools import partial

import pytest
import torch

from oracles import relevance as slow
from pellucid.errors import InputError, UnknownNameError
from pellucid.relevance.functional import backtrace, contrast, lrp
from relevance_forms import FORMS, close, flattened, normal, pair, relevance_of


@pytest.fixture(params=FORMS, scope="module")
def case(request):
    """A form and its value according to torch."""
    return FORMS[request.param]()


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
