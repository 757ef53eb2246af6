"""Every method on a small convolutional network and on a small perceptron, against loops over the raw network."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pellucid
import tiny
from peers import captum
from pellucid import Choice, Logit, Margin, explain, explain_batch
from pellucid.errors import NumericalError
from pellucid.games import ask
from pellucid.methods import all_methods
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.pictures import Preprocessing
from pellucid.models.tabular import Column, Tabular
from test_image_classifier import MEAN, STD, drawn
from test_image_classifier import network as convolutional
from test_tabular import COLUMNS, OTHERS, ROW
from test_tabular import network as perceptron

SIZE = (7, 9)
QUIET = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
SETTINGS = {"path_integral": {"max_pieces": 64}}
METHODS = [name for name, kind in all_methods().items() if {"image", "tabular"} <= set(kind.facts.modalities)]


class Case:
    """One input, and the same question in the plainest form: a function of the raw tensor."""

    def __init__(self, kind, channels=3, dtype=torch.float64):
        self.kind = kind
        if kind == "image":
            labels = ["cat", "dog", "owl"]
            self.raw, self.others = drawn(*SIZE, channels), [drawn(*SIZE, channels, seed=seed) // 2 for seed in (4, 5)]
            preprocessing = Preprocessing(SIZE, MEAN[:channels], STD[:channels])
            module = convolutional(channels).to(dtype)
            self.model = ImageClassifier(module, labels, preprocessing, background=self.others)
            self.options = {"features": "patch:4", "target": Logit("dog")}
            places = np.add.outer(np.arange(7) // 4 * 3, np.arange(9) // 4)
            self.owner = torch.tensor(np.broadcast_to(places, (channels, *SIZE)).copy())
        else:
            self.raw, self.others = ROW, OTHERS
            self.model = Tabular(perceptron().to(dtype), COLUMNS, ["low", "high"], background=OTHERS)
            self.options = {"features": "column", "target": Logit("high")}
            self.owner = torch.tensor([0, 1, 1, 1, 2, 3, 3])
        self.module = self.model.module
        self.players = int(self.owner.max()) + 1
        self.row = self.model.encode(self.raw).row.to(dtype)
        if kind == "image":
            self.mean = torch.zeros_like(self.row)
        else:
            self.mean = torch.tensor([0, 0.2, 0.5, 0.3, 0, 0.6, 0.4], dtype=dtype)

    def target(self, batch):
        """The explained logit of a batch, straight from the network."""
        return self.module(batch)[:, 1]

    def worth(self, coalition):
        """The logit with the absent players at their mean."""
        present = torch.tensor(coalition)[self.owner]
        with torch.no_grad():
            return float(self.target(torch.where(present, self.row, self.mean)[None]))

    def summed(self, scores):
        return np.array([float(scores[self.owner == player].sum()) for player in range(self.players)])

    def gradient(self, at):
        at = at.clone().requires_grad_()
        return torch.autograd.grad(self.target(at[None]).sum(), at)[0]

    def explain(self, method, **options):
        return explain(self.model, self.raw, **self.options | {"method": method} | options)


@pytest.fixture(params=["image", "grey", "table"])
def case(request):
    return Case("image", 1) if request.param == "grey" else Case(request.param)


def with_each(players, size):
    return [tuple(bool(number >> player & 1) for player in range(players)) for number in range(size)]


def shapley(case):
    """Mean marginal contribution over all orders, each coalition asked by itself."""
    worth = {coalition: case.worth(coalition) for coalition in with_each(case.players, 2**case.players)}
    total = np.zeros(case.players)
    orders = list(permutations(range(case.players)))
    for order in orders:
        present = [False] * case.players
        for player in order:
            before = worth[tuple(present)]
            present[player] = True
            total[player] += worth[tuple(present)] - before
    return total / len(orders), worth


def test_occlusion_is_one_at_a_time(case):
    full = case.worth((True,) * case.players)
    expected = [full - case.worth(tuple(i != player for i in range(case.players))) for player in range(case.players)]
    found = case.explain("occlusion")
    np.testing.assert_allclose(found.values[0], expected, atol=1e-6)
    assert found.full_values[0] == pytest.approx(full, abs=1e-6)
    assert found.base_values[0] == pytest.approx(case.worth((False,) * case.players), abs=1e-6)
    assert found.cost.rows == case.players + 2


def test_shapley_values_are_those_of_all_orders(case):
    expected, worth = shapley(case)
    found = case.explain("exact_shapley")
    np.testing.assert_allclose(found.values[0], expected, atol=1e-6)
    assert found.values.sum() == pytest.approx(worth[(True,) * case.players] - worth[(False,) * case.players], abs=1e-5)
    assert found.cost.rows == 2**case.players
    assert found.reliable
    # Everything that is the Shapley value once all coalitions are played.
    for method in ("kernel_shap", "permutation_shapley", "owen"):
        np.testing.assert_allclose(case.explain(method).values[0], expected, atol=1e-5, err_msg=method)


def test_banzhaf_is_the_mean_over_all_coalitions_of_the_others(case):
    _, worth = shapley(case)
    expected = [
        np.mean([value - worth[(*s[:player], False, *s[player + 1 :])] for s, value in worth.items() if s[player]])
        for player in range(case.players)
    ]
    np.testing.assert_allclose(case.explain("banzhaf").values[0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["lime", "sparse_linear"])
def test_a_surrogate_fits_the_games_values(case, method):
    _, worth = shapley(case)
    masks = np.array(list(worth), dtype=float)
    design = np.concatenate([masks, np.ones((len(masks), 1))], 1)
    weights = np.ones(len(masks))
    if method == "lime":
        size = masks.sum(1)
        chance = np.array([1 / (case.players * np.sum(size == s)) for s in size])
        weights = np.where(size == case.players, 1.0, 255 * chance)
        weights *= np.exp(-((1 - np.sqrt(masks.mean(1))) ** 2) / (2 * 0.25**2))
    root = np.sqrt(weights)[:, None]
    plain = np.linalg.lstsq(design * root, np.array(list(worth.values())) * root[:, 0], rcond=None)[0][:-1]
    found = case.explain(method, alpha=1e-6).values[0]
    np.testing.assert_allclose(found, plain, atol=1e-3 * np.abs(plain).max())


def test_the_gradient_is_autograds(case):
    gradient = case.gradient(case.row)
    norms = gradient.pow(2).sum(0, keepdim=True).sqrt() if case.kind == "image" else gradient.abs()
    owner = case.owner[:1] if case.kind == "image" else case.owner
    expected = [float(norms[owner == player].sum()) for player in range(case.players)]
    np.testing.assert_allclose(case.explain("gradient").values[0], expected, atol=1e-6)


@QUIET
def test_input_x_gradient_is_captums_and_autograds(case):
    by_captum = captum.InputXGradient(case.target).attribute(case.row[None].clone().requires_grad_())[0].detach()
    np.testing.assert_allclose(case.explain("input_x_gradient").values[0], case.summed(by_captum), atol=1e-6)
    expected = case.summed((case.row - case.mean) * case.gradient(case.row))
    np.testing.assert_allclose(case.explain("input_x_gradient", baseline="mean").values[0], expected, atol=1e-6)


@QUIET
def test_integrated_gradients_are_captums(case):
    integrated = captum.IntegratedGradients(case.target)
    expected = integrated.attribute(case.row[None], baselines=case.mean[None], n_steps=12, method="gausslegendre")[0]
    np.testing.assert_allclose(
        case.explain("integrated_gradients", steps=12).values[0], case.summed(expected), atol=1e-6
    )
    adaptive = case.explain("integrated_gradients")
    assert adaptive.reliable
    assert adaptive.values.sum() == pytest.approx(
        case.worth((True,) * case.players) - case.worth((False,) * case.players), rel=0.05, abs=1e-4
    )


def test_a_blurred_baseline_is_integrated_from_a_blurred_picture():
    case = Case("image")
    blurred = case.model.baseline("blur", case.model.encode(case.raw)).embedding.double().T.reshape(case.row.shape)
    points, weights = np.polynomial.legendre.leggauss(5)
    total = sum(
        weight / 2 * case.gradient(blurred + (point + 1) / 2 * (case.row - blurred))
        for point, weight in zip(points, weights, strict=True)
    )
    found = case.explain("integrated_gradients", baseline="blur", steps=5)
    np.testing.assert_allclose(found.values[0], case.summed((case.row - blurred) * total), atol=1e-6)


def test_the_path_integral_is_that_of_differences(case):
    """One player at a time moves over a piece of the path while all others stand in its middle."""
    pieces = 200
    expected = np.zeros(case.players)
    with torch.no_grad():
        for player in range(case.players):
            for piece in range(pieces):
                ends = []
                for share in (piece / pieces, (piece + 1) / pieces):
                    presence = torch.full_like(case.row, (piece + 0.5) / pieces)
                    presence[case.owner == player] = share
                    ends.append(float(case.target((case.mean + presence * (case.row - case.mean))[None])))
                expected[player] += ends[1] - ends[0]
    found = case.explain("path_integral", max_pieces=512, tolerance=1e-3)
    np.testing.assert_allclose(found.values[0], expected, atol=0.02 * np.abs(expected).max())
    assert found.reliable


def test_smoothgrad_is_the_mean_over_noise(case):
    noise = 0.1 * float(case.row.float().std())
    generator = torch.Generator().manual_seed(9)
    draws = []
    for _ in range(800):
        at = case.row + noise * torch.randn(case.row.shape, generator=generator)
        draws.append(case.summed(case.row * case.gradient(at)))
    expected, scatter = np.mean(draws, 0), np.std(draws, 0) / len(draws) ** 0.5
    found = case.explain("smoothgrad", samples=200)
    # Four standard errors of ours, and as many of the reference's own.
    assert (np.abs(found.values[0] - expected) < 4 * (found.standard_error[0] + scatter) + 1e-9).all()
    np.testing.assert_allclose(found.standard_error[0], np.std(draws, 0) / 200**0.5, rtol=0.4, atol=1e-9)


def test_expected_gradients_are_complete_within_their_error(case):
    """And they are the mean over baselines of integrated gradients from each."""
    expected = np.zeros(case.players)
    ends = []
    points, weights = np.polynomial.legendre.leggauss(20)
    for other in case.others:
        baseline = case.model.encode(other).row.double()
        ends.append(float(case.target(baseline[None]).detach()))
        for point, weight in zip(points, weights, strict=True):
            at = baseline + (point + 1) / 2 * (case.row - baseline)
            expected += weight / 4 * case.summed((case.row - baseline) * case.gradient(at))
    found = case.explain("expected_gradients", samples=400)
    assert (np.abs(found.values[0] - expected) < 4 * found.standard_error[0] + 1e-7).all()
    gap = found.values.sum() - (case.worth((True,) * case.players) - np.mean(ends))
    assert abs(gap) < 4 * np.sqrt((found.standard_error**2).sum()) + 1e-7
    assert f"{len(case.others)} of the background" in found.baseline


def state(model):
    parts = [(name, part.training, len(part._forward_hooks), len(part._backward_hooks), len(part._forward_pre_hooks))
             for name, part in model.module.named_modules()]  # fmt: skip
    tensors = [
        (name, tensor.clone(), tensor.requires_grad, tensor.grad) for name, tensor in model.module.named_parameters()
    ]
    return parts, tensors


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["image", "table"])
def test_every_method_leaves_the_model_and_repeats_itself(kind, name):
    case = Case(kind, dtype=torch.float32)
    case.module.train()
    next(case.module.parameters()).requires_grad_(False)
    parts, tensors = state(case.model)
    before = torch.get_rng_state()
    first = case.explain(name, seed=3, **SETTINGS.get(name, {}))
    assert torch.equal(before, torch.get_rng_state())
    after = state(case.model)
    assert after[0] == parts
    for (_, tensor, grad, _), (_, now, grad_now, slope) in zip(tensors, after[1], strict=True):
        assert torch.equal(tensor, now)
        assert grad == grad_now
        assert slope is None
    assert np.array_equal(first.values, case.explain(name, seed=3, **SETTINGS.get(name, {})).values)
    others = [case.others[0], case.raw, case.others[1]]
    batch = explain_batch(case.model, others, method=name, seed=3, **case.options, **SETTINGS.get(name, {}))
    assert np.array_equal(batch[1].values, first.values)
    assert not np.array_equal(batch[0].values, first.values)
    assert np.isfinite(first.values).all()


class Counting(torch.nn.Module):
    """Counts the rows that really go through, and refuses to see a game's row twice."""

    def __init__(self, inner, once):
        super().__init__()
        self.inner, self.once, self.rows, self.seen = inner, once, 0, set()

    def forward(self, x):
        self.rows += len(x)
        for row in x if self.once else ():
            key = row.numpy().tobytes()
            assert key not in self.seen, "this row was scored before"
            self.seen.add(key)
        return SimpleNamespace(logits=self.inner(x))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["image", "table"])
