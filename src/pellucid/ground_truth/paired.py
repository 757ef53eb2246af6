"""G8: two models of the same inputs: one names the object, the other the scene behind it [yang2019].

What is explained moves from one part of the input to the other, and so must the attribution. No metric masks anything
for that.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from pellucid.ground_truth.networks import affine
from pellucid.ground_truth.paired_words import Paired, Part, draw, paired_model
from pellucid.ground_truth.reasons import GUIDED, HALVED, LAYER_MAP, NOISE, RANDOM_WORDS
from pellucid.ground_truth.truth import GroundTruth
from pellucid.models import ImageClassifier, TextClassifier
from pellucid.models.pictures import Preprocessing
from pellucid.targets import Margin

SIDE, GRID = 4, 3
"""Pixels to the side of a patch, and patches to the side of a picture."""
SENTENCES, SEED = 6, 20261122
PATTERNS: dict[str, tuple[str, ...]] = {
    "cross": ("#..#", ".##.", ".##.", "#..#"),
    "ring": ("####", "#..#", "#..#", "####"),
    "stripes": ("####", "....", "####", "...."),
    "checks": ("#.#.", ".#.#", "#.#.", ".#.#"),
}
"""No two of them are alike: the sum over pixels of the product of two is 0 or less, and 16 of one with itself."""
OBJECTS, SCENES = ("cross", "ring"), ("stripes", "checks")
THRESHOLD = 4.0
"""Of a pattern's detector."""
PICTURES = (("cross", "stripes", 4), ("ring", "stripes", 0), ("cross", "checks", 5), ("ring", "checks", 7))
"""Object, scene, and the patch that the object takes."""
SOURCE = "Yang & Kim 2019, section 3 (BAM), in our own words and pictures"


def pattern(name: str) -> np.ndarray:
    """A pattern as the network reads it: 1 for white, -1 for black [row, column]."""
    return np.array([[1.0 if pixel == "#" else -1.0 for pixel in row] for row in PATTERNS[name]])


def picture(thing: str, scene: str, place: int) -> UInt8[np.ndarray, "height width"]:
    """A scene with an object in one of its patches."""
    patches = [pattern(thing if number == place else scene) for number in range(GRID * GRID)]
    rows = [np.concatenate(patches[start : start + GRID], axis=1) for start in range(0, GRID * GRID, GRID)]
    return (255 * (np.concatenate(rows) > 0)).astype(np.uint8)


def pattern_network(part: Part) -> nn.Sequential:
    """Four detectors, summed over the patches; then relu(one class + all of the other part) for each of two classes.

    The margin of two classes is the difference of their own detectors: what both logits hold of the other part cancels.
    """
    detectors = nn.Conv2d(1, len(PATTERNS), SIDE, stride=SIDE, device="meta")
    filters = np.stack([pattern(name) for name in PATTERNS])[:, None]
    detectors.weight = nn.Parameter(torch.from_numpy(filters))
    detectors.bias = nn.Parameter(torch.full((len(PATTERNS),), -THRESHOLD, dtype=torch.float64))
    # In one patch there is an object, in all the others the scene; each part gives 4 in all.
    strength = [4.0 if name in OBJECTS else 4.0 / (GRID * GRID - 1) for name in PATTERNS]
    classes, beside = (OBJECTS, SCENES) if part == "object" else (SCENES, OBJECTS)
    whole = SIDE * SIDE - THRESHOLD
    mixed = [
        [GRID * GRID * each / whole * (name in (label, *beside)) for name, each in zip(PATTERNS, strength, strict=True)]
        for label in classes
    ]
    return nn.Sequential(
        detectors, nn.ReLU(), nn.AvgPool2d(GRID), nn.Flatten(),
        affine(mixed, [0.0, 0.0]), nn.ReLU(), affine([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
    )  # fmt: skip


def pattern_model(part: Part) -> ImageClassifier:
    """The network of one part, as a model of pictures of 12 x 12 grey pixels."""
    module = pattern_network(part).requires_grad_(False).eval()
    size = SIDE * GRID
    preprocessing = Preprocessing(size=(size, size), mean=(0.5,), std=(0.5,))
    return ImageClassifier(module, OBJECTS if part == "object" else SCENES, preprocessing, name=f"paired-{part}")


def sentences() -> list[Paired]:
    """Fresh sentences that both networks get right: of a wrong answer nobody knows the reason."""
    generator = np.random.default_rng(SEED)
    found: list[Paired] = []
    while len(found) < SENTENCES:
        each = draw(generator)
        if all(_says(paired_model(part), " ".join(each.words)) == label for part, label in each.labels.items()):
            found.append(each)
    return found


def _says(model: TextClassifier, text: str) -> str:
    return model.predicted(model.encode(text))


def paired_truths() -> list[GroundTruth]:
    """Pictures under networks that are written down, sentences under two that are trained."""
    common: dict[str, Any] = {"rung": "G8", "target": Margin(), "source": SOURCE}
    places = np.array([place for _, _, place in PICTURES])
    chosen = sentences()
    maps = dict.fromkeys(("grad_cam", "grad_cam_plus_plus", "layer_cam"), LAYER_MAP)
    noisy = {"banzhaf": NOISE, "rise": HALVED}
    return [
        GroundTruth(
            name="paired-pictures",
            says="four pattern detectors on 3 x 3 patches; one model reads the object, the other the scene around it",
            model=pattern_model("object"),
            partner=pattern_model("scene"),
            raws=tuple(picture(*each) for each in PICTURES),
            features=f"patch:{SIDE}",
            baseline="mean",
            rationale=np.arange(GRID * GRID) == places[:, None],
            axiom="by construction: detectors of other patterns are off, and what both logits share cancels",
            background=(np.full((SIDE * GRID, SIDE * GRID), 128, dtype=np.uint8),),
            exposes="scores of the picture or of its edges, whatever is asked; and signs that are lost on the way back",
            fails=maps | noisy | {"guided_backprop": GUIDED},
            **common,
        ),
        GroundTruth(
            name="paired-words",
            says="two transformers on the same sentences; one was taught the thing in them, the other the place",
            model=paired_model("object"),
            partner=paired_model("scene"),
            raws=tuple(" ".join(each.words) for each in chosen),
            features="word",
            baseline="mask",
            rationale=np.stack([each.is_object for each in chosen]),
            axiom="by construction of the task: no other word moves the label",
            exposes="scores of the words themselves, whatever the model was taught",
            fails=noisy | {"expected_gradients": RANDOM_WORDS},
            **common,
        ),
    ]
