"""A picture under its attributions: regions coloured over the picture in grey, as arrays and as PNG files."""

import re
from base64 import b64encode
from io import BytesIO
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from pellucid.report.colour import VIK, stop_of
from pellucid.report.heatmap import by_strength, digits, largest, totals
from pellucid.report.view import AttributionView, FeatureView, PictureView, plural
from pellucid.report.visible import visible

SIDE = 320
"""Pixels that the longer side of a small picture is enlarged to."""
LARGEST_SIDE = 640
"""Pixels that the longer side of a large one is reduced to."""
SHARE = 0.62
"""Share of the attribution's colour in the heat map; the rest is the picture in grey."""
MOST_BARS = 24
"""Bars of the strongest features that a picture is followed by."""
MOST_NUMBERS = 200
"""Features, other than pixels, whose numbers are all printed."""
_SPOKEN = 5
_PALETTE = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in VIK], dtype=np.float64)
# The grey picture's darkest shade: beneath it a colour could not be told from its neighbours.
_DARKEST = 110.0

Colours = UInt8[np.ndarray, "height width 3"]


class Box(NamedTuple):
    """A part of a picture, in percent of the picture's width and height."""

    left: float
    """Left edge."""
    top: float
    """Upper edge."""
    width: float
    """From edge to edge."""
    height: float
    """From edge to edge."""


def limit_of_targets(a: AttributionView) -> float:
    """The scale that the heat maps of all targets have in common, and the text where there is one."""
    return a.shared_limit or largest(value for row in a.values for value in row)


def colours(picture: PictureView) -> Colours:
    """The picture itself, in colour or grey."""
    shades = picture.shades
    return np.ascontiguousarray(np.repeat(shades, 3, 2) if shades.shape[2] == 1 else shades)


def heat(a: AttributionView, target: int, limit: float) -> Colours:
    """The regions coloured by the attributions of one target, over the picture in grey."""
    assert a.picture is not None
    stops = np.array([stop_of(value, limit) for value in a.values[target]])
    mixed = SHARE * _PALETTE[stops[a.picture.regions]] + (1 - SHARE) * greyed(a.picture)[:, :, None]
    return np.asarray(mixed.round(), dtype=np.uint8)


def greyed(picture: PictureView) -> Float[np.ndarray, "height width"]:
    """The picture in light greys, on which every colour can be told from its neighbours."""
    grey = np.asarray(Image.fromarray(colours(picture)).convert("L"), dtype=np.float64)
    return _DARKEST + grey * (255 - _DARKEST) / 255


def scaled(
    array: Shaped[np.ndarray, "height width *channel"], height: int, width: int
) -> Shaped[np.ndarray, "rows columns *channel"]:
    """Every pixel of the new size takes the value of the nearest old one, so that no colour arises between two."""
    rows = ((np.arange(height) + 0.5) * len(array) / height).astype(int)
    columns = ((np.arange(width) + 0.5) * array.shape[1] / width).astype(int)
    return np.ascontiguousarray(array[rows][:, columns])


def size(picture: PictureView) -> tuple[int, int]:
    """Height and width at which a page draws a picture: whole multiples of a small one, at least a pixel."""
    longer = max(picture.height, picture.width)
    if longer > LARGEST_SIDE:
        shrink = LARGEST_SIDE / longer
        return max(1, round(picture.height * shrink)), max(1, round(picture.width * shrink))
    times = max(1, round(SIDE / longer))
    return picture.height * times, picture.width * times


def png_uri(array: Colours, picture: PictureView) -> str:
    """The drawing as a ``data:`` address of a PNG file."""
    file = BytesIO()
    Image.fromarray(scaled(array, *size(picture))).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def swatch(feature: FeatureView) -> str:
    """The mean colour of a part of a picture; empty where it is none."""
    return feature.text if feature.text and re.fullmatch("#[0-9a-f]{6}", feature.text) else ""


def boxes(a: AttributionView, most: int = MOST_NUMBERS) -> dict[str | None, Box]:
    """Where the strongest features lie, by label: the smallest box around each."""
    if a.picture is None:
        return {}
    found: dict[str | None, Box] = {}
    height, width = a.picture.height, a.picture.width
    for index in by_strength(totals(a))[:most]:
        rows, columns = np.nonzero(a.picture.regions == index)
        if len(rows):
            top, left = rows.min(), columns.min()
            right, bottom = columns.max() + 1, rows.max() + 1
            across, down = 100 / width, 100 / height
            box = (left * across, top * down, (right - left) * across, (bottom - top) * down)
            found[a.features[index].label] = Box(*(round(float(each), 2) for each in box))
    return found


def extremes(a: AttributionView, target: int) -> str:
    """The lowest and the highest value of one target, and where they are."""
    values = a.values[target]
    known = [index for index in range(len(values)) if values[index] == values[index]]
    if not known:
        return "no value is a number"
    low, high = min(known, key=values.__getitem__), max(known, key=values.__getitem__)
    return (
        f"lowest {digits(values[low], True)} ({a.kind} {_name(a, low)}), "
        f"highest {digits(values[high], True)} ({a.kind} {_name(a, high)})"
    )


def spoken(a: AttributionView, target: int) -> str:
    """What a heat map says, for whoever does not see it."""
    values = a.values[target]
    strong = [f"{_name(a, index)}: {digits(values[index], True)}" for index in by_strength(values)[:_SPOKEN]]
    name = visible(a.output_names[target], 80)
    return (
        f"Heat map of the picture's {len(values)} {plural(a.kind)} for {name}, in {a.unit}: "
        f"{extremes(a, target)}. Strongest: {'; '.join(strong)}."
    )


def _name(a: AttributionView, index: int) -> str:
    return visible(a.features[index].label or "", 40)
