"""What a store consists of, and how it was made: ``manifest.json``, which is written anew after every shard."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.records import Fingerprint, Record
from pellucid.sae.store.corpora import Survey
from pellucid.sae.store.selector import TokenSelector
from pellucid.sae.store.statistics import Sums

SCHEMA: Final = 1
MANIFEST = "manifest.json"
ALL = "all"
"""The statistics over all tokens, beside those of each modality."""
Dtype = Literal["bfloat16", "float16", "float32", "int8"]


class Making(Record):
    """Everything that decides what is in a store."""

    model: str
    """The name that loads the model."""
    fingerprint: Fingerprint
    """What exactly the model is."""
    sites: tuple[str, ...]
    """Where activations were taken."""
    corpus: Survey
    """What was read."""
    selector: TokenSelector
    """Which tokens were kept."""
    context: int
    """Tokens of a window."""
    across: bool
    """Whether a window may go on in the next document."""
    limit: int | None
    """Tokens after which it ends; None: the whole corpus."""
    dtype: Dtype
    """How numbers are stored; int8 with a scale for each token."""
    shard_tokens: int
    """Tokens of a shard."""
    batch_tokens: int
    """Positions in one call of the network, padding included; changes the last bits."""
    seed: int
    """Of whatever the selector leaves to chance."""

    def differences(self, other: "Making") -> list[str]:
        """What another one has otherwise, in words; the machine and the versions of libraries do not count."""
        mine, theirs = _compared(self), _compared(other)
        return [
            f"{name} is {mine[name]!r} there and {theirs[name]!r} now" for name in mine if mine[name] != theirs[name]
        ]


class File(Record):
    """A file of a shard, named by its content."""

    name: str
    """From the store's folder on."""
    sha256: str
    """Of its bytes."""
    bytes: int = Field(ge=0)
    """Size."""


class Shard(Record):
    """Some samples that follow on each other, and the activations of their tokens."""

    tokens: int = Field(ge=0)
    """Rows."""
    samples: int = Field(ge=0)
    """Samples."""
    positions: int = Field(ge=0)
    """What the network read for it, tokens that were not kept included."""
    values: File
    """The activations."""
    places: File
    """Where each row is from."""
    texts: File
    """The samples themselves."""
    document: int = Field(ge=0)
    """The document in which the next shard begins, counted from 0."""
    window: int = Field(ge=0)
    """The window of that document in which it begins."""

    @property
    def files(self) -> tuple[File, File, File]:
        """All that it consists of."""
        return self.values, self.places, self.texts


class Manifest(Record):
    """The commit log of a store: only what stands in it is there."""

    version: Literal[1] = SCHEMA
    """Of this file's form."""
    making: Making
    """How it was made."""
    d_in: dict[str, int] = Field(default={})
    """Width of the activations of each site."""
    shards: tuple[Shard, ...] = ()
    """In the order of the corpus."""
    complete: bool = False
    """Whether the harvest came to its end."""
    sums: dict[str, dict[str, Sums]] = Field(default={})
    """Of each site, over all tokens and over those of each modality."""

    @property
    def model(self) -> str:
        """The name that loads the model."""
        return self.making.model

    @property
    def fingerprint(self) -> Fingerprint:
        """What exactly the model is."""
        return self.making.fingerprint

    @property
    def sites(self) -> tuple[str, ...]:
        """Where activations were taken."""
        return self.making.sites

    @property
    def selector(self) -> TokenSelector:
        """Which tokens were kept."""
        return self.making.selector

    @property
    def corpus(self) -> str:
        """What was read."""
        return self.making.corpus.source

    @property
    def dtype(self) -> Dtype:
        """How numbers are stored."""
        return self.making.dtype

    @property
    def tokens(self) -> int:
        """Rows in all shards."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def positions(self) -> int:
        """What the network read for it."""
        return sum(shard.positions for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all files of its shards."""
        return sum(file.bytes for shard in self.shards for file in shard.files)

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        # A line for each entry: a person can read it, and a thousand numbers of a mean are one line.
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in self.model_dump(mode="json").items()]
        write_atomically(folder / MANIFEST, ("{\n" + ",\n".join(lines) + "\n}\n").encode())

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """That of a folder. Raises InputError where there is none, RecordError where it is broken."""
        path = folder / MANIFEST
        if not path.is_file():
            raise InputError(f"there is no store in {str(folder)!r}: it has no {MANIFEST}; make one by harvesting.")
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            first = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error.strerror)
            raise RecordError(
                f"{str(path)!r} is no manifest of a store ({first}); harvest into a new folder."
            ) from None


def digest_of(folder: Path) -> str:
    """SHA-256 of a folder's manifest, which names every byte of the store."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def _compared(making: Making) -> dict[str, Any]:
    found = making.model_dump(mode="json", exclude={"model", "fingerprint"})
    # The same file may be called by several paths.
    found["corpus"] = f"{making.corpus.documents} documents with the digest {making.corpus.digest[:12]}"
    names = ("weights", "tokenizer", "template", "dtype")
    return found | {f"the model's {name}": getattr(making.fingerprint, name)[:12] for name in names}
