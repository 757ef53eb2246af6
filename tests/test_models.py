"""Texts that no one should have written go through encoding, features and an explanation, or are refused at once."""

import numpy as np
import pytest

import pellucid
import tiny
from pellucid import Answer, Margin, Template
from pellucid.errors import ContextLengthError, InputError

HOSTILE = {
    "script": "<script>alert('x')</script> & \"quotes\"",
    "bidi": "abc \u202edef\u202c \u2066ghi\u2069",
    "emoji": "👩\u200d👩\u200d👧 🇫🇷 ❤️ 👍🏽",
    "combining": "e\u0301 a\u0308\u0323 Z\u0351\u036b\u0343",
    "scripts": "東京 Ελλάδα שלום مرحبا हिन्दी",
    "spaces": "  lead\u00a0\u3000mid\t\n\r\n tail  ",
    "controls": "a\x01\x07\x1bb\x7f\u0085c",
    "invisible": "\u200b\ufeffword\u200b",
    "private": "\ue000 \U0010ffff \U00020000",
    "template": "{age} {{ }} {% x %} {{ m }}",
    "one": "x",
}


@pytest.fixture(scope="module", params=["plain", "chatml", "trimming", "bert", "deberta"])
def model(request):
    templates = {"plain": None, "chatml": tiny.CHATML, "trimming": tiny.TRIMMING}
    if request.param in templates:
        return pellucid.load(tiny.decoder("llama", templates[request.param]))
    return pellucid.load(tiny.encoder(request.param))


def target_of(model):
    return Answer("yes") if isinstance(model, pellucid.CausalLM) else Margin("high")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_explained_and_every_span_is_its_own(model, name):
    text = HOSTILE[name]
    for kind in ("word", "token"):
        explanation = pellucid.explain(model, text, method="input_x_gradient", features=kind, target=target_of(model))
        assert np.isfinite(explanation.values).all()
        for feature in explanation.features:
            assert feature.value == text[feature.start : feature.end]
            assert feature.label == feature.value


def test_occlusion_and_files_take_hostile_texts(model, tmp_path):
    for text in (HOSTILE["script"], HOSTILE["emoji"], HOSTILE["spaces"]):
        explanation = pellucid.explain(model, text, method="occlusion", target=target_of(model))
        loaded = pellucid.Explanation.load(explanation.save(tmp_path / "e"))
        assert loaded.data == explanation.data
        assert explanation.features[0].value == text[explanation.features[0].start : explanation.features[0].end]


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u3000\u00a0"])
def test_white_space_alone_is_refused(model, text):
    with pytest.raises(InputError, match="empty"):
        model.encode(text)


def test_nul_and_lone_surrogates_are_refused(model):
    with pytest.raises(InputError, match="NUL character at position 2"):
        model.encode("ab\0c")
    with pytest.raises(InputError, match="lone surrogate at position 2"):
        model.encode("ab\ud83dc")


@pytest.mark.parametrize("unit", ["word ", "Hello. ", "é👩\u200d👧"])
def test_a_megabyte_is_refused_before_the_network_is_asked(model, unit):
    """By its length, or, where the tokenizer makes one unknown token of it all, by the number of its words."""
    text = unit * (1_000_000 // len(unit.encode()))
    before = model.meter.snapshot()
    with pytest.raises(InputError, match=r"too long; shorten|at most 8192 are explained"):
        pellucid.explain(model, text, method="occlusion", target=target_of(model), features="word")
    assert model.meter == before


def test_an_endless_word_is_too_long_or_one_unknown_token(model):
    text = "a" * 50_000
    if len(model.tokenizer(text, verbose=False)["input_ids"]) > model.context:
        with pytest.raises(ContextLengthError, match="too long; shorten"):
            model.encode(text)
    else:
        found = pellucid.explain(model, text, method="occlusion", target=target_of(model))
        assert found.values.shape == (1, 1)


def test_one_token_too_many_says_so():
    model = pellucid.load(tiny.decoder("llama", tiny.CHATML))
    text = "€" * 60
    length = len(model.encode(text).row.ids)
    room = model.context - length
    assert len(model.encode(text + "Z" * room).row.ids) <= model.context
    longer = text + "Z" * (room + 30)
    count = len(model.tokenizer(longer)["input_ids"]) + length - 180
    with pytest.raises(ContextLengthError, match=f"the input has {count} tokens and the model reads at most 256"):
        model.encode(longer)


def test_the_templates_tokens_are_marked_and_separable():
    model = pellucid.load(tiny.decoder("llama", tiny.CHATML))
    inputs = model.encode("Yes no")
    features = model.features(inputs, "token+template")
    written = "".join(feature.value for feature in features if feature.role == "input")
    assert written == "Yes no"
    template = [feature.value for feature in features if feature.role == "template"]
    assert "<|im_start|>" in template
    assert "<|im_end|>" in template
    assert [feature.index for feature in features] == list(range(len(inputs.row.ids)))


def test_a_trimming_template_shifts_no_span():
    model = pellucid.load(tiny.decoder("llama", tiny.TRIMMING))
    text = "  \n five nodes \n"
    inputs = model.encode(text)
    assert "".join(text[span[0] : span[1]] for span in inputs.spans if span) == "five nodes"


def test_values_of_a_template_may_hold_anything(model):
    prompt = Template("Note: {note}. Risk?")(note=HOSTILE["script"] + HOSTILE["bidi"])
    explanation = pellucid.explain(model, prompt, method="occlusion", target=target_of(model))
    assert explanation.feature_names == ["note"]
    assert explanation.data == [HOSTILE["script"] + HOSTILE["bidi"]]
