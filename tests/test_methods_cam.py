"""Class activation maps against closed forms, against derivatives of other orders, and against captum."""

import numpy as np
import pytest
import torch
import transformers as hf

import pellucid
import tiny
from peers import captum
from pellucid import Answer, Choice, Logit, explain
from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.methods import GradCam, all_methods
from pellucid.methods.cam_layers import Grid, Layer, of_picture
from pellucid.methods.cam_maps import grad_cam, grad_cam_plus_plus, layer_cam
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.pictures import Preprocessing
from pellucid.models.tabular import Column, Tabular
from test_image_classifier import drawn

NAMES = ("grad_cam", "grad_cam_plus_plus", "layer_cam")
QUIET = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
LABELS = ["cat", "dog", "owl"]


def model_of(module, size=(8, 8), channels=1):
    return ImageClassifier(module.double().eval(), LABELS, Preprocessing(size, (0.5,) * channels, (0.25,) * channels))


def seeded(*parts, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(*(part() for part in parts))
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return module.double().eval()


def convolutional(pool=2):
    """Maps of 4 x 4, and a head for which every cell has a weight of its own."""
    return seeded(
        lambda: torch.nn.Conv2d(1, 3, 3, padding=1),
        torch.nn.ReLU,
        lambda: torch.nn.MaxPool2d(pool),
        lambda: torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.ReLU,
        torch.nn.Flatten,
        lambda: torch.nn.Linear(64, 3),
    )


def plain(module, picture, until, target=1):
    """Activations [channel, y, x] behind the first layers, and the target's gradient there, by autograd alone."""
    activations = module[:until](picture[None]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module[until:](activations)[0, target], activations)
    return activations[0].detach().numpy(), gradient[0].numpy()


def by_hand(name, activations, gradients):
    """The map, a cell and a channel at a time."""
    channels, height, width = activations.shape
    found = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                a, g = activations[c], gradients[c]
                if name == "grad_cam":
                    found[y, x] += g.mean() * a[y, x]
                elif name == "layer_cam":
                    found[y, x] += max(g[y, x], 0) * a[y, x]
                else:
                    weight = 0.0
                    for i in range(height):
                        for j in range(width):
                            if g[i, j] > 0:
                                weight += g[i, j] ** 2 / (2 * g[i, j] ** 2 + a.sum() * g[i, j] ** 3) * g[i, j]
                    found[y, x] += weight * a[y, x]
    return np.maximum(found, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_is_the_formula_at_every_cell(name):
    module, picture = convolutional(), drawn(8, 8, 1)
    model = model_of(module)
    activations, gradients = plain(module, model.encode(picture).row.double(), 5)
    expected = by_hand(name, activations, gradients)
    assert expected.any()
    found = explain(model, picture, method=name, features="pixel", target=Logit("dog"))
    enlarged = torch.nn.functional.interpolate(torch.tensor(expected)[None, None], size=(8, 8), mode="bilinear") / 4
    np.testing.assert_allclose(found.values[0], enlarged.flatten().numpy(), rtol=1e-5, atol=1e-7)
    assert found.settings["layer"] == "4"
    assert found.values.sum() == pytest.approx(expected.sum(), rel=0.2)
    assert found.base_values == found.full_values
    coarse = explain(model, picture, method=name, features="patch:2", target=Logit("dog")).values[0]
    pixels = found.values[0].reshape(4, 2, 4, 2).sum((1, 3)).ravel()
    np.testing.assert_allclose(coarse, pixels, rtol=1e-5)


def test_on_a_network_linear_in_channel_means_the_map_is_the_outputs_summands():
    """Three channels that are not negative under positive weights: all of the logit but its bias [zhou2016]."""
    module = seeded(
        lambda: torch.nn.Conv2d(1, 3, 1),
        torch.nn.ReLU,
        lambda: torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten,
        lambda: torch.nn.Linear(3, 3),
    )
    with torch.no_grad():
        module[4].weight.abs_()
    model, picture = model_of(module, (5, 6)), drawn(5, 6, 1)
    row = model.encode(picture).row.double()
    activations = module[:2](row[None])[0].detach().numpy()
    expected = np.zeros((5, 6))
    for channel in range(3):
        expected += float(module[4].weight[1, channel].detach()) * activations[channel] / 30
    found = explain(model, picture, method="grad_cam", features="pixel", target=Logit("dog"))
    np.testing.assert_allclose(found.values[0], expected.ravel(), rtol=1e-5)
    assert found.values.sum() == pytest.approx(
        float(found.full_values[0]) - float(module[4].bias[1].detach()), rel=1e-5
    )


def test_grad_cam_plus_plus_holds_the_second_and_third_derivatives_of_the_exponential():
    """Its weights are derivatives of exp(target), which autograd takes here one after another."""
    generator = torch.Generator().manual_seed(3)
    activations = torch.rand(2, 3, generator=generator, dtype=torch.float64)
    slopes = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    weights = torch.zeros(2, dtype=torch.float64)
    for channel in range(2):
        for place in range(3):
            a = activations.clone()

            def output(number, a=a, channel=channel, place=place):
                moved = a.clone()
                moved[channel, place] = number
                return ((moved * slopes).sum() - (activations * slopes).sum()).exp()

            number = a[channel, place].clone().requires_grad_()
            first = torch.autograd.grad(output(number), number, create_graph=True)[0]
            second = torch.autograd.grad(first, number, create_graph=True)[0]
            third = torch.autograd.grad(second, number)[0]
            alpha = second / (2 * second + activations[channel].sum() * third)
            weights[channel] += (alpha * torch.relu(first)).detach()
    expected = torch.relu(weights @ activations)
    torch.testing.assert_close(grad_cam_plus_plus(activations, slopes), expected)
    assert not torch.allclose(grad_cam(activations, slopes), expected)


def test_a_channel_without_gradient_has_no_weight():
    for formula in (grad_cam, grad_cam_plus_plus, layer_cam):
        assert not formula(torch.ones(2, 4), torch.zeros(2, 4)).any()
        assert not formula(torch.ones(2, 4), -torch.ones(2, 4)).any()


@QUIET
@pytest.mark.parametrize("layer", ["1", "4", None])
def test_grad_cam_is_captums(layer):
    module, picture = convolutional(), drawn(8, 8, 1)
    model = model_of(module)
    part = module.get_submodule(layer or "4")
    row = model.encode(picture).row.double()[None]
    expected = captum.LayerGradCam(module, part).attribute(row, target=1, relu_attributions=True).detach()
    enlarged = captum.LayerAttribution.interpolate(expected, (8, 8), "bilinear")[0, 0] * expected[0, 0].numel() / 64
    options = {} if layer is None else {"layer": layer}
    found = explain(model, picture, method="grad_cam", features="pixel", target=Logit("dog"), **options)
    np.testing.assert_allclose(found.values[0], enlarged.flatten().numpy(), rtol=1e-5, atol=1e-8)


class Reused(torch.nn.Module):
    """One ReLU module in two places, the second of which is the last layer with a grid."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.Conv2d(3, 3, 3, stride=2, padding=1)
        self.act, self.head = torch.nn.ReLU(), torch.nn.Linear(48, 3)

    def forward(self, x):
        return self.head(self.act(self.second(self.act(self.first(x)))).flatten(1))


@QUIET
def test_a_reused_module_is_looked_at_in_its_last_call():
    """Captum's hook meets it twice, and refuses or mixes the two."""
    module, picture = tiny.randomised(Reused).double(), drawn(8, 8, 1)
    model = model_of(module)
    row = model.encode(picture).row.double()[None]
    activations = module.act(module.second(module.act(module.first(row)))).detach().requires_grad_()
    (slope,) = torch.autograd.grad(module.head(activations.flatten(1))[0, 1], activations)
    expected = by_hand("grad_cam", activations[0].detach().numpy(), slope[0].numpy())
    for options in ({}, {"layer": "act"}):
        found = explain(model, picture, method="grad_cam", features="pixel", target=Logit("dog"), **options)
        enlarged = torch.nn.functional.interpolate(torch.tensor(expected)[None, None], (8, 8), mode="bilinear") / 4
        np.testing.assert_allclose(found.values[0], enlarged.flatten().numpy(), rtol=1e-5, atol=1e-8)
        assert found.settings["layer"] == "act"


class Lasting(torch.nn.Module):
    """Channels last, as some libraries lay pictures out."""

    def __init__(self):
        super().__init__()
        self.first, self.turned, self.head = (
            torch.nn.Conv2d(1, 3, 2, stride=2),
            torch.nn.Identity(),
            torch.nn.Linear(3, 3),
        )

    def forward(self, x):
        return self.head(self.turned(self.first(x).movedim(1, -1).relu()).mean((1, 2)))


def test_channels_may_come_last():
    module, picture = tiny.randomised(Lasting).double(), drawn(8, 12, 1)
    model = model_of(module, (8, 12))
    activations = module.first(model.encode(picture).row.double()[None]).relu()[0].detach().numpy()
    weights = module.head.weight[1].detach().numpy() / 24
    expected = np.maximum((weights[:, None, None] * activations).sum(0), 0)
    found = explain(model, picture, method="grad_cam", features="patch:2", target=Logit("dog"))
    enlarged = torch.nn.functional.interpolate(torch.tensor(expected)[None, None], (8, 12), mode="bilinear")[0, 0] / 4
    np.testing.assert_allclose(found.values[0], enlarged.numpy().reshape(4, 2, 6, 2).sum((1, 3)).ravel(), rtol=1e-5)
    assert found.settings["layer"] == "turned"


@pytest.mark.parametrize(
    ("shape", "form"),
    [
        ((1, 9, 4, 6), (4, 6)),
        ((1, 4, 6, 9), (6, 9)),
        ((1, 4, 6, 5), (4, 6)),
        ((1, 4, 6, 32), (4, 6)),
        ((1, 5, 1, 1), None),
        ((2, 5, 4, 6), None),
        ((1, 4, 6), None),
        ((1, 30, 9, 2), None),
        ((1, 3, 16, 24), None),
    ],
)
def test_a_grid_has_the_pictures_proportions(shape, form):
    tensor = torch.zeros(shape)
    found = of_picture(Layer("part", tensor, 0), torch.zeros(3, 8, 12), [])
    assert (found.form if isinstance(found, Grid) else None) == form


def vit(layers=2):
    shape = {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 24}
    config = hf.ViTConfig(image_size=(12, 18), patch_size=6, num_labels=3, **shape)
    module = tiny.randomised(lambda: hf.ViTForImageClassification(config)).double()
    return ImageClassifier(module, LABELS, Preprocessing((12, 18), (0.5,) * 3, (0.25,) * 3))


@pytest.mark.parametrize("name", NAMES)
def test_a_vision_transformer_is_looked_at_in_its_last_block_but_one(name):
    """The head reads [CLS] alone, so that the last block's patches have no gradient."""
    model, picture = vit(3), drawn(12, 18)
    row = model.encode(picture).row.double()[None]
    states = model.module(row, output_hidden_states=True).hidden_states
    kept = []
    hook = model.module.vit.layers[1].register_forward_hook(lambda part, args, out: kept.append(out))
    logits = model.module(row).logits
    hook.remove()
    torch.testing.assert_close(kept[0], states[2])
    (slope,) = torch.autograd.grad(logits[0, 1], kept[0])
    activations, gradients = (each[0, 1:].T.detach().numpy()[:, None] for each in (kept[0], slope))
    expected = by_hand(name, activations, gradients)[0]
    found = explain(model, picture, method=name, features="patch:6", target=Logit("dog"))
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-5, atol=1e-9)
    assert found.settings["layer"] == "vit.layers.1"
    assert found.cost.backwards == 2
    named = explain(model, picture, method=name, features="patch:6", target=Logit("dog"), layer="vit.layers.0")
    assert named.settings["layer"] == "vit.layers.0"
    assert not np.allclose(named.values, found.values)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_words_score_is_the_sum_over_its_tokens(family):
    text = "The tumour grows fast today"
    made = tiny.encoder("bert") if family == "bert" else tiny.decoder("llama")
    model = pellucid.load(made, dtype="float64")
    target = Logit("high") if family == "bert" else Answer("high risk")
    found = explain(model, text, method="grad_cam", target=target, features="word")
    tokens = explain(model, text, method="grad_cam", target=target, features="token")
    assert found.settings["layer"] == ("bert.encoder.layer.0" if family == "bert" else "model.layers.0")
    assert found.values.any()
    inputs = model.encode(text)
    owner = model.owners(inputs, found.features).numpy()
    place = model.owners(inputs, tokens.features).numpy()
    for word in range(len(found.features)):
        own = [tokens.values[0, place[at]] for at in np.flatnonzero(owner == word)]
        assert found.values[0, word] == pytest.approx(sum(own), rel=1e-5)


def test_a_text_classifiers_map_is_the_formula_over_its_tokens():
    text = "The tumour grows fast today"
    model = pellucid.load(tiny.encoder("bert"), dtype="float64")
    ids = torch.tensor([model.encode(text).row.ids])
    kept = []
    hook = model.module.bert.encoder.layer[0].register_forward_hook(lambda part, args, out: kept.append(out))
    logits = model.module(input_ids=ids).logits
    hook.remove()
    state = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
    (slope,) = torch.autograd.grad(logits[0, 2], state)
    expected = by_hand("grad_cam", state[0].T.detach().numpy()[:, None], slope[0].T.numpy()[:, None])[0]
    found = explain(model, text, method="grad_cam", target=Logit("high"), features="token")
    np.testing.assert_allclose(found.values[0], expected[1:-1], rtol=1e-5, atol=1e-9)


class Written(torch.nn.Module):
    """What the first layer gives is written into by a sum."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.Conv2d(3, 3, 3, padding=1)
        self.head = torch.nn.Linear(3, 3)

    def forward(self, x):
        first = self.first(x)
        first += self.second(first.clone())
        return self.head(first.relu().mean((2, 3)))


def test_what_cannot_be_looked_at_is_refused_with_the_way_out():
    picture = drawn(8, 8, 1)
    model = model_of(convolutional())
    with pytest.raises(UnknownNameError, match=r"no layer with places of the input is called 'head'.*Known: 0, 1, 2"):
        explain(model, picture, method="grad_cam", layer="head")
    with pytest.raises(UnknownNameError, match="is called '5'"):
        explain(model, picture, method="grad_cam", layer="5")
    written = model_of(tiny.randomised(Written))
    with pytest.raises(ModelError, match=r"what 'first' gives is written into later.*name the layer that writes"):
        explain(written, picture, method="grad_cam", layer="first")
    assert explain(written, picture, method="grad_cam").settings["layer"] == "second"
    flat = model_of(seeded(torch.nn.Flatten, lambda: torch.nn.Linear(64, 3)))
    with pytest.raises(ModelError, match=r"no layer of Sequential has the input's places.*layer=.*such as integrated"):
        explain(flat, picture, method="grad_cam")
    language = pellucid.load(tiny.decoder("llama"))
    with pytest.raises(ModelError, match=r"one call of .*, and this target takes .*one answer"):
        explain(language, "The tumour grows", method="layer_cam", target=Choice(("high risk", "low")))


def test_a_network_without_gradients_is_named():
    class Cut(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = torch.nn.Conv2d(1, 3, 3)

        @torch.no_grad()
        def forward(self, x):
            return self.part(x).mean((2, 3))

    with pytest.raises(ModelError, match=r"gives no gradient of its output; use a method that perturbs, such as rise"):
        explain(model_of(Cut()), drawn(8, 8, 1), method="grad_cam")


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_map_says_that_it_is_empty(name):
    module = convolutional()
    with torch.no_grad():
        module[6].weight[1] = -module[6].weight[1].abs()
    found = explain(model_of(module), drawn(8, 8, 1), method=name, target=Logit("dog"))
    assert not found.values.any()
    assert found.checks["nothing"].passed is False
    assert found.reliable is False


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(name, fails):
    module = convolutional()
    module.train()
    module[0].weight.requires_grad_(False)
    model = model_of(module.train())
    module.train()
    before = [(len(each._forward_hooks), len(each._forward_pre_hooks), each.training) for each in module.modules()]
    if fails:
        with pytest.raises(UnknownNameError):
            explain(model, drawn(8, 8, 1), method=name, layer="nowhere")
    else:
        with torch.inference_mode():
            explain(model, drawn(8, 8, 1), method=name)
    after = [(len(each._forward_hooks), len(each._forward_pre_hooks), each.training) for each in module.modules()]
    assert before == after
    assert all(each.grad is None for each in module.parameters())


def test_each_target_has_its_own_map():
    model = pellucid.load(tiny.decoder("llama"), dtype="float64")
    both = explain(model, "The tumour grows fast", method="grad_cam", target=pellucid.Tokens("high risk"))
    assert both.values.shape[0] == len(both.output_names) > 1
    assert not np.allclose(both.values[0], both.values[1])


def test_tables_have_no_places():
    assert GradCam().rows(9) == 1
    assert all("tabular" not in all_methods()[name].facts.modalities for name in NAMES)
    model = Tabular(torch.nn.Linear(1, 2), [Column(name="x")], ["no", "yes"])
    with pytest.raises(InputError, match="grad_cam explains text, image"):
        explain(model, [1.0], method="grad_cam")
