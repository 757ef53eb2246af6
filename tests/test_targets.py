"""Targets against float64 log-softmax, and what they refuse."""

import numpy as np
import pytest
import torch

import pellucid
import tiny
from pellucid import Answer, Choice, Contrast, Generated, Logit, Margin, Options, Token, Tokens
from pellucid.errors import InputError, NumericalError, UnknownNameError
from pellucid.models.base import alternative
from pellucid.targets import Alternative


@pytest.fixture(scope="module")
def model():
    return pellucid.load(tiny.decoder("llama"))


@pytest.fixture(scope="module")
def classifier():
    return pellucid.load(tiny.encoder("bert"))


def scored(logits, token):
    """The alternative ``token`` under float64 ``logits`` [vocab]."""
    return alternative(torch.as_tensor(logits)[None, None], torch.tensor([token]))


@pytest.mark.parametrize("spread", [1, 30, 300])
def test_margin_and_log_probability_equal_float64_log_softmax(spread):
    logits = torch.randn(1, 1, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * spread
    for token in range(50):
        one = alternative(logits, torch.tensor([token]))
        expected = logits[0, 0].log_softmax(0)[token]
        torch.testing.assert_close(Token("x").score([one])[0, 0], expected, rtol=1e-12, atol=1e-12)
        others = torch.cat([logits[0, 0, :token], logits[0, 0, token + 1 :]]).logsumexp(0)
        torch.testing.assert_close(Margin("x").score([one])[0, 0], logits[0, 0, token] - others, rtol=1e-12, atol=1e-12)
        assert Logit("x").score([one])[0, 0] == logits[0, 0, token]


def test_saturated_logits_lose_nothing_to_cancellation():
    """p = 1 - 1e-30: in float32, 1 - p is 0 and log p would be 0; the margin still knows."""
    gap = float(np.log(1e30))
    for dtype in (torch.float32, torch.float64):
        sure = scored(torch.tensor([gap, 0.0], dtype=dtype), 0)
        never = scored(torch.tensor([gap, 0.0], dtype=dtype), 1)
        assert float(Margin("x").score([sure])) == pytest.approx(gap, rel=1e-6)
        assert float(Margin("x").score([never])) == pytest.approx(-gap, rel=1e-6)
        assert float(Token("x").score([sure])) == pytest.approx(-1e-30, rel=1e-4)
        assert float(Token("x").score([never])) == pytest.approx(-gap, rel=1e-6)


def test_half_precision_is_scored_in_single_and_double_stays_double():
    assert scored(torch.randn(9).bfloat16(), 0).rest.dtype == torch.float32
    assert scored(torch.randn(9).double(), 0).rest.dtype == torch.float64


def answers(*sums):
    """Alternatives whose tokens' log-probabilities are as given."""
    made = []
    for tokens in sums:
        p = torch.tensor([tokens], dtype=torch.float64).exp()
        made.append(Alternative(torch.log(p / (1 - p)), torch.zeros_like(p)))
    return made


def test_formulas_of_targets_over_several_answers():
    given = answers([-1.0, -2.0], [-0.5], [-3.0, -0.1, -0.2])
    sums = np.array([-3.0, -0.5, -3.3])
    normalised = sums - np.log(np.exp(sums).sum())
    options = Options(("a", "b", "c"))
    np.testing.assert_allclose(options.score(given)[0].numpy(), normalised, atol=1e-12)
    assert float(options.score(given).exp().sum()) == pytest.approx(1, abs=1e-12)
    for index, name in enumerate("abc"):
        choice = Choice(("a", "b", "c"), name)
        assert float(choice.score(given)) == pytest.approx(normalised[index], abs=1e-12)
    assert float(Contrast("a", "b").score(given[:2])) == pytest.approx(-2.5, abs=1e-12)
    assert float(Answer("a").score(given[:1])) == pytest.approx(-3, abs=1e-12)
    np.testing.assert_allclose(Tokens("a").score(given[:1])[0].numpy(), [-1, -2], atol=1e-12)


def test_names_of_targets():
    assert Contrast("a", "b").output_names([["a"], ["b"]]) == ["a rather than b"]
    assert Options(("a", "b")).output_names([]) == ["a", "b"]
    assert Tokens("high risk").output_names([["high", " risk"]]) == ["high", " risk"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_refused(bad):
    with pytest.raises(NumericalError, match="1 NaN or infinite logits of 3"):
        scored(torch.tensor([0.0, bad, 1.0]), 0)


def test_a_model_that_returns_nan_is_refused_through_explain():
    module, tokenizer = tiny.decoder("llama", seed=5)
    with torch.no_grad():
        module.lm_head.weight[3] = torch.nan
    broken = pellucid.load((module, tokenizer))
    for method in ("occlusion", "integrated_gradients"):
        with pytest.raises(NumericalError, match="NaN"):
            pellucid.explain(broken, "Yes no", method=method, target=Answer("high"))
    with pytest.raises(NumericalError, match="NaN"):
        pellucid.explain(broken, "Yes no", method="occlusion")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Options(("a", "a")), "differ"),
        (lambda: Options(("a",)), "at least 2"),
        (lambda: Choice(("a", "b"), "c"), "'c' is not among"),
        (lambda: Generated(0), "greater than or equal to 1"),
        (lambda: Generated(temperature=-1.0), "greater than or equal to 0"),
    ],
)
def test_a_bad_target_is_an_input_error(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_several_tokens_for_a_single_token_target_name_the_remedy(model):
    for target in (Token("high risk"), Logit("high risk"), Margin("high risk")):
        with pytest.raises(InputError, match=r"use Answer .* or Tokens"):
            pellucid.explain(model, "Yes no", method="occlusion", target=target)
    with pytest.raises(InputError, match="no tokens"):
        pellucid.explain(model, "Yes no", method="occlusion", target=Answer(""))


def test_a_classifier_knows_its_labels_only(classifier):
    with pytest.raises(UnknownNameError, match="did you mean 'high'"):
        pellucid.explain(classifier, "Yes no", method="occlusion", target=Margin("hihg"))
    with pytest.raises(InputError, match="generates no text"):
        pellucid.explain(classifier, "Yes no", method="occlusion", target=Generated())


def test_generated_is_greedy_or_seeded_and_leaves_the_random_state(model):
    inputs = model.encode("The patient is 52")
    state = torch.random.get_rng_state()
    greedy = model.bind(Generated(5), inputs).target.token_ids
    ids = list(inputs.row.ids)
    for token in greedy:
        with torch.no_grad():
            assert int(model.module(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)
    hot = [model.bind(Generated(5, temperature=5.0, seed=seed), inputs).target.token_ids for seed in (1, 1, 2, 3)]
    assert hot[0] == hot[1]
    assert len(set(hot)) > 1
    assert torch.equal(state, torch.random.get_rng_state())
    bound = model.bind(Generated(5), inputs)
    assert model.bind(bound.target, inputs) == bound


def test_sampling_draws_from_the_softmax_at_the_temperature(model):
    """The first token is a multinomial draw from softmax(logits / T) under the seed, nothing cut off."""
    inputs = model.encode("The patient is 52")
    with torch.no_grad():
        p = (model.module(torch.tensor([inputs.row.ids])).logits[:, -1] / 4).softmax(-1)
    for seed in range(6):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = int(torch.multinomial(p, 1))
        if expected != model.tokenizer.eos_token_id:
            assert model.generate(inputs, Generated(1, temperature=4.0, seed=seed)) == (expected,)


def test_an_answer_past_the_context_is_refused_before_it_is_generated():
    short = pellucid.load(tiny.decoder("gpt2"))
    text = "€" * 84
    assert len(short.encode(text).row.ids) == 252
    assert len(short.bind(Generated(5), short.encode(text)).alternatives[0]) <= 5
    for target in (Generated(6), Answer("€€")):
        with pytest.raises(pellucid.errors.ContextLengthError, match="it is 1 too long"):
            short.bind(target, short.encode(text))
