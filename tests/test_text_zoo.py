"""The text classifiers that come with pellucid: their size, their cards, and what they say about our own sentences."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers as hf
import yaml
from safetensors.torch import load_file

import pellucid
from pellucid.models.adapter import is_adapter, read_adapter

ZOO = Path(pellucid.__file__).parent / "models" / "zoo"
LABELS = {
    "minilm-sst2": ["negative", "positive"],
    "minilm-hatexplain": ["normal", "toxic"],
    "minilm-acceptability": ["unacceptable", "acceptable"],
    "tiny-sst2": ["negative", "positive"],
}
SENTIMENT = {
    "positive": [
        "A warm, funny and beautifully acted film.",
        "I loved every minute of it.",
        "The best comedy of the year.",
        "An absorbing story, told with wit and tenderness.",
        "The camera work is gorgeous and the music is superb.",
        "It's not bad at all, in fact it is rather charming.",
        "A triumph for its young director.",
        "Smart, moving and full of life.",
        "The two leads give wonderful performances.",
        "You will leave the cinema with a smile.",
    ],
    "negative": [
        "A dull and lifeless film.",
        "I wanted my money back.",
        "The plot makes no sense and the jokes fall flat.",
        "Two hours of boredom.",
        "It isn't funny, and it never was.",
        "The worst sequel I have seen.",
        "Badly written, badly acted and far too long.",
        "A tedious mess from start to finish.",
        "The story is predictable and the ending is silly.",
        "Even the fine cast can't save this lazy script.",
    ],
}
HARMLESS = [
    "The train to the coast leaves at nine.",
    "Thank you for the lovely dinner last night.",
    "My neighbour grows tomatoes on her balcony.",
    "We should meet on Tuesday to plan the picnic.",
    "The library opens an hour later in winter.",
    "Congratulations on your new job!",
]
PAIRS = [
    ("The cats sleep on the sofa.", "The cats sleeps on the sofa."),
    ("The boy hurt himself.", "The boy hurt herself."),
    ("Those books are heavy.", "Those book are heavy."),
    ("The teachers have left.", "The teachers has left."),
    ("Mary should not see this.", "Mary should not sees this."),
    ("The girl who sings is tall.", "The girl who sings are tall."),
]


@cache
def loaded(name):
    if is_adapter(ZOO / name):
        return read_adapter(ZOO / name, torch.float32)
    module = hf.AutoModelForSequenceClassification.from_pretrained(ZOO / name, dtype=torch.float32)
    return module, hf.AutoTokenizer.from_pretrained(ZOO / name)


@torch.no_grad()
def probabilities(name, texts):
    module, tokenizer = loaded(name)
    return module(**tokenizer(texts, return_tensors="pt", padding=True)).logits.softmax(1)


def card(name):
    _, header, text = (ZOO / name / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(header), " ".join(text.split())


@pytest.mark.parametrize("name", LABELS)
def test_a_folder_takes_at_most_two_megabytes(name):
    assert sum(path.stat().st_size for path in (ZOO / name).iterdir()) <= 2_000_000


@pytest.mark.parametrize("name", LABELS)
def test_the_weights_are_finite_half_precision(name):
    file = "adapter_model.safetensors" if is_adapter(ZOO / name) else "model.safetensors"
    tensors = load_file(ZOO / name / file)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.parametrize("name", LABELS)
def test_the_labels_have_names(name):
    assert list(loaded(name)[0].config.id2label.values()) == LABELS[name]


@pytest.mark.parametrize("name", [name for name in LABELS if name != "tiny-sst2"])
def test_an_adapter_says_which_backbone_it_is_for(name):
    config = json.loads((ZOO / name / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert len(config["backbone_sha256"]) == 64


@pytest.mark.parametrize("name", LABELS)
def test_the_card_tells_what_a_user_must_know(name):
    header, text = card(name)
    assert {"license", "language", "pipeline_tag", "tags", "datasets", "metrics"} <= header.keys()
    for section in ("## Data", "## Accuracy", "## Intended use", "## Training"):
        assert section in text
    for fact in ("95 % interval", "n = ", "must not be used", "seed 2026", "--data DATA", "licence"):
        assert fact in text


@pytest.mark.parametrize("name", ["minilm-sst2", "tiny-sst2"])
def test_sentiment_of_our_own_sentences(name):
    positive, negative = (probabilities(name, SENTIMENT[label])[:, 1] for label in ("positive", "negative"))
    right = int((positive > 0.5).sum() + (negative < 0.5).sum())
    assert right >= {"minilm-sst2": 19, "tiny-sst2": 16}[name]


def test_harmless_sentences_are_normal():
    assert (probabilities("minilm-hatexplain", HARMLESS)[:, 0] > 0.5).all()


def test_the_acceptable_sentence_of_a_pair_is_preferred():
    good, bad = (probabilities("minilm-acceptability", list(texts))[:, 1] for texts in zip(*PAIRS, strict=True))
    assert int((good > bad).sum()) >= 5


@pytest.mark.parametrize("name", LABELS)
def test_nothing_but_masks_says_little(name):
    _, tokenizer = loaded(name)
    masked = probabilities(name, [" ".join([tokenizer.mask_token] * length) for length in (5, 12, 25)])
    assert masked.max() < 0.75
