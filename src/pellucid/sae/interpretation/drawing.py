"""A picture with some of its patches outlined, for a language model that sees."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, UnidentifiedImageError

from pellucid.errors import InputError
from pellucid.sae.interpretation.asking import Shown
from pellucid.sae.interpretation.examples import Picture

SIDE = 448
"""Longest side of a picture that is sent, in pixels; smaller ones are enlarged, so that an outline can be seen."""
COLOUR = (255, 0, 0)


def outlined(shown: Shown) -> Image.Image:
    """The picture, its longest side ``SIDE``, with a frame around each of the patches."""
    picture = shown.picture
    image = _opened(Path(picture.path))
    scale = SIDE / max(image.size)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX
    )
    pen = ImageDraw.Draw(image)
    for patch in shown.outlined:
        row, column = divmod(patch, picture.columns)
        left, right = (image.width * edge // picture.columns for edge in (column, column + 1))
        top, bottom = (image.height * edge // picture.rows for edge in (row, row + 1))
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=COLOUR, width=2)
    return image


def data_url(shown: Shown) -> str:
    """The outlined picture as a PNG inside a URL."""
    buffer = BytesIO()
    outlined(shown).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def described(picture: Picture, patches: dict[int, int] | tuple[int, ...]) -> str:
    """Patches in words, for a model that does not see: row and column from 1, with their levels where it has any."""
    parts = []
    for patch in sorted(patches):
        row, column = divmod(patch, picture.columns)
        level = f" {patches[patch]}/10" if isinstance(patches, dict) else ""
        parts.append(f"(row {row + 1}, column {column + 1}){level}")
    return f"a picture of {picture.rows} rows and {picture.columns} columns of patches, of them {', '.join(parts)}"


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(
            f"the picture {str(path)!r} of the corpus cannot be read ({error}); put it back where it was harvested."
        ) from None
