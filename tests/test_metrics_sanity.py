"""Smooth and efficient randomisation of weights, and randomised labels: against slow copies of the formulas."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import tiny
from oracles import metrics as formulas
from oracles import metrics_end_to_end as oracle
from pellucid.errors import InputError
from pellucid.games import ask
from pellucid.ground_truth import planted_model
from pellucid.ground_truth.task import draw
from pellucid.methods import make_method
from pellucid.metrics import evaluate, mprt
from pellucid.metrics.base import explaining
from pellucid.metrics.calls import MetricFunction
from pellucid.metrics.data_randomisation import DataRandomisation
from pellucid.metrics.functional.randomisation import model_contrast
from pellucid.metrics.randomisation import EfficientMprt, SmoothMprt
from pellucid.metrics.randomised import shuffled
from pellucid.models import Column, Tabular, TextClassifier
from pellucid.targets import Margin

ROW = [0.8, -1.1, 0.4, 1.7]
X = torch.tensor(ROW, dtype=torch.float64)
METHOD = make_method("input_x_gradient")
LABELS = ("low", "middle", "high")
FROM_THE_TOP = [("4.weight", "4.bias"), ("2.weight", "2.bias"), ("0.weight", "0.bias")]
smooth_mprt, efficient_mprt = MetricFunction(SmoothMprt), MetricFunction(EfficientMprt)
data_randomisation = MetricFunction(DataRandomisation)


def tabular(module, labels=LABELS, name="small"):
    return Tabular(module, [Column(name=f"x{number}") for number in range(4)], list(labels), name=name)


def deep(seed=0):
    return oracle.network(
        lambda: torch.nn.Linear(4, 6), torch.nn.Tanh, lambda: torch.nn.Linear(6, 5), torch.nn.Tanh,
        lambda: torch.nn.Linear(5, 3), seed=seed,
    )  # fmt: skip


def blind(question):
    return np.arange(1.0, 1 + len(question.features))


def unchanged(module, before):
    return all(map(torch.equal, before.values(), module.state_dict().values()))


# Smooth


def moved_inputs(draws, radius, seed):
    for draw_number in range(draws):
        noise = 2 * torch.rand(4, generator=torch.Generator().manual_seed(seed + draw_number)) - 1
        yield X + radius * noise.double()


def smoothed(module, index, draws, radius, seed):
    found = [oracle.gradient_times_input(module, each, index) for each in moved_inputs(draws, radius, seed)]
    return sum(found) / len(found)


@pytest.mark.parametrize("sign", ["signed", "absolute"])
def test_smooth_mprt_is_that_of_the_mean_over_noisy_copies(sign):
    module, read = deep(), abs if sign == "absolute" else np.asarray
    before = copy.deepcopy(module.state_dict())
    plain, generator, expected = smoothed(module, 2, 5, 0.4, 3), torch.Generator().manual_seed(3), []
    broken = copy.deepcopy(module)
    for names in FROM_THE_TOP:
        for name in names:
            weight = broken.get_parameter(name).data
            order = torch.randperm(weight.numel(), generator=generator)
            weight.copy_(weight.flatten()[order].view(weight.shape))
        again = smoothed(broken, 2, 5, 0.4, 3)
        expected.append(spearmanr(read(plain), read(again)).statistic)
    options = {"target": Margin("high"), "method": METHOD, "seed": 3, "draws": 5, "radius": 0.4, "sign": sign}
    values = oracle.gradient_times_input(module, X, 2)
    found = smooth_mprt(tabular(module), ROW, values, **options)
    assert float(found) == pytest.approx(np.mean(expected), abs=1e-9)
    # Those of the plain input are other scores, and do not count.
    assert float(smooth_mprt(tabular(module), ROW, -values, **options)) == pytest.approx(float(found))
    assert unchanged(module, before)


def test_without_noise_it_is_mprt():
    module = deep(seed=2)
    values = oracle.gradient_times_input(module, X, 1)
    options = {"target": Margin("middle"), "method": METHOD, "seed": 1}
    still = smooth_mprt(tabular(module), ROW, values, radius=1e-9, draws=2, steps=8, **options)
    assert float(still) == pytest.approx(float(mprt(tabular(module), ROW, values, **options)))


def test_what_never_looks_at_the_model_scores_one_and_rises_by_nothing():
    model = tabular(deep())
    assert float(smooth_mprt(model, ROW, blind(ask(model, ROW)), method=blind)) == 1
    assert float(efficient_mprt(model, ROW, blind(ask(model, ROW)), method=blind)) == 0


def test_a_text_is_moved_through_its_embeddings_and_left_as_it_was():
    model = TextClassifier(*tiny.encoder("bert"))
    before, hooks = copy.deepcopy(model.module.state_dict()), len(model.module.get_input_embeddings()._forward_hooks)
    seen = []

    def watching(question):
        seen.append(question.embedded(0).embeddings.sum().item())
        return explaining(METHOD)(question)

    found = smooth_mprt(model, "two nodes hurt two", np.arange(4.0), method=watching, draws=3, steps=2, features="word")
    assert -1 <= float(found) <= 1
    assert len(seen) == 3 * 3
    # Each copy has a noise of its own, the same before and after a step; the last step shuffles the table itself.
    assert seen[:3] == seen[3:6]
    assert len(set(seen)) == 6
    assert unchanged(model.module, before)
    assert len(model.module.get_input_embeddings()._forward_hooks) == hooks


# Efficient


@pytest.mark.parametrize("bins", [None, 3, 10])
def test_efficient_mprt_is_the_rise_of_the_entropy_when_all_weights_are_shuffled(bins):
    module = deep(seed=4)
    before = copy.deepcopy(module.state_dict())
    values = oracle.gradient_times_input(module, X, 0)
    broken = copy.deepcopy(module)
    with shuffled(broken, 7, 8) as steps:
        list(steps)
        again = oracle.gradient_times_input(broken, X, 0)
    here, there = (formulas.histogram_entropy(each.tolist(), bins or 4) for each in (values, again))
    options = {} if bins is None else {"bins": bins}
    found = efficient_mprt(tabular(module), ROW, values, target=Margin("low"), method=METHOD, seed=7, **options)
    assert float(found) == pytest.approx((there - here) / here)
    assert unchanged(module, before)


def test_scores_that_are_all_equal_have_no_entropy_to_rise_from():
    assert math.isnan(float(efficient_mprt(tabular(deep()), ROW, [2.0] * 4, method=METHOD)))


def test_shuffling_a_network_that_knows_its_task_makes_its_attributions_more_complex():
    generator, model = np.random.default_rng(3), planted_model()
    texts = [" ".join(draw(generator).words) for _ in range(30)]
    explain = explaining(METHOD)
    rows = {
        "seeing": [explain(ask(model, text, seed=number)) for number, text in enumerate(texts)],
        "blind": [blind(ask(model, text)) for text in texts],
    }
    methods = {"seeing": explain, "blind": blind}
    seeing, still = evaluate(model, texts, rows, [EfficientMprt()], methods=methods)
    assert (seeing.values > 0).double().mean() > 0.8
    assert seeing.interval().low > 0.2
    assert (still.values == 0).all()


# Data


def trained(rows, labels, seed=0):
    """A network that knows its training data by heart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Linear(4, 48), torch.nn.ReLU(), torch.nn.Linear(48, 2)).double()
        optimiser = torch.optim.Adam(module.parameters(), 0.02)
        for _ in range(600):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(rows), labels).backward()
            optimiser.step()
    assert (module(rows).argmax(1) == labels).double().mean() > 0.95
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def two_models():
    """One network taught the sign of x0 - x1, and one taught the same labels shuffled; and what both learned from."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    labels = (rows[:, 0] - rows[:, 1] > 0).long()
    mixed = labels[torch.randperm(len(labels), generator=generator)]
    true, false = trained(rows, labels), trained(rows, mixed)
    return tabular(true, ("no", "yes"), "true"), tabular(false, ("no", "yes"), "shuffled"), rows


def test_attributions_of_shuffled_labels_are_others_and_blind_ones_stay(two_models):
    true, false, rows = two_models
    raws = [row.tolist() for row in rows[:40]]
    explain = explaining(METHOD)
    given = {
        "seeing": [explain(ask(true, raw)) for raw in raws],
        "blind": [blind(ask(true, raw)) for raw in raws],
    }
    methods = {"seeing": explain, "blind": blind}
    metric = DataRandomisation(other=false)
    seeing, still = evaluate(true, raws, given, [metric], methods=methods)
    assert seeing.metric == "data_randomisation [column, against shuffled]"
    assert (still.values == 1).all()
    assert seeing.interval().high < 0.6
    for number, raw in enumerate(raws):
        index = int(true.module(rows[number][None]).argmax())
        sides = [oracle.gradient_times_input(each.module, torch.tensor(raw).double(), index) for each in (true, false)]
        expected = spearmanr(*sides).statistic
        assert float(seeing.values[number]) == pytest.approx(expected, abs=1e-6)
    # The same network again is no other one.
    (same, _) = evaluate(true, raws, given, [DataRandomisation(other=true)], methods=methods)
    assert same.values.numpy() == pytest.approx(1)


def test_what_cannot_be_compared_is_refused(two_models):
    true, false, rows = two_models
    raw, values = rows[0].tolist(), [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(InputError, match="give it as other="):
        data_randomisation(true, raw, values, method=METHOD)
    others = [
        tabular(false.module, ("yes", "no"), "turned"),
        Tabular(false.module, [Column(name=f"y{number}") for number in range(4)], ["no", "yes"], name="renamed"),
        TextClassifier(*tiny.encoder("bert"), name="bert"),
    ]
    for other in others:
        with pytest.raises(InputError, match=f"{other.name} does not read what true reads"):
            data_randomisation(true, raw, values, method=METHOD, other=other)


# The share that moved


def test_the_contrast_of_two_models():
    mask = np.array([True, True, False, False])
    here, there = np.array([1.0, -1.0, 0.0, 0.0]), np.array([0.0, 0.0, -3.0, 1.0])
    assert model_contrast(here, there, mask) == 1
    assert model_contrast(there, here, mask) == -1
    assert model_contrast(here, here, mask) == 0
    assert model_contrast(np.array([2.0, 1.0, -1.0, 0.0]), np.array([1.0, 0, 0, 1.0]), mask) == pytest.approx(0.25)
    assert math.isnan(model_contrast(np.zeros(4), there, mask))
