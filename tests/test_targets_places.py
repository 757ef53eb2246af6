"""Targets over places of an output: their masks, their scores, and what a bare network refuses."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import nn

import tiny
from pellucid.errors import InputError, NumericalError
from pellucid.models import load
from pellucid.relevance import all_composites, trace
from pellucid.relevance.start import seeds
from pellucid.targets import Box, Logit, Margin, Pixel, Region, RunLengths, Step, Target, Token
from relevance_tools import layer, near, randn

MASK = np.zeros((6, 8), bool)
MASK[1:4, 2:7] = True
MASK[2, 4] = False


def runs_by_hand(mask):
    """COCO's uncompressed form [lin2014]: down each column, column after column, the lengths of equal stretches."""
    size, counts, inside = mask.shape, [0], False
    for place in itertools.product(*(range(n) for n in reversed(size))):
        if bool(mask[place[::-1]]) != inside:
            counts, inside = [*counts, 0], not inside
        counts[-1] += 1
    return tuple(counts)


def masks():
    rng = np.random.default_rng(0)
    found = [MASK, np.ones((1, 1), bool), np.ones((3, 2), bool), np.eye(5, dtype=bool)]
    found += [rng.random(shape) < share for shape in ((7, 3), (1, 9), (4, 5, 3)) for share in (0.3, 0.8)]
    return found


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: "x".join(map(str, mask.shape)))
def test_a_mask_is_kept_as_its_runs_and_comes_back(mask):
    target = Region("cat", mask)
    assert target.runs.size == mask.shape
    assert target.runs.counts == runs_by_hand(mask)
    assert np.array_equal(target.mask, mask)
    assert target.mask.dtype == bool
    assert target.runs.inside == mask.sum()
    adapter = TypeAdapter(Target)
    again = adapter.validate_json(adapter.dump_json(target))
    assert (again, hash(again)) == (target, hash(target))
    assert np.array_equal(again.mask, mask)


def test_every_form_of_a_mask_is_the_same_target():
    grey = MASK.astype(np.uint8) * 255
    forms = [MASK, MASK.tolist(), MASK.astype(int), MASK.astype(float), torch.from_numpy(MASK), grey, 7 * MASK]
    forms += [Image.fromarray(grey), Image.fromarray(MASK), np.asfortranarray(MASK), Region(0, MASK).runs]
    assert {Region(1, form) for form in forms} == {Region(1, MASK)}
    other = MASK.copy()
    other[0, 0] = True
    assert Region(1, other) != Region(1, MASK)
    assert Region(0, MASK) != Region(1, MASK)
    assert Region(1).mask is None


def test_a_mask_is_short_in_words():
    assert "RunLengths(6 x 8, 14 inside)" in repr(Region(1, MASK))


@pytest.mark.parametrize(
    "target", [Region(None), Region("cat", MASK), Pixel(1, 2, 3), Pixel("a", 0, 0, size=(4, 5)), Box(2, 7), Step(0, 3)]
)
def test_a_target_of_places_survives_a_document(target):
    adapter = TypeAdapter(Target)
    assert adapter.validate_json(adapter.dump_json(target)) == target
    assert adapter.validate_python(target.model_dump(mode="json")) == target


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Region(1, np.zeros((4, 6))), "the mask, 4 x 6, is empty"),
        (lambda: Region(1, np.zeros((0, 6))), "empty"),
        (lambda: Region(1, [[0, 1, 2]]), r"3 values \(0, 1, 2 \.\.\.\); of a map of classes give map == CLASS"),
        (lambda: Region(1, [[0, float("nan")]]), "0 outside and one other value inside"),
        (lambda: Region(1, [[1], [1, 0]]), "different lengths"),
        (lambda: Region(1, "mask.png"), "not str"),
        (lambda: Region(1, [1, 0, 1]), r"not list of int64 \[3\]"),
        (lambda: Region(1, Image.new("RGB", (3, 2), "red")), r"not Image of uint8 \[2, 3, 3\]"),
        (lambda: Pixel(1, -1, 0), "greater than or equal to 0"),
        (lambda: Box(1, -2), "query"),
        (lambda: Step(1, -1), "step: Input should be greater than or equal to 0"),
    ],
)
def test_what_is_no_target_is_an_input_error(make, match):
    with pytest.raises(InputError, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "counts", "match"),
    [
        ((2, 3), (6,), "empty"),
        ((2, 3), (2, 3), "cover 5 places of 6"),
        ((2, 3), (2, 0, 4), "above 0"),
        ((2, 3), (-1, 7), "above 0"),
        ((2, 3), (), "above 0"),
        ((0, 3), (0, 1), "height and width"),
        ((1 << 20, 1 << 20), (0, 1 << 40), "height and width"),
        ((6,), (2, 4), "height and width"),
    ],
)
def test_runs_of_a_document_that_make_no_mask_are_refused(size, counts, match):
    with pytest.raises(ValidationError, match=match):
        RunLengths(size=size, counts=counts)


