"""Gradient methods against closed forms on linear models, and integrals that say whether they converged."""

import numpy as np
import pytest
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

import pellucid
import tiny
from pellucid import Answer, Logit, Tokens
from pellucid.games.path import Path
from pellucid.methods.adaptive import adaptive_integral
from pellucid.methods.integrated_gradients import quadrature

TEXT = "The tumour is large and grows"
GRADIENT = ("gradient", "input_x_gradient", "smoothgrad", "integrated_gradients", "expected_gradients")


class LinearConfig(PretrainedConfig):
    model_type = "linear-for-tests"


class LinearForSequenceClassification(PreTrainedModel):
    """Logits linear in the embeddings: the sum over visible positions of weight . embedding, or its square."""

    config_class = LinearConfig
    power = 1

    def __init__(self, config):
        super().__init__(config)
        self.table = torch.nn.Embedding(config.vocab_size, 6)
        self.weight = torch.nn.Parameter(torch.zeros(64, 6, config.num_labels))
        self.post_init()

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        x = self.table(input_ids) if inputs_embeds is None else inputs_embeds
        weight = self.weight[: x.shape[1]]
        parts = torch.einsum("bsd,sdc->bsc", x, weight) * attention_mask[..., None]
        return SequenceClassifierOutput(logits=parts.sum(1) ** self.power)


class SquareForSequenceClassification(LinearForSequenceClassification):
    power = 2


def built(kind):
    tokenizer = tiny.wordpiece()
    config = LinearConfig(vocab_size=len(tokenizer), num_labels=2, max_position_embeddings=64)
    module = tiny.randomised(lambda: kind(config), std=0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        torch.nn.init.normal_(module.weight)
    return pellucid.load((module, tokenizer), dtype="float64")


@pytest.fixture(scope="module")
def linear():
    return built(LinearForSequenceClassification)


@pytest.fixture(scope="module")
def square():
    return built(SquareForSequenceClassification)


def parts(model, target=1):
    """Embeddings [seq, dim] and weights [seq, dim] of the text's own tokens, one token a word."""
    ids = model.tokenizer(TEXT)["input_ids"]
    x = model.module.table.weight[ids].detach().numpy()
    return x[1:-1], model.module.weight[: len(ids), :, target].detach().numpy()[1:-1]


def explained(model, method, **options):
    options = {"target": Logit("LABEL_1"), "features": "token"} | options
    return pellucid.explain(model, TEXT, method=method, **options)


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients", "path_integral"])
@pytest.mark.parametrize("baseline", ["zero", "mask", "mean", "pad", "unk"])
def test_a_linear_model_is_solved_exactly(linear, method, baseline):
    x, weight = parts(linear)
    table, tokenizer = linear.module.table.weight.detach().numpy(), linear.tokenizer
    mask, unknown = table[tokenizer.mask_token_id], table[tokenizer.unk_token_id]
    ends = {"zero": np.zeros(6), "mean": table.mean(0), "mask": mask, "pad": table[0], "unk": unknown}
    found = explained(linear, method, baseline=baseline)
    np.testing.assert_allclose(found.values[0], ((x - ends[baseline]) * weight).sum(1), atol=1e-6)
    np.testing.assert_allclose(found.values.sum(1), found.full_values - found.base_values, atol=1e-5)
    if method != "input_x_gradient":
        assert found.checks["completeness"].passed


def test_gradient_and_smoothgrad_of_a_linear_model(linear):
    x, weight = parts(linear)
    np.testing.assert_allclose(explained(linear, "gradient").values[0], np.linalg.norm(weight, axis=1), rtol=1e-6)
    smooth = explained(linear, "smoothgrad", samples=5, noise=3.0)
    np.testing.assert_allclose(smooth.values[0], (x * weight).sum(1), atol=1e-6)
    np.testing.assert_allclose(smooth.standard_error, 0, atol=1e-6)


def test_expected_gradients_of_a_linear_model_are_within_their_errors(linear):
    x, weight = parts(linear)
    expected = ((x - linear.module.table.weight.detach().numpy().mean(0)) * weight).sum(1)
    found = explained(linear, "expected_gradients", samples=400)
    errors = np.abs(found.values[0] - expected) / found.standard_error[0]
    assert errors.max() < 4
    assert errors.max() > 0.01
    spread = np.sqrt(
        np.einsum("sd,de,se->s", weight, np.cov(linear.module.table.weight.detach().numpy().T), weight) / 400
    )
    np.testing.assert_allclose(found.standard_error[0], spread, rtol=0.3)


def test_a_square_has_its_known_integral(square):
    """f = (sum_i c_i a)^2 along the line from zero: phi_i = c_i (w . x) with the template's own tokens held fixed."""
    x, weight = parts(square)
    ids = square.tokenizer(TEXT)["input_ids"]
    every = (square.module.table.weight[ids].detach() * square.module.weight[: len(ids), :, 1].detach()).sum(1).numpy()
    fixed, moved = every[0] + every[-1], (x * weight).sum(1)
    expected = moved * (2 * fixed + moved.sum())
    for settings in ({}, {"steps": 1, "quadrature": "midpoint"}, {"steps": 9, "quadrature": "trapezoid"}, {"steps": 3}):
        found = explained(square, "integrated_gradients", baseline="zero", **settings)
        np.testing.assert_allclose(found.values[0], expected, rtol=1e-5)
    for quadrature_name, share in (("left", 0.0), ("right", 1.0)):
        found = explained(square, "integrated_gradients", baseline="zero", steps=1, quadrature=quadrature_name)
        np.testing.assert_allclose(found.values[0], 2 * moved * (fixed + share * moved.sum()), rtol=1e-5)
    found = explained(square, "path_integral", baseline="zero", max_pieces=4)
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-5)
    product = explained(square, "input_x_gradient")
    np.testing.assert_allclose(product.values[0], 2 * moved * (fixed + moved.sum()), rtol=1e-5)


