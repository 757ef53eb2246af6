"""Which positions of a sequence are steered, counted from the prompt and not from what one call of the network sees."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, final, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pellucid.errors import InputError, UnknownNameError

Place = Literal["all", "prompt", "last-prompt", "answer", "generated", "listed"]
NAMED = tuple(name for name in get_args(Place) if name != "listed")
"""The places that are known by name."""


class Sequences(NamedTuple):
    """How the prompts of a batch lie in it; they are padded on the left, so that their ends are beside each other."""

    padding: Int[Tensor, " batch"]
    """Positions before each prompt that hold nothing."""
    prompts: Int[Tensor, " batch"]
    """Tokens of each prompt, chat template and placeholders of a picture included."""

    def to(self, device: torch.device) -> "Sequences":
        """The same on a device."""
        return Sequences(self.padding.to(device), self.prompts.to(device))


@final
class Positions(NamedTuple):
    """Where a sequence is steered."""

    place: Place = "answer"
    """all; prompt; last-prompt, its last token; generated, the tokens after the prompt; answer, every position whose
    output is a token of the answer: the last of the prompt and the generated ones; or listed."""
    listed: tuple[int, ...] = ()
    """Positions from 0, or from -1 at the prompt's last token backwards."""

    @classmethod
    def of(cls, given: "Positions | str | Sequence[int]") -> "Positions":
        """A place by its name, or positions as whole numbers, also as text: ``3,4,-1``.

        Raises UnknownNameError on another name, InputError where no position is listed.

        >>> Positions.of("3,-1")
        Positions(place='listed', listed=(3, -1))
        """
        if isinstance(given, Positions):
            return given
        if isinstance(given, str):
            for name in get_args(Place):
                if given == name and name != "listed":
                    return cls(name)
            parts = given.split(",")
            if not all(part.strip().removeprefix("-").isdecimal() for part in parts):
                raise UnknownNameError("place to steer", given, NAMED, "Or list positions: 3,4,-1.")
            given = [int(part) for part in parts]
        if not given:
            raise InputError(f"no position is listed to be steered; list some, or name one of {', '.join(NAMED)}.")
        return cls("listed", tuple(given))

    def __str__(self) -> str:
        return ",".join(map(str, self.listed)) if self.place == "listed" else self.place

    def mask(self, sequences: Sequences, first: int, new: int) -> Bool[Tensor, "batch new"]:
        """Which of ``new`` columns of a padded batch, the first of them being column ``first``, are steered."""
        columns = torch.arange(first, first + new, device=sequences.padding.device)
        position, length = columns - sequences.padding[:, None], sequences.prompts[:, None]
        if self.place == "listed":
            wanted = torch.tensor(self.listed, device=columns.device)
            from_start = wanted.expand(len(position), -1)
            counted = torch.where(from_start < 0, from_start + length, from_start)
            # A position before the prompt's beginning must not be taken for padding's.
            counted = torch.where(counted < 0, torch.iinfo(torch.long).max, counted)
            return (position[:, :, None] == counted[:, None]).any(2)
        nothing = torch.zeros_like(length)
        starts: dict[Place, Tensor] = {"last-prompt": length - 1, "answer": length - 1, "generated": length}
        inside = (position >= 0) & (position >= starts.get(self.place, nothing))
        return inside & (position < length) if self.place in ("prompt", "last-prompt") else inside
