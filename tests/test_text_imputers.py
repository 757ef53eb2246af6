"""What each imputer puts in the place of an absent feature."""

import numpy as np
import pytest

import pellucid
import tiny
from pellucid import Template
from pellucid.errors import InputError, UnknownNameError
from pellucid.games import make_text_imputer
from pellucid.models import Row


@pytest.fixture(scope="module")
def model():
    return pellucid.load(tiny.decoder("llama"))


@pytest.fixture(scope="module")
def encoder():
    return pellucid.load(tiny.encoder("bert"))


def texts(model, imputer, coalitions):
    return [model.tokenizer.decode(list(row.ids)) for row in imputer.rows(np.array(coalitions, dtype=bool))]


def imputed(model, raw, kind, name, coalitions, background=()):
    inputs = model.encode(raw)
    players = model.features(inputs, kind)
    return texts(model, make_text_imputer(name, model, inputs, players, background), coalitions)


PROMPT = Template("Age: {age}, nodes: {nodes}.", absent={"age": "unknown"})(age="52", nodes="five")


def test_deleting_words_takes_the_space_after_them(model):
    found = imputed(model, "Yes, it hurts a lot!", "word", "delete", [[1, 1, 0, 1, 0, 1, 1], [0] * 7, [1] * 7])
    assert found == ["Yes, hurts lot!", model.tokenizer.decode([model.start_token]), "Yes, it hurts a lot!"]


def test_deleting_fields_leaves_the_sentence_around_them(model):
    assert imputed(model, PROMPT, "field", "delete", [[0, 1], [0, 0]]) == ["Age: , nodes: five.", "Age: , nodes: ."]


def test_neutral_wording_and_background_draws(model):
    assert imputed(model, PROMPT, "field", "neutral", [[0, 1], [1, 0]]) == [
        "Age: unknown, nodes: five.",
        "Age: 52, nodes: not recorded.",
    ]
    cases = [{"age": "61", "nodes": "0"}, {"age": "40", "nodes": "11"}]
    assert imputed(model, PROMPT, "field", "background", [[0, 1], [0, 0]], cases) == [
        "Age: 61, nodes: five.",
        "Age: 40, nodes: five.",
        "Age: 61, nodes: 0.",
        "Age: 40, nodes: 11.",
    ]


def test_mask_and_pad_keep_the_length(encoder):
    inputs = encoder.encode("It hurts badly")
    players = encoder.features(inputs, "word")
    coalition = np.array([[True, False, True]])
    (masked,) = make_text_imputer("mask", encoder, inputs, players).rows(coalition)
    ids = list(inputs.row.ids)
    assert list(masked.ids) == [*ids[:2], encoder.tokenizer.mask_token_id, *ids[3:]]
    assert all(masked.visible)
    (padded,) = make_text_imputer("pad", encoder, inputs, players).rows(coalition)
    assert list(padded.ids) == [*ids[:2], encoder.tokenizer.pad_token_id, *ids[3:]]
    assert padded.visible == (True, True, False, True, True)


def test_deleting_tokens_drops_them(model):
    inputs = model.encode("It hurts")
    players = model.features(inputs, "token")
    coalition = np.arange(len(players))[None] % 2 == 0
    (row,) = make_text_imputer("delete", model, inputs, players).rows(coalition)
    assert row == Row.of(inputs.row.ids[::2])


def test_defaults_and_refusals(model, encoder):
    words = model.features(model.encode("It hurts"), "word")
    inputs = model.encode("It hurts")
    assert make_text_imputer(None, model, inputs, words).name == "delete"
    prompt = model.encode(PROMPT)
    assert make_text_imputer(None, model, prompt, model.features(prompt, "field")).name == "neutral"
    text = encoder.encode("It hurts")
    assert make_text_imputer(None, encoder, text, encoder.features(text, "word")).name == "mask"
    with pytest.raises(UnknownNameError, match="did you mean 'delete'"):
        make_text_imputer("deleted", model, inputs, words)
    with pytest.raises(InputError, match="words fields, not words"):
        make_text_imputer("neutral", model, inputs, words)
    with pytest.raises(InputError, match="at least one other case"):
        make_text_imputer("background", model, prompt, model.features(prompt, "field"))
    with pytest.raises(InputError, match="case 0 has no value for the field 'nodes'"):
        make_text_imputer("background", model, prompt, model.features(prompt, "field"), [{"age": "5"}])
    with pytest.raises(InputError, match="no mask token"):
        pellucid.explain(model, "It hurts", method="occlusion", baseline="mask", target=pellucid.Answer("yes"))


def test_a_neutral_wording_too_long_for_the_context_is_said(model):
    prompt = Template("Age: {age}", absent="€" * 100)(age="52")
    with pytest.raises(pellucid.errors.ContextLengthError, match="too long"):
        pellucid.explain(model, prompt, method="occlusion", target=pellucid.Answer("yes"))