# On a bare network


class Map(nn.Module):
    """[batch, 2, height, width] to [batch, class, 2 height, 2 width], wrapped as networks wrap it."""

    def __init__(self, classes=3, wrap=None):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.ConvTranspose2d(4, classes, 2, stride=2))
        self.wrap = wrap

    def forward(self, x):
        found = self.body(x)
        return found if self.wrap is None else {self.wrap: found, "beside": found.mean(1)}


X = randn(3, 2, 3, 4, seed=4)
NET = layer(Map)


def by_hand(output, target):
    """The target on each row, from what the docstrings say."""
    found = []
    for row in output:
        said = row.argmax(0) if len(row) > 1 else (row[0] > 0).long() - 1
        count = len(row)
        if isinstance(target, Pixel):
            logits = row[:, target.y, target.x]
            found.append(logits[logits.argmax() if target.class_ is None else target.class_])
            continue
        class_ = target.class_
        if class_ is None:
            there = said if target.runs is None else said[torch.from_numpy(target.mask)]
            class_ = max(range(count), key=lambda c: int((there == c).sum()))
        inside = (said == class_) if target.runs is None else torch.from_numpy(target.mask)
        found.append(sum(row[class_][inside]) / int(inside.sum()))
    return torch.stack(found)


PLACES = [Region(1, MASK), Region(None, MASK), Region(), Pixel(2, 5, 7), Pixel(None, 0, 0)]


@pytest.mark.parametrize("target", PLACES, ids=repr)
def test_a_trace_begins_as_the_mean_logit_over_the_places(target):
    expected = by_hand(NET(X), target).detach()
    for composite in ("attnlrp", "lrp-gamma", "backtrace"):
        assert float(trace(NET, X, target, composite=composite).seeded) == pytest.approx(float(expected.sum()))


@pytest.mark.parametrize("target", PLACES, ids=repr)
def test_the_gradient_of_a_place_is_autograds(target):
    x = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(by_hand(NET(x), target).sum(), x)
    near(trace(NET, X, target, composite="gradient").input, expected)


@pytest.mark.parametrize("composite", sorted(all_composites()))
def test_a_row_of_a_batch_is_explained_as_if_alone(composite):
    for target in PLACES:
        whole = trace(NET, X, target, composite=composite).input
        for row in range(len(X)):
            near(whole[[row]], trace(NET, X[[row]], target, composite=composite).input)


def test_several_places_share_a_pass():
    together = trace(NET, X, PLACES, composite="lrp-gamma").input
    for each, target in zip(together, PLACES, strict=True):
        near(each, trace(NET, X, target, composite="lrp-gamma").input)


def test_one_class_alone_is_present_where_its_logit_is_above_0():
    net = layer(lambda: Map(1), seed=2)
    positive = net(X) > 0
    assert positive.any()
    assert not positive.all()
    for target in (Region(), Region(0), Region(None, MASK), Pixel(None, 1, 1)):
        assert float(trace(net, X, target).seeded) == pytest.approx(float(by_hand(net(X).detach(), target).sum()))


def test_wrapped_outputs_and_volumes_are_read():
    for wrap in ("out", "logits"):
        near(trace(layer(lambda wrap=wrap: Map(wrap=wrap)), X, PLACES[0]).input, trace(NET, X, PLACES[0]).input)
    net, x = layer(lambda: nn.Conv3d(1, 3, 3, padding=1)), randn(2, 1, 4, 5, 3)
    mask = np.zeros((4, 5, 3), bool)
    mask[1:3, 2, 1:] = True
    found = trace(net, x, Region(2, mask))
    expected = net(x)[:, 2, torch.from_numpy(mask)].mean(1).sum()
    assert float(found.seeded) == pytest.approx(float(expected.detach()))


@pytest.mark.parametrize("make", [Box, Step])
def test_one_box_and_one_step_are_single_logits(make):
    net, x = layer(lambda: nn.Linear(4, 3)), randn(2, 5, 4)
    for place in range(5):
        found = trace(net, x, make(1, place), composite="lrp-0").input
        expected = torch.zeros_like(x)
        expected[:, place] = x[:, place] * net.weight.detach()[1]
        near(found, expected)
    best = net(x)[:, 2].max(1).values.sum()
    assert float(trace(net, x, make(None, 2)).seeded) == pytest.approx(float(best.detach()))


