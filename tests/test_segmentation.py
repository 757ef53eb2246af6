"""Networks that label places: every method on them, the pretrained ones, and detectors, against plain autograd."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from torch import nn
from torch.nn import functional as F

from families import craft, detection, unet
from families.example import Example
from pellucid import Margin, explain, load
from pellucid.cli import asking
from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.explanation import Explanation
from pellucid.methods import all_methods
from pellucid.models.pictures import AbstractImageModel, Preprocessing
from pellucid.models.segmentation import Segmentation
from pellucid.relevance import all_composites, trace
from pellucid.relevance.start import output_of
from pellucid.report import AttributionView, explanation_page
from pellucid.report.pictures import colours, size
from pellucid.report.places import marked, place_in_words
from pellucid.targets import Logit, Pixel, Region
from relevance_tools import Net, near, randn
from test_image_classifier import MEAN, STD, drawn

SIZE = (8, 12)
LABELS = ["background", "cat", "dog"]
QUIET = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


class Labelling(nn.Module):
    """Pictures to a map of half their height and width, wrapped as networks wrap it."""

    def __init__(self, classes=3, wrap=None, channels=3):
        super().__init__()
        self.entry, self.down = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.head, self.wrap = nn.Conv2d(6, classes, 1), wrap

    def forward(self, x):
        found = self.head(torch.tanh(self.down(torch.tanh(self.entry(x)))))
        return found if self.wrap is None else {self.wrap: found, "aux": found * 0}


def network(classes=3, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Labelling(classes, **options).eval()
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.7)
        return module.double()


def segmentation(labels=LABELS, seed=0, **options):
    return Segmentation(network(len(labels), seed), labels, Preprocessing(SIZE, MEAN, STD), name="tiny map", **options)


PICTURE = drawn(*SIZE)
MASK = np.zeros((4, 6), bool)
MASK[1:3, 2:5] = True
CASES = [Region("dog", MASK), Region("cat"), Pixel("cat", 3, 1)]


def plain(model, target, batch):
    """The target of a batch of tensors, straight from the network."""
    logits = model.module(batch)
    bound = model.bind(target, model.encode(PICTURE)).target
    index = model.labels.index(bound.class_)
    if isinstance(bound, Pixel):
        return logits[:, index, bound.y, bound.x]
    return (logits[:, index] * torch.from_numpy(bound.mask)).flatten(1).sum(1) / bound.mask.sum()


def gradient_of(model, target):
    row = model.encode(PICTURE).row.double().requires_grad_()
    (found,) = torch.autograd.grad(plain(model, target, row[None]).sum(), row)
    return row.detach(), found


def test_it_is_a_model_of_pictures():
    model = segmentation()
    assert isinstance(model, AbstractImageModel)
    assert model.modality == "image"
    assert model.labels == LABELS


@pytest.mark.parametrize("target", CASES, ids=repr)
def test_occlusion_is_the_target_with_one_patch_at_the_mean(target):
    model = segmentation()
    found = explain(model, PICTURE, method="occlusion", features="patch:4", target=target)
    row = model.encode(PICTURE).row.double()
    with torch.no_grad():
        full = plain(model, target, row[None])
        for number, (down, right) in enumerate(product(range(2), range(3))):
            absent = row.clone()
            absent[:, 4 * down : 4 * down + 4, 4 * right : 4 * right + 4] = 0
            assert found.values[0, number] == pytest.approx(float(full - plain(model, target, absent[None])), abs=1e-6)
    assert found.full_values[0] == pytest.approx(float(full), abs=1e-6)
    assert found.unit == "logit"


@pytest.mark.parametrize("target", CASES, ids=repr)
def test_gradients_and_traces_of_a_model_are_autograds(target):
    model = segmentation()
    row, gradient = gradient_of(model, target)
    found = explain(model, PICTURE, method="gradient", features="pixel", target=target)
    np.testing.assert_allclose(found.values[0], gradient.norm(dim=0).flatten(), atol=1e-6)
    found = explain(model, PICTURE, method="input_x_gradient", features="pixel", target=target)
    np.testing.assert_allclose(found.values[0], (row * gradient).sum(0).flatten(), atol=1e-6)
    bare = model.bind(target, model.encode(PICTURE)).target
    bare = bare.model_copy(update={"class_": model.labels.index(bare.class_)})
    for name in sorted(set(all_composites()) - {"gradient", "input-x-gradient"}):
        traced = trace(model.module, row[None], bare, composite=name)
        found = explain(model, PICTURE, method=name, features="pixel", target=target)
        np.testing.assert_allclose(found.values[0], traced.input[0].sum(0).flatten(), atol=1e-5, err_msg=name)


@QUIET
@pytest.mark.parametrize(
    "name", sorted(n for n, m in all_methods().items() if {"image", "tabular"} <= set(m.facts.modalities))
)
def test_every_method_of_pictures_explains_a_region(name):
    model = segmentation(background=[drawn(*SIZE, seed=seed) for seed in (1, 2)])
    found = explain(model, PICTURE, method=name, features="patch:4", target=Region("dog", MASK), checks="none")
    assert found.values.shape == (1, 6)
    assert found.values.any()
    assert found.target == Region("dog", MASK)
    if all_methods()[name].facts.complete:
        assert found.values.sum() == pytest.approx(float(found.full_values[0] - found.base_values[0]), rel=0.06)


def said(model):
    with torch.no_grad():
        return model.module(model.encode(PICTURE).row[None].double())[0].argmax(0).numpy()


def test_the_default_is_the_class_of_most_places_other_than_background():
    model = segmentation()
    classes = said(model)
    areas = [(classes == index).mean() for index in range(3)]
    assert min(areas) > 0
    best = 1 + int(np.argmax(areas[1:]))
    bound = model.bind(None, model.encode(PICTURE))
    assert bound.target == Region(LABELS[best], classes == best)
    assert bound.output_names == (LABELS[best],)
    assert model.predicted(model.encode(PICTURE)) == LABELS[best]
    assert model.shares(model.encode(PICTURE)) == pytest.approx(dict(zip(LABELS, areas, strict=True)))
    best = int(np.argmax(areas))
    named = segmentation(["wall", "cat", "dog"])
    assert named.bind(None, named.encode(PICTURE)).target.class_ == named.labels[best]


def test_what_is_bound_stays_bound_and_costs_a_pass_only_where_something_is_open():
    model = segmentation()
    inputs = model.encode(PICTURE)
    opened = [None, Region("cat"), Region(2), Region(None, MASK), Pixel(1, 2, 2), Pixel(None, 0, 0)]
    for target in opened:
        before = model.meter.forwards
        bound = model.bind(target, inputs)
        assert model.meter.forwards == before + 1
        assert model.bind(bound.target, inputs) == bound
        assert model.bind(Region(2, MASK), inputs).target == Region("dog", MASK)
        assert model.meter.forwards == before + 1
    there = said(model)[MASK]
    assert model.bind(Region(None, MASK), inputs).target.class_ == LABELS[np.bincount(there).argmax()]
    assert model.bind(Pixel(None, 1, 1), inputs).target == Pixel(LABELS[said(model)[1, 1]], 1, 1, size=(4, 6))


def test_one_label_is_there_or_not():
    model = segmentation(["cell"], seed=1)
    inputs = model.encode(PICTURE)
    with torch.no_grad():
        present = (model.module(inputs.row[None].double())[0, 0] > 0).numpy()
    assert 0 < present.mean() < 1
    bound = model.bind(None, inputs)
    assert bound.target == Region("cell", present)
    assert model.shares(inputs) == pytest.approx({"cell": present.mean()})
    assert model.predicted(inputs) == "cell"
    (alternative,) = model.alternatives([inputs.row], bound)
    assert alternative.logit.shape == (1, present.sum())
    assert not alternative.rest.any()
    with torch.no_grad():
        model.module.head.bias -= 1000
    assert model.predicted(inputs) == "no cell"
    with pytest.raises(InputError, match="predicts 'cell' nowhere in this input; give a mask"):
        model.bind(None, inputs)


def test_alternatives_are_each_pixels_logit_against_the_other_classes():
    model = segmentation()
    inputs = model.encode(PICTURE)
    (found,) = model.alternatives([inputs.row], model.bind(Region("dog", MASK), inputs))
    with torch.no_grad():
        places = model.module(inputs.row[None].double())[0][:, torch.from_numpy(MASK)]
    near(found.logit[0], places[2])
    near(found.rest[0], places[:2].logsumexp(0))


@pytest.mark.parametrize("wrap", ["out", "logits"])
def test_a_wrapped_map_is_found(wrap):
    wrapped = Segmentation(network(wrap=wrap), LABELS, Preprocessing(SIZE, MEAN, STD))
    for method in ("occlusion", "lrp-gamma", "integrated_gradients"):
        options = {"method": method, "features": "patch:4", "target": Region("dog", MASK)}
        found, expected = explain(wrapped, PICTURE, **options), explain(segmentation(), PICTURE, **options)
        np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


@pytest.mark.parametrize(
    ("target", "match"),
    [
        (
            Region("dog", np.ones(SIZE)),
            "the mask is 8 x 12 and the network's output 4 x 6: give a mask of the output's",
        ),
        (Region(None, np.ones(SIZE)), "the mask is 8 x 12 and the network's output 4 x 6"),
        (Pixel("dog", 4, 0), "pixel y=4, x=0 lies outside the network's output, which is 4 x 6"),
        (Region("dgo", MASK), "did you mean 'dog'"),
        (Region(3, MASK), "has no class 3: its 3 classes are 0 to 2"),
        (Logit("dog"), r"explain Region\(class, mask\) or Pixel\(class, y, x\), not a Logit"),
        (Margin("dog"), "not a Margin"),
    ],
)
@pytest.mark.parametrize("method", ["occlusion", "gradient", "attnlrp"])
def test_a_target_that_the_map_does_not_have_is_refused(target, match, method):
    with pytest.raises(InputError, match=match) as caught:
        explain(segmentation(), PICTURE, method=method, features="patch:4", target=target)
    assert "\n" not in str(caught.value)


def test_networks_that_are_no_map_of_the_labels_are_named():
    preprocessing = Preprocessing(SIZE, MEAN, STD)
    for module, match in (
        (network(2), r"tiny gave \[1, 2, 4, 6\] for 1 inputs; with 3 labels its logits are \[1, 3, height, width\]"),
        (nn.Sequential(nn.Flatten(), nn.Linear(288, 3)), r"gave \[1, 3\]"),
        (Net(lambda x: {"map": x}), "gave dict"),
        (network(channels=1), "cannot read a batch"),
    ):
        with pytest.raises(ModelError, match=match):
            explain(Segmentation(module, LABELS, preprocessing, name="tiny"), PICTURE, method="occlusion")


def test_an_explanation_of_a_region_is_a_document(tmp_path):
    found = explain(segmentation(), PICTURE, method="occlusion", target=Region("cat"))
    loaded = Explanation.load(found.save(tmp_path / "region.zip"))
    assert loaded.target == found.target
    assert np.array_equal(loaded.target.mask, said(segmentation()) == 1)
    assert json.loads(json.dumps(found.to_json()))["target"]["runs"]["size"] == [4, 6]


def test_a_network_of_transformers_is_a_segmentation():
    processor = hf.SegformerImageProcessor(size={"height": 32, "width": 48})
    module = detection.segformer_net()
    model = load((module, processor))
    assert model.labels == ["cat", "dog", "owl"]
    found = explain(model, drawn(40, 60), method="attnlrp", features="patch:8")
    assert found.target.runs.size == (8, 12)
    with torch.no_grad():
        logits = module(processor(images=drawn(40, 60), return_tensors="pt")["pixel_values"]).logits[0]
    index = model.labels.index(found.target.class_)
    expected = logits[index][logits.argmax(0) == index].mean()
    assert found.full_values[0] == pytest.approx(float(expected), abs=1e-4)
    assert found.picture.shape == (32, 48, 3)


# What is drawn


def test_a_region_is_outlined_where_it_lies_and_a_pixel_is_crossed():
    found = explain(segmentation(), PICTURE, method="occlusion", features="patch:4", target=Region("dog", MASK))
    picture = AttributionView.of(found).picture
    plain_one = colours(picture)
    drawn_one = marked(plain_one, picture)
    height, width = size(picture)
    assert drawn_one.shape == (height, width, 3)
    rows, columns = np.indices((height, width))
    inside = MASK[rows * 4 // height, columns * 6 // width]
    enlarged = plain_one[rows * 8 // height, columns * 12 // width]
    changed = (drawn_one != enlarged).any(2)
    assert changed.any()
    assert not (changed & inside).any()
    reach = np.pad(inside, 5)
    near_it = sum(reach[5 + a : 5 + a + height, 5 + b : 5 + b + width] for a, b in product(range(-5, 6), repeat=2)) > 0
    assert not (changed & ~near_it).any()
    assert place_in_words(picture).endswith("the region that is explained, 25 % of the picture")
    page = explanation_page(found)
    assert page.count("the region that is explained, 25 % of the picture") == 2

    found = explain(segmentation(), PICTURE, method="occlusion", features="patch:4", target=Pixel("dog", 1, 4))
    picture = AttributionView.of(found).picture
    places = np.argwhere((marked(plain_one, picture) != enlarged).any(2))
    middle = np.array([1.5 * height / 4, 4.5 * width / 6])
    assert np.abs((places.min(0) + places.max(0)) / 2 - middle).max() <= 1.5
    assert "the cross marks the pixel" in explanation_page(found)
    whole = AttributionView.of(
        explain(segmentation(), PICTURE, method="occlusion", target=Region("dog", MASK)), stored=False
    )
    assert whole.picture is None


def test_a_target_of_the_whole_picture_marks_nothing():
    from test_image_classifier import classifier

    picture = AttributionView.of(explain(classifier(), drawn(8, 10), method="occlusion")).picture
    assert marked(colours(picture), picture) is not None
    assert np.array_equal(marked(colours(picture), picture), colours(picture))
    assert place_in_words(picture) == ""


# On the command line


def chosen(**options):
    return asking.target(None, None, None, None, None, **options)


def test_regions_and_pixels_are_named_on_the_command_line(tmp_path):
    Image.fromarray(MASK.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    assert chosen(region="dog") == Region("dog")
    assert chosen(region=f"2:{tmp_path / 'mask.png'}") == Region(2, MASK)
    assert chosen(pixel="traffic light, left, 3, 14") == Pixel("traffic light, left", 3, 14)
    assert chosen(pixel="0,0,0") == Pixel(0, 0, 0)
    Image.fromarray(PICTURE).save(tmp_path / "photograph.png")
    for options, match in (
        ({"region": ":mask.png"}, "--region takes CLASS or CLASS:MASK.png, and ':mask.png' is not"),
        ({"region": "dog:"}, "is not of that form"),
        ({"region": f"dog:{tmp_path / 'none.png'}"}, "there is no picture at"),
        ({"region": f"dog:{tmp_path / 'photograph.png'}"}, "one other value inside"),
        ({"pixel": "dog,3"}, "--pixel takes CLASS,Y,X"),
        ({"pixel": "dog,3,-1"}, "--pixel takes CLASS,Y,X"),
        ({"pixel": "dog,3,1", "region": "dog"}, "--region and --pixel were given"),
    ):
        with pytest.raises(InputError, match=match):
            chosen(**options)


# The pretrained networks


@pytest.fixture(scope="module")
def pupil():
    return unet.pupil()


@pytest.fixture(scope="module")
def letters():
    return craft.craft()


@pytest.mark.parametrize(("centre", "radius"), [((70, 80), 16), ((60, 60), 16), ((80, 70), 14)])
def test_the_pupil_is_found(pupil, centre, radius):
    picture, truth = unet.eye(1, centre, radius)
    model = Segmentation(pupil.module, ["pupil"], Preprocessing((148, 148), (0.0,), (1.0,)), name="pupil")
    found = model.bind(None, model.encode(picture)).target.mask
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


def test_relevance_of_the_pupil_lies_on_and_around_it(pupil):
    """Twice the pupil's own area; a map that knew nothing would put 8 % there."""
    rows, columns = np.mgrid[: unet.SIDE, : unet.SIDE]
    around = np.hypot(rows - 70, columns - 80) < 24
    assert around.mean() < 0.09
    for composite in ("attnlrp", "lrp-gamma", "zplus", "backtrace", "backtrace-contrast"):
        relevance = trace(pupil.module, pupil.inputs, pupil.target, composite=composite).input[0, 0].numpy()
        assert around[np.unravel_index(np.abs(relevance).argmax(), relevance.shape)], composite
        assert np.abs(relevance[around]).sum() > 0.8 * np.abs(relevance).sum(), composite
    far = trace(pupil.module, pupil.inputs, Pixel(0, 130, 20), composite="lrp-gamma").input[0, 0].numpy()
    assert np.abs(far[around]).sum() < 0.5 * np.abs(far).sum()


