"""Exported programs of our own, and the formats of others that are refused, each with the way around it."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pellucid.errors import ModelError

_GUIDE = "docs/keras.md has the lines"
_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        ".pt2": (
            "a .pt2 file can run code when it is read, so pellucid opens none; if you trust its author, trace "
            "torch.export.load(path).module(), or hand that to pellucid.ImageClassifier or Tabular"
        ),
        ".onnx": (
            "no converter from ONNX is kept up for this torch; save the network where it was trained, as safetensors "
            f"or .keras, or convert it with onnx2torch in an environment of its own ({_GUIDE})"
        ),
        ".pb": f"a TensorFlow graph holds no Keras layers; save the Keras model as .keras ({_GUIDE})",
        ".tflite": f"a TensorFlow Lite file is for running only; save the Keras model as .keras ({_GUIDE})",
    }
)


def check_format(path: Path) -> None:
    """Raises ModelError on a format that cannot be loaded, and says what to do instead."""
    name = path.name or str(path)
    if (path / "saved_model.pb").is_file():
        raise ModelError(
            f"{name} is a TensorFlow SavedModel, which only TensorFlow can run; where it is installed, make a "
            f"Keras file of it by tf_keras.models.load_model({name!r}).save('model.h5') ({_GUIDE})."
        )
    if path.suffix.lower() in _REFUSED:
        raise ModelError(f"{name} cannot be loaded: {_REFUSED[path.suffix.lower()]}.")


class _Called(nn.Module):
    """A network whose arguments have one name, whatever it calls them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Shaped[Tensor, "batch ..."]) -> Any:
        return self.network(*inputs)


class RowByRow(nn.Module):
    """A program that was written down for a batch of one, asked once for each row."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, *inputs: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
        """The rows' outputs, one after the other."""
        rows = [self.program(*(each[row : row + 1] for each in inputs)) for row in range(len(inputs[0]))]
        return torch.cat(rows)


def export(module: nn.Module, inputs: tuple[Shaped[Tensor, "batch ..."], ...], path: Path) -> None:
    """Write down what a network computes, for a batch of any size where its code allows it, else for single rows.

    ``inputs`` are two or more rows. Raises ModelError on a network whose code looks at the numbers.
    """
    rows = "any"
    for each in module.parameters():
        # A part of a larger tensor, or one that lies in memory another way round, cannot be saved as it is.
        if each.untyped_storage().nbytes() != each.nbytes or not each.is_contiguous():
            each.data = each.data.clone(memory_format=torch.contiguous_format)
    try:
        program = _program(module, inputs, dynamic=True)
        # What a program was written down for is not all that it should be right for.
        _check_equal(module, program.module(), tuple(torch.cat([each, each[:1]]) for each in inputs))
    except Exception as error:  # torch.export raises whatever the code that it follows does
        # What single rows of integers look up could not be told to belong to them.
        if not all(each.is_floating_point() for each in inputs):
            raise _refused(error) from error
        rows, program = "1", _single(module, inputs)
    torch.export.save(program, path, extra_files={"rows": rows})
    _check_equal(module, read_own(path), inputs)


def read_own(path: Path) -> nn.Module:
    """What ``export`` wrote, as a module. Only for files that this very process asked for: reading one can run code."""
    more = {"rows": ""}
    program = torch.export.load(path, extra_files=more)
    module = _tidied(program.module())
    return RowByRow(module) if more["rows"] == "1" else module


def _single(module: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    try:
        program = _program(module, tuple(each[:1] for each in inputs), dynamic=False)
    except Exception as error:
        raise _refused(error) from error
    for row in range(len(inputs[0])):
        _check_equal(module, program.module(), tuple(each[row : row + 1] for each in inputs))
    return program


def _refused(error: Exception) -> ModelError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".!")
    return ModelError(
        f"the network cannot be handed to another process ({said}); start Python with KERAS_BACKEND=torch, where it is "
        "asked as it is."
    )


def _program(module: nn.Module, inputs: tuple[Tensor, ...], *, dynamic: bool) -> ExportedProgram:
    shapes: Any = {"inputs": tuple({0: Dim("batch")} for _ in inputs)} if dynamic else None
    with torch.no_grad():
        return torch.export.export(_Called(module), inputs, dynamic_shapes=shapes, strict=False)


def _check_equal(module: nn.Module, program: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        given, found = module(*inputs), program(*inputs)
    if given.shape != found.shape or not torch.allclose(given, found, rtol=1e-5, atol=1e-6, equal_nan=True):
        raise ModelError("the network computes something else when it is written down than when it is run.")


def _tidied(module: nn.Module) -> nn.Module:
    """The program without assertions and conversions that change nothing, and with its weights as parameters."""
    aten = torch.ops.aten
    recompiled: Any = module
    graph: Any = recompiled.graph
    used = set()
    for node in list(graph.nodes):
        if node.target is aten._assert_tensor_metadata.default or (node.op == "get_attr" and not node.users):
            graph.erase_node(node)
        elif node.target in (aten.to.dtype, aten.to.dtype_layout) and _dtype(node) == _dtype(node.args[0]) is not None:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.op == "get_attr":
            used.add(node.target)
            _register(module, node.target)
    for name in {name for name, _ in module.named_parameters(remove_duplicate=False)} - used:
        owner, _, last = name.rpartition(".")
        delattr(module.get_submodule(owner), last)
    recompiled.recompile()
    return module


def _register(module: nn.Module, name: str) -> None:
    """Make a constant of the program a part of its state, which moves with it; numbers are weights."""
    owner, _, last = name.rpartition(".")
    part = module.get_submodule(owner)
    value = getattr(part, last)
    if isinstance(value, nn.Parameter) or not isinstance(value, Tensor):
        return
    delattr(part, last)
    if value.is_floating_point():
        part.register_parameter(last, nn.Parameter(value, requires_grad=False))
    else:
        part.register_buffer(last, value)


def _dtype(node: Any) -> torch.dtype | None:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None
