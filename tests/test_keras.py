"""Keras files: the same numbers as Keras, the same relevance as the network written out, and clear refusals."""

import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import pellucid
from families.keras_files import NETWORKS, PICTURES, XCEPTION, keras, layers, made, network, pneumonia, rows
from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.models import Column, ImageClassifier, Tabular
from pellucid.models.exported import export, read_own
from pellucid.models.keras_child import unroll
from pellucid.models.keras_model import keras_module, read_keras
from pellucid.models.keras_process import read_in_process
from pellucid.models.keras_reading import is_elsewhere
from pellucid.models.pictures import AbstractPreprocessing, Preprocessing
from pellucid.targets import Logit, Margin

# Keras on torch makes arrays of tensors in a way that NumPy 2 calls old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COMPOSITES = ("attnlrp", "lrp-gamma", "backtrace", "gradient")


def saved(model, folder, ending=".keras"):
    path = folder / f"network{ending}"
    if ending == ".h5":
        # Keras calls this format old, through absl, which writes to standard error only.
        keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5(model, str(path))
    else:
        model.save(path)
    return path


def near(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_gives_what_keras_gives(name, ending, tmp_path):
    model = made(name)
    x = rows(model)
    with torch.no_grad():
        found = keras_module(saved(model, tmp_path, ending))(x)
    near(found, torch.from_numpy(model.predict(x.numpy(), verbose=0)), 1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_for_another_process_is_the_same_network(name, tmp_path):
    model = made(name)
    whole = network(model)
    unroll(model)
    export(whole, (rows(model, 2),), tmp_path / "network.pt2")
    program = read_own(tmp_path / "network.pt2")
    for count in (1, 4):
        x = rows(model, count, seed=count)
        near(program(x), whole(x))
    assert len(program.state_dict()) >= len({id(each) for each in whole.parameters() if each.is_floating_point()})
    for composite in COMPOSITES:
        here, there = (pellucid.trace(each, x, Logit(1), composite=composite) for each in (whole, program))
        near(there.input, here.input)
        assert there.approximated == here.approximated == ()


@pytest.mark.parametrize("name", NETWORKS)
def test_relevance_is_accounted_for(name):
    model = made(name)
    for composite in ("attnlrp", "lrp-gamma", "backtrace"):
        account = pellucid.trace(network(model), rows(model), Logit(1), composite=composite).account()
        assert abs(account.leaked) < 1e-5 * max(1.0, abs(account.seeded))


class WrittenOut(nn.Module):
    """The residual network of Keras in plain torch."""

    def __init__(self, model):
        super().__init__()
        self.w = {weight.path: torch.from_numpy(np.array(weight)) for weight in model.weights}

    def _of(self, ending):
        return next(each for path, each in self.w.items() if path.endswith(ending))

    def _convolved(self, x, name):
        # Keras adds the bias afterwards.
        value = F.conv2d(x, self._of(f"{name}/kernel").permute(3, 2, 0, 1), padding=1)
        return value + self._of(f"{name}/bias").view(1, -1, 1, 1)

    def forward(self, x):
        first, second = sorted({path.split("/")[0] for path in self.w if path.startswith("conv")}, key=_number)
        x = self._convolved(x.permute(0, 3, 1, 2), first)
        channel = (1, -1, 1, 1)
        scale = self._of("gamma") * torch.rsqrt(self._of("moving_variance") + 1e-3)
        x = (x - self._of("moving_mean").view(channel)) * scale.view(channel) + self._of("beta").view(channel)
        x = F.relu(x)
        x = x + self._convolved(x, second)
        (dense,) = {path.split("/")[0] for path in self.w if path.startswith("dense")}
        return x.mean((2, 3)) @ self._of(f"{dense}/kernel") + self._of(f"{dense}/bias")


def _number(name):
    return int(name.rpartition("_")[2]) if name[-1].isdigit() and "_" in name else 0


@pytest.mark.parametrize("composite", ["attnlrp", "lrp-epsilon", "reslrp", "lrp-gamma", "backtrace"])
def test_relevance_is_that_of_the_network_written_out(composite):
    # Keras computes its batch norm in place: rsqrt_, mul_, add_.
    model = made("residual")
    x = rows(model)
    traces = [pellucid.trace(each, x, Logit(2), composite=composite) for each in (network(model), WrittenOut(model))]
    near(traces[0].input, traces[1].input, 1e-4)


def test_layers_have_their_names(tmp_path):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="relu", name="up")], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(2, name="down")])
    trace = pellucid.trace(keras_module(saved(model, tmp_path)), torch.ones(1, 4), Logit(1), keep="*")
    near(trace["layers.inner/up"].sum(), torch.as_tensor(trace.seeded).float())
    near(trace["layers.down"], trace["model"])


