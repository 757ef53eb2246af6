"""A Keras model on the torch backend as a torch module: its layers by name, its logits, what it expects to read.

Keras itself is handed in wherever it is needed: whoever imports it first decides its backend for the whole process.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from pellucid.errors import ModelError

Cut = Literal["softmax", "sigmoid", "none"]
Shape = tuple[int | None, ...]

_RESCALING = ("Rescaling", "Normalization")
# What only moves where the network is trained.
_AUGMENTING = re.compile("Random|Dropout|GaussianNoise")


@dataclass(frozen=True)
class KerasFacts:
    """What a Keras model reads and gives, as far as the file says."""

    inputs: tuple[Shape, ...]
    """Shape of each input, the batch first; None where any size goes."""
    dtypes: tuple[str, ...]
    """Dtype of each input."""
    outputs: tuple[Shape, ...]
    """Shape of each output."""
    cut: Cut = "none"
    """The activation of the last layer, which was cut off so that logits come out."""
    mean: tuple[float, ...] = ()
    """Mean of each channel or column that a first layer subtracted, which was cut off; empty where none was."""
    std: tuple[float, ...] = ()
    """What it divided by."""
    rescales: str = ""
    """The name of a layer further in that rescales what the network reads."""
    channels_first: bool = False
    """Whether pictures come as [batch, channel, height, width]."""


class KerasNetwork(nn.Module):
    """A Keras model, whose layers are modules by their names: ``layers.conv2d_1``, ``layers.xception/block1_conv1``."""

    def __init__(self, keras: Any, model: Any) -> None:
        super().__init__()
        self.model = model
        self.layers = nn.ModuleDict({name.replace(".", "_"): layer for name, layer in _named_layers(model)})
        self._device = keras.device

    def forward(self, *inputs: Shaped[Tensor, "batch ..."]) -> Any:
        """What the model gives in inference; several inputs in the order in which it names them."""
        # Keras would put what it makes, and what it is given, on a device of its own choice.
        with self._device(str(inputs[0].device)):
            return self.model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)


class Logits(nn.Module):
    """A Keras model as a classifier of pellucid: pictures come channel first, and one sigmoid becomes two classes."""

    def __init__(self, network: nn.Module, facts: KerasFacts) -> None:
        super().__init__()
        self.network, self.facts = network, facts
        self._moves = len(facts.inputs[0]) == 4 and not facts.channels_first
        self._binary = facts.outputs[0][-1] == 1

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch class"]:
        """Logits."""
        given: Tensor = self.network(x.permute(0, 2, 3, 1) if self._moves else x)
        # The softmax of (0, z) is (1 - sigmoid(z), sigmoid(z)).
        return nn.functional.pad(given, (1, 0)) if self._binary else given

    def extra_repr(self) -> str:
        """What was cut off the file's network."""
        first = f", first layer cut off: mean={self.facts.mean}, std={self.facts.std}" if self.facts.mean else ""
        return f"activation cut off: {self.facts.cut}{first}"


def facts_of(model: Any) -> KerasFacts:
    """The shapes of a model that nothing was cut off."""
    return KerasFacts(
        tuple(tuple(each.shape) for each in model.inputs),
        tuple(str(each.dtype) for each in model.inputs),
        tuple(tuple(each.shape) for each in model.outputs),
    )


def to_logits(keras: Any, model: Any, *, first_too: bool) -> tuple[Any, KerasFacts]:
    """The model without the softmax or sigmoid at its end and, if asked, without a rescaling at its beginning.

    The model itself is changed: it is not to be used any more. Raises ModelError where it cannot be cut.
    """
    facts = facts_of(model)
    end, cut = _cut_end(model)
    begin, folded = _cut_begin(model) if first_too else (model.inputs[0], None)
    if folded is not None:
        try:
            model = keras.Model(begin, end)
        except ValueError:
            # What comes before the rescaling is read elsewhere in the network too.
            begin, folded = model.inputs[0], None
    if folded is None and end is not model.outputs[0]:
        model = keras.Model(begin, end)
    rescales = next((name for name, layer in _named_layers(model) if type(layer).__name__ in _RESCALING), "")
    first = any(getattr(layer, "data_format", "") == "channels_first" for _, layer in _named_layers(model))
    mean, std = folded or ((), ())
    return model, KerasFacts(facts.inputs, facts.dtypes, facts.outputs, cut, mean, std, rescales, first)


