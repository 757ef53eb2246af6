"""A Keras model on the torch backend as a torch module: its layers by name, its logits, what it expects to read.

Keras itself is handed in wherever it is needed: whoever imports it first decides its backend for the whole process.
"""

import math
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
# What does something only where the network is trained; RandomCrop still makes pictures of its own size.
_IDLE = re.compile(r"Random(?!Crop)|(Spatial|Alpha|Gaussian)?Dropout|GaussianNoise|Identity$|ActivityRegularization$")
# What gives the numbers that it reads, where it gives as many of them.
_RESHAPING = re.compile(r"(Flatten|Reshape|Permute|Squeeze|ExpandDims|Global(Average|Max)Pooling\dD|Mean|Sum|Max)$")
# Layers whose activation is the last thing that they compute.
_ENDING = re.compile(r"(Activation|Dense|EinsumDense|(Separable|Depthwise)?Conv\dD(Transpose)?)$")


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
        for each in self.modules():
            if isinstance(each, nn.ParameterDict):
                # Seeds, whose names count the layers of the process: no weights, and not read in inference.
                for key in [key for key in each if "seed_generator" in key]:
                    del each[key]

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
    first = any(getattr(layer, "data_format", "") == "channels_first" for _, layer in _named_layers(model))
    end, cut = _cut_end(model, model.outputs[0])
    begin, folded = _cut_begin(model, first) if first_too else (model.inputs[0], None)
    if folded is not None:
        try:
            model = keras.Model(begin, end)
        except ValueError:
            # What comes before the rescaling is read elsewhere in the network too.
            begin, folded = model.inputs[0], None
    if folded is None and end is not model.outputs[0]:
        model = keras.Model(begin, end)
    rescales = next((name for name, layer in _named_layers(model) if type(layer).__name__ in _RESCALING), "")
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


def _cut_end(whole: Any, tensor: Any) -> tuple[Any, Cut]:
    """The tensor of logits, and what came after it, of the tensor that a model or a part of it gives."""
    end, passed = _behind(tensor)
    last, given = _made_by(end)
    if _is_model(last):
        inner = _inside(last, end)
        inner_end, cut = _cut_end(whole, inner)
        if inner_end is not inner:
            raise ModelError(
                f"the network ends in {cut} within the part {last.name!r}, which cannot be cut off there; save the "
                "model without it."
            )
        return tensor, cut
    name = _ending(last)
    if name == "none":
        return tensor, name
    _check_end(whole, last, end, name)
    if type(last).__name__.lower() != name:
        # A layer as an activation is a child of the module, which no function may take the place of.
        del last.activation
        last.activation = _linear
        return tensor, name
    logits = given[0]
    for layer in reversed(passed):
        logits = layer(logits)
    return logits, name


def _behind(tensor: Any) -> tuple[Any, list[Any]]:
    """The tensor that the layers which do nothing at an end were given, and these layers, the last of them first."""
    passed: list[Any] = []
    while True:
        layer, given = _made_by(tensor)
        if not _is_idle(layer, given, tensor):
            return tensor, passed
        passed.append(layer)
        tensor = given[0]


def _is_idle(layer: Any, given: Any, output: Any) -> bool:
    """Whether a layer hands on, in inference, the numbers that it is given."""
    kind = type(layer).__name__
    if len(given) != 1:
        return False
    if _is_model(layer):
        return len(layer.inputs) == 1 and _behind(_inside(layer, output))[0] is layer.inputs[0]
    if kind == "Activation":
        return _activation(layer) == "linear"
    if kind == "Cast":
        return str(output.dtype).startswith(("float", "bfloat"))
    if _RESHAPING.match(kind):
        before, after = tuple(given[0].shape[1:]), tuple(output.shape[1:])
        return None not in before + after and math.prod(before) == math.prod(after)
    return bool(_IDLE.match(kind))


def _is_model(layer: Any) -> bool:
    return isinstance(getattr(layer, "layers", None), list) and bool(getattr(layer, "outputs", None))


def _inside(part: Any, output: Any) -> Any:
    """The tensor within a part that comes out of it as this one."""
    return part.outputs[output._keras_history.tensor_index]


