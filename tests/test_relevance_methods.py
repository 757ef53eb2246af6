"""Composites as methods: what they score equals a trace of the bare network that is set up by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
import tiny
from pellucid import Answer, Choice, Contrast, Generated, Logit, Margin, Options, Token, Tokens
from pellucid.errors import NoRuleError
from pellucid.methods import all_methods, relevance
from test_tensor_methods import Case

TEXT = "The patient is 52"
METHODS = sorted(name for name, method in all_methods().items() if method.facts.family == "relevance")
BY_CARRIER = ("attnlrp", "zplus", "backtrace-contrast")
TARGETS = {
    "greedy": Generated(3),
    "sampled": Generated(3, temperature=2.0, seed=4),
    "beams": Generated(3, beams=4),
    "answer": Answer(" high risk"),
    "tokens": Tokens(" high risk"),
    "options": Options((" high risk", " no")),
    "choice": Choice((" high risk", " no"), " no"),
    "contrast": Contrast(" high risk", " no"),
    "token": Token(40),
    "margin": Margin(40),
}


@pytest.fixture(scope="module")
def model():
    # Small weights, so that no answer is certain.
    return pellucid.load(tiny.decoder("llama", std=0.15))


@pytest.fixture(scope="module")
def classifier():
    return pellucid.load(tiny.encoder("bert"))


class Bare(nn.Module):
    """A language model over embeddings, as one tensor of logits."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, vectors):
        return self.module(inputs_embeds=vectors, use_cache=False).logits


def score(target, spoken):
    """The target's scalars [target] from the log-probabilities and logits of the tokens of each answer."""
    log_p = [each.log_softmax(-1)[range(len(ids)), ids] for ids, each in spoken]
    sums = [each.sum() for each in log_p]
    ((ids, logits), *_) = spoken
    first = logits[0, ids[0]]
    rest = torch.cat([logits[0, : ids[0]], logits[0, ids[0] + 1 :]]).logsumexp(0)
    wanted = {
        "generated": log_p[0],
        "tokens": log_p[0],
        "answer": sums[:1],
        "token": log_p[0],
        "margin": [first - rest],
        "logit": [first],
    }
    if target.kind in wanted:
        return list(wanted[target.kind])
    if target.kind == "contrast":
        return [sums[0] - sums[1]]
    normalised = [each - torch.stack(sums).logsumexp(0) for each in sums]
    return normalised if target.kind == "options" else [normalised[target.options.index(target.chosen)]]


def start_of(slopes, logits, pair):
    """The relevance at the logits: slope times value; of a pair that for the target and that against it."""
    given = slopes * logits
    if not pair:
        return given
    against = slopes < 0
    others = torch.zeros_like(given) if against.any() else torch.where(slopes == 0, logits, 0)
    return torch.stack([torch.where(against, 0, given), torch.where(against, -given, others)])


def by_hand(model, target, composite):
    """Relevance [target, position] of the prompt: one trace for each target and each text that is fed."""
    inputs = model.encode(TEXT)
    prompt = list(inputs.row.ids)
    bound = model.bind(target, inputs)
    embed, bare = model.module.get_input_embeddings(), Bare(model.module)
    pair = composite == "backtrace-contrast"
    fed = {answer[:-1]: embed(torch.tensor([[*prompt, *answer[:-1]]])).detach() for answer in bound.alternatives}
    with torch.no_grad():
        full = {key: bare(vectors) for key, vectors in fed.items()}
    cut = {key: value[0, len(prompt) - 1 :].clone().requires_grad_() for key, value in full.items()}
    scores = score(bound.target, [(list(ids), cut[ids[:-1]]) for ids in bound.alternatives])
    rows = []
    for each in scores:
        slopes = torch.autograd.grad(each, list(cut.values()), retain_graph=True)
        total = torch.zeros(len(prompt))
        for (key, vectors), slope in zip(fed.items(), slopes, strict=True):
            begun = start_of(slope, cut[key].detach(), pair)
            place = torch.zeros(*begun.shape[:-2], *full[key].shape[1:])
            place[..., len(prompt) - 1 :, :] = begun
            trace = pellucid.trace(bare, vectors, composite=composite, start=place.unsqueeze(-3))
            total += trace.input[0].sum(-1)[: len(prompt)]
        rows.append(total.numpy())
    own = [place for place, span in enumerate(inputs.spans) if span is not None]
    return np.stack(rows)[:, own], np.array([float(each.detach()) for each in scores])


@pytest.mark.parametrize("composite", ["attnlrp", "backtrace-contrast"])
@pytest.mark.parametrize("name", TARGETS)
def test_an_answer_is_traced_as_by_hand(model, composite, name):
    expected, scores = by_hand(model, TARGETS[name], composite)
    found = pellucid.explain(model, TEXT, method=composite, target=TARGETS[name], features="token")
    np.testing.assert_allclose(found.full_values, scores, atol=1e-4)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.values / scale, expected / scale, atol=2e-4)
    assert found.notice == all_methods()[composite].facts.notice