def test_relevance_of_a_word_lies_on_that_word(letters):
    _, boxes = craft.rendered()
    with torch.no_grad():
        heat = letters.module(letters.inputs)[0, 0].numpy()
    assert heat.max() > 0.8
    regions = [craft.letters_of(heat, box) for box in boxes]
    assert sum(region.sum() for region in regions) > 0.9 * (heat > 0.3).sum()
    for word, region in enumerate(regions):
        relevance = (
            trace(letters.module, letters.inputs, Region(0, region), composite="lrp-gamma").input[0].abs().sum(0)
        )
        mass = [
            relevance[int(top) - 4 : int(bottom) + 4, int(left) - 4 : int(right) + 4].sum()
            for left, top, right, bottom in boxes
        ]
        assert mass[word] > 0.9 * relevance.sum()
        assert mass[word] > 50 * mass[1 - word]


# Every network of these families under every composite


SMALL = (unet.bilinear, unet.transposed, unet.volume, *detection.EXAMPLES)


@pytest.fixture(scope="module", params=SMALL, ids=lambda make: make.__name__)
def example(request) -> Example:
    made = request.param()
    doubled = (
        {key: x.double() for key, x in made.inputs.items()} if isinstance(made.inputs, dict) else made.inputs.double()
    )
    return replace(made, module=made.module.double(), inputs=doubled)