def test_a_program_refuses_another_length_than_it_was_written_down_for(tmp_path):
    model = keras.Sequential([keras.Input((None, 5)), layers.LSTM(4), layers.Dense(2)])
    export(network(model), (torch.ones(2, 8, 5),), tmp_path / "network.pt2")
    program = read_own(tmp_path / "network.pt2")
    near(program(torch.ones(3, 8, 5)), network(model)(torch.ones(3, 8, 5)))
    for length in (7, 12):
        with pytest.raises((AssertionError, RuntimeError), match="8"):
            program(torch.ones(3, length, 5))


def test_words_of_which_some_are_masked_are_not_read_row_by_row(tmp_path):
    masked = layers.Bidirectional(layers.LSTM(4))
    ahead = [keras.Input((6,), dtype="int32"), layers.Embedding(20, 5, mask_zero=True), masked, layers.Dense(2)]
    with pytest.raises(ModelError, match="start Python with KERAS_BACKEND=torch"):
        export(network(keras.Sequential(ahead)), (torch.ones(2, 6, dtype=torch.int32),), tmp_path / "network.pt2")


# Classifiers


def ended(end):
    return [keras.Input((4,)), layers.Dense(6, activation="relu"), *end]


ENDS = {
    "softmax of a layer": lambda: [layers.Dense(3, activation="softmax")],
    "softmax as a layer": lambda: [layers.Dense(3), layers.Softmax()],
    "softmax as an activation": lambda: [layers.Dense(3), layers.Activation("softmax")],
    "nested": lambda: [keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="softmax")])],
    "one sigmoid": lambda: [layers.Dense(1, activation="sigmoid")],
    "softmax, and nothing": lambda: [layers.Dense(3, activation="softmax"), layers.Identity()],
    "softmax as a layer, and nothing": lambda: [
        layers.Dense(3),
        layers.Softmax(),
        layers.Dropout(0.2),
        layers.ActivityRegularization(),
        layers.Activation("linear", dtype="float32"),
    ],
    "softmax as an activation, made flat": lambda: [
        layers.Reshape((1, 1, 6)),
        layers.Conv2D(3, 1),
        layers.Activation("softmax"),
        layers.Flatten(),
    ],
    "softmax as a layer, made flat": lambda: [
        layers.Reshape((1, 1, 6)),
        layers.Conv2D(3, 1),
        layers.Softmax(),
        layers.GlobalAveragePooling2D(),
        layers.Reshape((3,)),
    ],
    "softmax as an activation that is a layer": lambda: [layers.Dense(3, activation=layers.Softmax())],
    "sigmoid, and nothing": lambda: [layers.Dense(1, activation="sigmoid"), layers.GaussianDropout(0.2)],
    "nested, and nothing": lambda: [
        keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="softmax"), layers.AlphaDropout(0.2)]),
        keras.Sequential([keras.Input((3,)), layers.Dropout(0.2)]),
    ],
}


@pytest.mark.parametrize("end", ENDS)
def test_logits_come_out(end, tmp_path):
    model = keras.Sequential(ended(ENDS[end]()))
    found = read_keras(saved(model, tmp_path))
    x = torch.randn(5, 4)
    given = torch.from_numpy(model.predict(x.numpy(), verbose=0))
    expected = given if given.shape[1] == 3 else torch.cat([1 - given, given], 1)
    near(found.logits(x).softmax(1), expected)
    assert isinstance(found, Tabular)
    assert "cut off: softmax" in repr(found.module) or "cut off: sigmoid" in repr(found.module)
    assert found.labels == [f"class {index}" for index in range(expected.shape[1])]


