"""Boosted trees as a network: each tree walked by hand, and no method that needs a gradient."""

import numpy as np
import pytest
import torch

import pellucid
from pellucid import Margin
from pellucid.errors import InputError
from pellucid.methods import all_methods
from pellucid.models.networks import Boosting, build
from pellucid.models.tabular import Column, Tabular

BOOSTING = {"architecture": "boosting", "trees": 5, "depth": 3, "labels": ["a", "b", "c"]}
NAMES = ["wisconsin-boosting", "gbsg2-boosting", "credit-boosting"]


def background(model):
    """A row in raw units."""
    return model._background[0]


def grown(seed=0, inputs=4):
    """Random trees."""
    generator = torch.Generator().manual_seed(seed)
    module = build(BOOSTING)
    module.feature = torch.randint(inputs, module.feature.shape, generator=generator)
    module.threshold = torch.randn(module.threshold.shape, generator=generator)
    module.leaves.data = torch.randn(module.leaves.shape, generator=generator)
    module.bias.data = torch.randn(module.bias.shape, generator=generator)
    return module


def walked(module, row):
    """The logits of one row, by the plainest reading: a question at a time, down one tree after another."""
    total = module.bias.double().clone()
    inner = module.feature.shape[1]
    for feature, threshold, leaves in zip(module.feature, module.threshold, module.leaves, strict=True):
        node = 0
        while node < inner:
            node = 2 * node + (1 if row[feature[node]] <= threshold[node] else 2)
        total += leaves[node - inner].double()
    return total.numpy()


def test_every_row_ends_where_its_questions_lead():
    module = grown()
    assert isinstance(module, Boosting)
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    expected = np.stack([walked(module, row) for row in x])
    np.testing.assert_allclose(module(x).numpy(), expected, atol=1e-5)
    assert len(np.unique(expected.round(4), axis=0)) > 20


def test_a_value_on_the_threshold_goes_left_and_the_next_larger_one_right():
    module = build({**BOOSTING, "trees": 1, "depth": 1, "labels": ["no", "yes"]})
    module.threshold[:] = 0.3
    module.leaves.data = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    edge = torch.tensor(0.3)
    x = torch.stack([edge, torch.nextafter(edge, torch.tensor(1.0)), edge - 1])[:, None]
    assert module(x)[:, 0].tolist() == [1, 2, 1]


def test_fresh_trees_answer_nothing_and_their_sizes_are_those_of_the_config():
    module = build(BOOSTING)
    assert (module.feature.shape, module.leaves.shape) == ((5, 7), (5, 8, 3))
    assert not module(torch.randn(2, 4)).any()
    for key, value in (("trees", 0), ("depth", 0), ("depth", 30), ("trees", "many")):
        with pytest.raises(InputError, match=rf"boosting: {key}"):
            build({**BOOSTING, key: value})


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shipped_answers_as_its_trees_do(name):
    model = pellucid.load(name)
    assert not model.differentiable
    rows = model.background()[:10]
    expected = np.stack([walked(model.module, row) for row in rows])
    np.testing.assert_allclose(model.logits(rows).numpy(), expected, atol=1e-5)
    # Two classes share what the booster says, so that their margin is its log-odds.
    np.testing.assert_allclose(expected.sum(1), 0, atol=1e-5)
    assert np.ptp(expected[:, 1]) > 1


def test_a_perceptron_passes_gradients_and_says_so():
    assert pellucid.load("gbsg2-mlp").differentiable
    columns = [Column(name=name) for name in "wxyz"]
    assert not Tabular(grown(), columns, ["a", "b", "c"]).differentiable


GRADIENT = [
    name
    for name, kind in all_methods().items()
    if "gradient" in kind.facts.needs and "tabular" in kind.facts.modalities
]


@pytest.mark.parametrize("name", GRADIENT)
def test_a_method_that_needs_a_gradient_is_refused_in_one_sentence(name):
    model = pellucid.load("gbsg2-boosting")
    with pytest.raises(InputError, match=f"^{name} needs gradients, and gbsg2-boosting has none; use a method that"):
        pellucid.explain(model, background(model), method=name)


def test_methods_that_perturb_explain_trees():
    model = pellucid.load("gbsg2-boosting")
    raw = background(model)
    exact = pellucid.explain(model, raw, method="exact_shapley", baseline="mean", target=Margin("event within 3 years"))
    full = float(model.logits([model.encode(raw).row])[0] @ torch.tensor([-1.0, 1.0]))
    mean = float(
        model.logits([model.baseline("mean", model.encode(raw)).embedding[:, 0]])[0] @ torch.tensor([-1.0, 1.0])
    )
    assert exact.values.sum() == pytest.approx(full - mean, abs=1e-5)
    assert np.abs(exact.values).max() > 0.01
