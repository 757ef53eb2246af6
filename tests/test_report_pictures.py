"""Explanations of pictures, drawn: the right colour at the right pixel, told in words, and nothing to run."""

import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO, StringIO

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy import ndimage

from pellucid.explanation import Explanation
from pellucid.records import Checks, Cost, Feature, Fingerprint
from pellucid.report import (
    AttributionView,
    explanation_fragment,
    explanation_page,
    explanation_renderable,
    explanation_text,
)
from pellucid.report.colour import VIK, ZERO
from pellucid.report.heatmap import MINUS, digits
from pellucid.report.overlays import (
    AGAINST,
    FOR,
    blurred,
    contours,
    dashed,
    lines_in_words,
    mask_in_words,
    outline,
    smoothed,
    strongest,
    top_mask,
)
from pellucid.report.pictures import boxes, heat, scaled, size
from pellucid.targets import Choice, Margin
from test_report import Page, fields

IMAGE = re.compile(
    r'<img class="(pixelated)?" src="data:image/png;base64,([A-Za-z0-9+/=]+)" width="(\d+)" height="(\d+)"'
)


def explained(values, regions, *, kind="patch", channels=3, labels=None, names=("cat",), seed=0):
    regions = np.asarray(regions, np.int32)
    values = np.asarray(values, np.float32).reshape(len(names), -1)
    picture = np.random.default_rng(seed).integers(0, 256, (*regions.shape, channels)).astype(np.uint8)
    labels = labels or [f"{number}" for number in range(values.shape[1])]
    return Explanation(
        values=values,
        base_values=np.zeros(len(names), np.float32),
        full_values=values.sum(1),
        picture=picture,
        regions=regions,
        features=tuple(Feature(label=label, kind=kind, value="#20ff07", index=i) for i, label in enumerate(labels)),
        output_names=names,
        target=Margin(names[0]) if len(names) == 1 else Choice(names, names[0]),
        unit="log-odds",
        method="occlusion",
        settings={},
        baseline="black",
        seed=0,
        checks=Checks(),
        cost=Cost(),
        fingerprint=Fingerprint(
            model="tiny", weights="ab", tokenizer="cd", template="", dtype="float32", device="cpu", attention="",
            versions={},
        ),
    )  # fmt: skip


QUARTERS = np.kron([[0, 1], [2, 3]], np.ones((3, 4), int))


def quarters(**options):
    return explained([1.0, -0.5, 0.0, 0.25], QUARTERS, **options)


def pixels(side=28):
    values = np.linspace(-1, 2, side * side)
    return explained(values, np.arange(side * side).reshape(side, side), kind="pixel", channels=1)