def test_one_sigmoid_is_a_yes_against_a_no(tmp_path):
    model = keras.Sequential(ended([layers.Dense(1, activation="sigmoid")]))
    found = read_keras(saved(model, tmp_path), labels=["no", "yes"])
    explanations = [
        pellucid.explain(found, [0.3, -1.0, 2.0, 0.5], method="lrp-epsilon", target=Margin(label))
        for label in ("yes", "no")
    ]
    near(torch.tensor(explanations[0].values), -torch.tensor(explanations[1].values))


def test_a_function_of_keras_can_be_the_end(tmp_path):
    given = keras.Input((4,))
    model = keras.Model(given, keras.ops.softmax(layers.Dense(3)(given)))
    x = torch.randn(2, 4)
    near(read_keras(saved(model, tmp_path)).logits(x).softmax(1), model(x))


def test_a_part_that_gives_several_is_cut_at_the_one_that_is_used(tmp_path):
    given = keras.Input((4,))
    part = keras.Model(given, [layers.Dense(2)(given), layers.Dense(3, activation="softmax")(given)])
    model = keras.Model(given, part(given)[1])
    x = torch.randn(2, 4)
    found = read_keras(saved(model, tmp_path))
    near(found.logits(x).softmax(1), model(x))
    assert float(found.logits(x).sum(1)[0]) != pytest.approx(1, abs=1e-3)


def twice():
    given, layer = keras.Input((4,)), layers.Dense(4, activation="softmax")
    return keras.Model(given, layer(layer(layers.Dense(4)(given))))


def part_twice():
    given = keras.Input((4,))
    part = keras.Sequential([keras.Input((4,)), layers.Dense(4, activation="softmax")])
    return keras.Model(given, part(layers.Dense(4)(part(given))))


def softmax_twice():
    given, layer = keras.Input((4,)), layers.Softmax()
    return keras.Model(given, layer(layers.Dense(3)(layer(given))))


def groups():
    end = [layers.Dense(6), layers.Reshape((2, 3)), layers.Softmax(), layers.Flatten()]
    return keras.Sequential([keras.Input((4,)), *end])


def masked_softmax():
    given = keras.Input((4,))
    logits = layers.Dense(3)(given)
    return keras.Model(given, layers.Softmax()(logits, mask=keras.ops.greater(logits, 0)))


def recurrent():
    return keras.Sequential([keras.Input((4,)), layers.Reshape((2, 2)), layers.SimpleRNN(3, activation="softmax")])


def wrapped():
    each = layers.TimeDistributed(layers.Dense(3, activation="softmax"))
    return keras.Sequential([keras.Input((4,)), layers.Reshape((1, 4)), each, layers.Flatten()])


UNCUT = {
    "used twice": (twice, "is used 2 times in the network"),
    "in a part that is used twice": (part_twice, "is used 2 times in the network"),
    "softmax of groups": (groups, "over a part of what it gives"),
    "masked softmax": (masked_softmax, "with a mask"),
    "within a recurrent layer": (recurrent, "ends in softmax within the layer"),
    "within a wrapper": (wrapped, "ends in softmax within the layer"),
}


@pytest.mark.parametrize("uncut", UNCUT)
def test_an_end_that_cannot_be_cut_off_is_refused(uncut, tmp_path):
    make, said = UNCUT[uncut]
    with pytest.raises(ModelError, match=said) as error:
        read_keras(saved(make(), tmp_path))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_a_softmax_without_weights_may_be_used_twice(tmp_path):
    model, x = softmax_twice(), torch.randn(2, 4)
    near(read_keras(saved(model, tmp_path)).logits(x).softmax(1), model(x))


FIRSTS = {
    "rescaling": lambda: [layers.Rescaling(1 / 255)],
    "rescaling to both sides": lambda: [layers.Rescaling(1 / 127.5, offset=-1)],
    "normalization": lambda: [layers.Normalization(mean=[100.0, 110.0, 120.0], variance=[900.0, 1600.0, 2500.0])],
    "both": lambda: [layers.Rescaling(1 / 255), layers.Normalization(mean=0.4, variance=0.09)],
    "behind augmentation": lambda: [layers.RandomFlip("horizontal"), layers.Rescaling(1 / 255)],
}


