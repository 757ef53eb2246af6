"""The tasks that are known by name."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from pellucid.benchmark.tasks.task import Task
from pellucid.errors import InputError, UnknownNameError

_MODULES = ("language", "pictures", "tables", "text")
"""Each has a ``TASKS``."""


@cache
def tasks() -> Mapping[str, Callable[[Path | None], Task]]:
    """What makes each task, of the folder that its data lie in, or of None; by name, sorted."""
    found: dict[str, Callable[[Path | None], Task]] = {}
    for name in _MODULES:
        found |= import_module(f"{__package__}.{name}").TASKS
    return MappingProxyType(dict(sorted(found.items())))


def task_names() -> tuple[str, ...]:
    """The names of the tasks that come with pellucid."""
    return tuple(tasks())


def find_task(name: str, data: Path | None = None) -> Task:
    """The task of a name, or the one that a ``.yaml``, ``.yml`` or ``.json`` file describes.

    Args:
        name: one of ``task_names()``, or a file's path.
        data: the folder of the task's data, for more inputs than come with pellucid, or for a task that comes with
            none.

    Raises:
        UnknownNameError: neither a task nor a file.
        InputError: data that are missing, that there is no use for, or that cannot be read; a bad file.
        MissingPackageError: a package that the inputs are read from is absent.
    """
    from pellucid.benchmark.tasks.task_file import ENDINGS, read_task

    if name in tasks():
        return tasks()[name](None if data is None else Path(data))
    path = Path(name)
    if path.suffix.lower() not in ENDINGS:
        raise UnknownNameError("task", name, tasks(), "Or give the .yaml file of a task of your own.")
    if not path.is_file():
        raise InputError(f"there is no task file {name!r}; known tasks are {', '.join(tasks())}.")
    if data is not None:
        raise InputError(f"the task {name!r} says itself where its data lie; leave --data {str(data)!r} out.")
    return read_task(path)