def decoded(html):
    return [(np.asarray(Image.open(BytesIO(b64decode(data)))), int(w), int(h)) for _, data, w, h in IMAGE.findall(html)]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_has_the_colour_of_its_regions_value(channels):
    explanation = quarters(channels=channels)
    (picture, width, height), (drawn, *_) = decoded(explanation_page(explanation))[:2]
    times = width // 8
    assert (width, height) == (8 * times, 6 * times)
    assert 300 <= max(width, height) <= 340
    assert picture.shape == drawn.shape == (height, width, 3)
    assert np.array_equal(
        picture[times // 2 :: times, times // 2 :: times], np.broadcast_to(explanation.picture, (6, 8, 3))
    )
    stops = [len(VIK) - 1, ZERO - ZERO // 2, ZERO, ZERO + ZERO // 4]
    grey = np.asarray(Image.fromarray(picture).convert("L"), float)
    for y in range(0, height, 7):
        for x in range(0, width, 7):
            colour = VIK[stops[QUARTERS[y // times, x // times]]]
            shade = 110 + grey[y, x] * 145 / 255
            expected = [0.62 * int(colour[k : k + 2], 16) + 0.38 * shade for k in (1, 3, 5)]
            assert np.abs(drawn[y, x] - expected).max() <= 1


def test_the_scale_is_one_for_all_targets():
    values = [[1.0, 0.0, 0.0, 0.0], [-4.0, 0.0, 0.0, 2.0]]
    view = AttributionView.of(explained(values, QUARTERS, names=("cat", "dog")))
    html = explanation_page(explained(values, QUARTERS, names=("cat", "dog")))
    # The picture; then of each target the heat map, the lines and the mask.
    assert len(decoded(html)) == 7
    assert f"{MINUS} {digits(4.0)}" in html
    weak, strong = (heat(view, target, 4.0) for target in (0, 1))
    assert np.array_equal(decoded(html)[1][0], scaled(weak, *size(view.picture)))
    assert np.array_equal(decoded(html)[4][0], scaled(strong, *size(view.picture)))
    # A quarter of the limit is a quarter of the way into the map, not its end.
    assert int(weak[0, 0, 0]) - int(weak[0, 0, 2]) < 60
    assert Page(html).headings[0] == 1


def test_a_picture_can_neither_run_nor_fetch():
    hostile = ['"><script>alert(1)</script>', "x' onerror='alert(1)", "\u202eevil", "{{7*7}}"]
    explanation = quarters(labels=hostile, names=('cat"><img src=x onerror=alert(1)>',))
    bad = explanation.features[0].model_copy(update={"value": 'url(https://example.org)"/><script>'})
    explanation = explanation.model_copy(update={"features": (bad, *explanation.features[1:])})
    for html in (explanation_page(explanation), explanation_fragment(explanation), explanation_page(pixels())):
        page = Page(html)
        assert "script" not in page.tags
        assert "\u202e" not in html
        for tag, attribute, value in page.attributes:
            assert not attribute.startswith("on")
            assert attribute not in {"srcset", "action", "style", "data"}
            if attribute == "src":
                assert tag == "img"
                assert re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", value)
            if attribute == "fill":
                assert re.fullmatch("#[0-9a-f]{6}", value)
    assert "img-src data:" in explanation_page(explanation)


def test_a_heat_map_is_told_in_words():
    html = explanation_page(quarters())
    alternatives = [value for tag, name, value in Page(html).attributes if (tag, name) == ("img", "alt")]
    assert alternatives == [
        "The picture that was explained, 8 by 6 pixels, as the network saw it",
        "Heat map of the picture's 4 patches for cat, in log-odds: "
        f"lowest {MINUS}0.500 (patch 1), highest +1.000 (patch 0). "
        f"Strongest: 0: +1.000; 1: {MINUS}0.500; 3: +0.250; 2: 0.",
        "Lines of equal attribution on the picture for cat: at 25, 50, 75 % of ±"
        f"{digits(float(np.abs(smoothed(AttributionView.of(quarters()), 0)).max()))}, the strongest after smoothing",
        "Only the strongest patches of the picture for cat: 1 of 4 patches, framed by sign, with 57 % of all magnitude",
    ]
    assert f"lowest {MINUS}0.500 (patch 1), highest +1.000 (patch 0)" in Page(html).text


def test_the_bars_are_the_strongest_with_colour_and_place():
    html = explanation_page(quarters())
    rows = re.findall(r'<th scope="row">(.*?)</tr>', html, re.DOTALL)
    assert [re.search(r"<bdi>(\d)</bdi>", row)[1] for row in rows] == ["0", "1", "3", "2"]
    assert all('fill="#20ff07"' in row for row in rows)
    assert 'aria-label="25 % from the left, 25 % from the top"' in rows[0]
    assert 'aria-label="75 % from the left, 25 % from the top"' in rows[1]
    assert boxes(AttributionView.of(quarters()))["3"] == (50.0, 50.0, 50.0, 50.0)


def test_of_many_pixels_only_the_strongest_are_listed():
    explanation = pixels()
    html, text = explanation_page(explanation), explanation_text(explanation)
    assert html.count('<th scope="row">') == 24
    assert "The 24 strongest of 784 pixels" in html
    assert "All 784" not in html
    assert len(html) < 150_000
    numbers = re.findall(r'<td class="number">([^<]+)</td>', html)
    assert numbers == [digits(value, True) for value in sorted(explanation.values[0].tolist(), reverse=True)[:24]]
    assert "the 24 strongest of 784 pixels" in text
    assert len(re.findall(r"│\++ ", text)) == 24


def test_of_some_patches_all_numbers_are_there():
    regions = np.repeat(np.arange(60), 2).reshape(10, 12)
    explanation = explained(np.linspace(-1, 1, 60), regions)
    html = explanation_page(explanation)
    assert "All 60 patches in numbers" in html
    for value in explanation.values[0]:
        assert digits(float(value), signed=True) in html


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28), (308, 308)),
        ((224, 224), (224, 224)),
        ((1, 1), (320, 320)),
        ((1280, 320), (640, 160)),
        ((3, 2000), (1, 640)),
    ],
)
def test_small_pictures_are_enlarged_whole_and_large_ones_reduced(shape, expected):
    view = AttributionView.of(explained([1.0], np.zeros(shape, int)))
    assert size(view.picture) == expected
    html = explanation_page(explained([1.0], np.zeros(shape, int)))
    assert [(w, h) for _, w, h in decoded(html)] == [expected[::-1]] * 4
    assert ("pixelated" in re.search(r"<img[^>]*>", html)[0]) == (expected[0] > shape[0])


def test_enlarging_makes_no_colour_of_its_own():
    array = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(scaled(array, 4, 6), array.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(scaled(array, 2, 3), array)


def on_terminal(explanation, width=100, **options):
    console = Console(file=StringIO(), width=width, force_terminal=True, legacy_windows=False, _environ={}, **options)
    console.print(explanation_renderable(explanation))
    return console.file.getvalue()


def test_a_terminal_draws_half_blocks_in_the_heat_maps_colours():
    explanation = quarters()
    text = on_terminal(explanation, color_system="truecolor")
    # Three lines of two pixels, for the picture and for its heat map.
    assert text.count("▀") == 2 * 3 * 8
    array = heat(AttributionView.of(explanation), 0, 1.0)
    for y, x in ((0, 0), (4, 7), (2, 5)):
        ink, ground = ";".join(map(str, array[y, x])), ";".join(map(str, array[y + 1, x]))
        assert f"\x1b[38;2;{ink};48;2;{ground}m" in text
    assert f"blue {MINUS}1.000, red +1.000" in text
    narrow = on_terminal(pixels(), width=30, color_system="256")
    assert 0 < narrow.count("▀") <= 2 * 28 * 14
    plain = re.sub(r"\x1b\[[0-9;]*m", "", narrow)
    assert all(len(line) <= 30 for line in plain.splitlines())


def test_without_colours_there_is_no_drawing_and_the_numbers_stay():
    for text in (explanation_text(quarters()), on_terminal(quarters(), color_system=None, no_color=True)):
        assert "▀" not in text
        order = [line.split()[0] for line in text.splitlines() if "│" in line]
        assert order == ["0", "1", "3", "2"]


def test_what_was_not_stored_is_not_drawn():
    view = AttributionView.of(quarters(), stored=False)
    assert view.picture is None
    assert view.is_withheld
    assert AttributionView.of(fields()).picture is None


def test_nan_takes_the_colour_of_zero():
    view = AttributionView.of(explained([np.nan, 0.0, 1.0, -1.0], QUARTERS))
    plain = replace(view, values=((0.0, 0.0, 1.0, -1.0),))
    assert np.array_equal(heat(view, 0, 1.0), heat(plain, 0, 1.0))
    assert "highest +1.000 (patch 2)" in explanation_page(explained([np.nan, 0.0, 1.0, -1.0], QUARTERS))
    assert explanation_page(explained([np.nan] * 4, QUARTERS)).count("no value is a number") == 2


def test_the_same_picture_is_the_same_page_and_another_is_another():
    first, again, other = explanation_page(quarters()), explanation_page(quarters()), explanation_page(quarters(seed=1))
    assert first == again
    ids = [re.search(r'id="(x\w+)"', html)[1] for html in (first, other)]
    assert ids[0] != ids[1]
    assert AttributionView.of(quarters()) == AttributionView.of(quarters())


def shade(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def of_colour(array, colour):
    return (array == np.array(shade(colour))).all(2)


@pytest.mark.parametrize(("shape", "sigma"), [((20, 31), 1.0), ((7, 64), 3.5), ((1, 9), 0.7)])
def test_the_blur_is_the_gaussian_one(shape, sigma):
    field = np.random.default_rng(0).normal(size=shape)
    # scipy rounds the reach where ours takes the next whole number.
    truth = ndimage.gaussian_filter(field, sigma, mode="nearest", radius=int(np.ceil(3 * sigma)))
    np.testing.assert_allclose(blurred(field, sigma), truth, atol=1e-12)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_an_outline_is_what_erosion_takes_away(width):
    inside = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(40, 50)), 3) > 0
    core = ndimage.binary_erosion(inside, iterations=width, border_value=1)
    assert np.array_equal(outline(inside, width), inside & ~core)


@pytest.mark.parametrize("step", [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_a_dashed_line_of_any_common_slope_is_broken_and_still_a_line(step):
    mask = np.zeros((90, 90), bool)
    for place in range(90):
        mask[place * step[0] % 90, place * step[1] % 90] = True
    drawn = dashed(mask)
    assert 0.4 < drawn.sum() / mask.sum() < 0.8
    assert not (drawn & ~mask).any()


def hills(height=64, width=96):
    """A hill for the target on the left, and one half as high against it on the right, of every pixel its own."""
    rows, columns = np.indices((height, width))
    hill = np.exp(-((rows - 32) ** 2 + (columns - 24) ** 2) / (2 * 8.0**2))
    pit = np.exp(-((rows - 32) ** 2 + (columns - 72) ** 2) / (2 * 8.0**2))
    values = (hill - 0.6 * pit).ravel()
    return explained(values, np.arange(height * width).reshape(height, width), kind="pixel")


def test_the_lines_run_where_the_field_has_their_level():
    view = AttributionView.of(hills())
    drawn = contours(view, 0)
    height, width = size(view.picture)
    times = width / 96
    # A Gaussian of 8 pixels, blurred by one of 1.5, has a quarter of its peak at this distance from its middle.
    radius = np.sqrt(2 * (8.0**2 + 1.5**2) * np.log(4)) * times
    rows, columns = np.indices((height, width)) + 0.5
    away = np.hypot(rows - 32.5 * times, columns - 24.5 * times)
    solid = of_colour(drawn, FOR)
    assert away[solid].max() == pytest.approx(radius, abs=1.5)
    assert solid.any()
    against = of_colour(drawn, AGAINST)
    assert (np.nonzero(against)[1] > width / 2).all()
    # The pit is 0.6 deep, so it has the lines at 25 and at 50 %, and not the one at 75 %.
    depth = np.hypot(rows - 32.5 * times, columns - 72.5 * times)[against]
    assert depth.max() == pytest.approx(np.sqrt(2 * (8.0**2 + 1.5**2) * np.log(0.6 / 0.25)) * times, abs=1.5)
    assert depth.min() > 0.5 * np.sqrt(2 * (8.0**2 + 1.5**2) * np.log(0.6 / 0.5)) * times
    assert "of ±0.9" in lines_in_words(view, 0)
    # The stronger, the thicker, from the outside in.
    across = solid[height // 2, : round(24.5 * times)].astype(int)
    begin, end = (np.flatnonzero(np.diff(across) == step) for step in (1, -1))
    assert (end - begin).tolist() == [1, 2, 3]


def test_the_mask_shows_the_strongest_tenth_in_its_own_colours_and_nothing_else():
    regions = np.kron(np.arange(20).reshape(4, 5), np.ones((8, 8), int))
    values = np.linspace(-0.1, 0.1, 20)
    values[[3, 12]] = 1.0, -2.0
    explanation = explained(values, regions)
    view = AttributionView.of(explanation)
    assert strongest(view, 0) == [12, 3]
    drawn, times = top_mask(view, 0), size(view.picture)[1] // 40
    middles = drawn[times // 2 :: times, times // 2 :: times]
    inner = np.zeros((32, 40), bool)
    for feature in (3, 12):
        rows, columns = np.nonzero(regions == feature)
        inner[rows.min() + 1 : rows.max(), columns.min() + 1 : columns.max()] = True
    assert np.array_equal(middles[inner], explanation.picture[inner])
    faded = middles[~np.isin(regions, (3, 12))]
    assert (faded.max(1) == faded.min(1)).all()
    assert faded.min() >= 190
    enlarged = scaled(regions, *size(view.picture))
    assert (enlarged[of_colour(drawn, FOR)] == 3).all()
    assert (enlarged[of_colour(drawn, AGAINST)] == 12).all()
    assert of_colour(drawn, FOR).any()
    assert of_colour(drawn, AGAINST).any()
    share = 300 / np.abs(values).sum()
    assert mask_in_words(view, 0) == f"2 of 20 patches, framed by sign, with {share:.0f} % of all magnitude"


def test_a_picture_without_any_attribution_has_neither_lines_nor_mask():
    view = AttributionView.of(explained([0.0, 0.0, np.nan, 0.0], QUARTERS))
    assert lines_in_words(view, 0) == "no line to draw"
    assert mask_in_words(view, 0) == "no attribution differs from 0"
    for array in (contours(view, 0), top_mask(view, 0)):
        assert not of_colour(array, FOR).any()
        assert (array.max(2) == array.min(2)).all()