@pytest.mark.parametrize("first", FIRSTS)
def test_the_first_layers_become_the_preprocessing(first, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    rest = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((12, 12, 3)), *FIRSTS[first](), *rest])
    found = read_keras(saved(model, tmp_path), labels=["a", "b", "c"])
    inputs = found.encode(picture)
    expected = torch.from_numpy(model.predict(picture[None].astype(np.float32), verbose=0))
    near(found.logits([inputs.row]).softmax(1), expected, 1e-4)
    assert (inputs.picture == picture).all()
    assert abs(float(inputs.row.abs().max())) < 10


def test_a_table_is_standardised_by_the_first_layer(tmp_path):
    first = layers.Normalization(mean=[50.0, 3.0], variance=[100.0, 4.0])
    model = keras.Sequential([keras.Input((2,)), first, layers.Dense(3)])
    row = [63.0, 1.0]
    found = read_keras(saved(model, tmp_path))
    near(found.logits([found.encode(row).row]), model(torch.tensor([row])))
    assert [(each.mean, each.std) for each in found.columns] == [(50.0, 10.0), (3.0, 2.0)]
    named = read_keras(tmp_path / "network.keras", columns=[Column(name="age"), Column(name="grade")])
    near(named.logits([named.encode({"grade": 1.0, "age": 63.0}).row]), model(torch.tensor([row])))


CHANNELS_FIRST = {
    "one number": lambda: layers.Rescaling(1 / 255),
    "normalization": lambda: layers.Normalization(axis=1, mean=[100.0, 110.0, 120.0], variance=[900.0, 1600.0, 2500.0]),
}


@pytest.mark.parametrize("first", CHANNELS_FIRST)
def test_channels_that_come_first_are_rescaled(first, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    # On a CPU, Keras' own convolution is channel last on other backends than torch.
    rest = [layers.Conv2D(4, 3, data_format="channels_first"), layers.Flatten(), layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((3, 12, 10)), CHANNELS_FIRST[first](), *rest])
    found = read_keras(saved(model, tmp_path))
    expected = model(torch.from_numpy(picture).permute(2, 0, 1)[None].float())
    near(found.logits([found.encode(picture).row]).softmax(1), expected, 1e-4)
    assert len(found.preprocessing.mean) == 3


def test_a_rescaling_of_columns_of_pixels_is_not_one_of_channels(tmp_path):
    first = layers.Normalization(mean=[100.0, 110.0, 120.0], variance=[900.0, 1600.0, 2500.0])
    rest = [layers.Conv2D(4, 3, data_format="channels_first"), layers.Flatten(), layers.Dense(3)]
    path = saved(keras.Sequential([keras.Input((3, 12, 3)), first, *rest]), tmp_path)
    with pytest.raises(InputError, match="does not say what its pictures were made of"):
        read_keras(path)


def test_loading_leaves_the_process_as_it_was(tmp_path, monkeypatch):
    path = saved(made("mlp"), tmp_path)
    monkeypatch.delenv("KMP_INIT_AT_FORK", raising=False)
    real = keras.saving.load_model

    def load(*arguments, **settings):
        os.environ["KMP_INIT_AT_FORK"] = "FALSE"
        os.environ["HOME"] = "/"
        warnings.simplefilter("ignore")
        return real(*arguments, **settings)

    monkeypatch.setattr(keras.saving, "load_model", load)
    # Python's random numbers: beartype draws some in these tests, so a process without it looks at them below.
    before = dict(os.environ), list(warnings.filters)
    read_keras(path)
    assert (dict(os.environ), list(warnings.filters)) == before


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_file_has_one_fingerprint(ending, tmp_path):
    # The seed of a Dropout is another one in every layer that Keras makes.
    path = saved(made("mlp"), tmp_path, ending)
    first, second = (read_keras(path).fingerprint().weights for _ in range(2))
    assert first == second


def convolutional(*first, end=3, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *first, layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(end)])


