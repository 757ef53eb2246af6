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
        (lambda: Generated(beams=0), "greater than or equal to 1"),
        (lambda: Generated(temperature=1.0, beams=2), "not both"),
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


def test_an_index_is_a_class_and_a_token_id(model, classifier):
    by_index = pellucid.explain(classifier, "Yes no", method="occlusion", target=Logit(2))
    by_name = pellucid.explain(classifier, "Yes no", method="occlusion", target=Logit("high"))
    assert by_index.target == by_name.target == Logit("high")
    np.testing.assert_array_equal(by_index.values, by_name.values)
    inputs = model.encode("The patient is 52")
    for token in (5, 40, 329):
        bound = model.bind(Logit(token), inputs)
        assert bound.alternatives == ((token,),)
        assert bound.output_names == (model.piece(token),)
        assert model.bind(bound.target, inputs) == bound
        with torch.no_grad():
            expected = model.module(torch.tensor([inputs.row.ids])).logits[0, -1, token]
        (found,) = model.alternatives([inputs.row], bound)
        assert float(found.logit) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_class_that_is_not_there_is_refused(classifier, index):
    with pytest.raises(InputError, match=f"has no class {index}: its 3 classes are 0 to 2"):
        classifier.bind(Margin(index), classifier.encode("Yes no"))


@pytest.mark.parametrize("index", [-1, 330])
def test_a_token_that_is_not_there_is_refused(model, index):
    with pytest.raises(InputError, match=f"has no token {index}: its 330 tokens are 0 to 329"):
        model.bind(Token(index), model.encode("Yes no"))


def test_classes_of_one_name_are_told_apart_by_their_index():
    network = torch.nn.Linear(2, 3)
    columns = [pellucid.Column(name="a"), pellucid.Column(name="b")]
    twins = pellucid.Tabular(network, columns, ["same", "same", "other"], name="twins")
    inputs = twins.encode([1.0, 2.0])
    logits = network(torch.tensor([1.0, 2.0])).tolist()
    for index in range(3):
        bound = twins.bind(Logit(index), inputs)
        assert bound.output_names == (twins.labels[index],)
        assert twins.bind(bound.target, inputs) == bound
        assert float(twins.alternatives([inputs.row], bound)[0].logit) == pytest.approx(logits[index], abs=1e-6)
    with pytest.raises(InputError, match=r"several classes 'same': give one of the indices \[0, 1\]"):
        twins.bind(Logit("same"), inputs)


def test_beams_find_the_likeliest_of_all_pairs_of_tokens(model):
    """With a beam for every token the search is over all pairs, whose log-probabilities are known."""
    inputs, size = model.encode("The patient is 52"), 330
    ids = torch.tensor([inputs.row.ids])
    with torch.no_grad():
        first = model.module(ids).logits[0, -1].log_softmax(-1)
        both = torch.cat([ids.expand(size, -1), torch.arange(size)[:, None]], 1)
        second = model.module(both).logits[:, -1].log_softmax(-1)
    pairs = first[:, None] + second
    pairs[model.tokenizer.eos_token_id] = -torch.inf
    best = divmod(int(pairs.argmax()), size)
    greedy = model.generate(inputs, Generated(2))
    assert best != greedy
    before = model.meter.snapshot()
    assert model.generate(inputs, Generated(2, beams=size)) == best
    spent = model.meter - before
    assert (spent.forwards, spent.rows) == (2, 2 * size)
    bound = model.bind(Generated(2, beams=size), inputs)
    assert bound.alternatives == (best,)
    assert model.bind(bound.target, inputs) == bound
    assert not model.module._forward_pre_hooks
