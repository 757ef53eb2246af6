"""Pictures as the network reads them, their parts, and what is refused before the network is asked."""

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid import Logit, Margin, explain
from pellucid.errors import InputError, ModelError, PellucidError, UnknownNameError
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.pictures import Preprocessing

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
SIZES = [(27, 31), (28, 28), (9, 5)]


def drawn(height, width, channels=3, seed=0):
    """Smooth colours with some noise, so that there is something to segment."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * rows + k) * np.cos(4 * columns * (k + 1)) for k in range(channels)]
    noise = np.random.default_rng(seed).normal(0, 0.05, (height, width, channels))
    return ((np.stack(waves, 2) / 2 + 0.5 + noise).clip(0, 1) * 255).astype(np.uint8)


def network(channels=3, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(channels, 4, 3, padding=1),
            torch.nn.Tanh(),
            torch.nn.AdaptiveAvgPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(16, 3),
        ).eval()


def classifier(size=(8, 10), channels=3, **options):
    preprocessing = Preprocessing(size, MEAN[:channels], STD[:channels])
    return ImageClassifier(network(channels), ["cat", "dog", "owl"], preprocessing, **options)


@pytest.fixture
def model():
    return classifier()


def by_hand(picture, height, width):
    """Shorter side scaled by bicubic interpolation, middle cut out, normalised: with Pillow and NumPy only."""
    image = Image.fromarray(picture)
    factor = max(height / image.height, width / image.width)
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    pixels = np.asarray(image).astype(np.float64)
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    pixels = pixels[top : top + height, left : left + width]
    return np.stack([(pixels[:, :, k] / 255 - MEAN[k]) / STD[k] for k in range(3)])


@pytest.mark.parametrize("shape", [(8, 10), (16, 20), (31, 27), (5, 40), (3, 3)])
def test_preprocessing_is_what_it_says(model, shape):
    picture = drawn(*shape)
    inputs = model.encode(picture)
    expected = by_hand(picture, 8, 10)
    np.testing.assert_allclose(inputs.row.numpy(), expected, atol=1e-5)
    seen = expected * np.array(STD)[:, None, None] + np.array(MEAN)[:, None, None]
    assert np.array_equal(inputs.picture, (seen * 255).round().astype(np.uint8).transpose(1, 2, 0))
    assert inputs.positions == 80


def test_a_picture_of_the_right_size_is_not_touched(model):
    picture = drawn(8, 10)
    assert np.array_equal(model.encode(picture).picture, picture)


def test_a_file_an_image_and_an_array_are_the_same_picture(model, tmp_path):
    picture = drawn(13, 17)
    Image.fromarray(picture).save(tmp_path / "one.png")
    strided = np.ascontiguousarray(picture[::-1])[::-1]
    with Image.open(tmp_path / "one.png") as lazy:
        given = [picture, strided, Image.fromarray(picture), lazy, tmp_path / "one.png", str(tmp_path / "one.png")]
        rows = [model.encode(each).row for each in given]
    assert all(torch.equal(row, rows[0]) for row in rows)


def test_colours_become_what_the_network_reads():
    grey = drawn(8, 10, 1)
    one, three = classifier(channels=1), classifier()
    assert one.encode(grey).row.shape == (1, 8, 10)
    assert torch.equal(one.encode(grey).row, one.encode(grey[:, :, 0]).row)
    tripled = three.encode(grey).picture
    assert all(np.array_equal(tripled[:, :, k], grey[:, :, 0]) for k in range(3))
    colour = drawn(8, 10)
    assert np.array_equal(one.encode(colour).picture[:, :, 0], np.asarray(Image.fromarray(colour).convert("L")))
    opaque = np.dstack([colour, np.full((8, 10), 255, np.uint8)])
    assert np.array_equal(three.encode(opaque).picture, colour)


def test_a_palette_with_transparency_is_read_without_a_warning(model, tmp_path):
    image = Image.fromarray(drawn(8, 10)).convert("P")
    image.save(tmp_path / "palette.png", transparency=b"\0\xff" * 8)
    assert np.array_equal(model.encode(tmp_path / "palette.png").picture, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["pixel", "patch", "patch:4", "patch:1", "superpixel", "superpixel:7"])
def test_the_parts_cover_the_picture_once(size, channels, kind):
    model = classifier(size, channels)
    inputs = model.encode(drawn(*size, channels))
    divided = model.divided(inputs, kind)
    features = model.features(divided, kind)
    owners = model.owners(divided, features).numpy()
    regions = model.drawing(divided)["regions"]
    assert regions.dtype == np.int32
    assert np.array_equal(owners, regions.ravel())
    assert sorted(set(owners.tolist())) == list(range(len(features)))
    assert len({feature.label for feature in features}) == len(features)
    assert {feature.kind for feature in features} == {kind.split(":")[0]}
    # The plain features are those of the divided picture: dividing again changes nothing.
    assert model.features(inputs, kind) == features
    for number, feature in enumerate(features):
        pixels = divided.picture[regions == number].reshape(-1, channels).astype(float)
        shades = [int(feature.value[k : k + 2], 16) for k in (1, 3, 5)]
        assert np.abs(pixels.mean(0) - shades[:channels]).max() <= 0.51
        assert channels == 3 or len(set(shades)) == 1


@pytest.mark.parametrize("size", SIZES)
def test_patches_are_squares_of_a_grid(size):
    model = classifier(size)
    inputs = model.divided(model.encode(drawn(*size)), "patch:4")
    features = model.features(inputs, "patch:4")
    for (row, column), number in np.ndenumerate(inputs.regions.numpy()):
        assert features[number].label == f"{row // 4},{column // 4}"
    assert len(features) == -(-size[0] // 4) * -(-size[1] // 4)


def test_the_default_is_eight_patches_to_the_longer_side():
    found = explain(classifier((27, 31)), drawn(27, 31), method="occlusion", checks="none")
    assert found.features[0].kind == "patch"
    assert len(found.features) == 7 * 8


def test_superpixels_follow_edges():
    """Four quarters of plain colour: no superpixel reaches over an edge."""
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:16, 16:] = (255, 0, 0)
    picture[16:, :16] = (0, 255, 0)
    picture[16:, 16:] = (0, 0, 255)
    model = classifier((32, 32))
    inputs = model.divided(model.encode(picture), "superpixel:16")
    for number in range(int(inputs.regions.max()) + 1):
        assert len(np.unique(picture[inputs.regions.numpy() == number], axis=0)) == 1
    assert 8 <= int(inputs.regions.max()) + 1 <= 24


def unreadable(folder):
    Image.fromarray(drawn(20, 20)).save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "words.png").write_text("this is no picture")
    Image.fromarray((np.arange(80).reshape(8, 10) * 800).astype(np.uint16)).save(folder / "deep.png")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("nothing.png", "there is no picture at"),
        ("half.png", "cannot be read as a picture"),
        ("words.png", "cannot be read as a picture"),
        (".", "cannot be read as a picture"),
        ("deep.png", "more than 8 bits a channel"),
        ("https://example.org/x.png", "there is no picture at"),
        (np.zeros((8, 10)), r"uint8 .*not float64 \[8, 10\]"),
        (np.zeros((8, 10, 3), np.int64), "not int64"),
        (np.zeros((8, 10, 2), np.uint8), r"\[8, 10, 2\]"),
        (np.zeros((1, 8, 10, 3), np.uint8), r"\[1, 8, 10, 3\]"),
        (np.zeros((0, 10), np.uint8), "no pixels"),
        (Image.fromarray(np.zeros((8, 10), np.float32)), "more than 8 bits"),
        (Image.fromarray(np.zeros((8, 10), np.int32)), "more than 8 bits"),
        (None, "not NoneType"),
        (5, "not int"),
        ([[1, 2], [3, 4]], "not list"),
        (torch.zeros(3, 8, 10), "not Tensor"),
    ],
    ids=str,
)
def test_what_is_no_picture_is_refused_before_the_network_is_asked(model, tmp_path, raw, message):
    unreadable(tmp_path)
    if isinstance(raw, str) and "://" not in raw:
        raw = tmp_path / raw
    with pytest.raises(InputError, match=message) as caught:
        explain(model, raw, method="occlusion")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert model.meter.rows == model.meter.forwards == 0


def test_a_truncated_image_that_was_opened_lazily_is_refused(model, tmp_path):
    unreadable(tmp_path)
    with Image.open(tmp_path / "half.png") as lazy, pytest.raises(InputError, match="cannot be read"):
        model.encode(lazy)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("patch:0", "above 0"),
        ("patch:-1", "above 0"),
        ("patch:1.5", "above 0"),
        ("patch:", "above 0"),
        ("superpixel:0", "above 0"),
        ("superpixel:many", "above 0"),
        ("patch:11", "a patch of 11 pixels is larger than the picture, 8 x 10"),
        ("patch:99999999999999999999", "larger than the picture"),
        ("pixel:3", "no kind of feature is called 'pixel:3'; did you mean 'pixel'"),
        ("word", "Known: patch, patch:SIDE, pixel, superpixel, superpixel:N"),
        ("", "no kind of feature is called ''"),
    ],
)
def test_kinds_of_features_that_do_not_exist_are_refused(model, kind, message):
    if not kind:
        with pytest.raises(UnknownNameError, match=message):
            model.features(model.encode(drawn(8, 10)), kind)
        return
    with pytest.raises(InputError, match=message) as caught:
        explain(model, drawn(8, 10), method="occlusion", features=kind)
    assert "\n" not in str(caught.value)
    assert model.meter.rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": Margin("wolf")}, "no label of this classifier is called 'wolf'.*Known: cat, dog, owl"),
        ({"baseline": "median"}, "no baseline is called 'median'.*Known: black, blur, marginal, mean, noisy-linear"),
        ({"baseline": "marginal"}, r"no background pictures.*background=\[\.\.\.\]"),
        ({"baseline": "marginal", "background": [np.zeros((8, 10))]}, "uint8"),
        ({"seed": -1}, "a seed is a whole number from 0 on"),
        ({"samples": 3}, "samples"),
    ],
)
def test_bad_arguments_are_refused_before_the_network_is_asked(model, options, message):
    options = {"target": Logit("cat")} | options
    with pytest.raises(InputError, match=message) as caught:
        explain(model, drawn(8, 10), method="occlusion", **options)
    assert "\n" not in str(caught.value)
    assert model.meter.rows == 0


@pytest.mark.parametrize("name", ["integrated_gradients", "input_x_gradient", "path_integral"])
def test_an_unknown_baseline_of_an_interpolating_method_is_refused(model, name):
    with pytest.raises(UnknownNameError, match="Known: black, blur, mean, zero"):
        explain(model, drawn(8, 10), method=name, baseline="mask", target=Logit("cat"))
    assert model.meter.rows == 0


def test_expected_gradients_without_a_background_are_refused(model):
    with pytest.raises(InputError, match="no background pictures"):
        explain(model, drawn(8, 10), method="expected_gradients", target=Logit("cat"))
    assert model.meter.rows == 0


def test_more_pixels_than_a_game_can_play_are_refused():
    model = classifier((96, 96))
    with pytest.raises(InputError, match="9216 features of kind 'pixel', and at most 8192"):
        explain(model, drawn(96, 96), method="occlusion", features="pixel", target=Logit("cat"))
    assert model.meter.rows == 0
    assert explain(model, drawn(96, 96), method="gradient", features="pixel").values.shape == (1, 9216)


def test_a_network_that_does_not_fit_its_labels_is_named():
    wrong = ImageClassifier(network(), ["cat", "dog"], Preprocessing((8, 10), MEAN, STD), name="pets")
    with pytest.raises(ModelError, match=r"pets gave \[1, 3\] for 1 inputs; with 2 labels its logits are \[1, 2\]"):
        explain(wrong, drawn(8, 10), method="occlusion")
    grey = ImageClassifier(network(), ["a", "b", "c"], Preprocessing((8, 10), MEAN[:1], STD[:1]), name="pets")
    with pytest.raises(ModelError, match=r"pets cannot read a batch of shape \[1, 1, 8, 10\]") as caught:
        explain(grey, drawn(8, 10, 1), method="occlusion")
    assert "\n" not in str(caught.value)


def test_a_network_that_returns_nan_gives_no_explanation(model):
    with torch.no_grad():
        model.module[-1].bias[0] = torch.nan
    with pytest.raises(PellucidError, match="NaN or infinite"):
        explain(model, drawn(8, 10), method="occlusion")


def test_the_result_holds_what_it_takes_to_draw_it(model, tmp_path):
    picture = drawn(8, 10)
    found = explain(model, picture, method="occlusion", features="patch:3")
    assert np.array_equal(found.picture, picture)
    assert found.regions.shape == (8, 10)
    loaded = type(found).load(found.save(tmp_path / "x.zip"))
    assert np.array_equal(loaded.picture, picture)
    assert np.array_equal(loaded.regions, found.regions)


def test_the_fingerprint_knows_preprocessing_labels_and_weights(model):
    same, others = classifier(), []
    assert same.fingerprint() == model.fingerprint()
    labels, size, weights = ["cat", "dog", "emu"], Preprocessing((8, 10), MEAN, STD), network()
    others.append(ImageClassifier(weights, labels, size))
    others.append(ImageClassifier(weights, model.labels, Preprocessing((8, 12), MEAN, STD)))
    others.append(ImageClassifier(network(seed=1), model.labels, size))
    for other in others:
        assert other.fingerprint() != model.fingerprint()