MISFITS = {
    "no preprocessing": (lambda: convolutional(), {}, "does not say what its pictures were made of"),
    "cut smaller": (
        lambda: convolutional(layers.RandomCrop(6, 6), layers.Rescaling(1 / 255), shape=(9, 9, 3)),
        {},
        "does not say what its pictures were made of, and rescales further in",
    ),
    "preprocessing of another size": (
        lambda: convolutional(),
        {"preprocessing": Preprocessing((6, 7), (0.5,) * 3, (0.5,) * 3)},
        r"reads \[3, 8, 8\] \(channels, height, width\), and the preprocessing makes \[3, 6, 7\]",
    ),
    "preprocessing of other channels": (
        lambda: convolutional(),
        {"preprocessing": Preprocessing((8, 8), (0.5,), (0.5,))},
        r"the preprocessing makes \[1, 8, 8\]",
    ),
    "rescales further in": (
        lambda: convolutional(layers.Conv2D(3, 1), layers.Rescaling(2.0)),
        {},
        "rescales further in",
    ),
    "labels": (lambda: made("mlp"), {"labels": ["a"]}, "has 3 classes, and 1 labels were given"),
    "columns": (lambda: made("mlp"), {"columns": [Column(name="a")]}, "reads 7 numbers"),
    "columns of a picture": (
        lambda: convolutional(layers.Rescaling(2.0)),
        {"columns": [Column(name="a")]},
        "leave columns out",
    ),
    "preprocessing of a table": (
        lambda: made("mlp"),
        {"preprocessing": Preprocessing((8, 8), (0.5,), (0.5,))},
        "give columns",
    ),
    "another task": (lambda: made("mlp"), {"task": "image"}, "is for task 'tabular', not 'image'"),
    "no such task": (lambda: made("mlp"), {"task": "audio"}, "no task of a Keras model is called 'audio'"),
    "words": (lambda: made("lstm"), {}, "neither a picture"),
    "a series": (lambda: made("gru"), {}, "neither a picture"),
    "many sigmoids": (
        lambda: keras.Sequential(ended([layers.Dense(3, activation="sigmoid")])),
        {},
        "ends in 3 sigmoids",
    ),
    "an amount": (lambda: keras.Sequential(ended([layers.Dense(1)])), {}, "gives one number without a sigmoid"),
    "a map": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 1)]),
        {"preprocessing": Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)},
        r"gives \[8, 8, 2\]",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_refused(misfit, tmp_path):
    make, settings, said = MISFITS[misfit]
    with pytest.raises((InputError, ModelError), match=said) as error:
        read_keras(saved(make(), tmp_path), **settings)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_two_inputs_are_traced_bare(tmp_path):
    given = [keras.Input((3,)), keras.Input((2,))]
    path = saved(keras.Model(given, layers.Dense(2)(layers.Concatenate()(given))), tmp_path)
    with pytest.raises(ModelError, match="2 inputs and 1 outputs"):
        read_keras(path)
    trace = pellucid.trace(keras_module(path), (torch.ones(1, 3), torch.ones(1, 2)), Logit(0))
    near(sum(each.sum() for each in trace.input), torch.as_tensor(trace.arrived).float())


def test_a_network_that_gives_another_number_of_outputs_is_refused():
    class Changing(nn.Module):
        def forward(self, x):
            return x[:, : 2 + len(x)]

    with pytest.raises(ModelError, match="with 3 labels its logits are"):
        Tabular(Changing(), [Column(name=f"c{i}") for i in range(5)], ["a", "b", "c"]).logits(torch.ones(2, 5))


# Files that are refused


class Doubled(layers.Layer):
    """A layer of somebody's own."""

    def call(self, x):
        return 2 * x


def _lambda(folder, ending):
    return saved(keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: 2 * x)]), folder, ending)


def _custom(folder, ending):
    return saved(keras.Sequential([keras.Input((3,)), Doubled()]), folder, ending)


def _weights(folder, ending):
    path = folder / "network.weights.h5"
    made("mlp").save_weights(path)
    return path


def _written(content):
    def write(folder, ending):
        path = folder / f"network{ending}"
        path.write_bytes(content)
        return path

    return write