def test_no_row_is_scored_twice_and_the_declared_number_holds(kind, name):
    """The network answers as those of transformers do, with an object that holds its logits."""
    case = Case(kind, dtype=torch.float32)
    method = all_methods()[name](**SETTINGS.get(name, {}))
    plain = case.explain(method)
    once = method.facts.family == "perturbation" and name != "path_integral"
    case.model.module = Counting(case.module, once)
    found = case.explain(method)
    assert np.array_equal(found.values, plain.values)
    assert found.cost.rows == case.model.module.rows
    assert found.cost.rows <= method.rows(case.players)
    assert found.cost.forward_equivalents == pytest.approx(found.cost.rows)


@pytest.mark.parametrize("kind", ["image", "table"])
def test_targets_of_every_kind_are_those_of_the_logits(kind):
    case = Case(kind)
    labels = case.model.labels
    with torch.no_grad():
        logits = case.module(case.row[None])[0]
    rest = torch.cat([logits[:1], logits[2:]])
    expected = {
        Logit(labels[1]): float(logits[1]),
        Margin(labels[1]): float(logits[1] - rest.logsumexp(0)),
    }
    for target, value in expected.items():
        assert explain(case.model, case.raw, method="occlusion", target=target).full_values[0] == pytest.approx(value)
    predicted = explain(case.model, case.raw, method="occlusion")
    assert predicted.target == Margin(labels[int(logits.argmax())])
    chosen = explain(case.model, case.raw, method="occlusion", target=Choice(tuple(labels)))
    assert chosen.target.chosen == labels[int(logits.argmax())]


