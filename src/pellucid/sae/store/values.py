"""Numbers of a shard on disk: bfloat16, float16 or float32 as they are, int8 with a scale for each token."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import RecordError
from pellucid.sae.store.manifest import Dtype

SCALE = ".scale"
"""What the tensor of scales is called, after the name of its site."""
STEPS = 127
"""Largest int8 that is used."""
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "int8": torch.int8}
_STORED = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "I8": "i1"}
_HEADER = 8
"""Bytes of the length of a file's header, which stands before it."""
METADATA = "__metadata__"


def bytes_per_token(d_in: int, dtype: Dtype) -> int:
    """What the activations of a token at one site take on disk."""
    return d_in * DTYPES[dtype].itemsize + (4 if dtype == "int8" else 0)


class Rows(NamedTuple):
    """Activations as they are stored."""

    numbers: Tensor
    """[token, d_in] in the dtype of the store."""
    scales: Float[Tensor, " token"] | None = None
    """For int8, what each token's numbers are multiplied by."""

    @classmethod
    def of(cls, x: Float[Tensor, "token d_in"], dtype: Dtype) -> "Rows":
        """Activations in the dtype of the store. int8 is rounded to 127 steps of the token's largest number."""
        if dtype != "int8":
            return cls(x.to(DTYPES[dtype]))
        x = x.float()
        scales = x.abs().amax(1) / STEPS
        steps = x / torch.where(scales > 0, scales, 1.0)[:, None]
        return cls(steps.round().to(torch.int8), scales)

    @classmethod
    def empty(cls, tokens: int, d_in: int, dtype: Dtype) -> "Rows":
        """Room for some tokens."""
        scales = torch.empty(tokens) if dtype == "int8" else None
        return cls(torch.empty(tokens, d_in, dtype=DTYPES[dtype]), scales)

    def put(self, places: Int[Tensor, " token"], rows: "Rows") -> None:
        """Write some rows to their places."""
        self.numbers[places] = rows.numbers.to(self.numbers.device)
        if self.scales is not None and rows.scales is not None:
            self.scales[places] = rows.scales.to(self.scales.device)

    def part(self, start: int, stop: int) -> "Rows":
        """Some of them, without a copy."""
        return Rows(self.numbers[start:stop], None if self.scales is None else self.scales[start:stop])

    def floats(self) -> Float[Tensor, "token d_in"]:
        """The same as float32."""
        numbers = self.numbers.float()
        return numbers if self.scales is None else numbers * self.scales[:, None]

    def tensors(self, site: str) -> dict[str, Tensor]:
        """The tensors of a file, by their names."""
        return {site: self.numbers} | ({} if self.scales is None else {site + SCALE: self.scales})


class Mapped:
    """The activations in a file: what is asked for is read, the rest stays on disk. Raises RecordError if it cannot."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(_HEADER), "little")
                header = json.loads(file.read(length))
            begin = _HEADER + length
            self._arrays = {name: _mapped(path, begin, entry) for name, entry in header.items() if name != METADATA}
            self._bfloat16 = {name for name, entry in header.items() if entry.get("dtype") == "BF16"}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordError(f"the shard {str(path)!r} cannot be read ({error}); harvest into a new folder.") from None

    def read(self, site: str, rows: Int[np.ndarray, " token"]) -> Float[Tensor, "token d_in"]:
        """Some rows of a site as float32."""
        numbers = torch.from_numpy(self._arrays[site][rows])
        if site in self._bfloat16:
            numbers = numbers.view(torch.bfloat16)
        scales = self._arrays.get(site + SCALE)
        return Rows(numbers, None if scales is None else torch.from_numpy(scales[rows])).floats()


def _mapped(path: Path, begin: int, entry: dict[str, Any]) -> np.ndarray:
    """A tensor of a file, of which nothing is read yet."""
    dtype, shape = np.dtype(_STORED[entry["dtype"]]), tuple(entry["shape"])
    # As a plain array, because numpy's own class of mapped ones is slow where a part is taken.
    return np.asarray(np.memmap(path, dtype, "r", begin + entry["data_offsets"][0], shape))
