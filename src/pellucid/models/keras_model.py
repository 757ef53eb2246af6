"""Classifiers from Keras files: what the file says is used, what it does not say is asked for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from PIL import Image
from torch import nn

from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.keras_network import KerasFacts, Logits
from pellucid.models.keras_reading import read, trace_it
from pellucid.models.pictures import AbstractPreprocessing, Preprocessing
from pellucid.models.tabular import Column, Tabular

Task = Literal["image", "tabular"]
TASKS: tuple[Task, ...] = ("image", "tabular")
# Of a picture to try a preprocessing on, where the network reads pictures of any size.
_SIDE = 128


def keras_module(path: str | Path) -> nn.Module:
    """The network of a ``.keras`` or ``.h5`` file, whole and as it is, for ``pellucid.trace``.

    It takes tensors as Keras does: pictures channel last, several inputs in order. Raises ModelError.
    """
    return _frozen(read(Path(path), logits=False, first_too=False)[0])


def read_keras(
    path: str | Path,
    *,
    task: str | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: AbstractPreprocessing | None = None,
    columns: Sequence[Column] | None = None,
    name: str = "",
) -> ImageClassifier | Tabular:
    """The classifier of a ``.keras`` or ``.h5`` file.

    Args:
        path: the file.
        task: "image" or "tabular"; None: as the input's shape says.
        labels: the class labels, in the order of the outputs (after one sigmoid: no, yes); None: "class 0" and so on.
        preprocessing: how a picture becomes what the network reads; None: bytes, where the network's first layers
            rescale them (these layers then become the preprocessing).
        columns: the columns of a table; None: "column 0" and so on, standardised by a Normalization at the beginning.
        name: what to call the model in results.

    Raises:
        ModelError: the file is refused or cannot be read, or holds no classifier of one label.
        InputError: the task, labels, preprocessing or columns do not fit the network, or one that is needed is missing.
    """
    path = Path(path)
    if task is not None and task not in TASKS:
        raise UnknownNameError("task of a Keras model", task, TASKS)
    network, facts = read(path, logits=True, first_too=preprocessing is None and columns is None)
    found = _task(path, facts, task)
    _check_output(path, facts, labels)
    module, name = _frozen(Logits(network, facts)), name or path.name
    classes = max(facts.outputs[0][-1] or 0, 2)
    given = [f"class {index}" for index in range(classes)] if labels is None else [*labels]
    if len(given) != classes:
        raise InputError(f"{name} has {classes} classes, and {len(given)} labels were given.")
    if found == "tabular":
        if preprocessing is not None:
            raise InputError(f"{name} reads table rows, which have no preprocessing; give columns=[...] instead.")
        return Tabular(module, _columns(name, facts, columns), given, name=name)
    if columns is not None:
        raise InputError(f"{name} reads pictures, which have no columns; leave columns out.")
    if preprocessing is not None:
        _check_preprocessing(name, facts, preprocessing)
    return ImageClassifier(module, given, preprocessing or _preprocessing(name, facts), name=name)


def _frozen(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def _task(path: Path, facts: KerasFacts, asked: str | None) -> Task:
    """The task that the input's shape says. Raises InputError, ModelError."""
    shape, dtype = facts.inputs[0], facts.dtypes[0]
    channels = shape[1 if facts.channels_first else -1]
    found: Task | None = None
    if dtype.startswith(("float", "bfloat")):
        found = "tabular" if len(shape) == 2 else "image" if len(shape) == 4 and channels in (1, 3) else None
    if found is None:
        raise ModelError(
            f"{path.name} reads {_shown(shape)} of {dtype}, which is neither a picture of 1 or 3 channels nor a row of "
            f"a table; {trace_it(path)}."
        )
    if asked not in (None, found):
        raise InputError(f"{path.name} reads {_shown(shape)}, which is for task {found!r}, not {asked!r}.")
    return found


def _check_output(path: Path, facts: KerasFacts, labels: Sequence[str] | None) -> None:
    shape = facts.outputs[0]
    if len(shape) != 2 or shape[1] is None:
        raise ModelError(f"{path.name} gives {_shown(shape)}, not one number for each class; {trace_it(path)}.")
    if facts.cut == "sigmoid" and shape[1] > 1:
        raise ModelError(
            f"{path.name} ends in {shape[1]} sigmoids, each a yes or no of its own, and not in one label of several; "
            f"{trace_it(path)}."
        )
    if facts.cut != "sigmoid" and shape[1] == 1 and (labels is None or facts.cut == "softmax"):
        raise ModelError(
            f"{path.name} gives one number without a sigmoid: if it is the logit of a yes against a no, say so by "
            f"labels=['no', 'yes']; if it is an amount, {trace_it(path)}."
        )


def _picture(facts: KerasFacts) -> tuple[int | None, ...]:
    """Channels, height and width of the pictures that the network reads."""
    shape = facts.inputs[0]
    return shape[1:] if facts.channels_first else (shape[3], *shape[1:3])


def _check_preprocessing(name: str, facts: KerasFacts, preprocessing: AbstractPreprocessing) -> None:
    """Raises InputError where it makes something else of a picture than the network reads."""
    wanted = _picture(facts)
    made = tuple(preprocessing.tensor(Image.new("RGB", (wanted[2] or _SIDE, wanted[1] or _SIDE))).shape)
    if len(made) != 3 or any(size not in (None, found) for size, found in zip(wanted, made, strict=True)):
        raise InputError(
            f"{name} reads {_shown((None, *wanted))} (channels, height, width), and the preprocessing makes "
            f"{_shown((None, *made))}; give one that makes what the network reads."
        )


def _preprocessing(name: str, facts: KerasFacts) -> Preprocessing:
    """What the first layers of the network did. Raises InputError where they did nothing, or leave the size open."""
    channels, height, width = _picture(facts)
    if height is None or width is None:
        raise InputError(f"{name} reads pictures of any size; give preprocessing=Preprocessing(size=..., ...).")
    if not facts.mean or channels is None:
        inside = f", and rescales further in ({facts.rescales!r})" if facts.rescales else ""
        raise InputError(
            f"{name} does not say what its pictures were made of{inside}; give preprocessing=, such as "
            f"Preprocessing(size=({height}, {width}), mean=..., std=...), by which it was trained."
        )
    # The network's own layers counted from 0 to 255.
    mean, std = (tuple(each / 255 for each in numbers) for numbers in (facts.mean, facts.std))
    return Preprocessing((height, width), mean, std)


def _columns(name: str, facts: KerasFacts, given: Sequence[Column] | None) -> list[Column]:
    width = facts.inputs[0][1]
    if width is None:
        raise ModelError(f"{name} leaves open how many columns it reads; save it with an Input of that many.")
    if given is None:
        means, stds = facts.mean or (0.0,) * width, facts.std or (1.0,) * width
        plain = [Column(name=f"column {index}") for index in range(width)]
        return [
            replace(column, mean=mean, median=mean, std=std)
            for column, mean, std in zip(plain, means, stds, strict=True)
        ]
    positions = sum(column.width for column in given)
    if positions != width:
        raise InputError(f"{name} reads {width} numbers, and the columns that were given make {positions}.")
    return [*given]


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('any' if each is None else str(each) for each in shape[1:])}]"
