"""Metrics that run a method again: on shuffled weights, on another class, on moved inputs."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import tiny
from oracles import metrics as formulas
from oracles import metrics_end_to_end as oracle
from pellucid import explain, metrics
from pellucid.errors import InputError, ModelError
from pellucid.methods import make_method
from pellucid.metrics.randomised import layers, shuffled
from pellucid.models import CausalLM, Column, Tabular, TextClassifier
from pellucid.targets import Contrast, Logit, Margin

ROW = [0.8, -1.1, 0.4, 1.7]
X = torch.tensor(ROW, dtype=torch.float64)
METHOD = make_method("input_x_gradient")


def tabular(module, labels=("low", "middle", "high"), players=4):
    return Tabular(module, [Column(name=f"x{number}") for number in range(players)], list(labels), name="small")


def deep(classes=3, seed=0):
    return oracle.network(
        lambda: torch.nn.Linear(4, 6), torch.nn.Tanh, lambda: torch.nn.Linear(6, 5), torch.nn.Tanh,
        lambda: torch.nn.Linear(5, classes), seed=seed,
    )  # fmt: skip


def state(module):
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())
    return hooks, module.training, [tensor.clone() for tensor in module.state_dict().values()]


def unchanged(module, before):
    after = state(module)
    return before[:2] == after[:2] and all(map(torch.equal, before[2], after[2]))


class Blind:
    """A method that never looks at the model."""

    def attribute(self, question):
        return _Found(np.arange(1.0, 1 + len(question.features))[None])


class Failing:
    """A method that breaks at its second run."""

    def __init__(self):
        self.runs = 0

    def attribute(self, question):
        self.runs += 1
        if self.runs == 2:
            raise RuntimeError("out of luck")
        return METHOD.attribute(question)


class _Found:
    def __init__(self, values):
        self.values = values


ALL = ("mprt", "random_logit", "max_sensitivity", "relative_stability")


# Randomisation


@pytest.mark.parametrize("sign", ["signed", "absolute"])
def test_mprt_shuffles_from_the_top_down(sign):
    module = deep()
    values = oracle.gradient_times_input(module, X, 2)
    order = [("4.weight", "4.bias"), ("2.weight", "2.bias"), ("0.weight", "0.bias")]
    read = abs if sign == "absolute" else np.asarray
    before = state(module)
    found = metrics.mprt(tabular(module), ROW, values, target=Margin("high"), method=METHOD, seed=3, sign=sign)
    assert float(found) == pytest.approx(oracle.mprt(module, order, X, 2, values, 3, read), abs=1e-9)
    assert unchanged(module, before)
    two = metrics.mprt(tabular(module), ROW, values, target=Margin("high"), method=METHOD, seed=3, sign=sign, steps=2)
    # Two steps over three layers: rounding halves to even, the top two at once and then the last.
    expected = oracle.mprt(module, [order[0] + order[1], order[2]], X, 2, values, 3, read)
    assert float(two) == pytest.approx(expected, abs=1e-9)


def test_mprt_explains_what_was_explained_even_if_the_shuffled_model_says_something_else():
    module = deep(seed=5)
    model = tabular(module)
    values = oracle.gradient_times_input(module, X, model.labels.index(model.predicted(model.encode(ROW))))
    seen = []

    class Watching:
        def attribute(self, question):
            seen.append((question.target.output_names, question.model.predicted(question.inputs)))
            return METHOD.attribute(question)

    for seed in range(4):
        metrics.mprt(model, ROW, values, method=Watching(), seed=seed)
    assert {names for names, _ in seen} == {(model.predicted(model.encode(ROW)),)}
    assert len({predicted for _, predicted in seen}) > 1


@pytest.mark.parametrize("metric", ["mprt", "random_logit"])
def test_a_blind_method_scores_one(metric):
    found = getattr(metrics, metric)(tabular(deep()), ROW, [1.0, 2.0, 3.0, 4.0], method=Blind())
    assert float(found) == 1


@pytest.mark.parametrize("metric", ["max_sensitivity", "relative_stability"])
def test_a_constant_map_is_perfectly_robust(metric):
    settings = [{"of": of} for of in ("input", "representation", "output")] if metric == "relative_stability" else [{}]
    for each in settings:
        assert float(getattr(metrics, metric)(tabular(deep()), ROW, [1.0, 2.0, 3.0, 4.0], method=Blind(), **each)) == 0


@pytest.mark.parametrize("metric", ["mprt", "max_sensitivity", "relative_stability"])
@pytest.mark.parametrize("of", ["table", "text"])
def test_a_method_that_breaks_leaves_the_model_as_it_was(metric, of):
    if of == "table":
        model, raw, players = tabular(deep()), ROW, 4
    else:
        model, raw, players = TextClassifier(*tiny.encoder("bert")), "two nodes hurt", 3
    before = state(model.module)
    with pytest.raises(RuntimeError, match="out of luck"):
        getattr(metrics, metric)(model, raw, np.arange(players) + 1.0, method=Failing())
    assert unchanged(model.module, before)


def test_weights_come_back_bit_by_bit_though_they_are_not_numbers():
    module = deep()
    with torch.no_grad():
        module[0].weight[0, 0], module[0].weight[0, 1] = torch.nan, -0.0

    def bits():
        return [weight.detach().clone().view(torch.int64) for weight in module.parameters()]

    before = bits()
    with shuffled(module, seed=0, most=8) as steps:
        assert list(steps) == [1, 2, 3]
        inside = bits()
    for kept, moved, after in zip(before, inside, bits(), strict=True):
        assert not torch.equal(kept, moved)
        assert torch.equal(kept.flatten().sort().values, moved.flatten().sort().values)
        assert torch.equal(kept, after)


class Blocks(torch.nn.Module):
    """An embedding, three blocks, a norm, and a head that is tied to the embedding; a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.table = torch.nn.Embedding(7, 4)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sequential(torch.nn.Linear(4, 4))) for _ in range(3)
        )
        self.norm = torch.nn.LayerNorm(4)
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight


