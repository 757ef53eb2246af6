"""A reader of text in pictures and a detector of speech, with their published weights; and every recurrent example."""

import warnings

import pytest
import torch

from families import recurrent as families
from pellucid.relevance import trace
from pellucid.targets import Logit, Step
from relevance_tools import randn


def test_a_reader_reads_and_relevance_lies_on_the_character():
    network = families.reader()
    picture, columns = families.written("Relevance")
    with torch.no_grad():
        text, places = families.read(network(picture)[0])
    assert text == "Relevance"
    targets = [Step(1 + families.SYMBOLS.index(each), place) for each, place in zip(text, places, strict=True)]
    found = trace(network, picture, targets, composite="lrp-gamma", keep=()).input
    across = found.abs().sum((1, 2, 3))
    centres = torch.arange(across.shape[1]) + 0.5
    for mass, (first, end) in zip(across, columns, strict=True):
        inside = (centres >= first) & (centres < end)
        # At least three times what an even spread would give, and the most relevant column.
        assert mass[inside].sum() / mass.sum() > 3 * inside.float().mean()
        assert first - 2 <= centres[mass.argmax()] < end + 2


@pytest.mark.parametrize("text", ["Relevance 42", "quick brown fox", "50% off @ cafe", "abcdefghijklmnopqrstuvwxyz"])
def test_the_reader_knows_its_symbols(text):
    with torch.no_grad():
        assert families.read(families.reader()(families.written(text)[0])[0])[0] == text


def test_the_detector_is_the_published_one():
    detector, sound = families.speech_detector(), families.vowel()
    with torch.no_grad():
        heard = torch.sigmoid(detector(sound))[0]
        assert heard[:2].max() < 0.2
        assert heard[2:].min() > 0.7
        assert torch.sigmoid(detector(0.05 * randn(1, 4096).float())).max() < 0.1
    script = families._folder("silero_vad") / "data" / "silero_vad.jit"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        published = torch.jit.load(script).eval()
    # The script has weights of another training; with them the network written out here says the same.
    other = families.SpeechDetector()
    other.load_state_dict(
        {families_name(name): each for name, each in published.state_dict().items() if "8k" not in name}
    )
    with torch.no_grad():
        said = torch.cat([published(chunk, 16000)[0] for chunk in sound.split(512, 1)])
        torch.testing.assert_close(torch.sigmoid(other(sound))[0], said, rtol=1e-5, atol=1e-6)


def families_name(name):
    name = name.removeprefix("_model.").replace("stft.forward_basis_buffer", "stft_conv.weight")
    name = name.replace("decoder.rnn", "lstm_cell").replace("decoder.decoder.2", "final_conv")
    for place in range(4):
        name = name.replace(f"encoder.{place}.reparam_conv", f"conv{place + 1}")
    return name


def test_the_sound_of_speech_is_what_is_heard():
    detector, sound = families.speech_detector(), families.vowel()
    found = trace(detector, sound, Logit(3), composite="attnlrp", keep=()).input[0]
    # The target is the fourth chunk: nothing reaches what comes later, and the vowel begins with the third.
    assert not found[4 * 512 :].any()
    assert found[2 * 512 : 4 * 512].abs().sum() > 5 * found[: 2 * 512].abs().sum()


@pytest.mark.parametrize("make", families.EXAMPLES)
def test_every_example_is_explained(make):
    example = make()
    with torch.no_grad():
        example.module(example.inputs)
    found = trace(example.module, example.inputs, example.target, composite="attnlrp", keep=())
    assert torch.isfinite(found.input).all()
    assert found.input.any()
    assert found.input.shape == example.inputs.shape
