"""Every family of models gives what a plain forward pass of the whole text gives, one row at a time."""

import numpy as np
import pytest
import torch
import transformers as hf

import pellucid
import tiny
from pellucid import Answer, Choice, Contrast, Generated, Logit, Margin, Options, Token, Tokens
from pellucid.models import Row

TEXT = "The tumour is large."
OPTIONS = ("high risk", "high", "low risk")
FLOAT32 = 2e-5


def brute_logits(model, ids, answer):
    """Logits at the places that predict ``answer``, from one plain pass over everything."""
    with torch.no_grad():
        logits = model.module(torch.tensor([[*ids, *answer]])).logits[0]
    return logits[len(ids) - 1 : len(ids) + len(answer) - 1].double()


def brute_log_prob(model, ids, text):
    answer = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    logits = brute_logits(model, ids, answer)
    return logits.log_softmax(-1)[range(len(answer)), answer].numpy()


def brute_scores(model, target, ids, first):
    """A target of a decoder from its definition, in float64."""
    if isinstance(target, Tokens):
        return brute_log_prob(model, ids, target.answer)
    if isinstance(target, Generated):
        logits = brute_logits(model, ids, target.token_ids)
        return logits.log_softmax(-1)[range(len(target.token_ids)), target.token_ids].numpy()
    if isinstance(target, Logit | Margin | Token):
        token = first
        logits = brute_logits(model, ids, [token])[0]
        others = torch.cat([logits[:token], logits[token + 1 :]]).logsumexp(0)
        log_prob = logits.log_softmax(0)[token]
        values = {Logit: logits[token], Margin: logits[token] - others, Token: log_prob}
        return np.array([float(values[type(target)])])
    sums = np.array([brute_log_prob(model, ids, text).sum() for text in target.alternatives])
    if isinstance(target, Contrast):
        return sums[:1] - sums[1:]
    if isinstance(target, Options | Choice):
        normalised = sums - np.logaddexp.reduce(sums)
        return normalised if isinstance(target, Options) else normalised[[target.options.index(target.chosen)]]
    return sums


TARGETS = [
    Logit("e"), Margin("e"), Token("e"), Logit(), Margin(), Token(), Tokens("high risk"), Answer("high risk"),
    Choice(OPTIONS), Choice(OPTIONS, "low risk"), Options(OPTIONS), Contrast("high risk", "no"), Generated(4), None,
]  # fmt: skip


@pytest.fixture(scope="module", params=tiny.DECODERS)
def decoder(request):
    return pellucid.load(tiny.decoder(request.param, tiny.CHATML))


@pytest.fixture(scope="module", params=tiny.ENCODERS)
def encoder(request):
    return pellucid.load(tiny.encoder(request.param))


def rendered(model, text):
    """What the chat template is meant to give, written by hand."""
    whole = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return model.tokenizer(whole, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target)[:24])
def test_every_target_of_a_decoder_equals_brute_force(decoder, target):
    inputs = decoder.encode(TEXT)
    assert list(inputs.row.ids) == rendered(decoder, TEXT)
    bound = decoder.bind(target, inputs)
    scores = bound.target.score(decoder.alternatives([inputs.row], bound))[0].numpy()
    first = int(brute_logits(decoder, inputs.row.ids, [0])[0].argmax())
    if getattr(target, "label", None):
        (first,) = decoder.tokenizer(target.label, add_special_tokens=False)["input_ids"]
    np.testing.assert_allclose(scores, brute_scores(decoder, bound.target, inputs.row.ids, first), atol=FLOAT32)
    assert len(bound.output_names) == len(scores)


def test_occlusion_of_a_decoder_is_the_difference_of_two_plain_passes(decoder):
    explanation = pellucid.explain(decoder, TEXT, method="occlusion", target=Tokens("high risk"), features="word")
    full = brute_log_prob(decoder, rendered(decoder, TEXT), "high risk")
    without = ["tumour is large.", "The is large.", "The tumour large.", "The tumour is .", "The tumour is large"]
    expected = [full - brute_log_prob(decoder, rendered(decoder, text), "high risk") for text in without]
    np.testing.assert_allclose(explanation.values, np.transpose(expected), atol=FLOAT32)
    np.testing.assert_allclose(explanation.full_values, full, atol=FLOAT32)
    np.testing.assert_allclose(
        explanation.base_values, brute_log_prob(decoder, rendered(decoder, ""), "high risk"), atol=FLOAT32
    )
    assert explanation.checks["self_test"].passed


def brute_gradient(model, ids, score):
    """Embeddings [seq, dim] and the gradient of ``score(logits)`` in them, by a plain pass from ``inputs_embeds``."""
    embeddings = model.module.get_input_embeddings()(torch.tensor([ids])).detach().requires_grad_()
    logits = model.module(inputs_embeds=embeddings).logits[0]
    (gradient,) = torch.autograd.grad(score(logits), embeddings)
    return embeddings[0].detach().double().numpy(), gradient[0].double().numpy()


