"""The model around a network: what its architecture, or whoever hands it over, says that it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase

from pellucid.errors import InputError, UnknownNameError
from pellucid.models.base import evaluating
from pellucid.models.called_preprocessing import CalledPreprocessing, plain_picture
from pellucid.models.causal_lm import CausalLM
from pellucid.models.hub import HubPreprocessing, known_task, task_of
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.pictures import AbstractPreprocessing
from pellucid.models.segmentation import Segmentation
from pellucid.models.tabular import Column, Tabular
from pellucid.models.text_classifier import TextClassifier
from pellucid.models.vision_language import VisionLanguage

TASKS = ("causal-lm", "text-classifier", "image", "segmentation", "tabular", "vision-language")
LoadedModel = CausalLM | TextClassifier | ImageClassifier | Segmentation | Tabular | VisionLanguage


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What whoever loads a model says of it."""

    name: str
    task: str | None = None
    labels: Sequence[str] | None = None
    chatting: Mapping[str, Any] = field(default_factory=dict)
    """Settings of a chat template; None where nothing is set."""
    background: Sequence[Path] = ()
    """Pictures that stand for the data."""

    def check(self) -> None:
        """Raises UnknownNameError on an unknown task."""
        if self.task is not None and self.task not in TASKS:
            raise UnknownNameError("task", self.task, TASKS)

    def without_chat(self) -> None:
        """Raises InputError where a chat template is set for a model that reads no text."""
        given = [name for name, value in self.chatting.items() if value is not None]
        if given:
            raise InputError(f"{self.name} reads no text; leave {', '.join(given)} out.")

    def without_labels(self) -> None:
        """Raises InputError where labels are given for a model that has its own, or none."""
        if self.labels is not None:
            raise InputError(f"the labels of {self.name} are its own; leave labels out.")


def made(module: nn.Module, processor: Any, wanted: Wanted) -> LoadedModel:
    """The model around a network.

    Args:
        module: the network; of transformers, or any other.
        processor: what encodes its input: a tokenizer, an image processor of transformers, a preprocessing, a function
            from a picture to a tensor, the columns of a table, or the processor of a vision-language model.
        wanted: what it is to be.

    Raises:
        InputError: the processor, or the settings, are another kind of model's.
        ModelError: nothing says what kind of model it is.
    """
    task = _task(module, processor, wanted)
    if task == "vision-language":
        wanted.without_labels()
        if not isinstance(module, PreTrainedModel):
            raise InputError(
                f"{wanted.name} is to be a vision-language model, which is a network of transformers with its "
                f"processor of pictures and texts, not a {type(module).__name__}."
            )
        return VisionLanguage(module, processor, name=wanted.name, **wanted.chatting)
    if task in ("image", "segmentation"):
        wanted.without_chat()
        return _of_pictures(module, processor, task, wanted)
    if task == "tabular":
        columns = columns_of(processor, wanted.name)
        labels = _labels(module, wanted, torch.zeros(sum(column.width for column in columns)))
        wanted.without_chat()
        return Tabular(module, columns, labels, name=wanted.name)
    wanted.without_labels()
    if not isinstance(processor, PreTrainedTokenizerBase) or not isinstance(module, PreTrainedModel):
        raise InputError(
            f"{wanted.name} is a {task}, and goes with a tokenizer, not with a {type(processor).__name__}."
            if isinstance(module, PreTrainedModel)
            else f"{wanted.name} is to be a {task}, which is a network of transformers, not a {type(module).__name__}."
        )
    text = CausalLM if task == "causal-lm" else TextClassifier
    return text(module, processor, name=wanted.name, **wanted.chatting)


def _of_pictures(module: nn.Module, processor: Any, task: str, wanted: Wanted) -> ImageClassifier | Segmentation:
    preprocessing = preprocessing_of(processor, wanted.name, task)
    labels = _labels(module, wanted, preprocessing.tensor(plain_picture(128)))
    model = ImageClassifier if task == "image" else Segmentation
    return model(module, labels, preprocessing, name=wanted.name, background=wanted.background)