def test_the_three_ways_to_generate_are_three_answers(model):
    inputs = model.encode(TEXT)
    answers = {model.bind(TARGETS[name], inputs).alternatives for name in ("greedy", "sampled", "beams")}
    assert len(answers) == 3


@pytest.mark.parametrize("composite", BY_CARRIER)
def test_targets_in_chunks_equal_all_at_once_and_each_by_itself(model, composite, monkeypatch):
    options = {"method": composite, "features": "token"}
    whole = pellucid.explain(model, TEXT, target=Options((" high risk", " no", " low")), **options)
    monkeypatch.setattr(relevance, "NUMBERS_AT_ONCE", {"cpu": 1, "cuda": 1})
    chunks = pellucid.explain(model, TEXT, target=Options((" high risk", " no", " low")), **options)
    assert chunks.cost.backwards == whole.cost.backwards == 3
    scale = np.abs(whole.values).max()
    np.testing.assert_allclose(chunks.values / scale, whole.values / scale, atol=1e-5)
    for row, option in enumerate((" high risk", " no", " low")):
        choice = Choice((" high risk", " no", " low"), option)
        one = pellucid.explain(model, TEXT, target=choice, **options)
        np.testing.assert_allclose(one.values[0] / scale, whole.values[row] / scale, atol=1e-5)


@pytest.mark.parametrize("composite", METHODS)
def test_a_classifier_of_texts_is_traced_as_by_hand(classifier, composite):
    inputs = classifier.encode(TEXT)
    ids = {"input_ids": torch.tensor([inputs.row.ids])}
    trace = pellucid.trace(classifier.module, ids, Logit(2), composite=composite, keep="*.layer.*")
    found = pellucid.explain(classifier, TEXT, method=composite, target=Logit(2), features="token", checks="full")
    own = [place for place, span in enumerate(inputs.spans) if span is not None]
    expected = trace.input["input_ids"][0, own]
    scale = float(expected.abs().max())
    np.testing.assert_allclose(found.values[0] / scale, expected / scale, atol=1e-4)
    assert found.layer_names == ("bert.encoder.layer.0", "bert.encoder.layer.1")
    for place, name in enumerate(found.layer_names):
        at_layer = trace[name].sum(-1)[0, own]
        np.testing.assert_allclose(found.layer_values[0, place] / scale, at_layer / scale, atol=1e-4)
    assert found.base_values[0] == pytest.approx(found.full_values[0] - float(trace.seeded), abs=1e-4)
    total = sum(float(each.absorbed + each.leaked) for each in found.account)
    arrived = float(trace.arrived)
    assert float(trace.seeded) == pytest.approx(arrived + total, abs=1e-3 * max(1, abs(arrived)))


@pytest.mark.parametrize("composite", METHODS)
@pytest.mark.parametrize("kind", ["image", "grey", "table"])
def test_pictures_and_rows_are_traced_as_by_hand(composite, kind):
    case = Case("image", 1) if kind == "grey" else Case(kind)
    trace = pellucid.trace(case.module, case.row[None], Logit(1), composite=composite)
    found = case.explain(composite)
    expected = case.summed(trace.input[0])
    np.testing.assert_allclose(found.values[0], expected, atol=1e-6 * max(1, np.abs(expected).max()))
    assert found.layer_values is None


def test_an_option_that_cannot_be_said_begins_with_nothing(model):
    """Its probability is exactly 0 and that of the other 1: no relevance, of a pair as well."""
    module, tokenizer = tiny.decoder("llama")
    with torch.no_grad():
        module.lm_head.weight *= 1000
    sure = pellucid.load((module, tokenizer))
    chosen = sure.bind(Choice((" high risk", " no")), sure.encode(TEXT)).target
    for composite in BY_CARRIER:
        found = pellucid.explain(sure, TEXT, method=composite, target=chosen)
        assert found.full_values[0] == 0
        assert not found.values.any(), composite


class Wave(nn.Module):
    """Something that no composite has a rule for."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(torch.special.i0e(self.first(x)))


def test_what_has_no_rule_is_refused_or_taken_to_first_order_and_named():
    torch.manual_seed(0)
    model = pellucid.Tabular(Wave(), [pellucid.Column(name=name) for name in "abc"], ["no", "yes"], name="wave")
    with pytest.raises(NoRuleError, match="no rule for 'special_i0e' at 'the network itself'"):
        pellucid.explain(model, [1.0, 2.0, 3.0], method="attnlrp")
    found = pellucid.explain(model, [1.0, 2.0, 3.0], method="attnlrp", strict=False)
    assert found.settings["strict"] is False
    (named,) = found.settings["approximated"]
    assert named.startswith("special_i0e at ")
    (check,) = [each for each in found.checks.items if each.name == "rules"]
    assert check.passed is False
    assert "special_i0e" in check.detail
    assert math.isfinite(float(found.values.sum()))
