"""The diverging colour map of all heat maps, and which ink is legible on it."""

# `vik` of the Scientific Colour Maps by Fabio Crameri [crameri2018, doi:10.5281/zenodo.1243862], MIT licence,
# copyright (c) 2020 Fabio Crameri: 33 evenly spaced samples of its 256 entries, as shipped in `cmcrameri` 1.10.
_STOPS = """
#001261 #021f69 #022b71 #023779 #034481 #045089 #0c5e92 #1b6d9b #2f7ca6 #478db1 #609dbc #79adc7 #92bdd2 #acccdc #c5dbe5
#dce5e9 #ece5e1 #eedacf #e9cbb9 #e2bba4 #dcab8f #d59c7b #cf8e68 #c97f55 #c37243 #bc6331 #b3531f #a5400e #932e06 #832106
#741506 #660a07 #590008
"""
VIK = tuple(_STOPS.split())
ZERO = len(VIK) // 2
NEGATIVE, POSITIVE = VIK[8], VIK[24]
INKS = ("#000000", "#ffffff")


def _luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` in [0, 1] [WCAG 2.2]."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, from 1 to 21 [WCAG 2.2]. Small text needs 4.5 for level AA."""
    dark, light = sorted((_luminance(first), _luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def ink_on(background: str) -> str:
    """Black or white, whichever is the more legible."""
    return max(INKS, key=lambda ink: contrast(ink, background))


def stop_of(value: float, limit: float) -> int:
    """Index into ``VIK`` of a value on a scale from -limit to +limit; what lies beyond takes the end colour.

    >>> [stop_of(value, 2.0) for value in (-9.0, -2.0, 0.0, 0.01, 2.0)]
    [0, 0, 16, 16, 32]
    """
    if value != value or limit <= 0:
        return ZERO
    return ZERO + round(ZERO * max(-1.0, min(1.0, value / limit)))


def palette_css() -> str:
    """One class for each colour: background, legible ink, and the colour kept in print."""
    return "\n".join(
        f".pellucid .v{stop} {{ background: {colour}; color: {ink_on(colour)}; }}" for stop, colour in enumerate(VIK)
    )