def _task(module: nn.Module, processor: Any, wanted: Wanted) -> str:
    """What it was asked to be, else what its class or its processor says. Raises InputError where these differ."""
    architecture = type(module).__name__
    known = known_task(architecture) if isinstance(module, PreTrainedModel) else None
    if wanted.task is None:
        if isinstance(module, PreTrainedModel):
            return task_of(architecture, vision=hasattr(module.config, "vision_config"))
        if are_columns(processor):
            return "tabular"
        raise InputError(
            f"nothing says what {architecture} is: give task= as one of {', '.join(TASKS)}, such as task='image'."
        )
    if known is not None and known != wanted.task and wanted.task != "vision-language":
        raise InputError(f"{wanted.name} is a {known} ({architecture}), not a {wanted.task}; leave task out.")
    return wanted.task


def preprocessing_of(processor: Any, name: str, task: str) -> AbstractPreprocessing:
    """What encodes pictures, of what a caller gives. Raises InputError on something else."""
    if isinstance(processor, AbstractPreprocessing):
        return processor
    if isinstance(processor, BaseImageProcessor):
        return HubPreprocessing(processor)
    if callable(processor) and not isinstance(processor, PreTrainedTokenizerBase):
        return CalledPreprocessing(processor)
    raise InputError(
        f"{name} is a model of task {task!r}, and goes with a Preprocessing, an image processor, or a function from a "
        f"picture to a tensor, not with a {type(processor).__name__}."
    )


def are_columns(processor: Any) -> bool:
    """Whether something is the columns of a table, by name or whole."""
    listed = isinstance(processor, Sequence) and not isinstance(processor, str | bytes) and len(processor) > 0
    return listed and all(isinstance(each, Column | str) for each in processor)


def columns_of(processor: Any, name: str) -> list[Column]:
    """The columns of a table. Raises InputError on something else."""
    if not are_columns(processor):
        raise InputError(
            f"{name} is a tabular model, and goes with its columns, as pellucid.Column or as names, in order; not with "
            f"a {type(processor).__name__}."
        )
    columns = [each if isinstance(each, Column) else Column(name=each) for each in processor]
    twice = {column.name for column in columns if [each.name for each in columns].count(column.name) > 1}
    if twice:
        raise InputError(f"{name} has two columns called {sorted(twice)[0]!r}; a row could not say which it means.")
    return columns


def _labels(module: nn.Module, wanted: Wanted, row: Tensor) -> list[str]:
    """The labels that were given, else those of the configuration, else a number for each output."""
    if wanted.labels is not None:
        return [str(label) for label in wanted.labels]
    if isinstance(module, PreTrainedModel):
        return [str(label) for _, label in sorted((module.config.id2label or {}).items())]
    count = _outputs(module, row, wanted)
    if count == 1 and wanted.task != "segmentation":
        raise InputError(
            f"{wanted.name} gives one number, and a classifier gives one for each class: let it give [0, number] where "
            "the number is the logit of yes."
        )
    return [f"class {number}" for number in range(count)]


def _outputs(module: nn.Module, row: Tensor, wanted: Wanted) -> int:
    """How many classes a network gives for a plain input. Raises InputError where it cannot read one."""
    like = next((each for each in module.parameters() if each.is_floating_point()), torch.empty(0))
    call: Callable[[Tensor], Any] = module
    try:
        with torch.no_grad(), evaluating(module):
            out = call(row[None].to(like))
    except Exception as error:
        # It is a network of the caller's, and may raise anything.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"{wanted.name} cannot read an input of shape {list(row.shape)} ({reason}); give labels=[...], and a "
            "preprocessing that makes what it reads."
        ) from error
    found = out if isinstance(out, Tensor) else getattr(out, "logits", None)
    if isinstance(out, Mapping) and wanted.task == "segmentation":
        found = out.get("logits", out.get("out"))
    if not isinstance(found, Tensor) or found.ndim < 2:
        given = list(found.shape) if isinstance(found, Tensor) else type(out).__name__
        raise InputError(
            f"{wanted.name} gave {given} for one input, and logits are [batch, class, ...]; give a module of those."
        )
    return int(found.shape[1])