def called(example, inputs):
    return example.module(**inputs) if isinstance(inputs, dict) else example.module(inputs)


def row_of(inputs, row):
    return {key: each[[row]] for key, each in inputs.items()} if isinstance(inputs, dict) else inputs[[row]]


def values(relevance):
    return torch.cat([each.flatten(1) for each in relevance.values()], 1) if isinstance(relevance, dict) else relevance


@pytest.mark.parametrize("composite", sorted(all_composites()))
def test_the_value_stays_and_every_operations_relevance_is_accounted_for(example, composite):
    with torch.no_grad():
        logits = output_of(called(example, example.inputs))
        expected = sum(float(trace_start(example.target, logits[[row]])) for row in range(len(logits)))
    conserving = all_composites()[composite].facts.conserving
    found = trace(example.module, example.inputs, example.target, composite=composite, account=conserving)
    assert float(found.seeded) == pytest.approx(expected, rel=1e-4) or composite == "backtrace-contrast"
    assert not found.approximated
    assert bool(torch.isfinite(values(found.input)).all())
    if conserving:
        account = found.account()
        assert account.seeded == pytest.approx(account.arrived + account.absorbed + account.leaked, rel=1e-3, abs=1e-4)
        assert max(abs(row.leaked) for row in account) < 2e-4 * max(1.0, max(abs(row.in_) for row in account)), account