def test_layers_hold_every_parameter_once_from_the_input_up():
    module = Blocks()
    found = layers(module)
    names = {id(weight): name for name, weight in module.named_parameters()}
    assert [[names[id(weight)] for weight in group] for group in found] == [
        ["scale"],
        ["table.weight"],
        *[[f"blocks.{n}.{part}" for part in ("0.weight", "0.bias", "1.0.weight", "1.0.bias")] for n in range(3)],
        ["norm.weight", "norm.bias"],
    ]


@pytest.mark.parametrize("family", ["bert", "deberta", "roberta", "gpt2", "llama"])
def test_layers_of_real_architectures_hold_every_parameter_once(family):
    module, _ = tiny.encoder(family) if family in tiny.ENCODERS else tiny.decoder(family)
    found = [id(weight) for group in layers(module) for weight in group]
    assert sorted(found) == sorted(map(id, module.parameters()))
    assert len(found) == len(set(found))


def test_the_steps_cover_all_layers_evenly_and_the_last_leaves_none():
    module = Blocks()
    with shuffled(module, seed=0, most=4) as steps:
        assert list(steps) == [2, 3, 4, 6]
    with shuffled(module, seed=0, most=100) as steps:
        assert list(steps) == [1, 2, 3, 4, 5, 6]


def test_random_logit_explains_another_class():
    module = deep()
    model = tabular(module)
    values = oracle.gradient_times_input(module, X, 1)
    others = [spearmanr(values, oracle.gradient_times_input(module, X, other)).statistic for other in (0, 2)]
    found = {
        round(float(metrics.random_logit(model, ROW, values, target=Margin("middle"), method=METHOD, seed=seed)), 9)
        for seed in range(8)
    }
    assert found == {round(float(each), 9) for each in others}
    two = deep(classes=2)
    values = oracle.gradient_times_input(two, X, 0)
    both = {"target": Margin("low"), "method": METHOD}
    assert float(metrics.random_logit(tabular(two, ("low", "high")), ROW, values, **both)) == pytest.approx(-1)
    absolute = metrics.random_logit(tabular(two, ("low", "high")), ROW, values, sign="absolute", **both)
    assert float(absolute) == pytest.approx(1)


def test_random_logit_refuses_what_has_no_other_class():
    one = oracle.network(lambda: torch.nn.Linear(4, 1))
    with pytest.raises(InputError, match="one class only"):
        metrics.random_logit(tabular(one, ["only"]), ROW, [1.0, 2.0, 3.0, 4.0], target=Logit("only"), method=METHOD)
    contrast = Contrast("low", "high")
    with pytest.raises(InputError, match="use mprt"):
        metrics.random_logit(tabular(deep()), ROW, [1.0, 2.0, 3.0, 4.0], target=contrast, method=METHOD)
    language = CausalLM(*tiny.decoder("gpt2"), name="gpt2")
    with pytest.raises(InputError, match=r"classifier.*use mprt"):
        metrics.random_logit(language, "high risk", [1.0, 2.0], features="word", method=METHOD)


# Robustness


def moves(x, draws, radius, seed):
    """The moved inputs: uniform noise in a box."""
    for draw in range(draws):
        generator = torch.Generator().manual_seed(seed + draw)
        noise = 2 * torch.rand(x.shape, generator=generator) - 1
        yield x + radius * noise.double()


