"""Where the target of a picture lies, drawn over it: the outline of a region, a cross around a pixel."""

import numpy as np
from jaxtyping import Bool, UInt8

from pellucid.report.overlays import outline
from pellucid.report.pictures import Colours, scaled, size
from pellucid.report.view import PictureView

_LINE = 2
# A cross: pixels left free in its middle, the length of its arms, and half their width.
_FREE, _ARM, _HALF = 5, 16, 2
_BLACK, _WHITE = 0, 255


def marked(drawn: Colours, picture: PictureView) -> UInt8[np.ndarray, "rows columns 3"]:
    """A drawing with the place of the target over it, white beside black so that it shows on every colour."""
    if picture.place is None:
        return drawn
    height, width = size(picture)
    found = scaled(drawn, height, width)
    inside = scaled(picture.place.array, height, width)
    if picture.is_point:
        rows, columns = np.nonzero(inside)
        light, dark = _cross(inside.shape, int(rows.mean()), int(columns.mean()), len(set(rows.tolist())) // 2)
    else:
        # Outside, so that what is inside stays visible.
        line = max(1, min(_LINE, height // picture.height))
        light, dark = outline(~inside, line), outline(~inside, 2 * line)
    found[dark], found[light] = _BLACK, _WHITE
    return found


def _cross(
    shape: tuple[int, int], row: int, column: int, radius: int
) -> tuple[Bool[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """The core and the rim of four arms around a place that is ``radius`` large."""
    down, right = np.abs(np.indices(shape) - np.array([row, column])[:, None, None])
    near = radius + _FREE

    def arms(half: int, spare: int) -> Bool[np.ndarray, "height width"]:
        long = (np.maximum(down, right) >= near - spare) & (np.maximum(down, right) < near + _ARM + spare)
        return np.asarray(long & (np.minimum(down, right) <= half))

    return arms(_HALF - 1, 0), arms(_HALF + 1, 2)


def place_in_words(picture: PictureView) -> str:
    """Where the target lies; empty for one of the whole picture."""
    if picture.place is None:
        return ""
    if picture.is_point:
        return "the cross marks the pixel that is explained"
    share = 100 * picture.place.inside / int(np.prod(picture.place.size))
    return f"outlined in black and white: the region that is explained, {share:.2g} % of the picture"
