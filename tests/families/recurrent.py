"""Recurrent networks: a reader of text in pictures, a detector of speech, and random ones of every kind and form."""

import importlib.util
import math
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from families.example import Example
from pellucid.targets import Logit, Step

SYMBOLS = "0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ €ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""What the reader can read: class 1 is the first of them, class 0 stands for nothing."""
HEIGHT = 64
RATE = 16_000
CHUNK, BEFORE = 512, 64
"""Samples that the detector judges at once, and how many of those before them it looks at too."""


class Strip(nn.Module):
    """A line of text [batch, 1, 64, width] to one vector for each of its places [batch, place, 256]."""

    def __init__(self):
        super().__init__()

        def conv(before, after, size=3, padding=1, bias=True):
            return nn.Conv2d(before, after, size, padding=padding, bias=bias)

        self.ConvNet = nn.Sequential(
            *(conv(1, 32), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(conv(32, 64), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(conv(64, 128), nn.ReLU(inplace=True)),
            *(conv(128, 128), nn.ReLU(inplace=True), nn.MaxPool2d((2, 1))),
            *(conv(128, 256, bias=False), nn.BatchNorm2d(256), nn.ReLU(inplace=True)),
            *(conv(256, 256, bias=False), nn.BatchNorm2d(256), nn.ReLU(inplace=True), nn.MaxPool2d((2, 1))),
            *(conv(256, 256, size=2, padding=0), nn.ReLU(inplace=True)),
        )

    def forward(self, x):
        return self.ConvNet(x).mean(2).transpose(1, 2)


class BothWays(nn.Module):
    """An LSTM in both directions, and a linear map of what they say."""

    def __init__(self, before, hidden, after):
        super().__init__()
        self.rnn = nn.LSTM(before, hidden, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * hidden, after)

    def forward(self, x):
        self.rnn.flatten_parameters()
        return self.linear(self.rnn(x)[0])


class Reader(nn.Module):
    """Grey pictures in [-1, 1] to a logit for each place and symbol [batch, place, 97]."""

    def __init__(self):
        super().__init__()
        self.FeatureExtraction = Strip()
        self.SequenceModeling = nn.Sequential(BothWays(256, 256, 256), BothWays(256, 256, 256))
        self.Prediction = nn.Linear(256, 1 + len(SYMBOLS))

    def forward(self, x):
        return self.Prediction(self.SequenceModeling(self.FeatureExtraction(x)))


def reader():
    """The reader of English text with its published weights."""
    path = _folder("easyocr_en_models") / "models" / "english_g2.pth"
    weights = torch.load(path, weights_only=True, map_location="cpu")
    network = Reader()
    network.load_state_dict({name.removeprefix("module."): each for name, each in weights.items()}, strict=True)
    return network.eval().requires_grad_(False)


def written(text, size=44, margin=12):
    """A picture of a text [1, 1, 64, width] in [-1, 1], and the columns (first, end) of each of its characters."""
    font = ImageFont.load_default(size)
    ends = [margin + font.getlength(text[:place]) for place in range(len(text) + 1)]
    width = 4 * math.ceil((ends[-1] + margin) / 4)
    picture = Image.new("L", (width, HEIGHT), 255)
    ImageDraw.Draw(picture).text((margin, HEIGHT // 2), text, fill=0, font=font, anchor="lm")
    grey = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(1, 1, HEIGHT, width)
    return grey.float() / 127.5 - 1, list(pairwise(ends))


def read(logits):
    """The text that the logits [place, symbol] say, and the place of each of its characters: the surest of its run."""
    said, places = logits.argmax(-1).tolist(), []
    for place, symbol in enumerate(said):
        if not symbol:
            continue
        if place and said[place - 1] == symbol:
            places[-1] = max(places[-1], place, key=lambda each: logits[each, said[each]])
        else:
            places.append(place)
    return "".join(SYMBOLS[said[place] - 1] for place in places), places


class SpeechDetector(nn.Module):
    """Sound [batch, samples] at 16 kHz to a logit of speech for each chunk of 512 samples [batch, chunk].

    A chunk and the 64 samples before it become a spectrum, four convolutions make one vector of it, and a recurrent
    cell goes from chunk to chunk.
    """

    def __init__(self):
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, x):
        chunks = nn.functional.pad(x, (BEFORE, 0)).unfold(1, BEFORE + CHUNK, CHUNK)
        state, said = None, []
        for chunk in chunks.unbind(1):
            state = self.lstm_cell(self.heard(chunk), state)
            said.append(self.final_conv(torch.relu(state[0])[..., None]).flatten())
        return torch.stack(said, 1)

    def heard(self, chunk):
        """The vector of each row's chunk."""
        waves = self.stft_conv(nn.functional.pad(chunk[:, None], (0, 64), mode="reflect"))
        power = waves[:, :129].square() + waves[:, 129:].square()
        # The root, written so that every rule of relevance goes through the power and not through the scale.
        x = power * (power + 1e-12).rsqrt()
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = torch.relu(conv(x))
        return x.squeeze(-1)


def speech_detector():
    """The detector with its published weights."""
    from safetensors.torch import load_file

    network = SpeechDetector()
    network.load_state_dict(load_file(_folder("silero_vad") / "data" / "silero_vad_16k.safetensors"), strict=True)
    return network.eval().requires_grad_(False)


def vowel(chunks=8, seed=0):
    """Something like a vowel [1, samples]: a buzz of 120 Hz through three resonances, after near silence."""
    time = torch.arange(chunks * CHUNK) / RATE
    sound = torch.zeros_like(time)
    for harmonic in range(1, 30):
        pitch = 120 * harmonic
        loudness = sum(1 / (1 + ((pitch - peak) / 90) ** 2) for peak in (700, 1200, 2600))
        sound += loudness * torch.sin(2 * math.pi * pitch * time)
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(seed))
    starts = (time > 2 * CHUNK / RATE).float()
    return (0.1 * starts * sound + 0.002 * noise)[None]


class Words(nn.Module):
    """Word ids [batch, word] to two logits, by what a packed recurrent network says after each row's last word."""

    def __init__(self, make, vocabulary=40, feature=12, hidden=10):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, feature, padding_idx=0)
        self.rnn = make(feature, hidden, batch_first=True)
        self.head = nn.Linear(hidden * (1 + self.rnn.bidirectional), 2)

    def forward(self, ids):
        lengths = (ids != 0).sum(1)
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        kept = (torch.arange(output.shape[1]) < lengths[:, None])[..., None]
        return self.head((output * kept).sum(1) / lengths[:, None])


def words(make, seed=0):
    """A random classifier of words, and a batch of three rows of 7, 3 and 5 words."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Words(make).eval().requires_grad_(False)
        ids = torch.randint(1, 40, (3, 7))
    for row, length in enumerate((7, 3, 5)):
        ids[row, length:] = 0
    return network, ids


def _folder(package):
    """Where an installed package lies, without importing it."""
    return Path(importlib.util.find_spec(package).submodule_search_locations[0])


def _random(model, make):
    network, ids = words(make)
    return Example(
        family="recurrent",
        model=model,
        weights="random",
        module=network,
        inputs=ids,
        target=Logit(1),
        note="packed rows of three lengths",
    )


def easyocr():
    picture, _ = written("Relevance 42")
    network = reader()
    with torch.no_grad():
        text, places = read(network(picture)[0])
    return Example(
        family="recurrent",
        model="EasyOCR english_g2",
        weights="real",
        module=network,
        inputs=picture,
        target=Step(1 + SYMBOLS.index(text[0]), places[0]),
        note=f"CNN and two bidirectional LSTMs; it reads {text!r}",
    )


def silero():
    return Example(
        family="recurrent",
        model="silero-vad, 16 kHz",
        weights="real",
        module=speech_detector(),
        inputs=vowel(),
        target=Logit(7),
        note="LSTM cell over eight chunks of sound",
    )


def lstm():
    return _random(
        "LSTM, 2 layers, both directions", lambda *a, **k: nn.LSTM(*a, num_layers=2, bidirectional=True, **k)
    )


def gru():
    return _random("GRU", nn.GRU)


def rnn():
    return _random("RNN, relu", lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k))


EXAMPLES = (easyocr, silero, lstm, gru, rnn)