@pytest.mark.parametrize("radius", [0.02, 0.5, 3.0])
def test_max_sensitivity_of_a_linear_model(radius):
    """Its input times gradient is x w, so that moved inputs are explained by hand."""
    weights = torch.tensor([[1.0, -2, 0.5, 0.3], [0.2, 0.7, -1, 0.9]], dtype=torch.float64)
    linear = torch.nn.Linear(4, 2, bias=False).double()
    linear.weight.data = weights
    moved = list(moves(X, 6, radius, 2))
    says = int((weights @ X).argmax())
    same = [int((weights @ each).argmax()) == says for each in moved]
    values = (X * weights[says]).tolist()
    expected = formulas.max_sensitivity(values, [(each * weights[says]).tolist() for each in moved], same)
    settings = {"method": METHOD, "radius": radius, "draws": 6, "seed": 2, "target": Logit(["no", "yes"][says])}
    found = metrics.max_sensitivity(tabular(linear, ("no", "yes")), ROW, values, **settings)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_moves_that_change_the_prediction_do_not_count():
    """The prediction is the sign of x0, which the moved inputs have about half the time."""
    linear = torch.nn.Linear(4, 2, bias=False).double()
    linear.weight.data = torch.tensor([[1.0, 0, 0, 0], [-1, 0, 0, 0]], dtype=torch.float64)
    row = [1e-3, 1.0, -1.0, 2.0]
    x = torch.tensor(row).double()
    moved = list(moves(x, 6, 1.0, 0))
    same = [float(each[0]) > 0 for each in moved]
    assert 0 < sum(same) < 6
    values = [1e-3, 0.0, 0.0, 0.0]
    expected = formulas.max_sensitivity(values, [(each * linear.weight[0]).tolist() for each in moved], same)
    settings = {"method": METHOD, "radius": 1.0, "draws": 6, "target": Logit("yes")}
    found = metrics.max_sensitivity(tabular(linear, ("yes", "no")), row, values, **settings)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    first = next(seed for seed in itertools.count() if float(next(moves(x, 1, 1.0, seed))[0]) < 0)
    nothing = metrics.max_sensitivity(
        tabular(linear, ("yes", "no")), row, values, **settings | {"draws": 1, "seed": first}
    )
    assert math.isnan(nothing)


@pytest.mark.parametrize("of", ["input", "representation", "output"])
def test_relative_stability_looks_at_what_it_says(of):
    module = deep()
    index = int(module(X[None]).argmax())
    label = ["low", "middle", "high"][index]

    def seen(x):
        logits = module(x[None])[0]
        others = torch.cat([logits[:index], logits[index + 1 :]]).logsumexp(0)
        return oracle.numbers(
            {"input": x, "representation": module[:-1](x[None])[0], "output": logits[index] - others}[of]
        )

    moved = list(moves(X, 5, 0.1, 4))
    same = [int(module(each[None]).argmax()) == index for each in moved]
    values = oracle.gradient_times_input(module, X, index)
    expected = formulas.relative_stability(
        values, [oracle.gradient_times_input(module, each, index) for each in moved], seen(X), map(seen, moved), same
    )
    settings = {"method": METHOD, "radius": 0.1, "draws": 5, "seed": 4, "of": of, "target": Margin(label)}
    before = state(module)
    found = metrics.relative_stability(tabular(module), ROW, values, **settings)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert unchanged(module, before)


def test_the_words_of_a_text_are_moved_in_the_embedding_table():
    """As a copy of the network with a moved table explains them."""
    module, tokenizer = tiny.encoder("bert")
    module = module.double()
    model, text = TextClassifier(module, tokenizer, name="bert"), "two nodes hurt two"
    ids = sorted(set(tokenizer(text).input_ids))
    vectors = module.get_input_embeddings()(torch.tensor(tokenizer(text).input_ids)).detach()
    label = model.predicted(model.encode(text))
    options = {"method": METHOD, "target": Margin(label), "features": "word", "checks": "none"}
    values, changed = explain(model, text, **options).values[0], []
    for draw in range(3):
        noise = 2 * torch.rand((len(ids), 16), generator=torch.Generator().manual_seed(7 + draw)) - 1
        moved = copy.deepcopy(module)
        moved.get_input_embeddings().weight.data[ids] += 0.05 * float(vectors.float().std()) * noise.double()
        there = TextClassifier(moved, tokenizer, name="moved")
        assert there.predicted(there.encode(text)) == label
        changed.append(explain(there, text, **options).values[0])
    expected = formulas.max_sensitivity(values.tolist(), [each.tolist() for each in changed], [True] * 3)
    settings = {"method": METHOD, "radius": 0.05, "draws": 3, "seed": 7, "target": Margin(label), "features": "word"}
    found = metrics.max_sensitivity(model, text, values, **settings)
    assert float(found) == pytest.approx(expected, rel=1e-3)


class NoLinear(torch.nn.Module):
    """A network of parameters alone."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return x @ self.weight


def test_a_network_without_a_linear_layer_has_no_representation():
    model = tabular(NoLinear(), ("no", "yes"))
    with pytest.raises(ModelError, match="no linear layer"):
        metrics.relative_stability(model, ROW, [1.0, 2.0, 3.0, 4.0], method=METHOD, of="representation")
    assert float(metrics.relative_stability(model, ROW, [1.0, 2.0, 3.0, 4.0], method=METHOD)) > 0


@pytest.mark.parametrize("metric", ALL)
def test_scores_of_a_method_that_are_none_are_refused(metric):
    class Broken:
        def attribute(self, question):
            return _Found(np.full((1, 4), np.nan))

    module = deep()
    before = state(module)
    with pytest.raises(InputError, match="finite"):
        getattr(metrics, metric)(tabular(module), ROW, [1.0, 2.0, 3.0, 4.0], method=Broken())
    assert unchanged(module, before)