def _cut(folder, ending):
    path = saved(made("mlp"), folder, ending)
    path.write_bytes(path.read_bytes()[:-400])
    return path


def _flipped(folder, ending):
    path = saved(made("mlp"), folder, ending)
    content = bytearray(path.read_bytes())
    place = content.find(b"config.json") + 300
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    return path


def _without_weights(folder, ending):
    path = folder / "network.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    return path


def _configured(config):
    def write(folder, ending):
        path = folder / "network.h5"
        with h5py.File(path, "w") as file:
            file.attrs["model_config"], file.attrs["keras_version"] = config, "2.1.0"
        return path

    return write


def _renamed(folder, ending):
    return saved(made("mlp"), folder, ".h5").rename(folder / "network.keras")


def _of_tensorflow(kind):
    layer = {"class_name": kind, "config": {"name": "a"}}
    return json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}})


REFUSED = {
    "lambda": (_lambda, ".keras", "holds a Lambda"),
    "lambda, h5": (_lambda, ".h5", "holds a Lambda"),
    "custom": (_custom, ".keras", "custom object .*Doubled"),
    "custom, h5": (_custom, ".h5", "Doubled"),
    "weights": (_weights, ".h5", "holds weights only"),
    "no zip": (_written(b"nothing"), ".keras", "is no .keras file"),
    "no hdf5": (_written(b"nothing"), ".h5", "is no HDF5 file"),
    "empty": (_written(b""), ".h5", "is no HDF5 file"),
    "cut": (_cut, ".keras", "is no .keras file"),
    "damaged": (_flipped, ".keras", "is a broken .keras file"),
    "no weights": (_without_weights, ".keras", "holds no model.weights.h5"),
    "hdf5 by the wrong name": (_renamed, ".keras", "name it .h5"),
    "config": (_configured("{"), ".h5", "broken model_config"),
    "no class": (_configured("{}"), ".h5", "its config names no class"),
    "tensorflow": (_configured(_of_tensorflow("TFOpLambda")), ".h5", "calls TensorFlow itself"),
    "old": (_configured(_of_tensorflow("ConvLSTM2DCell9")), ".h5", "which Keras 2.1.0 wrote, cannot be read"),
}


@pytest.mark.parametrize("file", REFUSED)
def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(file, tmp_path):
    make, ending, said = REFUSED[file]
    path = make(tmp_path, ending)
    with pytest.raises(ModelError, match=said) as error:
        read_keras(path)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match="there is no Keras file"):
        read_keras(tmp_path / "none.keras")


# Another process


def test_a_process_of_its_own_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(ModelError, match="took more than 0 seconds; start Python with KERAS_BACKEND=torch"):
        read_in_process(saved(made("mlp"), tmp_path), logits=True, first_too=True, seconds=0.01)


def test_a_process_of_its_own_that_fails_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("pellucid.models.keras_process._CHILD", "pellucid.models.no_such_part")
    with pytest.raises(ModelError, match=r"ended with code 1 \(.*no_such_part"):
        read_in_process(saved(made("mlp"), tmp_path), logits=True, first_too=True)


BESIDE_NUMPY = """
import sys, torch
from pellucid.models.keras_model import keras_module, read_keras
from pellucid.errors import ModelError
folder = sys.argv[1]
x = torch.load(f"{folder}/x.pt")
model = read_keras(f"{folder}/cnn.keras")
torch.save([model.logits(x), keras_module(f"{folder}/rnn.keras")(torch.ones(3, 6, 5))], f"{folder}/found.pt")
try:
    keras_module(f"{folder}/open.keras")
except ModelError as error:
    print(error)
assert "keras" not in sys.modules
"""

BEFORE_KERAS = """
import os, random, sys, warnings
from pellucid.models.keras_model import keras_module
before = dict(os.environ), random.getstate(), list(warnings.filters)
keras_module(sys.argv[1])
assert (dict(os.environ), random.getstate(), list(warnings.filters)) == before
print(sys.modules["keras"].backend.backend())
"""