def trace_start(target, row):
    resolved = target.resolved(row)
    return resolved.places(row)[..., resolved.class_].mean()


@pytest.mark.parametrize("composite", ["gradient", "attnlrp", "lrp-gamma", "backtrace", "backtrace-contrast"])
def test_rows_of_these_networks_are_explained_as_if_alone(example, composite):
    if example.model == "RT-DETR":
        pytest.skip("its own gradient of a row, by plain autograd, changes with the batch")
    whole = values(trace(example.module, example.inputs, example.target, composite=composite).input)
    for row in range(len(whole)):
        alone = values(trace(example.module, row_of(example.inputs, row), example.target, composite=composite).input)
        torch.testing.assert_close(whole[[row]], alone, rtol=1e-5, atol=1e-7 * float(alone.abs().max()))


def test_the_gradient_of_these_networks_is_autograds(example):
    inputs = example.inputs["pixel_values"] if isinstance(example.inputs, dict) else example.inputs
    x = inputs.clone().requires_grad_()
    logits = output_of(called(example, {"pixel_values": x} if isinstance(example.inputs, dict) else x))
    total = sum(trace_start(example.target, logits[[row]]) for row in range(len(logits)))
    (expected,) = torch.autograd.grad(total, x)
    found = values(trace(example.module, example.inputs, example.target, composite="gradient").input)
    torch.testing.assert_close(found.view_as(expected), expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


# Reading at places


def sampled(x, shift, **options):
    """A picture read at places that depend on it."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 5), indexing="ij")
    grid = torch.stack([columns, rows], -1).to(x) + shift * x.mean((1, 2, 3)).view(-1, 1, 1, 1)
    return F.grid_sample(x, grid.expand(len(x), 4, 5, 2), align_corners=True, **options)


@pytest.mark.parametrize("options", [{}, {"mode": "nearest"}, {"padding_mode": "border"}, {"mode": "bicubic"}], ids=str)
def test_places_that_are_read_at_are_constants_and_what_is_read_there_is_linear(options):
    x = randn(2, 2, 5, 6)
    net = Net(lambda x: sampled(x, 0.3, **options))
    with torch.no_grad():
        start = net(x) * randn(2, 2, 4, 5, seed=3)
        held = 0.3 * x.mean((1, 2, 3)).view(-1, 1, 1, 1)
    plain_x = x.clone().requires_grad_()
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 5), indexing="ij")
    grid = torch.stack([columns, rows], -1).to(x) + held
    read = F.grid_sample(plain_x, grid, align_corners=True, **options)
    (c,) = torch.autograd.grad(read, plain_x, randn(2, 2, 4, 5, seed=3))
    found = trace(net, x, composite="lrp-0", start=start)
    near(found.input, x * c)
    assert found.constants == (("places", ""),)
    for composite in ("attnlrp", "lrp-gamma", "backtrace"):
        found = trace(net, x, composite=composite, start=start, account=True)
        account = found.account()
        assert account.seeded == pytest.approx(account.arrived + account.absorbed + account.leaked)
        assert max(abs(row.leaked) for row in account) < 1e-4


def test_the_gradient_of_a_read_reaches_its_places_too():
    x, weight = randn(2, 2, 5, 6), randn(2, 2, 4, 5, seed=3)
    plain_x = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad((sampled(plain_x, 0.3) * weight).sum(), plain_x)
    start = weight * sampled(x, 0.3)
    near(trace(Net(lambda x: sampled(x, 0.3)), x, composite="gradient", start=start).input, expected)


def test_a_picture_that_is_a_constant_gives_nothing_to_where_it_is_read():
    picture = randn(1, 2, 5, 6, seed=8)

    def read(x):
        grid = torch.zeros(1, 4, 5, 2, dtype=torch.float64) + x.mean()
        return F.grid_sample(picture, grid, align_corners=True).flatten(1) + x.flatten(1)[:, :40]

    x = randn(1, 2, 5, 6)
    found = trace(Net(read), x, Logit(0), composite="attnlrp")
    expected = torch.zeros_like(x).flatten()
    expected[0] = x.flatten()[0]
    near(found.input.flatten(), expected)


def test_unknown_names_stay_errors_of_their_kind():
    with pytest.raises(UnknownNameError):
        explain(segmentation(), PICTURE, method="occlusion", target=Region("wolf", MASK))