def test_double_precision_is_kept():
    single, double = Case("table", dtype=torch.float32), Case("table")
    exact = [double.worth(coalition) for coalition in ((True,) * 4, (False,) * 4)]
    question = ask(double.model, ROW, target=Logit("high"))
    assert question.game.full[0] == pytest.approx(exact[0], abs=1e-7)
    assert abs(float(question.game.full[0]) - float(ask(single.model, ROW, target=Logit("high")).game.full[0])) < 1e-6
    assert question.game.value(np.ones((1, 4), bool)).dtype == np.float64


@pytest.mark.parametrize("name", METHODS)
def test_a_table_of_one_column_can_be_explained(name):
    module = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    model = Tabular(module, [Column(name="x", mean=1.0, std=2.0)], ["no", "yes"], background=[[0.0], [3.0]])
    found = explain(model, [4.0], method=name, target=Logit("yes"))
    assert found.values.shape == (1, 1)
    if found.method in ("exact_shapley", "occlusion", "kernel_shap"):
        assert found.values[0, 0] == pytest.approx(found.full_values[0] - found.base_values[0], abs=1e-6)


def test_nan_from_the_network_stops_every_kind_of_method():
    case = Case("table")
    with torch.no_grad():
        case.module[0].weight[0, 0] = torch.nan
    for method in ("occlusion", "gradient", "integrated_gradients"):
        with pytest.raises(NumericalError, match="NaN or infinite"):
            case.explain(method)


