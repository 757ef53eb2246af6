"""A task that a person wrote down: a model, cases with what is known of them, and what is asked."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from pellucid.benchmark.tasks.rows import read_cases, target_of
from pellucid.benchmark.tasks.task import Case, Split, Task
from pellucid.errors import InputError, UnknownNameError
from pellucid.learning.lines import parse_json, read_text
from pellucid.models import load
from pellucid.models.template import NOT_RECORDED
from pellucid.records import Record

SPLIT = "{split}"
"""Where ``test`` or ``tuning`` goes in the name of the cases' file."""
ENDINGS = (".json", ".yaml", ".yml")
USUAL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "field": ("neutral", "delete"),
        "column": ("mean",),
        "pixel": ("blur", "mean"),
        "patch": ("blur", "mean"),
        "superpixel": ("blur", "mean"),
    }
)
"""The imputers of a kind of feature where the file names none."""


class TaskFile(Record):
    """What such a file says."""

    name: str = Field(default="", pattern=r"^(\w[\w.-]*)?$")
    """What it is called; empty: as its file."""
    title: str = ""
    """What it is, in a line; empty: its name."""
    model: str = Field(min_length=1)
    """A name, a hub id, or a path relative to the file."""
    data: Path
    """JSON lines, relative to the file; with ``{split}`` in the name where test and tuning have a file each."""
    tuning: Path | None = None
    """The cases that settings are chosen on, where ``data`` is one file; None: there are none."""
    features: str = "word"
    """The kind of feature that is scored."""
    imputers: tuple[str, ...] = Field(default=(), validate_default=True)
    """What stands for an absent feature; none: ``neutral`` and ``delete`` for fields, ``delete`` for other parts of a
    text, ``mean`` for columns, ``blur`` and ``mean`` for parts of a picture."""
    target: object = None
    """What is explained, such as ``{kind: choice, options: [Yes, No]}``; None: the model's default."""
    template: str | None = None
    """The text around the fields, with a ``{name}`` for each; rows may have their own."""
    absent: str | dict[str, str] = NOT_RECORDED
    """What ``neutral`` puts in place of a field, for all or for each."""
    chat: bool | None = None
    """Whether the text is wrapped in the model's chat template; None: where it has one."""
    source: str = ""
    """Where the cases come from."""
    licence: str = ""
    """On what terms they may be used."""
    quotable: bool = True
    """Whether they may be shown; say no where they are offensive or private."""

    @field_validator("imputers", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("imputers")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((each for each in value if value.count(each) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is named twice; name every imputer once")
        return value

    @model_validator(mode="after")
    def _one_way_to_split(self) -> "TaskFile":
        if any(SPLIT in part for part in self.data.parent.parts):
            raise ValueError(f"data has {SPLIT} in a folder's name, {str(self.data)!r}; put it into the file's name")
        if SPLIT in self.data.name and self.tuning is not None:
            raise ValueError(
                f"data names a file for each split, {self.data.name!r}, and tuning another one, "
                f"{str(self.tuning)!r}; leave one out"
            )
        return self


def read_task(path: Path) -> Task:
    """The task of a ``.yaml``, ``.yml`` or ``.json`` file. Raises InputError, UnknownNameError.

    The cases are read when they are asked for, and so refused then.
    """
    written = _checked(_document(path), f"the task {str(path)!r}")
    folder = path.parent
    name = written.name or path.stem
    target = target_of(written.target, f"the task {str(path)!r}")
    # A model is a path only where there is such a path; otherwise it is a name.
    model = str(folder / written.model) if (folder / written.model).exists() else written.model
    usual = USUAL.get(written.features.partition(":")[0], ("delete",))
    return Task(
        name=name,
        title=written.title or name,
        model=model,
        load=partial(load, model) if written.chat is None else partial(load, model, chat=written.chat),
        cases=partial(_cases, written, folder),
        features=written.features,
        imputers=written.imputers or usual,
        source=written.source or f"the file {path.name}",
        licence=written.licence,
        target=target,
        quotable=written.quotable,
    )


def _cases(written: TaskFile, folder: Path, split: Split) -> Sequence[Case]:
    """None where the task has no cases for tuning."""
    data = written.data
    if SPLIT in data.name:
        data = data.with_name(data.name.replace(SPLIT, split))
    elif split == "tuning":
        if written.tuning is None:
            return []
        data = written.tuning
    return read_cases(folder / data, written.features, template=written.template, absent=written.absent)


def _checked(document: dict[str, Any], what: str) -> TaskFile:
    try:
        return TaskFile.model_validate(document)
    except ValidationError as error:
        strange = next((item["loc"][0] for item in error.errors() if item["type"] == "extra_forbidden"), None)
        if strange in document:
            raise UnknownNameError("setting of a task", strange, TaskFile.model_fields, f"It is in {what}.") from None
        raise InputError.from_validation(what, error) from None


def _document(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if path.suffix.lower() == ".json":
        document = parse_json(text, repr(str(path)))
    else:
        try:
            document = yaml.load(text, _Loader)
        except (yaml.YAMLError, RecursionError) as error:
            raise InputError(f"{str(path)!r} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(document, dict):
        raise InputError(f"the task {str(path)!r} must hold settings (name: value), not {type(document).__name__}.")
    # A setting without a value is one that is not given.
    return {name: value for name, value in document.items() if value not in ("", "~", "null")}


class _Loader(yaml.BaseLoader):
    """Every value is the text that was written, so that the option ``No`` is no truth value; every key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [str(key.value) for key, _ in node.value]
        twice = next((each for each in names if names.count(each) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} stands twice; keep one", node.start_mark)
        return dict(super().construct_mapping(node, deep))