@pytest.mark.parametrize("name", ["gauss-legendre", "midpoint", "trapezoid", "left", "right"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_quadratures_are_exact_to_their_degree(name, steps):
    points, weights = quadrature(name, steps)
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    assert points.min() >= 0
    assert points.max() <= 1
    highest = {"gauss-legendre": 2 * steps - 1, "midpoint": 1, "trapezoid": 1, "left": 0, "right": 0}[name]
    for degree in range(highest + 1):
        assert (weights * points**degree).sum() == pytest.approx(1 / (degree + 1), abs=1e-13)


def steep(middle=0.37, width=1e-3):
    """A sigmoid step along the path: almost all of the integral lies on a thousandth of it."""

    def value(share):
        return torch.sigmoid(torch.tensor([(share - middle) / width], dtype=torch.float64))

    def scores(start, stop):
        points, weights = quadrature("gauss-legendre", 4)
        at = torch.tensor([start + (stop - start) * float(point) for point in points], dtype=torch.float64)
        s = torch.sigmoid((at - middle) / width)
        return ((stop - start) * torch.from_numpy(weights) * s * (1 - s) / width).sum()[None, None]

    return value, scores


def test_adaptive_pieces_find_a_step_that_uniform_ones_miss():
    value, scores = steep()
    found = adaptive_integral(value, scores, tolerance=0.01, most=200)
    assert found.check.passed
    assert float(found.scores) == pytest.approx(1, abs=0.01)
    assert found.pieces < 60
    uniform = sum(float(scores(place / 20, (place + 1) / 20)) for place in range(20))
    assert abs(uniform - 1) > 0.1
    starved = adaptive_integral(value, scores, tolerance=0.01, most=6)
    assert starved.check.passed is False
    assert starved.pieces <= 6
    assert "add up to" in starved.check.detail


def test_gaps_of_opposite_sign_do_not_pass_for_convergence():
    found = adaptive_integral(
        lambda share: torch.tensor([share]),
        lambda start, stop: torch.tensor([[(stop - start) + (1.0 if stop <= 0.5 else -1.0)]]),
        tolerance=0.05,
        most=4,
    )
    assert float(found.scores.sum()) == pytest.approx(1)
    assert found.check.passed is False


@pytest.fixture(scope="module")
def steep_model():
    return pellucid.load(tiny.decoder("llama", std=0.7, seed=1))


def test_an_integral_on_a_steep_model_converges_or_says_that_it_did_not(steep_model):
    options = {"target": Answer("high"), "features": "word", "baseline": "pad"}
    uniform = explained(steep_model, "integrated_gradients", steps=20, quadrature="midpoint", **options)
    assert uniform.checks["completeness"].value > 0.1
    assert uniform.reliable is False
    adaptive = explained(steep_model, "integrated_gradients", max_steps=1024, tolerance=0.05, **options)
    assert adaptive.checks["convergence"].passed
    assert adaptive.checks["completeness"].value <= 0.05
    few = explained(steep_model, "integrated_gradients", max_steps=16, tolerance=0.02, **options)
    assert few.checks["convergence"].passed is False
    assert few.reliable is False
    assert few.settings["steps_used"] == 16


@pytest.mark.parametrize("method", GRADIENT)
def test_all_targets_at_once_equal_each_by_itself(method):
    module, tokenizer = tiny.decoder("llama", tiny.CHATML)
    model = pellucid.load((module, tokenizer), dtype="float64")
    few = {"samples": 6}
    settings = {"integrated_gradients": {"steps": 6}, "smoothgrad": few, "expected_gradients": few}
    inputs = model.encode(TEXT)
    bound = model.bind(Tokens("high risk"), inputs)
    every = explained(model, method, target=Tokens("high risk"), **settings.get(method, {}))
    whole = explained(model, method, target=Answer("high risk"), **settings.get(method, {}))
    assert len(every.values) == len(bound.alternatives[0]) > 1
    if method != "gradient":
        np.testing.assert_allclose(every.values.sum(0), whole.values[0], atol=1e-5)
    first = model.tokenizer.decode([bound.alternatives[0][0]])
    alone = explained(model, method, target=Answer(first), **settings.get(method, {}))
    np.testing.assert_allclose(every.values[0], alone.values[0], atol=1e-5)


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_a_cached_prefix_gives_the_same_gradients(family):
    """Gradients from position ``offset`` on with what lies before it cached, against none cached."""
    model = pellucid.load(tiny.decoder(family, tiny.CHATML))
    inputs = model.encode(TEXT)
    bound = model.bind(Tokens("high risk"), inputs)
    whole = model.embedded(inputs, bound, 0)
    found = []
    for offset in (0, 5, 11):
        embedded = model.embedded(inputs, bound, offset)
        torch.testing.assert_close(embedded.embeddings, whole.embeddings[offset:])
        points = torch.stack([embedded.embeddings, embedded.embeddings]).requires_grad_()
        scores = embedded(points)
        (gradient,) = torch.autograd.grad(scores[:, 0].sum() + 2 * scores[:, 1].sum(), points)
        torch.testing.assert_close(gradient[0], gradient[1])
        found.append(gradient[0][11 - offset :])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=2e-4, rtol=1e-3)


def test_only_the_features_tokens_move_along_the_path():
    model = pellucid.load(tiny.encoder("bert"))
    from pellucid.api import Asked

    question = Asked.of(model, TEXT, features="word").question
    path = Path(question, "mask")
    assert torch.equal(path.baseline[-1], path.input[-1])
    torch.testing.assert_close(path.at(torch.tensor([1.0]))[0], path.input)
    torch.testing.assert_close(path.at(torch.tensor([0.0]))[0], path.baseline)
    sums = path.to_features(torch.ones(1, len(path.input)))
    assert sums.sum() == (path.owner >= 0).sum()


def test_a_baseline_that_the_tokenizer_lacks_is_refused():
    model = pellucid.load(tiny.decoder("llama"))
    with pytest.raises(pellucid.errors.InputError, match="no mask token; use the baseline 'zero' or 'mean'"):
        explained(model, "integrated_gradients", target=Answer("yes"), baseline="mask")
    with pytest.raises(pellucid.errors.InputError, match="baseline"):
        explained(model, "integrated_gradients", target=Answer("yes"), baseline="noise")
