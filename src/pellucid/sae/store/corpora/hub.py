"""Corpora of the package ``datasets``, where it is installed."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pellucid.errors import InputError, MissingPackageError, PellucidError, UnknownNameError
from pellucid.sae.store.corpora.base import AbstractCorpus, Document
from pellucid.sae.store.corpora.rows import Fields, document

SPLIT = "train"


class HubCorpus(AbstractCorpus):
    """``NAME`` or ``NAME@SPLIT`` of the hub, or a folder that ``datasets`` saved.

    Raises MissingPackageError without the package, InputError where it finds nothing.
    """

    def __init__(self, name: str, fields: Fields) -> None:
        if find_spec("datasets") is None:
            raise MissingPackageError("datasets, which reads corpora of the hub,", "pip install datasets")
        self.source, self._fields = f"hf:{name}", fields
        name, _, split = name.partition("@")
        datasets: Any = import_module("datasets")
        try:
            if Path(name).is_dir():
                self._rows = _split(datasets.load_from_disk(name), split or SPLIT)
            else:
                self._rows = datasets.load_dataset(name, split=split or SPLIT)
        except PellucidError:
            raise
        except Exception as error:
            # The package has no error class of its own for all that may be wrong.
            raise InputError(f"datasets cannot load {name!r}: {str(error).splitlines()[0]}") from None

    def documents(self) -> Iterator[Document]:
        for number, row in enumerate(self._rows):
            yield document(row, number, self._fields, Path(), f"row {number} of {self.source}")


def _split(held: Any, name: str) -> Any:
    """The rows of a split; of what has none, all. Raises UnknownNameError."""
    if not isinstance(held, dict):
        return held
    if name not in held:
        raise UnknownNameError("split of the corpus", name, held, "Write hf:NAME@SPLIT.")
    return held[name]
