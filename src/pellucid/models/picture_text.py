"""A picture with a text about it: how it is given, what its features and baselines are called, what is read of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError, UnknownNameError
from pellucid.models.base import AbstractInputs
from pellucid.models.pictures import IMAGE_KINDS, ImageInputs, Picture
from pellucid.models.template import Prompt
from pellucid.models.text import TEXT_KINDS
from pellucid.models.tokens import Row, TextInputs
from pellucid.records import Feature

Text = str | Sequence[str] | Prompt


class PictureText(NamedTuple):
    """One row of a batch."""

    pixels: Float[Tensor, "channel height width"]
    """The picture, normalised."""
    text: Row
    """Tokens, those that stand for the picture among them."""


@dataclass(frozen=True)
class PictureTextInputs(AbstractInputs):
    """An encoded picture with a text about it."""

    picture: ImageInputs
    """The picture, cut into regions."""
    text: TextInputs
    """The text, with the tokens that stand for the picture."""
    kind: str
    """The kind of feature that both are divided into."""
    row: PictureText = field(init=False)

    def __post_init__(self) -> None:
        # A frozen record is filled like this.
        object.__setattr__(self, "row", PictureText(self.picture.row, self.text.row))

    @property
    def positions(self) -> int:
        """Tokens that the network reads, those that stand for the picture among them."""
        return self.text.positions


def pair(raw: Any) -> tuple[Picture, Text]:
    """The picture and the text of {"image": picture, "text": text} or (picture, text). Raises InputError otherwise."""
    if isinstance(raw, Mapping):
        if set(raw) != {"image", "text"}:
            given = ", ".join(map(repr, raw)) or "none"
            raise InputError(f"a picture with a text has the keys 'image' and 'text', and {given} came.")
        return raw["image"], raw["text"]
    if isinstance(raw, tuple) and len(raw) == 2:
        return raw[0], raw[1]
    raise InputError(
        f"a picture with a text is {{'image': picture, 'text': text}} or (picture, text), not {type(raw).__name__}."
    )


def kinds(kind: str) -> tuple[str, str]:
    """The kind of the picture's features and that of the text's; empty for the half that is not explained.

    Raises UnknownNameError.

    >>> kinds("patch:8+word"), kinds("token+template"), kinds("superpixel")
    (('patch:8', 'word'), ('', 'token+template'), ('superpixel', ''))
    """
    first, _, rest = kind.partition("+")
    pictorial = first.partition(":")[0] in IMAGE_KINDS
    text = rest if pictorial else kind
    if text not in TEXT_KINDS and not (pictorial and kind == first):
        raise UnknownNameError("kind of feature", kind, [*IMAGE_KINDS, *TEXT_KINDS, "patch+word", "patch:SIDE+token"])
    return first if pictorial else "", text


def halves(features: Sequence[Feature]) -> tuple[Sequence[Feature], Sequence[Feature]]:
    """The features of the picture, which come first, and those of the text."""
    count = sum(feature.kind in IMAGE_KINDS for feature in features)
    return features[:count], features[count:]


def named(name: str | None, pictures: Sequence[str], texts: Sequence[str]) -> tuple[str | None, str | None]:
    """What stands for an absent part of the picture, and of the text; None: the half's own choice.

    A name is ``PICTURE+TEXT``, or that of one half alone, or one that both have. Raises UnknownNameError.

    >>> named("blur+mask", ["mean", "blur"], ["mask", "mean"]), named("blur", ["mean", "blur"], ["mask", "mean"])
    (('blur', 'mask'), ('blur', None))
    """
    if name is None:
        return None, None
    first, plus, second = name.partition("+")
    found = (first if first in pictures else None, (second or first) if (second or first) in texts else None)
    if (plus and None in found) or found == (None, None):
        both = [f"{one}+{other}" for one in pictures[:2] for other in texts[:2]]
        raise UnknownNameError("baseline", name, [*dict.fromkeys([*pictures, *texts]), *both])
    return found
