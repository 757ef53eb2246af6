"""CRAFT [baek2019]: where the letters of a picture are, by a VGG16 whose features are merged from coarse to fine."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torch.nn import functional as F

from families.example import Example
from pellucid.targets import Region

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HEIGHT, WIDTH = 64, 256
"""Of the rendered texts; whole multiples of 32."""
LABELS = ("letter", "gap between letters")
# The stages of VGG16: where each ends, and the width of its convolutions; "M" halves the picture.
_STAGES = (
    ((64, 64, "M", 128, 128), 0),
    (("M", 256, 256), 12),
    ((256, "M", 512, 512), 19),
    ((512, "M", 512, 512), 29),
)


def _stage(widths, start, before):
    """One stage, its layers named by their places in VGG16, and its width.

    It ends before the rectifier that the next one begins with, which works in place: on what is merged later, too.
    """
    stage, number = nn.Sequential(), start

    def add(layer):
        nonlocal number
        stage.add_module(str(number), layer)
        number += 1

    if start:
        add(nn.ReLU(inplace=True))
    for place, width in enumerate(widths):
        if width == "M":
            add(nn.MaxPool2d(2))
            continue
        add(nn.Conv2d(before, width, 3, padding=1))
        add(nn.BatchNorm2d(width))
        before = width
        if place + 1 < len(widths):
            add(nn.ReLU(inplace=True))
    return stage, before


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        before = 3
        for place, (widths, start) in enumerate(_STAGES, 1):
            stage, before = _stage(widths, start, before)
            self.add_module(f"slice{place}", stage)
        self.slice5 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            nn.Conv2d(1024, 1024, 1),
        )

    def forward(self, x):
        found = []
        for stage in (self.slice1, self.slice2, self.slice3, self.slice4, self.slice5):
            x = stage(x)
            found.append(x)
        return found


class Merge(nn.Module):
    def __init__(self, before, middle, after):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(before, middle, 1), nn.BatchNorm2d(middle), nn.ReLU(inplace=True),
            nn.Conv2d(middle, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, coarse, fine):
        if coarse.shape[2:] != fine.shape[2:]:
            coarse = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)
        return self.conv(torch.cat([coarse, fine], 1))


class Craft(nn.Module):
    """Normalised pictures to two scores for each place, [batch, 2, height / 2, width / 2]."""

    def __init__(self):
        super().__init__()
        self.basenet = Encoder()
        self.upconv1, self.upconv2 = Merge(1536, 512, 256), Merge(768, 256, 128)
        self.upconv3, self.upconv4 = Merge(384, 128, 64), Merge(192, 64, 32)
        head = [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(32, 32, 3, padding=1)]
        head += [nn.ReLU(inplace=True), nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(inplace=True)]
        self.conv_cls = nn.Sequential(*head, nn.Conv2d(16, 16, 1), nn.ReLU(inplace=True), nn.Conv2d(16, 2, 1))

    def forward(self, x):
        *finer, y = self.basenet(x)
        for merge, fine in zip((self.upconv1, self.upconv2, self.upconv3, self.upconv4), finer[::-1], strict=True):
            y = merge(y, fine)
        return self.conv_cls(y)


def craft_weights():
    """The file of the pretrained weights."""
    found = importlib.util.find_spec("easyocr_en_models")
    return Path(found.submodule_search_locations[0]) / "models" / "craft_mlt_25k.pth"


def craft_net():
    state = torch.load(craft_weights(), weights_only=True, map_location="cpu")
    network = Craft()
    network.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()}, strict=True)
    return network.eval().requires_grad_(False)


def rendered(words=("stroke", "4521")):
    """A picture of words as uint8 [height, width, 3], and the box (left, top, right, bottom) of each."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(30)
    boxes, left = [], 16
    for word in words:
        draw.text((left, 14), word, fill=(20, 20, 30), font=font)
        boxes.append(draw.textbbox((left, 14), word, font=font))
        left = int(boxes[-1][2]) + 40
    return np.asarray(image), boxes


def normalised(picture):
    """A picture as the network reads it, [1, 3, height, width]."""
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
    return ((pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))[None]


def letters_of(heat, box, threshold=0.3):
    """Where letters are found inside a box of the picture, bool in the size of the heat map [height / 2, width / 2]."""
    rows, columns = np.mgrid[: heat.shape[0], : heat.shape[1]] * 2
    left, top, right, bottom = box
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return np.asarray(heat > threshold) & inside


def craft():
    picture, boxes = rendered()
    network, x = craft_net(), normalised(picture)
    with torch.no_grad():
        heat = network(x)[0, 0].numpy()
    return Example(
        family="segmentation",
        model="CRAFT (VGG16 U-Net)",
        weights="real",
        module=network,
        inputs=x,
        target=Region(0, letters_of(heat, boxes[0])),
        note="20.8 M; the letters of one of two words",
    )


EXAMPLES = (craft,)
