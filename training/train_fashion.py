"""Train the two picture classifiers that pellucid ships, on Fashion-MNIST, and write their folders.

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb data
    python training/train_fashion.py fashion-cnn --data data/usr/share/datasets/fashion-mnist
    python training/train_fashion.py fashion-vit --data data/usr/share/datasets/fashion-mnist
    python training/train_fashion.py pictures --data data/usr/share/datasets/fashion-mnist

Trained on the first 55,000 pictures of the training file; its last 5,000 are for watching the training; the test file's
10,000 are scored at the end. One thread, fixed seed. ``pictures`` writes the 20 pictures of the
tests, and the 20 of the training file that the models ship as their background.

In half of the training pictures patches are replaced by the mean grey: each patch with a probability that is drawn for
the picture from U(0, 1), all of one size from 2 to 7 pixels in a batch. So a picture with features removed is nothing
that the networks have never seen.
"""

import argparse
import csv
import gzip
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from intervals import described
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTForImageClassification

from pellucid.models.networks import build

SEED = 20260301
TRAINING = 55_000
BATCH = 128
LABELS = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
PIXELS = 28
ROOT = Path(__file__).parent.parent
ZOO = ROOT / "src" / "pellucid" / "models" / "zoo"
PICTURES = ROOT / "tests" / "fixtures" / "fashion-mnist"
PICTURES_PER_CLASS = 2
"""Pictures of each class in the tests."""


class Recipe(NamedTuple):
    """How one network is trained."""

    epochs: int
    rate: float
    """Highest learning rate; it rises over the first tenth of the steps and falls to 0 along a cosine."""
    decay: float
    """Weight decay of AdamW."""


RECIPES = {"fashion-cnn": Recipe(8, 1e-2, 0.02), "fashion-vit": Recipe(10, 2e-3, 0.05)}


class Pictures(NamedTuple):
    """Standardised pictures and their classes."""

    x: Tensor
    """[batch, 1, 28, 28]"""
    label: Tensor
    """[batch]"""


def read_idx(path: Path) -> np.ndarray:
    """An array of an idx file of bytes: magic number, one big-endian length for each dimension, then the bytes."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_split(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [n, 28, 28] and labels [n] of ``train`` or ``t10k``."""
    return read_idx(folder / f"{name}-images-idx3-ubyte.gz"), read_idx(folder / f"{name}-labels-idx1-ubyte.gz")


def standardised(pixels: np.ndarray, labels: np.ndarray, mean: float, std: float) -> Pictures:
    """(pixel / 255 - mean) / std."""
    x = (torch.from_numpy(pixels.astype(np.float32)).unsqueeze(1) / 255 - mean) / std
    return Pictures(x, torch.from_numpy(labels.astype(np.int64)))


