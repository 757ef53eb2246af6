"""The attention family end to end: transformers' own attentions, finite differences, and nothing left behind."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers as hf
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.modeling_outputs import SequenceClassifierOutput

import pellucid
import tiny
from oracles import attention as oracle
from pellucid import Answer, Choice, Logit, Tokens
from pellucid.api import Asked
from pellucid.attention import attending, single, zeroing
from pellucid.errors import InputError, ModelError, NumericalError
from pellucid.methods import all_methods
from pellucid.methods.attention import Watched, largest

TEXT = "The tumour is large and grows"
METHODS = [name for name, kind in all_methods().items() if kind.facts.family == "attention"]
GRADIENT = [name for name in METHODS if "gradient" in all_methods()[name].facts.needs]
FORWARD = [name for name in METHODS if name not in GRADIENT]
ENCODERS = ("bert", "roberta", "distilbert")
DECODERS = ("gpt2", "llama", "gemma3")
FAMILIES = (*ENCODERS, *DECODERS)
TOKEN = 40


def loaded(family, dtype="float64", implementation=None, template=None):
    module, tokenizer = tiny.encoder(family) if family in ENCODERS else tiny.decoder(family, template)
    if implementation:
        module.set_attn_implementation(implementation)
    return pellucid.load((module, tokenizer), dtype=dtype)


def target_of(family):
    return Logit("high") if family in ENCODERS else Logit(TOKEN)


def explained(model, family, method, **options):
    options = {"target": target_of(family), "features": "token", "checks": "none"} | options
    return pellucid.explain(model, options.pop("text", TEXT), method=method, **options)


class Plain:
    """What transformers itself tells of a call: attentions, hidden states, and the gradients to both, as arrays."""

    def __init__(self, family):
        module, tokenizer = tiny.encoder(family) if family in ENCODERS else tiny.decoder(family)
        module = module.double()
        module.set_attn_implementation("eager")
        ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
        out = module(ids, output_attentions=True, output_hidden_states=True)
        logits = out.logits[0, 2] if family in ENCODERS else out.logits[0, -1, TOKEN]
        self.read = 0 if family in ENCODERS else ids.shape[1] - 1
        states = out.hidden_states[:-1]
        found = torch.autograd.grad(logits, [*out.attentions, *states], materialize_grads=True)
        layers = len(out.attentions)
        self.weights = [each[0].detach().numpy() for each in out.attentions]
        self.slopes = [each[0].numpy() for each in found[:layers]]
        self.states = [each[0].detach().numpy() for each in states]
        self.state_slopes = [each[0].numpy() for each in found[layers:]]
        self.score = float(logits.detach())

    def scores(self, method):
        """The oracle's score of each position."""
        a, g, h, s, r = self.weights, self.slopes, self.states, self.state_slopes, self.read
        return {
            "raw_attention": lambda: oracle.raw_attention(a, r),
            "rollout": lambda: oracle.rollout(a, r),
            "attention_flow": lambda: oracle.attention_flow(a, r),
            "attention_x_gradient": lambda: oracle.attention_x_gradient(a, g, r),
            "grad_sam": lambda: oracle.grad_sam(a, g),
            "gae": lambda: oracle.gae(a, g, r),
            "cat": lambda: oracle.cat(h, s),
            "attcat": lambda: oracle.attcat(a, h, s),
        }[method]()


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def plain(family):
    return Plain(family)


@pytest.mark.parametrize(
    "method",
    ["raw_attention", "rollout", "attention_flow", "attention_x_gradient", "grad_sam", "gae", "cat", "attcat"],
)
def test_the_formula_on_what_transformers_itself_says(family, plain, method):
    """Written out by an eager call, read at [CLS] or the last position; pellucid's own model runs SDPA."""
    model = loaded(family)
    found = explained(model, family, method, features="token+template")
    expected = plain.scores(method)
    np.testing.assert_allclose(found.values[0], expected, atol=1e-6 * max(1, np.abs(expected).max()))
    assert found.full_values[0] == pytest.approx(plain.score, rel=1e-6)
    assert found.base_values[0] == found.full_values[0]
    assert found.baseline == "none: attention is not held against one"
    assert found.cost.backwards == (1 if method in GRADIENT else 0)
    own = explained(model, family, method)
    inside = [feature.role == "input" for feature in found.features]
    np.testing.assert_array_equal(own.values, found.values[:, inside])


@pytest.mark.parametrize("method", METHODS)
def test_the_network_may_have_been_loaded_either_way(family, method):
    eager, fused = loaded(family, implementation="eager"), loaded(family, implementation="sdpa")
    first, second = explained(eager, family, method), explained(fused, family, method)
    np.testing.assert_allclose(first.values, second.values, rtol=1e-5, atol=1e-9)
    assert np.abs(first.values).max() > 1e-4
    assert len(set(first.values[0].tolist())) > 3