def _activation(layer: Any) -> str:
    """The name of a layer's activation, which is a function or a layer of its own."""
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else str(getattr(activation, "__name__", type(activation).__name__)).lower()


def _ending(last: Any) -> Cut:
    """The softmax or sigmoid that a layer ends in. Raises ModelError where it is not the last thing computed."""
    kind = type(last).__name__
    if kind in ("Softmax", "Sigmoid"):
        return "softmax" if kind == "Softmax" else "sigmoid"
    # Wrappers, such as TimeDistributed, and a Pipeline hold other layers.
    held = getattr(last, "layer", None) or (getattr(last, "layers", None) or [None])[-1]
    names = [_activation(last), _activation(held), type(held).__name__.lower()]
    name: Cut = "softmax" if "softmax" in names else "sigmoid" if "sigmoid" in names else "none"
    if name != "none" and not _ENDING.match(kind):
        raise ModelError(
            f"the network ends in {name} within the layer {last.name!r} ({kind}), which cannot be cut off there; save "
            "the model without it."
        )
    return name


def _check_end(whole: Any, last: Any, end: Any, name: Cut) -> None:
    """Raises ModelError where a softmax or sigmoid cannot be cut off without changing something else."""
    calls = sum(layer is last for layer in _calls(whole))
    if calls > 1 and type(last).__name__.lower() != name:
        raise ModelError(
            f"the layer {last.name!r} with the {name} at the end is used {calls} times in the network, so that it "
            "cannot be cut off at the end alone; save the model with a layer of its own there."
        )
    given, axis = _made_by(end)[1], getattr(getattr(last, "activation", last), "axis", -1)
    one = len(given) == 1 and (name == "sigmoid" or _covers(tuple(end.shape), axis))
    if len(whole.outputs[0].shape) == 2 and not one:
        raise ModelError(
            f"the network ends in the softmax {last.name!r} over a part of what it gives or with a mask, which is not "
            "one label of several; save the model without it."
        )


def _covers(shape: Shape, axis: Any) -> bool:
    """Whether a softmax along an axis, or several, is one of all the numbers of a row."""
    over = {each % len(shape) for each in (axis if isinstance(axis, list | tuple) else [axis]) if each is not None}
    return bool(over) and 0 not in over and all(shape[at] == 1 for at in range(1, len(shape)) if at not in over)


def _calls(model: Any) -> Iterator[Any]:
    """Every layer as often as the model computes it, with those that it holds."""
    seen, waiting = set(), [*model.outputs]
    while waiting:
        tensor = waiting.pop()
        layer, node, _ = tensor._keras_history
        if (id(layer), node) in seen:
            continue
        seen.add((id(layer), node))
        waiting.extend(_made_by(tensor)[1])
        if _is_model(layer):
            yield from _calls(layer)
        elif (held := getattr(layer, "_flatten_layers", None)) is not None:
            yield from held()


def _linear(x: Tensor) -> Tensor:
    return x


def _cut_begin(model: Any, channels_first: bool) -> tuple[Any, tuple[tuple[float, ...], tuple[float, ...]] | None]:
    """The tensor behind the first layers that only rescale, and the mean and deviation that they stand for."""
    tensor = reached = model.inputs[0]
    scale, shift = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for layer, output in _chain(model):
        kind = type(layer).__name__
        found = _affine(layer, tuple(tensor.shape), channels_first) if kind in _RESCALING else None
        if found is None and not _IDLE.match(kind):
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


def _affine(layer: Any, shape: Shape, channels_first: bool) -> tuple[Tensor, Tensor] | None:
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
    axis = 1 if channels_first and len(shape) == 4 else len(shape) - 1
    channels = shape[axis]
    if channels is None or any(
        each.numel() > 1 and _along(each, len(shape), axis) != channels for each in (times, plus)
    ):
        return None
    return times.reshape(-1).expand(channels), plus.reshape(-1).expand(channels)


def _along(numbers: Tensor, rank: int, axis: int) -> int | None:
    """How many numbers lie along an axis of what they are multiplied with; None where others lie along another."""
    sizes = (1,) * (rank - numbers.ndim) + tuple(numbers.shape)
    return sizes[axis] if sizes[axis] == numbers.numel() else None