def _named_layers(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        yield f"{prefix}{layer.name}", layer
        if isinstance(getattr(layer, "layers", None), list):
            yield from _named_layers(layer, f"{prefix}{layer.name}/")


def _made_by(tensor: Any) -> tuple[Any, Any]:
    """The operation that gives a symbolic tensor of a model, and the tensor that this operation was given."""
    operation, node, _ = tensor._keras_history
    return operation, operation._inbound_nodes[node].input_tensors


def _cut_end(model: Any) -> tuple[Any, Cut]:
    """The tensor of logits, and what came after it."""
    end = model.outputs[0]
    last, given = _made_by(end)
    name = type(last).__name__
    if name in ("Softmax", "Sigmoid"):
        return given[0], "softmax" if name == "Softmax" else "sigmoid"
    if isinstance(getattr(last, "layers", None), list):
        inner_end, cut = _cut_end(last)
        if inner_end is not last.outputs[0]:
            raise ModelError(
                f"the network ends in {cut} within the part {last.name!r}, which cannot be cut off there; save the "
                "model without it."
            )
        return end, cut
    activation = getattr(getattr(last, "activation", None), "__name__", "linear")
    if activation not in ("softmax", "sigmoid"):
        return end, "none"
    last.activation = _linear
    return end, "softmax" if activation == "softmax" else "sigmoid"


def _linear(x: Tensor) -> Tensor:
    return x


def _cut_begin(model: Any) -> tuple[Any, tuple[tuple[float, ...], tuple[float, ...]] | None]:
    """The tensor behind the first layers that only rescale, and the mean and deviation that they stand for."""
    tensor = reached = model.inputs[0]
    scale, shift = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for layer, output in _chain(model):
        kind = type(layer).__name__
        found = _affine(layer, tensor.shape[-1]) if kind in _RESCALING else None
        if found is None and not _AUGMENTING.match(kind):
            break
        tensor = output
        if found is not None:
            reached, (scale, shift) = output, (scale * found[0], shift * found[0] + found[1])
    if reached is model.inputs[0] or not bool((scale > 0).all()):
        return model.inputs[0], None
    return reached, (tuple((0 - shift / scale).tolist()), tuple((1 / scale).tolist()))


def _chain(model: Any) -> Iterator[tuple[Any, Any]]:
    """The layers that a model's input goes through one after the other, until it branches, with their outputs."""
    tensor, path = model.outputs[0], []
    while tensor is not model.inputs[0]:
        layer, given = _made_by(tensor)
        path.append((layer, tensor))
        if not given:
            return
        tensor = given[0]
    yield from reversed(path)


def _affine(layer: Any, channels: int | None) -> tuple[Tensor, Tensor] | None:
    """Factor and summand of each channel that a layer stands for; None where they differ from place to place."""
    if type(layer).__name__ == "Rescaling":
        times, plus = (torch.as_tensor(each, dtype=torch.float64) for each in (layer.scale, layer.offset))
    elif layer.invert:
        return None
    else:
        mean, variance = (torch.as_tensor(each, dtype=torch.float64).cpu() for each in (layer.mean, layer.variance))
        # As Keras bounds it.
        times = 1 / variance.sqrt().clamp_min(1e-7)
        plus = -mean * times
    if channels is None or any(each.numel() not in (1, channels) for each in (times, plus)):
        return None
    return times.reshape(-1).expand(channels), plus.reshape(-1).expand(channels)