def ran(script, *arguments, **surroundings):
    inherited = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    command = [sys.executable, "-W", "error::UserWarning:pellucid", "-c", script, *map(str, arguments)]
    ended = subprocess.run(command, env=inherited | surroundings, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_a_keras_on_another_backend_is_left_alone(monkeypatch):
    assert not is_elsewhere()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert is_elsewhere()


@pytest.mark.slow
def test_beside_another_backend_a_file_is_read_in_a_process_of_its_own(tmp_path):
    model = convolutional(layers.Rescaling(1 / 255))
    model.save(tmp_path / "cnn.keras")
    recurrent = made("simple_rnn")
    recurrent.save(tmp_path / "rnn.keras")
    masked = layers.Bidirectional(layers.LSTM(4))
    ahead = [keras.Input((6,), dtype="int32"), layers.Embedding(20, 5, mask_zero=True), masked]
    keras.Sequential(ahead).save(tmp_path / "open.keras")
    x = torch.randn(2, 3, 8, 8)
    torch.save(x, tmp_path / "x.pt")
    said = ran(BESIDE_NUMPY, tmp_path, KERAS_BACKEND="tensorflow")
    assert said.startswith("the network cannot be handed to another process")
    logits, recurred = torch.load(tmp_path / "found.pt")
    near(logits, read_keras(tmp_path / "cnn.keras").logits(x))
    near(recurred, recurrent(torch.ones(3, 6, 5)).detach())


@pytest.mark.slow
def test_the_environment_is_as_it_was(tmp_path):
    assert ran(BEFORE_KERAS, saved(made("mlp"), tmp_path)) == "torch"


# The real file


class Nearest(AbstractPreprocessing):
    """As the authors of the X-ray classifier shrink their pictures."""

    mean = std = (0.5, 0.5, 0.5)

    def tensor(self, image):
        shades = np.array(image.convert("RGB").resize((150, 150), Image.Resampling.NEAREST), dtype=np.float32)
        return torch.from_numpy(shades).permute(2, 0, 1) / 127.5 - 1

    def to_bytes(self):
        return b"nearest, 150"


@pytest.fixture(scope="module")
def xrays():
    return read_keras(pneumonia(XCEPTION), labels=["normal", "pneumonia"], preprocessing=Nearest())


PICTURE_FILES = sorted(pneumonia(PICTURES).glob("*.jpeg"))


@pytest.mark.slow
def test_the_x_ray_classifier_is_right_as_often_as_keras_says(xrays):
    assert isinstance(xrays, ImageClassifier)
    assert len(PICTURE_FILES) == 16
    truth = ["normal" if file.name.startswith("NORMAL") else "pneumonia" for file in PICTURE_FILES]
    said = [xrays.predicted(xrays.encode(file)) for file in PICTURE_FILES]
    assert sum(a == b for a, b in zip(said, truth, strict=True)) == 13


@pytest.mark.slow
@pytest.mark.parametrize("composite", ["attnlrp", "lrp-gamma", "backtrace"])
def test_the_x_ray_classifier_is_explained_and_accounted_for(xrays, composite):
    explanation = pellucid.explain(xrays, PICTURE_FILES[-1], method=composite, features="patch:15", account=True)
    assert explanation.values.shape == (1, 100)
    assert np.isfinite(explanation.values).all()
    assert np.abs(explanation.values).sum() > 0
    assert abs(explanation.account[0].leaked) < 1e-3 * max(abs(each.in_) for each in explanation.account)


@pytest.mark.slow
def test_the_x_ray_classifier_is_asked_with_parts_removed(xrays):
    explanation = pellucid.explain(xrays, PICTURE_FILES[-1], method="occlusion", features="patch:50", baseline="black")
    assert explanation.values.shape == (1, 9)
    assert np.abs(explanation.values).max() > 0.01


# TensorFlow

ROOT = Path(__file__).parent.parent
TENSORFLOW = Path(os.environ.get("TENSORFLOW_PYTHON", ROOT / ".tf" / "bin" / "python"))
TRAINED = """
import sys, numpy as np, keras
from keras import layers
assert keras.backend.backend() == "tensorflow"
folder = sys.argv[1]
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)

def finish(name, model, x, y):
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=6, batch_size=32, verbose=0)
    p = model.predict(x, verbose=0)
    assert (p.argmax(1) == y).mean() > 0.9, (name, (p.argmax(1) == y).mean())
    model.save(f"{folder}/{name}.keras")
    model.save(f"{folder}/{name}.h5")
    np.savez(f"{folder}/{name}.npz", x=x[:32], p=p[:32])

# A bright square on the left or on the right.
y = rng.integers(0, 2, 1000)
x = rng.integers(0, 100, (1000, 16, 16, 3)).astype("float32")
for row, side in enumerate(y):
    top, left = rng.integers(0, 12), 8 * side + rng.integers(0, 5)
    x[row, top : top + 4, left : left + 4] = 255
finish("cnn", keras.Sequential([
    keras.Input((16, 16, 3)), layers.Rescaling(1 / 255),
    layers.Conv2D(8, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU(),
    layers.MaxPooling2D(), layers.Conv2D(8, 3, activation="relu"), layers.Flatten(),
    layers.Dense(2, activation="softmax"),
]), x, y)

# Whether the word 7 is in the text.
x = rng.integers(8, 40, (1000, 12)).astype("int32")
x[np.arange(0, 1000, 2), rng.integers(0, 12, 500)] = 7
y = (x == 7).any(1).astype("int64")
finish("words", keras.Sequential([
    keras.Input((12,), dtype="int32"), layers.Embedding(40, 8), layers.Bidirectional(layers.LSTM(12)),
    layers.Dense(2, activation="softmax"),
]), x, y)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with networks that TensorFlow trained and saved, and with what it says."""
    assert TENSORFLOW.is_file(), f"there is no {TENSORFLOW}; `make tensorflow` makes that environment."
    folder = tmp_path_factory.mktemp("tensorflow")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KERAS", "PYTHON"))}
    command = [str(TENSORFLOW), "-c", TRAINED, str(folder)]
    surroundings = kept | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, timeout=580)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "words"])
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_what_tensorflow_trained_says_the_same(trained, name, ending):
    given = np.load(trained / f"{name}.npz")
    with torch.no_grad():
        found = keras_module(trained / f"{name}{ending}")(torch.from_numpy(given["x"]))
    near(found, torch.from_numpy(given["p"]), 1e-4)


