"""Words and sentences by UAX 29, and the exact ladder from token to field."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pellucid
import tiny
from pellucid import Answer, Template
from pellucid.models.segments import sentences, words

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(
    lambda text: text.strip() != "" and "<|" not in text
)


def cut(spans, text):
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The example of UAX 29, table 1, without the white space.
        (
            'The quick ("brown") fox can\'t jump 32.3 feet, right?',
            ["The", "quick", "(", '"', "brown", '"', ")", "fox", "can't", "jump", "32.3", "feet", ",", "right", "?"],
        ),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),  # WB4: combining marks stay
        ("3,456.789", ["3,456.789"]),  # WB11, WB12
        ("foo_bar", ["foo_bar"]),  # WB13a
        ("カタカナ", ["カタカナ"]),  # WB13
        ("👩\u200d👩\u200d👧 ok", ["👩\u200d👩\u200d👧", "ok"]),  # WB3c
        ("🇫🇷🇩🇪", ["🇫🇷", "🇩🇪"]),  # WB15
        ("a\r\nb", ["a", "b"]),
        ("שלום עולם", ["שלום", "עולם"]),
    ],
)
def test_words_follow_uax_29(text, expected):
    assert cut(words(text), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It hurts. Does it? Yes!", ["It hurts.", "Does it?", "Yes!"]),
        ("Grade 3.5 is high.", ["Grade 3.5 is high."]),  # SB6
        ("the e.g. case stays", ["the e.g. case stays"]),  # SB8
        ('He said "Go." She went.', ['He said "Go."', "She went."]),
        ("はい。いいえ。", ["はい。", "いいえ。"]),
        ("one\ntwo", ["one", "two"]),  # SB4
    ],
)
def test_sentences_follow_uax_29(text, expected):
    assert cut(sentences(text), text) == expected


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_spans_cover_every_visible_character_once(text):
    for cutter in (words, sentences):
        seen = [place for start, end in cutter(text) for place in range(start, end)]
        assert seen == sorted(set(seen))
        missing = set(range(len(text))) - set(seen)
        assert all(text[place].isspace() for place in missing)


@pytest.fixture(scope="module", params=[None, tiny.CHATML, tiny.TRIMMING])
def model(request):
    return pellucid.load(tiny.decoder("llama", request.param))


@settings(max_examples=30, deadline=None)
@given(text=TEXTS)
def test_every_token_of_the_input_is_owned_by_one_token_feature(model, text):
    inputs = model.encode(text)
    tokens = model.features(inputs, "token")
    template = [feature for feature in model.features(inputs, "token+template") if feature.role == "template"]
    assert sorted([*(f.index for f in tokens), *(f.index for f in template)]) == list(range(len(inputs.row.ids)))
    owned = model.owners(inputs, tokens).tolist()
    assert [number for number in owned if number >= 0] == list(range(len(tokens)))
    # What the template wrote is the same for every text, and the rest decodes to the text.
    before, after = model._before, model._after
    rendered = model.tokenizer.decode(list(inputs.row.ids))
    assert rendered == before + (text.strip() if model._strips else text) + after
    for feature in tokens:
        assert feature.value == inputs.prompt.text[feature.start : feature.end]
    for kind in ("word", "sentence"):
        for number in model.owners(inputs, model.features(inputs, kind)).tolist():
            assert -1 <= number < len(model.features(inputs, kind))


def with_values(explanation, seed=0):
    values = np.random.default_rng(seed).normal(size=explanation.values.shape).astype(np.float32)
    return explanation.model_copy(update={"values": values, "standard_error": np.abs(values)})


@settings(max_examples=6, deadline=None)
@given(text=TEXTS)
def test_sums_up_the_ladder_lose_nothing(model, text):
    fine = with_values(
        pellucid.explain(
            model, text, method="input_x_gradient", target=Answer("yes"), features="token+template", checks="none"
        )
    )
    for path in (["word"], ["sentence"], ["word", "sentence"]):
        coarse = fine
        for kind in path:
            coarse = coarse.sum_to(kind)
        np.testing.assert_allclose(coarse.values.sum(1), fine.values.sum(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose((coarse.standard_error**2).sum(1), (fine.standard_error**2).sum(1), rtol=1e-4)
        assert coarse.values.shape == (1, len(coarse.features))
    by_token = fine.without_template()
    assert all(feature.role == "input" for feature in by_token.features)


def test_a_ladder_with_fields_sums_each_field_by_itself(model):
    prompt = Template("Age: {age}. Nodes: {nodes}. Risk?")(age="52 years", nodes="5")
    fine = with_values(pellucid.explain(model, prompt, method="occlusion", target=Answer("yes"), features="token"))
    assert list(fine.ladder) == ["word", "sentence", "field"]
    coarse = fine.sum_to("field")
    assert [feature.label for feature in coarse.features] == ["age", "nodes", "(elsewhere)"]
    for column, field in enumerate(prompt.fields):
        inside = [
            place
            for place, feature in enumerate(fine.features)
            if field.start <= feature.start + len(feature.value) - len(feature.value.lstrip()) < field.end
        ]
        assert inside
        np.testing.assert_allclose(coarse.values[0, column], fine.values[0, inside].sum(), rtol=1e-5)
    np.testing.assert_allclose(coarse.values.sum(), fine.values.sum(), rtol=1e-5)
    np.testing.assert_allclose(fine.sum_to("word").sum_to("field").values, coarse.values, rtol=1e-5)
    assert list(fine.sum_to("word").ladder) == ["sentence", "field"]
    assert fine.sum_to("sentence").ladder == {}
    with pytest.raises(pellucid.errors.UnknownNameError, match="coarser feature kind"):
        coarse.sum_to("word")


def test_unknown_kinds_and_absent_fields_are_refused(model):
    inputs = model.encode("Yes no")
    with pytest.raises(pellucid.errors.UnknownNameError, match="did you mean 'word'"):
        model.features(inputs, "words")
    with pytest.raises(pellucid.errors.InputError, match="Template"):
        model.features(inputs, "field")
