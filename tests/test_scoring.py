"""Reusing prefixes changes nothing but the work, and the work is counted exactly."""

import numpy as np
import pytest
import torch

import pellucid
import tiny
from pellucid import Answer, Choice, Generated, Margin, Options, Template, Tokens
from pellucid.games import PrefixScorer, TextGame, make_text_imputer
from pellucid.games.scoring import BatchScorer
from pellucid.models import Row

TEXT = "The patient is 52 years old and has five positive nodes."
TARGETS = [
    Answer("high"), Tokens("highly likely"), Options(("high risk", "high", "low risk", "no")),
    Choice(("low", "low risk"), "low"),
]  # fmt: skip
WINDOWED = ("gemma2", "gemma3")


def load(family, dtype=None):
    return pellucid.load(tiny.decoder(family, tiny.CHATML), dtype=dtype)


def random_rows(model, count=12, seed=0):
    """Rows with tokens dropped and rows with tokens hidden, also at the very start and in one long run."""
    generator = np.random.default_rng(seed)
    ids = np.array(model.encode(TEXT).row.ids)
    rows = [Row.of(ids.tolist())]
    for number in range(count):
        keep = generator.random(len(ids)) < 0.8
        if number % 4 == 0:
            keep[: generator.integers(1, 15)] = False
        if number % 2:
            rows.append(Row.of(ids[keep].tolist()))
        else:
            rows.append(Row(tuple(ids.tolist()), tuple(keep.tolist())))
    return rows


def plain_scores(model, bound, rows):
    """One row at a time, nothing reused, no padding."""
    return np.concatenate([bound.target.score(model.alternatives([row], bound)).double().numpy() for row in rows])


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
@pytest.mark.parametrize(
    ("family", "dtype", "tolerance"),
    [("llama", "float64", 1e-10), ("gpt2", "float64", 1e-10), ("gemma2", None, 2e-5), ("gemma3", None, 2e-5)],
)
def test_prefix_scoring_equals_plain_scoring(family, dtype, tolerance, target):
    model = load(family, dtype)
    bound, rows = model.bind(target, model.encode(TEXT)), random_rows(model)
    steps = []
    found = PrefixScorer(model, bound)(rows, steps.append)
    np.testing.assert_allclose(found, plain_scores(model, bound, rows), atol=tolerance)
    assert sum(steps) == len(rows) * len({answer[:-1] for answer in bound.alternatives})


@pytest.mark.parametrize("family", ["llama", *WINDOWED])
def test_groups_of_unequal_rests_stay_inside_an_attention_window(family, monkeypatch):
    """Rests that differ in length after a long prefix: padding between them would move the prefix out of the window."""
    monkeypatch.setattr("pellucid.games.scoring.OVERHEAD_TOKENS", {"cpu": 10_000})
    model = load(family)
    ids = model.encode(TEXT).row.ids
    rows = [Row.of([*ids[:-10], *tail]) for tail in ([9], [9, 8, 7], [7] * 9, [6, 5], [6] * 12, [5])]
    bound = model.bind(Answer("high risk"), model.encode(TEXT))
    found = PrefixScorer(model, bound)(rows, lambda steps: None)
    np.testing.assert_allclose(found, plain_scores(model, bound, rows), atol=2e-5)


@pytest.mark.parametrize("imputer", ["delete", "pad", "mask", "neutral", "background"])
def test_a_game_equals_plain_scoring_for_random_coalitions(imputer):
    module, tokenizer = tiny.decoder("llama", tiny.CHATML)
    model = pellucid.load((module, tokenizer))
    fields = imputer in ("neutral", "background")
    prompt = Template("Age: {age}. Nodes: {nodes}. Grade: {grade}. Risk?")(age="52", nodes="five", grade="two")
    inputs = model.encode(prompt)
    if imputer == "mask":
        tokenizer = tokenizer.__class__(
            tokenizer_object=tokenizer.backend_tokenizer, mask_token="<|mask|>", pad_token="<|pad|>"
        )
        tokenizer.chat_template = tiny.CHATML
        model = pellucid.load((module, tokenizer))
    players = model.features(inputs, "field" if fields else "word")
    background = [{"age": "61", "nodes": "0", "grade": "one"}, {"age": "40", "nodes": "11", "grade": "three"}]
    bound = model.bind(Options(("high risk", "high", "low")), inputs)
    made = make_text_imputer(imputer, model, inputs, players, background)
    coalitions = np.random.default_rng(0).random((12, len(players))) < 0.5
    found = TextGame(model, players, bound, made, inputs.row).value(coalitions)
    rows = made.rows(coalitions)
    expected = plain_scores(model, bound, rows).reshape(12, made.draws, -1).mean(1)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_self_test_sees_a_broken_cache(monkeypatch):
    model = load("llama")
    inputs = model.encode(TEXT)
    scorer = PrefixScorer(model, model.bind(Answer("high"), inputs))
    assert scorer.self_test(inputs.row) < 1e-5
    monkeypatch.setattr(
        "pellucid.games.scoring._cropped",
        lambda cache, length: (
            [(key[:, :, :length] * 1.5, value[:, :, :length]) for key, value in cache] if length else []
        ),
    )
    assert scorer.self_test(inputs.row) > 1e-3