def moved(model, raw, radius=0.1, seed=0):
    """What the network reads of a nudged input: the embeddings that reach it."""
    inputs = model.encode(raw)
    with model.nudged(inputs, radius, seed) as near:
        if isinstance(model, ImageClassifier | Tabular):
            return near.row.clone()
        return model.embed(torch.tensor(near.row.ids)).clone()


NUDGED = {
    "image": lambda: (Case("image", dtype=torch.float32).model, drawn(*SIZE)),
    "table": lambda: (Case("table", dtype=torch.float32).model, ROW),
    "text": lambda: (pellucid.load(tiny.encoder("bert")), "the tumour and the nodes and the scan"),
}


@pytest.mark.parametrize("kind", NUDGED)
def test_a_nudge_is_bounded_repeatable_and_gone_afterwards(kind):
    model, raw = NUDGED[kind]()
    still = moved(model, raw, radius=0.0)
    # A picture's and a row's numbers are standardised: over the data their deviation is 1.
    spread = float(still.std()) if kind == "text" else 1.0
    for radius in (0.05, 0.5):
        noise = moved(model, raw, radius) - still
        assert float(noise.abs().max()) <= radius * spread * 1.01
        assert float(noise.abs().max()) > 0.5 * radius * spread
    assert torch.equal(moved(model, raw, seed=1), moved(model, raw, seed=1))
    assert not torch.equal(moved(model, raw, seed=1), moved(model, raw, seed=2))
    # Twice the radius is the same direction twice as far.
    one, two = moved(model, raw, 0.1) - still, moved(model, raw, 0.2) - still
    torch.testing.assert_close(2 * one, two, atol=1e-5, rtol=1e-3)
    assert torch.equal(moved(model, raw, radius=0.0), still)


