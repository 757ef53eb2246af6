"""Two more views of a picture under its attributions: lines of equal strength, and only its strongest parts."""

from math import ceil, isfinite

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from pellucid.report.colour import VIK
from pellucid.report.heatmap import by_strength, digits
from pellucid.report.pictures import Colours, colours, greyed, scaled, size
from pellucid.report.view import AttributionView, PictureView, plural
from pellucid.report.visible import visible

LEVELS = (0.25, 0.5, 0.75)
"""Where lines are drawn, as shares of the strongest smoothed attribution; the stronger, the thicker."""
KEPT = 0.1
"""Share of the features that the mask keeps."""
AGAINST, FOR = VIK[3], VIK[28]
"""Colours of the lines: dark enough for any grey picture."""
_DASH = 3
# Of the faded parts of a mask: most of the page's white, a little of the picture.
_FADED, _WHITE = 0.3, 235.0

Field = Float[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]


def contours(a: AttributionView, target: int) -> Colours:
    """Lines of equal smoothed attribution over the picture in grey: solid for the target, dashed against it."""
    assert a.picture is not None
    picture = a.picture
    field = _enlarged(smoothed(a, target), picture)
    drawn = _sized(np.repeat(greyed(picture)[:, :, None], 3, 2).round().astype(np.uint8), picture)
    peak = float(np.abs(field).max())
    for width, level in enumerate(LEVELS, 1) if peak > 0 else ():
        drawn[outline(field >= level * peak, width)] = _shade(FOR)
        drawn[dashed(outline(field <= -level * peak, width))] = _shade(AGAINST)
    return drawn


def top_mask(a: AttributionView, target: int) -> Colours:
    """The strongest features in the picture's own colours, framed by their sign, over the rest in faded grey."""
    assert a.picture is not None
    picture = a.picture
    faded = _FADED * greyed(picture)[:, :, None] + (1 - _FADED) * _WHITE
    kept = strongest(a, target)
    values = np.array(a.values[target])
    inside = np.isin(picture.regions, kept)
    mixed = np.where(inside[:, :, None], colours(picture), np.repeat(faded, 3, 2)).round().astype(np.uint8)
    drawn = _sized(mixed, picture)
    height, width = size(picture)
    regions = scaled(picture.regions, height, width)
    for sign, shade in ((1, FOR), (-1, AGAINST)):
        frame = outline(np.isin(regions, [index for index in kept if values[index] * sign > 0]), 2)
        drawn[frame if sign > 0 else dashed(frame)] = _shade(shade)
    return drawn


def strongest(a: AttributionView, target: int) -> list[int]:
    """The features that the mask keeps: the strongest tenth, at least one, and none that scores 0."""
    values = a.values[target]
    order = by_strength(values)[: max(1, ceil(KEPT * len(values)))]
    return [index for index in order if isfinite(values[index]) and values[index] != 0]


def mask_in_words(a: AttributionView, target: int) -> str:
    """What the mask keeps."""
    kept, values = strongest(a, target), a.values[target]
    if not kept:
        return "no attribution differs from 0"
    share = sum(abs(values[index]) for index in kept) / sum(abs(value) for value in values if isfinite(value))
    noun = a.kind if len(values) == 1 else plural(a.kind)
    return f"{len(kept)} of {len(values)} {noun}, framed by sign, with {100 * share:.0f} % of all magnitude"


def mask_spoken(a: AttributionView, target: int) -> str:
    """What the mask shows, for whoever does not see it."""
    name = visible(a.output_names[target], 80)
    return f"Only the strongest {plural(a.kind)} of the picture for {name}: {mask_in_words(a, target)}"


def lines_in_words(a: AttributionView, target: int) -> str:
    """Where the lines run."""
    peak = float(np.abs(smoothed(a, target)).max())
    shares = ", ".join(f"{100 * level:.0f}" for level in LEVELS)
    return f"at {shares} % of ±{digits(peak)}, the strongest after smoothing" if peak > 0 else "no line to draw"


def lines_spoken(a: AttributionView, target: int) -> str:
    """What the lines are, for whoever does not see them."""
    name = visible(a.output_names[target], 80)
    return f"Lines of equal attribution on the picture for {name}: {lines_in_words(a, target)}"


def smoothed(a: AttributionView, target: int) -> Field:
    """Each pixel's attribution after a Gaussian blur of about half a feature; what is not a number counts as 0.

    A picture that is drawn smaller than it is, is made smaller first.
    """
    assert a.picture is not None
    field = np.nan_to_num(np.array(a.values[target]), nan=0.0, posinf=0.0, neginf=0.0)[a.picture.regions]
    height, width = size(a.picture)
    if height * width < field.size:
        field = scaled(field, height, width)
    across = (field.size / max(1, len(a.features))) ** 0.5
    return blurred(field, max(across / 2, max(field.shape) / 64))


def blurred(field: Field, sigma: float) -> Field:
    """Convolution with a Gaussian of that many pixels, the edge pixels repeated beyond the edge."""
    reach = max(1, ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for axis in (0, 1):
        padding = [(reach, reach) if axis == each else (0, 0) for each in (0, 1)]
        wide = np.pad(field, padding, mode="edge")
        parts = (w * wide.take(range(k, k + field.shape[axis]), axis) for k, w in enumerate(weights / weights.sum()))
        field = np.asarray(sum(parts))
    return field


def outline(inside: Mask, width: int) -> Mask:
    """The outermost ``width`` pixels of what is inside; the picture's own edge is no outline."""
    core = inside
    for _ in range(width):
        wide = np.pad(core, 1, mode="edge")
        core = core & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return np.asarray(inside & ~core)


def dashed(mask: Mask) -> Mask:
    """Stretches of a line: three of five small squares, so set that lines of all common slopes are broken."""
    rows, columns = np.indices(mask.shape) // _DASH
    return np.asarray(mask & ((rows + 2 * columns) % 5 < 3))


def _enlarged(field: Field, picture: PictureView) -> Float[np.ndarray, "rows columns"]:
    height, width = size(picture)
    image = Image.fromarray(field.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64)


def _sized(array: Colours, picture: PictureView) -> UInt8[np.ndarray, "rows columns 3"]:
    return scaled(array, *size(picture))


def _shade(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