def perturbed(model, watched, layer, place, step):
    """The score with one attention weight moved by ``step``, heads and query and key as in ``place``."""
    seen = []

    def watch(call):
        _, weights = call.answered(call.eager)
        if len(seen) == layer:
            weights = weights.clone()
            weights[place] += step
        seen.append(call.name)
        values = call.value.repeat_interleave(call.query.shape[1] // call.value.shape[1], 1)
        return (weights @ values).transpose(1, 2).contiguous(), weights

    with torch.no_grad(), attending(model.module, watch):
        return float(watched.call()[0, 0])


def test_gradients_of_attention_weights_by_finite_differences(family):
    model = loaded(family)
    watched = Watched(Asked.of(model, TEXT, target=target_of(family)).question)
    reading = watched.reading(gradients=True)
    (slopes,) = watched.slopes(reading, [each.weights for each in reading.layers])
    last = slopes[0].shape[-1] - 1
    for layer, place in ((0, (0, 1, last, 1)), (0, (0, 0, 2, 0)), (1, (0, 1, last, last)), (1, (0, 0, 0, 0))):
        up, down = (perturbed(model, watched, layer, place, step) for step in (1e-3, -1e-3))
        # Llama and Gemma compute softmax and normalisers in single precision whatever they are loaded in.
        assert (up - down) / 2e-3 == pytest.approx(float(slopes[layer][place]), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("label", ["low", "high"])
def test_transatt_by_hand(label):
    """Relevance of BERT's attention weights from its own matrices, gradients from transformers' own call."""
    model, plain = loaded("bert"), Plain("bert")
    at = {"low": 0, "high": 2}[label]
    module = tiny.encoder("bert")[0].double()
    relevances = oracle.relevance_of_bert(module, plain.states[0], at)
    module.set_attn_implementation("eager")
    out = module(torch.tensor([model.encode(TEXT).row.ids]), output_attentions=True)
    slopes = [each[0].numpy() for each in torch.autograd.grad(out.logits[0, at], out.attentions)]
    found = explained(model, "bert", "transatt", target=Logit(label), features="token+template").values[0]
    expected = oracle.transatt(slopes, relevances, 0)
    assert expected.max() > 1e-3
    # Each division on the way has a stabiliser of 1e-6.
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_each_token_of_an_answer_is_read_where_it_is_said(family, method):
    """Of an answer that is forced after the prompt, in one pass for all of its tokens."""
    model = loaded(family, template=tiny.CHATML)
    every = explained(model, family, method, target=Tokens("high risk"), features="token+template")
    ids = model.tokenizer("high risk", add_special_tokens=False)["input_ids"]
    assert len(every.values) == len(ids) > 1
    first = explained(model, family, method, target=Answer(model.tokenizer.decode(ids[:1])), features="token+template")
    # In the longer pass the first token stands before others, which a decoder does not see from there.
    if method not in ("grad_sam", "attcat"):
        np.testing.assert_allclose(every.values[0], first.values[0], atol=1e-6)
    assert not np.allclose(every.values[0], every.values[-1], atol=1e-4)


def test_a_decoder_is_read_at_its_last_position():
    model = loaded("llama")
    question = Asked.of(model, TEXT, target=Tokens("high risk")).question
    readout = Watched(question).reading().readout[0]
    length, answer = question.inputs.positions, len(question.target.alternatives[0])
    assert readout.shape == (answer, length + answer - 1)
    assert readout.argmax(1).tolist() == [length - 1 + place for place in range(answer)]
    torch.testing.assert_close(readout.amax(1), torch.ones(answer, dtype=readout.dtype))


class MeanPooled(hf.BertPreTrainedModel):
    """Logits that are linear in the mean over all positions."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = hf.BertModel(config, add_pooling_layer=False)
        self.head = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, inputs_embeds=None, input_ids=None, attention_mask=None):
        states = self.bert(inputs_embeds=inputs_embeds, input_ids=input_ids, attention_mask=attention_mask)
        return SequenceClassifierOutput(logits=self.head(states.last_hidden_state.mean(1)))


def test_a_network_that_pools_is_read_everywhere_alike():
    module, tokenizer = tiny.encoder("bert")
    pooled = tiny.randomised(lambda: MeanPooled(module.config))
    model = pellucid.load((pooled, tokenizer), task="text-classifier", dtype="float64")
    weights = [each[0].detach().numpy() for each in output_attentions(model)]
    seq = weights[0].shape[-1]
    for method, formula in (("raw_attention", oracle.raw_attention), ("rollout", oracle.rollout)):
        found = explained(model, "bert", method, features="token+template")
        np.testing.assert_allclose(found.values[0], sum(formula(weights, r) for r in range(seq)) / seq, atol=1e-6)


def output_attentions(model):
    ids = torch.tensor([model.encode(TEXT).row.ids])
    implementation = model.module.config._attn_implementation
    model.module.set_attn_implementation("eager")
    found = model.module.bert(ids, output_attentions=True).attentions
    model.module.set_attn_implementation(implementation)
    return found


@pytest.mark.parametrize("method", [*GRADIENT, "raw_attention"])
def test_class_specific_methods_answer_for_the_class(method):
    model = loaded("bert")
    one, other = (explained(model, "bert", method, target=Logit(label)).values for label in ("low", "high"))
    assert all_methods()[method].facts.class_specific == (method in GRADIENT)
    assert np.array_equal(one, other) == (method in FORWARD)


@pytest.mark.parametrize("method", ["rollout", "value_norm", "alti", "value_zeroing"])
def test_what_is_rolled_out_sums_to_one_with_the_template(family, method):
    found = explained(loaded(family), family, method, features="token+template")
    assert found.values.sum() == pytest.approx(1, abs=1e-6)


def left(module):
    """Everything that a call might leave behind."""
    hooks = [
        len(hooks)
        for part in module.modules()
        for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)
    ]
    configs = [part.config._attn_implementation for part in module.modules() if hasattr(part, "config")]
    tensors = [(name, each.requires_grad, each.grad is None) for name, each in module.named_parameters()]
    registries = sorted(AttentionInterface._global_mapping), sorted(AttentionMaskInterface._global_mapping)
    return hooks, configs, tensors, registries, module.training, torch.is_grad_enabled()


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_behind(method):
    model = loaded("bert")
    next(model.module.parameters()).requires_grad_(False)
    model.module.train()
    before = left(model.module)
    explained(model, "bert", method)
    assert left(model.module) == before

    def fail(part, args, output):
        raise RuntimeError("the head is broken")

    hook = model.module.classifier.register_forward_hook(fail)
    during = left(model.module)
    with pytest.raises(RuntimeError, match="the head is broken"):
        explained(model, "bert", method)
    assert left(model.module) == during
    hook.remove()
    assert left(model.module) == before


@pytest.mark.parametrize("method", METHODS)
def test_frozen_networks_and_modes_of_the_caller_change_nothing(method):
    model = loaded("gpt2")
    expected = explained(model, "gpt2", method).values
    model.module.requires_grad_(False)
    np.testing.assert_array_equal(explained(model, "gpt2", method).values, expected)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            np.testing.assert_array_equal(explained(model, "gpt2", method).values, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_transatt_refuses_half_precision(dtype):
    with pytest.raises(ModelError, match="half precision leaves nothing; load the network in float32"):
        explained(loaded("bert", dtype=dtype), "bert", "transatt")


@pytest.mark.parametrize("method", [each for each in METHODS if each != "transatt"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_half_precision_runs_and_says_about_the_same(family, dtype, method):
    half, single_precision = (
        explained(loaded(family, dtype=each), family, method).values for each in (dtype, "float32")
    )
    assert np.isfinite(half).all()
    assert np.corrcoef(half[0], single_precision[0])[0, 1] > 0.9


def test_gradients_that_overflow_are_refused(monkeypatch):
    model = loaded("bert", dtype="float32")
    watched = Watched(Asked.of(model, TEXT, target=Logit("high")).question)
    reading = watched.reading(gradients=True)
    monkeypatch.setattr(type(reading), "gradients", lambda self, target, of: [each * torch.inf for each in of])
    with pytest.raises(NumericalError, match="became NaN or infinite; load it in a dtype of a wider range"):
        list(watched.slopes(reading, [reading.layers[0].weights]))


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_watchable_attention_is_refused(method):
    model = pellucid.load(tiny.encoder("deberta"))
    with pytest.raises(ModelError, match=r"has no attention that can be watched.*use a method of another family"):
        explained(model, "bert", method)


@pytest.mark.parametrize("method", ["gae", "rollout", "alti", "value_zeroing", "transatt"])
def test_other_inputs_and_targets_of_several_calls_are_refused(method):
    table = pellucid.models.Tabular(
        torch.nn.Linear(2, 2), [pellucid.models.Column(name=each) for each in "ab"], ["n", "y"]
    )
    with pytest.raises(InputError, match=f"{method} explains text, image, and .* reads tabular"):
        pellucid.explain(table, [1.0, 2.0], method=method)
    model = loaded("llama")
    choice = Choice(("high risk", "low risk of it"))
    before = left(model.module)
    with pytest.raises(ModelError, match="one call of the network, and this target takes several"):
        explained(model, "llama", method, target=choice)
    assert left(model.module) == before


@pytest.mark.parametrize("method", ["gae", "rollout", "alti", "value_zeroing", "transatt"])
def test_a_network_that_calls_one_block_several_times_is_told_so(method):
    tokenizer = tiny.wordpiece()
    sizes = {"hidden_size": 16, "embedding_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    config = hf.AlbertConfig(vocab_size=len(tokenizer), num_attention_heads=2, **sizes)
    model = pellucid.load((tiny.randomised(lambda: hf.AlbertForSequenceClassification(config)), tokenizer))
    before = left(model.module)
    with pytest.raises(ModelError, match=r"runs its block 'albert\..*' several times.*cannot be told apart.*attnlrp"):
        explained(model, "bert", method, target=None)
    assert left(model.module) == before
    assert pellucid.explain(model, TEXT, method="attnlrp", checks="none").values.any()


def test_value_zeroing_says_how_far_it_is(monkeypatch):
    model, said = loaded("gpt2"), []

    @contextmanager
    def progress(label, total):
        said.append((label, total))
        yield said.append

    monkeypatch.setattr(zeroing, "progress", progress)
    monkeypatch.setitem(zeroing.NUMBERS_AT_ONCE, "cpu", 1)
    explained(model, "gpt2", "value_zeroing")
    runs = 2 * (model.encode(TEXT).positions + 1)
    assert said == [("Zeroing values", runs), *[1] * runs]


def test_flow_refuses_a_long_input():
    with pytest.raises(InputError, match=r"has 180 positions and attention flow is computed for at most 128"):
        explained(loaded("gpt2"), "gpt2", "attention_flow", text=TEXT * 12)


def test_settings_are_checked():
    for method, settings in (
        ("rollout", {"residual": 1.5}),
        ("raw_attention", {"layers": "first"}),
        ("gae", {"pieces": 1}),
    ):
        with pytest.raises(InputError, match=f"^{method} \\(settings: pieces"):
            explained(loaded("bert"), "bert", method, **settings)
    raw = [explained(loaded("bert"), "bert", "raw_attention", layers=each).values for each in ("last", "mean")]
    assert not np.allclose(*raw)
    product = [
        explained(loaded("bert"), "bert", "attention_x_gradient", layers=each).values for each in ("last", "all")
    ]
    assert not np.allclose(*product)
    mixed = [explained(loaded("bert"), "bert", "rollout", residual=each).values for each in (0.0, 0.5, 1.0)]
    assert not np.allclose(mixed[0], mixed[1])
    assert not mixed[2].any()


@pytest.mark.parametrize("method", ["grad_sam", "attcat"])
def test_words_of_several_tokens_are_summed_or_take_the_largest(method):
    model = loaded("gpt2")
    tokens = explained(model, "gpt2", method)
    words = {each: explained(model, "gpt2", method, features="word", pieces=each) for each in ("sum", "max")}
    question = Asked.of(model, TEXT, target=Logit(TOKEN), features="word").question
    owner = model.owners(question.inputs, question.features).numpy()
    assert np.bincount(owner[owner >= 0]).max() > 1
    for word in range(len(question.features)):
        own = tokens.values[0][owner == word]
        assert words["sum"].values[0, word] == pytest.approx(own.sum(), abs=1e-6)
        assert words["max"].values[0, word] == pytest.approx(own[np.abs(own).argmax()], abs=1e-6)
    assert words["sum"].settings["pieces"] == "sum"


def test_the_largest_of_nothing_is_nothing():
    found = largest(torch.tensor([[1.0, -3.0, 2.0]]), torch.tensor([0, 0, -1]), 2)
    np.testing.assert_array_equal(found, [[-3, 0]])


@pytest.mark.parametrize("method", METHODS)
def test_what_is_spent_is_counted(method):
    model = loaded("llama")
    before = model.meter.snapshot()
    found = explained(model, "llama", method, target=Tokens("high risk"))
    targets, spent = len(found.values), model.meter - before
    assert spent.forwards == spent.rows == all_methods()[method]().rows(6)
    assert spent.backwards == (2 * targets if method == "transatt" else targets if method in GRADIENT else 0)
    positions = model.encode(TEXT).positions + targets - 1
    runs = positions + 2 if method == "value_zeroing" else spent.rows
    assert spent.tokens == runs * positions
    assert found.cost.forward_equivalents == pytest.approx(runs)


def test_half_precision_is_widened_before_it_is_multiplied():
    assert single(torch.ones(1, dtype=torch.bfloat16)).dtype is torch.float32
    assert single(torch.ones(1, dtype=torch.float64)).dtype is torch.float64