def with_patches_removed(x: Tensor, side: int, rate: Tensor, generator: torch.Generator) -> Tensor:
    """Each patch of ``side`` pixels replaced by 0, the mean, with probability ``rate`` [batch]. The grid is shifted."""
    count = -(-PIXELS // side) + 1
    removed = torch.rand((len(x), 1, count, count), generator=generator) < rate.view(-1, 1, 1, 1)
    whole = removed.repeat_interleave(side, 2).repeat_interleave(side, 3)
    down, right = torch.randint(0, side, (2,), generator=generator).tolist()
    return x.masked_fill(whole[:, :, down : down + PIXELS, right : right + PIXELS], 0.0)


def augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures mirrored left to right, and half with patches removed, at a rate drawn for each picture."""
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(3), x)
    touched = torch.rand(len(x), generator=generator) < 0.5
    side = int(torch.randint(2, 8, (), generator=generator))
    return with_patches_removed(x, side, touched * torch.rand(len(x), generator=generator), generator)


def logits(module: nn.Module, x: Tensor) -> Tensor:
    """Of each class: [batch, class]."""
    out = module(x)
    return out if isinstance(out, Tensor) else out.logits


def train(module: nn.Module, data: Pictures, recipe: Recipe, check: Pictures) -> None:
    """AdamW on the cross-entropy, in place."""
    generator = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(module.parameters(), recipe.rate, weight_decay=recipe.decay)
    steps = len(data.x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=steps * recipe.epochs, pct_start=0.1, cycle_momentum=False
    )
    for epoch in range(recipe.epochs):
        begun = time.perf_counter()
        module.train()
        order = torch.randperm(len(data.x), generator=generator)
        for index in order[: steps * BATCH].split(BATCH):
            loss = functional.cross_entropy(logits(module, augmented(data.x[index], generator)), data.label[index])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        seconds = time.perf_counter() - begun
        print(f"epoch {epoch + 1}: {described(right(module, check), len(check.x))}, {seconds:.0f} s", flush=True)


@torch.no_grad()
def right(module: nn.Module, data: Pictures) -> int:
    """How many pictures are classified right."""
    module.eval()
    parts = zip(data.x.split(500), data.label.split(500), strict=True)
    return sum(int((logits(module, x).argmax(1) == label).sum()) for x, label in parts)


def make_cnn(mean: float, std: float) -> tuple[nn.Module, dict[str, Any]]:
    """The convolutional network and its config."""
    config = {
        "pellucid": "image-classifier",
        "architecture": "small-cnn",
        "widths": [16, 32, 64],
        "activation": "relu",
        "labels": LABELS,
        "size": [PIXELS, PIXELS],
        "channels": 1,
        "mean": [mean],
        "std": [std],
    }
    return build(config), config


def make_vit() -> ViTForImageClassification:
    """The vision transformer: 4 layers of 64 channels and 4 heads on 49 patches of 4 x 4 pixels."""
    config = ViTConfig(
        image_size=PIXELS,
        patch_size=4,
        num_channels=1,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    return ViTForImageClassification(config)


def write_cnn(module: nn.Module, config: dict[str, Any], folder: Path) -> None:
    """``config.json`` and ``model.safetensors``."""
    (folder / "model.safetensors").write_bytes(save(module.state_dict(), {"format": "pt"}))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def write_vit(module: ViTForImageClassification, folder: Path, mean: float, std: float) -> None:
    """The layout of Hugging Face: ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``."""
    module.save_pretrained(folder)
    # safetensors lets nobody but its owner read the file it writes.
    (folder / "model.safetensors").chmod(0o644)
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": False,
        "do_resize": True,
        "size": {"height": PIXELS, "width": PIXELS},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [mean],
        "image_std": [std],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", "utf-8")


def write_model(name: str, data: Path) -> None:
    """Train one network, print its scores and write its folder."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    pixels, labels = read_split(data, "train")
    mean = round(float(pixels[:TRAINING].mean()) / 255, 4)
    std = round(float(pixels[:TRAINING].std()) / 255, 4)
    everything = standardised(pixels, labels, mean, std)
    training, check = (
        Pictures(*(part[cut] for part in everything)) for cut in (slice(TRAINING), slice(TRAINING, None))
    )
    folder = ZOO / name
    folder.mkdir(parents=True, exist_ok=True)
    if name == "fashion-cnn":
        module, config = make_cnn(mean, std)
        train(module, training, RECIPES[name], check)
        write_cnn(module, config, folder)
    else:
        module = make_vit()
        train(module, training, RECIPES[name], check)
        write_vit(module, folder, mean, std)
    report(module, standardised(*read_split(data, "t10k"), mean, std))


def report(module: nn.Module, test: Pictures) -> None:
    """Print the accuracy on the test file: as it is, and with half of the 4 x 4 patches replaced by the mean."""
    print(f"{sum(parameter.numel() for parameter in module.parameters())} parameters")
    print(f"test: {described(right(module, test), len(test.x))}")
    generator = torch.Generator().manual_seed(SEED)
    half = with_patches_removed(test.x, 4, torch.full((len(test.x),), 0.5), generator)
    print(f"test, half removed: {described(right(module, Pictures(half, test.label)), len(test.x))}")


def write_pictures(data: Path) -> None:
    """Two pictures of each class as PNG, drawn at random: from the test file for the tests, else as background."""
    with (PICTURES / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "label"])
        table.writerows(_draw(data, "t10k", PICTURES, "test"))
    for name in RECIPES:
        _draw(data, "train", ZOO / name / "background", "train")


def _draw(data: Path, split: str, folder: Path, prefix: str) -> list[tuple[str, str]]:
    """Write the pictures, and return each file's name with its label."""
    pixels, labels = read_split(data, split)
    pixels, labels = (pixels[:TRAINING], labels[:TRAINING]) if split == "train" else (pixels, labels)
    generator = np.random.default_rng(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for index, label in enumerate(LABELS):
        for row in np.sort(generator.choice(np.flatnonzero(labels == index), PICTURES_PER_CLASS, replace=False)):
            name = f"{prefix}-{row:05d}.png"
            Image.fromarray(pixels[row]).save(folder / name, optimize=True)
            drawn.append((name, label))
    return drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*RECIPES, "pictures"])
    parser.add_argument("--data", type=Path, required=True, help="folder with the four .gz files")
    given = parser.parse_args()
    if given.what == "pictures":
        write_pictures(given.data)
    else:
        write_model(given.what, given.data)