def test_a_nudged_text_moves_equal_tokens_alike_and_the_hook_goes_even_after_an_error():
    model, text = NUDGED["text"]()
    inputs = model.encode(text)
    table = model.module.get_input_embeddings()
    before = len(table._forward_hooks)
    still = model.embed(torch.tensor(inputs.row.ids))
    absent = torch.tensor([next(token for token in range(2000, 3000) if token not in inputs.row.ids)])
    plain = model.embed(absent)
    noises = []

    def fail():
        noises.append(model.embed(torch.tensor(inputs.row.ids)) - still)
        assert torch.equal(model.embed(absent), plain)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"), model.nudged(inputs, 0.3, 0):
        fail()
    (noise,) = noises
    assert len(table._forward_hooks) == before
    assert torch.equal(model.embed(torch.tensor(inputs.row.ids)), still)
    ids = inputs.row.ids
    twice = [token for token in set(ids) if ids.count(token) > 1]
    assert twice
    for token in twice:
        places = [place for place, each in enumerate(ids) if each == token]
        torch.testing.assert_close(noise[places[0]], noise[places[1]])
    assert not torch.allclose(noise[ids.index(twice[0])], noise[0])


@pytest.mark.parametrize("kind", NUDGED)
def test_a_nudge_reaches_both_the_game_and_the_gradients(kind):
    model, raw = NUDGED[kind]()
    question = ask(model, raw, target=Logit(model.labels[1]))
    first = question.game.full[0]
    with model.nudged(question.inputs, 0.5, 0) as near:
        changed = question.of(near)
        embedded = model.embedded(near, question.target, 0)
        with torch.no_grad():
            by_gradients = float(embedded(embedded.embeddings[None])[0, 0])
        assert changed.game.full[0] == pytest.approx(by_gradients, abs=1e-4)
        assert abs(changed.game.full[0] - first) > 1e-4
    assert question.of(question.inputs).game.full[0] == pytest.approx(first, abs=1e-6)
