"""Models from memory: a network, and what encodes its input."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

import pellucid
import tiny
from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.models import Column, ImageClassifier, Preprocessing, Segmentation, Tabular
from pellucid.models.called_preprocessing import CalledPreprocessing

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.5])


def scaled(image):
    """As a transform of torchvision."""
    pixels = torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1) / 255
    return (pixels - MEAN[:, None, None]) / STD[:, None, None]


def network(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, outputs)).eval()


def segformer():
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[3, 3],
        strides=[2, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=8,
        id2label={0: "background", 1: "lesion"}, label2id={"background": 0, "lesion": 1},
    )  # fmt: skip
    return tiny.randomised(lambda: SegformerForSemanticSegmentation(config))


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def test_a_function_from_a_picture_to_a_tensor_says_how_it_normalises():
    called = CalledPreprocessing(scaled)
    torch.testing.assert_close(torch.tensor(called.mean), MEAN, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.tensor(called.std), STD, rtol=1e-5, atol=1e-5)
    assert (called.picture(called.tensor(picture())) == np.array(picture())).all()
    assert called.to_bytes() == CalledPreprocessing(scaled).to_bytes()
    assert called.to_bytes() != CalledPreprocessing(lambda image: scaled(image) * 2).to_bytes()


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (np.array, "gives a tensor"),
        (lambda image: scaled(image)[0], r"not \[8, 8\]"),
        (lambda image: scaled(image) ** 3, "does not scale each channel"),
        (lambda image: scaled(image) * 0, "does not scale each channel"),
        (lambda image: scaled(image) * torch.arange(1, 9), "does not scale each channel"),
        (lambda image: (scaled(image) * STD[:, None, None]).flip(0), "in another order than red, green, blue"),
        (lambda image: scaled(image.missing), "cannot read a picture of .*AttributeError"),
    ],
)
def test_a_function_that_is_no_preprocessing_is_refused(function, says):
    with pytest.raises(InputError, match=says):
        pellucid.load((network(), function), task="image")


@pytest.mark.parametrize("preprocessing", [scaled, Preprocessing((8, 8), tuple(MEAN.tolist()), tuple(STD.tolist()))])
def test_pictures_are_explained_by_a_network_from_memory(preprocessing):
    model = pellucid.load((network(), preprocessing), task="image")
    assert isinstance(model, ImageClassifier)
    assert model.labels == ["class 0", "class 1", "class 2"]
    explained = pellucid.explain(model, picture(), method="lrp-epsilon", features="patch:4")
    assert explained.values.shape == (1, 4)
    named = pellucid.load((network(), preprocessing), task="image", labels=["a", "b", "c"])
    assert named.labels == ["a", "b", "c"]


def test_a_network_of_places_is_a_segmentation():
    module = nn.Conv2d(3, 2, 3, padding=1)
    model = pellucid.load((module, scaled), task="segmentation", labels=["background", "lesion"])
    assert isinstance(model, Segmentation)
    explained = pellucid.explain(model, picture(), method="lrp-epsilon", target=pellucid.Pixel("lesion", 3, 3))
    assert explained.values.any()


def test_a_segmentation_of_transformers_is_known_by_its_class():
    module = segformer()
    model = pellucid.load((module, Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)))
    assert isinstance(model, Segmentation)
    assert model.labels == ["background", "lesion"]


def test_rows_of_a_table_are_explained_by_a_network_from_memory():
    module = nn.Linear(3, 2)
    for columns in (["age", "size", "grade"], [Column(name=name) for name in ("age", "size", "grade")]):
        model = pellucid.load((module, columns))
        assert isinstance(model, Tabular)
        explained = pellucid.explain(model, {"age": 1.0, "size": 2.0, "grade": 3.0}, method="lrp-epsilon")
        assert explained.feature_names == ["age", "size", "grade"]
        assert model.labels == ["class 0", "class 1"]


def test_what_does_not_fit_is_refused_in_one_sentence():
    module, tokenizer = tiny.encoder("bert")
    refused = [
        ((network(), scaled), {}, InputError, "give task= as one of causal-lm"),
        ((network(), scaled), {"task": "tabular"}, InputError, "goes with its columns"),
        ((network(), tokenizer), {"task": "image"}, InputError, "goes with a Preprocessing"),
        ((network(), tokenizer), {"task": "causal-lm"}, InputError, "a network of transformers, not a Sequential"),
        (
            (network(), scaled),
            {"task": "vision-language"},
            InputError,
            "pictures and texts, not a Sequential",
        ),
        ((module, tokenizer), {"task": "image"}, InputError, r"is a text-classifier \(Bert.*leave task out"),
        ((module, tokenizer), {"labels": ["a"]}, InputError, "labels of .* are its own"),
        ((network(), scaled), {"task": "image", "chat": True}, InputError, "reads no text; leave chat out"),
        ((network(), scaled), {"task": "image", "preprocessing": scaled}, InputError, "second part of the pair"),
        ((network(),), {}, InputError, "is a pair"),
        ((nn.Linear(3, 1), ["a", "b", "c"]), {}, InputError, "gives one number"),
        ((nn.Linear(3, 2), ["a", "a", "b"]), {}, InputError, "two columns called 'a'"),
        ((nn.LSTM(3, 2), ["a", "b", "c"]), {}, InputError, "gave tuple for one input"),
        (("a", scaled), {}, InputError, "is a pair"),
        ((nn.Linear(3, 2), scaled), {"task": "image"}, InputError, "cannot read an input of shape .* labels="),
        ((nn.Linear(3, 2), ["age"]), {}, InputError, "cannot read an input of shape"),
        ((nn.Module(), None), {}, InputError, "nothing says what Module is"),
        ((module.bert, tokenizer), {}, ModelError, "BertModel is neither"),
    ]
    for source, more, error, says in refused:
        with pytest.raises(error, match=says):
            pellucid.load(source, **more)


def test_a_task_that_is_none_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'segmentation'"):
        pellucid.load((network(), scaled), task="segmentaton")


def folder(path, module):
    """A checkpoint with an image processor that normalises nothing, as some networks of segmentation have."""
    module.save_pretrained(path)
    SegformerImageProcessor(size={"height": 16, "width": 16}, do_normalize=False).save_pretrained(path)
    return path


def test_what_an_image_processor_does_is_measured_and_not_believed(tmp_path):
    model = pellucid.load(folder(tmp_path, segformer()))
    assert model.preprocessing.mean == pytest.approx((0, 0, 0), abs=1e-6)
    assert model.preprocessing.std == pytest.approx((1, 1, 1), abs=1e-6)
    shown = model.encode(Image.new("RGB", (16, 16), (250, 129, 5))).picture
    assert (shown == (250, 129, 5)).all()


def test_weights_that_would_be_random_are_refused(tmp_path):
    path = folder(tmp_path, segformer())
    with pytest.raises(InputError, match=r"is a segmentation \(Segformer.*leave task out"):
        pellucid.load(path, task="image")
    tensors = load_file(path / "model.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if "decode_head" not in k}, path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"holds no weights for decode_head.* random"):
        pellucid.load(path)


def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path):
    path = folder(tmp_path, segformer())
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="could not be loaded"):
        pellucid.load(path)
    (path / "model.safetensors").write_bytes(whole)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"decoder_hidden_size": 12}))
    with pytest.raises(ModelError, match="could not be loaded"):
        pellucid.load(path)