def test_a_pair_holds_the_other_classes_at_the_same_places_against_it():
    """The mean over a mask is weighed alike on both sides, whatever stands elsewhere."""
    z = torch.zeros(1, 3, 6, 8, dtype=torch.float64)
    z[0, :, torch.from_numpy(MASK)] = torch.tensor([1.0, 5.0, -2.0], dtype=torch.float64)[:, None]
    z[0, :, 0, 0] = torch.inf
    begun, totals = seeds(z, [Region(1, MASK), Pixel(0, 1, 2)], "value", "pair", unbatched=False)
    assert totals.tolist() == pytest.approx([5.0, -1.0, 1.0, 3.0])
    assert not begun[:, :, :, 0, 0].any()
    begun, _ = seeds(z[:, :, 1], [Logit(2)], "value", "pair", unbatched=False)
    assert not begun[:, :, :-1].any()
    assert begun[:, :, -1].any()


def test_an_infinite_logit_elsewhere_is_nobodys_but_there_it_is_refused():
    z = randn(1, 2, 3, 3)
    z[0, 0, 0, 0] = torch.nan
    seeds(z, [Pixel(0, 1, 1)], "value", "coefficient", unbatched=False)
    with pytest.raises(NumericalError, match="1 NaN or infinite"):
        seeds(z, [Pixel(1, 0, 0)], "value", "coefficient", unbatched=False)


SEQUENCE = layer(lambda: nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("net", "x", "target", "match"),
    [
        (NET, X, Region(1, MASK[1:]), "the mask is 5 x 8 and the network's output 6 x 8"),
        (NET, X, Region(1, MASK.T), "the mask is 8 x 6 and the network's output 6 x 8"),
        (NET, X, Region(1, MASK[None]), "the mask is 1 x 6 x 8 and"),
        (NET, X, Pixel(1, 6, 0), "pixel y=6, x=0 lies outside the network's output, which is 6 x 8"),
        (NET, X, Pixel(1, 0, 8), "x to 7"),
        (NET, X, Region(3, MASK), "class 3 does not exist: the network's output has classes 0 to 2"),
        (NET, X, Pixel(-1, 0, 0), "class -1 does not exist"),
        (NET, X, Region("cat", MASK), "no label 'cat'"),
        (NET, X, Box(0, 1), r"Box needs an output \[batch, query, class\], and this network's has the shape \[1, 3, 6"),
        (NET, X, None, r"explain Region\(class, mask\) or Pixel\(class, y, x\)"),
        (NET, X, Logit(0), "Region"),
        (NET, X, [Region(1, MASK), Margin(0)], "Region"),
        (SEQUENCE, randn(2, 5, 4), Box(1, 5), "query 5 does not exist: the network's output has queries 0 to 4"),
        (SEQUENCE, randn(2, 5, 4), Step(1, 9), "step 9 does not exist: the network's output has steps 0 to 4"),
        (SEQUENCE, randn(2, 5, 4), Step(3, 0), "class 3 does not exist"),
        (SEQUENCE, randn(2, 5, 4), Region(1, MASK), r"Region needs an output \[batch, class, height, width\]"),
        (SEQUENCE, randn(2, 4), Pixel(1, 0, 0), r"Pixel needs an output \[batch, class, height, width\]"),
        (SEQUENCE, randn(2, 4), Box(1, 0), r"Box needs an output \[batch, query, class\]"),
    ],
)
def test_a_place_that_the_output_does_not_have_is_refused_in_one_sentence(net, x, target, match):
    with pytest.raises(InputError, match=match) as caught:
        trace(net, x, target)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_class_that_is_predicted_nowhere_needs_a_mask():
    net = layer(Map)
    with torch.no_grad():
        net.body[-1].bias[0] = -1000
    with pytest.raises(InputError, match="predicts class 0 nowhere in this input; give a mask"):
        trace(net, X, Region(0))
    assert torch.isfinite(trace(net, X, Region(0, MASK)).input).all()


def test_models_without_places_refuse_them():
    classifier, decoder = load(tiny.encoder("bert")), load(tiny.decoder("llama"))
    for model in (classifier, decoder):
        inputs = model.encode("Yes no")
        for target in (Region("high", MASK), Pixel("high", 0, 0), Box("high", 0), Step("high", 0)):
            with pytest.raises(InputError, match=type(target).__name__):
                model.bind(target, inputs)
        assert model.bind(Token("high"), inputs).target == Token("high")