def test_an_encoder_is_scored_in_any_batch_alike():
    model = pellucid.load(tiny.encoder("bert"))
    inputs = model.encode(TEXT)
    bound, rows = model.bind(Margin("high"), inputs), []
    for number in range(12):
        rows.append(Row.of(inputs.row.ids[: number + 2]))
    found = BatchScorer(model, bound, budget=64)(rows[::-1], lambda steps: None)[::-1]
    np.testing.assert_allclose(found, plain_scores(model, bound, rows), atol=1e-5)


class Counter:
    """Counts calls, rows and positions of a module by a hook of its own."""

    def __init__(self, module):
        self.calls = self.rows = self.tokens = 0
        self._handle = module.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module, args, kwargs):
        given = kwargs.get("input_ids") if kwargs.get("input_ids") is not None else kwargs.get("inputs_embeds")
        self.calls, self.rows, self.tokens = (
            self.calls + 1,
            self.rows + given.shape[0],
            self.tokens + given.shape[0] * given.shape[1],
        )

    def remove(self):
        self._handle.remove()


@pytest.mark.parametrize("method", ["occlusion", "kernel_shap", "integrated_gradients", "path_integral", "smoothgrad"])
@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_the_cost_is_what_a_hook_counts(method, kind):
    module, tokenizer = tiny.decoder("llama", tiny.CHATML) if kind == "decoder" else tiny.encoder("bert")
    model = pellucid.load((module, tokenizer))
    counter = Counter(module)
    target = Generated(3) if kind == "decoder" else None
    settings = {"max_pieces": 8} if method == "path_integral" else {"samples": 30} if method == "kernel_shap" else {}
    explanation = pellucid.explain(model, "The tumour is large.", method=method, target=target, **settings)
    counter.remove()
    cost = explanation.cost
    assert (cost.forwards, cost.rows, cost.tokens) == (counter.calls, counter.rows, counter.tokens)
    assert (cost.backwards > 0) == (method in ("integrated_gradients", "smoothgrad"))


def test_equal_rows_are_scored_once():
    module, tokenizer = tiny.decoder("llama")
    model = pellucid.load((module, tokenizer))
    inputs = model.encode("yes yes yes yes")
    players = model.features(inputs, "word")
    game = TextGame(
        model,
        players,
        model.bind(Answer("no"), inputs),
        make_text_imputer("delete", model, inputs, players),
        inputs.row,
    )
    game.value(np.array([[True, True, False, False], [False, True, True, False]]))
    before = model.meter.snapshot()
    game.value(np.array([[True, True, False, False], [False, True, True, False]]))
    assert (model.meter - before).forwards == 0
    assert game.evaluations == 2


def test_bfloat16_records_a_noise_floor():
    module, tokenizer = tiny.decoder("llama", tiny.CHATML, seed=2)
    half = pellucid.load((module, tokenizer), dtype="bfloat16")
    explanation = pellucid.explain(half, TEXT, method="occlusion", target=Answer("high"))
    assert explanation.checks["noise_floor"].value > 1e-3
    assert explanation.fingerprint.dtype == "bfloat16"
    single = pellucid.load(tiny.decoder("llama", tiny.CHATML, seed=2))
    exact = pellucid.explain(single, TEXT, method="occlusion", target=Answer("high"))
    assert exact.checks["noise_floor"].value < 1e-4
    moved = np.abs(exact.values - explanation.values).max()
    assert 0 < moved < 10 * explanation.checks["noise_floor"].value
    assert torch.isfinite(torch.tensor(moved))
