"""U-Nets: the pretrained one that finds a mouse's pupil, and random ones of the other usual forms."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from families.example import Example
from pellucid.targets import Pixel, Region

SIDE = 148
"""Height and width of the pictures that the pupil network learned from."""


class Twice(nn.Module):
    """Two 3 x 3 convolutions, each normalised and rectified in place."""

    def __init__(self, before, after):
        super().__init__()
        layers = []
        for width in (before, after):
            layers += [nn.Conv2d(width, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.double_conv(x)


class Spotlight(nn.Module):
    """Each place weighted by a sigmoid of the mean and the maximum of the channels around it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        summary = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return x * torch.sigmoid(self.conv(summary))


class PupilNet(nn.Module):
    """Grey pictures [batch, 1, height, width] in [0, 1] to one logit for each pixel."""

    def __init__(self):
        super().__init__()
        self.inc = Twice(1, 32)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), Twice(32, 64))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), Twice(64, 128))
        self.att = Spotlight()
        self.up1, self.conv1 = nn.ConvTranspose2d(128, 64, 2, stride=2), Twice(128, 64)
        self.up2, self.conv2 = nn.ConvTranspose2d(64, 32, 2, stride=2), Twice(64, 32)
        self.outc = nn.Conv2d(32, 1, 1)

    def forward(self, x):
        fine = self.inc(x)
        middle = self.down1(fine)
        coarse = self.att(self.down2(middle))
        middle = self.conv1(torch.cat([self.up1(coarse), middle], 1))
        return self.outc(self.conv2(torch.cat([self.up2(middle), fine], 1)))


def pupil_weights():
    """The file of the pretrained weights."""
    found = importlib.util.find_spec("mouse_pupil_analysis")
    (path,) = (Path(found.submodule_search_locations[0]) / "checkpoints").glob("*.pth")
    return path


def pupil_net():
    network = PupilNet()
    network.load_state_dict(torch.load(pupil_weights(), weights_only=True, map_location="cpu"), strict=True)
    return network.eval().requires_grad_(False)


def eye(seed=0, centre=(70, 80), radius=16):
    """A drawn eye as uint8 [148, 148], and its pupil as bool: a dark disc on an iris on paler skin, with noise."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(rows - centre[0], columns - centre[1])
    picture = np.full((SIDE, SIDE), 170.0)
    picture[((rows - centre[0]) / 1.6) ** 2 + ((columns - centre[1]) / 2.2) ** 2 < (2 * radius / 1.6) ** 2] = 110
    picture[distance < radius] = 25
    picture += np.random.default_rng(seed).normal(0, 4, picture.shape)
    return picture.clip(0, 255).astype(np.uint8), distance < radius


class Flexible(nn.Module):
    """A random U-Net of two levels in two or three dimensions.

    ``grows``: by transposed convolutions or by interpolation in a mode. Norms are of instances or groups.
    """

    def __init__(self, dimensions=2, grows="bilinear", classes=3, width=4):
        super().__init__()
        conv, pool = (nn.Conv2d, nn.AvgPool2d) if dimensions == 2 else (nn.Conv3d, nn.MaxPool3d)
        transposed = nn.ConvTranspose2d if dimensions == 2 else nn.ConvTranspose3d
        self.entry = nn.Sequential(conv(1, width, 3, padding=1), nn.GroupNorm(2, width), nn.LeakyReLU(0.1))
        self.down = nn.Sequential(pool(2), conv(width, 2 * width, 3, padding=1), nn.SiLU())
        self.up = transposed(2 * width, width, 2, stride=2) if grows == "transposed" else conv(2 * width, width, 1)
        self.grows = grows
        self.head = conv(2 * width, classes, 1)

    def forward(self, x):
        skip = self.entry(x)
        low = self.up(self.down(skip))
        if self.grows != "transposed":
            smooth = {} if self.grows == "nearest" else {"align_corners": True}
            low = F.interpolate(low, size=skip.shape[2:], mode=self.grows, **smooth)
        return self.head(torch.cat([low, skip], 1))


def flexible(dimensions=2, grows="bilinear", seed=0):
    """A random network and an input of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Flexible(dimensions, grows).eval().requires_grad_(False)
        return network, torch.randn(2, 1, *(8, 12, 6)[:dimensions])


def pupil():
    picture, inside = eye()
    x = torch.from_numpy(picture)[None, None].float() / 255
    return Example(
        family="segmentation",
        model="pupil U-Net",
        weights="real",
        module=pupil_net(),
        inputs=x,
        target=Region(0, inside),
        note="0.5 M; a product gates each place",
    )


def _random(model, dimensions, grows, target):
    network, x = flexible(dimensions, grows)
    return Example(
        family="segmentation", model=model, weights="random", module=network, inputs=x, target=target, note=""
    )


def bilinear():
    return _random("U-Net, bilinear", 2, "bilinear", Pixel(1, 3, 5))


def transposed():
    return _random("U-Net, transposed convolutions", 2, "transposed", Region())


def volume():
    return _random("U-Net, three dimensions", 3, "trilinear", Region(1))


EXAMPLES = (pupil, bilinear, transposed, volume)