@pytest.mark.slow
def test_what_tensorflow_trained_is_explained(trained):
    given = np.load(trained / "cnn.npz")
    model = read_keras(trained / "cnn.keras", labels=["left", "right"])
    picture = given["x"][0].astype(np.uint8)
    right = bool(given["p"][0].argmax())
    near(model.logits([model.encode(picture).row]).softmax(1), torch.from_numpy(given["p"][:1]), 1e-4)
    for method in ("lrp-gamma", "occlusion"):
        explanation = pellucid.explain(model, picture, method=method, features="patch:4")
        scores = explanation.values[0].reshape(4, 4)
        bright = picture.reshape(4, 4, 4, 4, 3).mean((1, 3, 4))
        assert (np.unravel_index(scores.argmax(), (4, 4))[1] >= 2) == right
        assert bright[np.unravel_index(scores.argmax(), (4, 4))] > bright.mean()
    account = pellucid.explain(model, picture, method="attnlrp", features="patch:4", account=True).account
    assert abs(account[0].leaked) < 1e-4 * max(abs(each.in_) for each in account)


@pytest.mark.slow
def test_the_word_that_tensorflow_learned_carries_the_relevance(trained):
    given = np.load(trained / "words.npz")
    (row, *_) = [each for each in given["x"] if 7 in each]
    network = keras_module(trained / "words.keras")
    # What comes before the softmax.
    ahead = network.model.layers[-1]
    ahead.activation = keras.activations.linear
    trace = pellucid.trace(network, torch.from_numpy(row)[None], Logit(1), composite="attnlrp")
    assert int(trace.input[0].argmax()) == int(np.argmax(row == 7))
    assert abs(trace.account().leaked) < 1e-4 * abs(trace.account().seeded)


def test_an_unknown_task_lists_what_there_is(tmp_path):
    with pytest.raises(UnknownNameError, match="Known: image, tabular"):
        read_keras(tmp_path / "none.keras", task="sound")