def test_input_x_gradient_of_a_decoder_equals_a_plain_backward_pass(decoder):
    explanation = pellucid.explain(decoder, TEXT, method="input_x_gradient", target=Answer("h"), features="token")
    prompt, answer = rendered(decoder, TEXT), decoder.tokenizer("h", add_special_tokens=False)["input_ids"]
    embeddings, gradient = brute_gradient(
        decoder, prompt, lambda logits: logits[len(prompt) - 1].log_softmax(-1)[answer[0]]
    )
    expected = (embeddings * gradient).sum(-1)
    places = [feature.index for feature in explanation.features]
    np.testing.assert_allclose(explanation.values[0], expected[places], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "target", [Logit("high"), Margin("high"), Token("low"), Margin(), Choice(("low", "high")), None]
)
def test_every_target_of_an_encoder_equals_brute_force(encoder, target):
    inputs = encoder.encode(TEXT)
    bound = encoder.bind(target, inputs)
    with torch.no_grad():
        logits = encoder.module(torch.tensor([inputs.row.ids])).logits[0].double()
    index = {"low": 0, "middle": 1, "high": 2}
    target = bound.target
    if isinstance(target, Choice):
        pair = logits[[0, 2]].log_softmax(0).log_softmax(0)
        assert target.chosen == ("low", "high")[int(pair.argmax())]
        expected = float(pair.max())
    else:
        place = index[target.label]
        others = torch.cat([logits[:place], logits[place + 1 :]]).logsumexp(0)
        kinds = {Logit: logits[place], Margin: logits[place] - others, Token: logits.log_softmax(0)[place]}
        expected = float(kinds[type(target)])
    score = float(target.score(encoder.alternatives([inputs.row], bound))[0, 0])
    assert score == pytest.approx(expected, abs=FLOAT32)


def test_occlusion_and_gradient_of_an_encoder_equal_brute_force(encoder):
    occlusion = pellucid.explain(encoder, TEXT, method="occlusion", target=Logit("high"), features="word")
    ids = encoder.tokenizer(TEXT)["input_ids"]

    def logit(row):
        with torch.no_grad():
            return float(encoder.module(torch.tensor([row])).logits[0, 2])

    mask = encoder.tokenizer.mask_token_id
    words = [[1], [2], [3], [4], [5]] if len(ids) == 7 else [[1], [2, 3], [4], [5], [6]]
    expected = [
        logit(ids) - logit([mask if place in word else token for place, token in enumerate(ids)]) for word in words
    ]
    np.testing.assert_allclose(occlusion.values[0], expected, atol=FLOAT32)

    gradient = pellucid.explain(encoder, TEXT, method="input_x_gradient", target=Logit("high"), features="word")
    embeddings, slope = brute_gradient(encoder, ids, lambda logits: logits[2])
    products = (embeddings * slope).sum(-1)
    np.testing.assert_allclose(gradient.values[0], [products[word].sum() for word in words], atol=1e-4, rtol=1e-4)


def test_batch_and_padding_do_not_change_a_result(decoder, encoder):
    for model, target in ((decoder, Answer("high risk")), (encoder, Margin("high"))):
        rows = [model.encode(text).row for text in ("No.", TEXT, "The patient is 52 years old and has five nodes.")]
        bound = model.bind(target, model.encode(TEXT))
        together = target.score(model.alternatives(rows, bound)).numpy()
        alone = np.concatenate([target.score(model.alternatives([row], bound)).numpy() for row in rows])
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_hidden_tokens_keep_the_positions_of_the_others(encoder):
    """With one token hidden, the rest scores as it does with explicit positions: RoBERTa must not count past it."""
    inputs = encoder.encode(TEXT)
    ids, hidden = list(inputs.row.ids), 2
    visible = [place != hidden for place in range(len(ids))]
    bound = encoder.bind(Logit("high"), inputs)
    found = []
    for stand_in in (encoder.tokenizer.pad_token_id, encoder.tokenizer.mask_token_id):
        row = Row((*ids[:hidden], stand_in, *ids[hidden + 1 :]), tuple(visible))
        found.append(float(bound.target.score(encoder.alternatives([row], bound))[0, 0]))
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_no_context_row_is_lost_or_invented():
    contexts = {family: pellucid.load(tiny.encoder(family)).context for family in tiny.ENCODERS}
    assert contexts == {"bert": 130, "roberta": 129, "distilbert": 130, "deberta": 130}
    assert {family: pellucid.load(tiny.decoder(family)).context for family in tiny.DECODERS} == dict.fromkeys(
        tiny.DECODERS, 256
    )


@pytest.mark.parametrize("family", ["gpt2", "roberta"])
def test_the_longest_text_still_runs_and_one_token_more_is_refused(family):
    model = pellucid.load(tiny.decoder(family) if family == "gpt2" else tiny.encoder(family))
    room = model.context - (0 if family == "gpt2" else 2)
    target = Token("e") if family == "gpt2" else Margin("high")
    longest = model.encode(" ".join(["a"] * room) if family == "roberta" else "€" * (room // 3) + "b" * (room % 3))
    assert len(longest.row.ids) == model.context
    bound = model.bind(target, longest)
    assert torch.isfinite(target.score(model.alternatives([longest.row], bound))).all()
    with pytest.raises(pellucid.errors.ContextLengthError, match="it is 1 too long"):
        model.encode(longest.prompt.text + (" a" if family == "roberta" else "Z"))


def test_a_recurrent_model_is_never_given_a_reused_prefix():
    """Its state is no list of keys and values: every row is run whole, and the numbers are those of a plain run."""
    tokenizer = tiny.bpe(None)
    config = hf.MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, state_size=4)
    model = pellucid.load((tiny.randomised(lambda: hf.MambaForCausalLM(config), 0, 0.3), tokenizer))
    assert not model.reuses_prefix
    found = pellucid.explain(model, TEXT, method="occlusion", target=Answer("high risk"), features="word")
    ids = list(model.encode(TEXT).row.ids)
    answer = list(model.answer_ids("high risk"))
    with torch.no_grad():
        logits = model.module(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1].double()
    truth = logits.log_softmax(-1)[range(len(answer)), answer].sum()
    assert float(found.full_values[0]) == pytest.approx(float(truth), abs=1e-4)
    assert np.isfinite(found.values).all()
    gradient = pellucid.explain(model, TEXT, method="input_x_gradient", target=Answer("high risk"), features="word")
    assert float(gradient.full_values[0]) == pytest.approx(float(truth), abs=1e-4)
