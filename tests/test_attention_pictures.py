"""The attention family on vision transformers: a patch has the score of its token, a pixel its share of that."""

import numpy as np
import pytest
import torch
import transformers as hf

import pellucid
import tiny
from oracles import attention as oracle
from pellucid import Logit
from pellucid.api import Asked
from pellucid.attention import Layer
from pellucid.attention.zeroing import is_whole
from pellucid.errors import InputError, ModelError
from pellucid.methods import all_methods
from pellucid.methods.attention import Watched
from pellucid.methods.attention_pixels import Patches, at_pixels, cutting
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.pictures import Preprocessing
from test_attention_methods import GRADIENT, METHODS, left
from test_image_classifier import MEAN, STD, drawn
from test_image_classifier import classifier as convolutional

SIDE = 6
FAMILIES = {"vit": 1, "deit": 2, "dinov2": 5, "siglip": 0}
"""How many tokens stand before the patches."""
FORMULAS = ("raw_attention", "rollout", "attention_flow", "attention_x_gradient", "grad_sam", "gae")


def module_of(family, size):
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": SIDE, "num_labels": 3}
    square = shape | {"image_size": size[0], "intermediate_size": 24}
    builders = {
        "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**square | {"image_size": size})),
        "deit": lambda: hf.DeiTForImageClassification(hf.DeiTConfig(**square | {"image_size": size})),
        "dinov2": lambda: hf.Dinov2WithRegistersForImageClassification(hf.Dinov2WithRegistersConfig(**square)),
        "siglip": lambda: hf.SiglipForImageClassification(hf.SiglipConfig(vision_config=square, num_labels=3)),
        # Of one stage, whose attention sees windows of 3 x 3 patches.
        "swin": lambda: hf.SwinForImageClassification(
            hf.SwinConfig(
                image_size=size[0], patch_size=2, embed_dim=8, depths=[2], num_heads=[2], window_size=3, num_labels=3
            )
        ),
        "resnet": lambda: hf.ResNetForImageClassification(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=3)
        ),
    }
    return tiny.randomised(builders[family]).double()


def loaded(family, size=None, implementation=None):
    size = size or ((12, 18) if family in ("vit", "deit") else (18, 18))
    module = module_of(family, size)
    if implementation:
        module.set_attn_implementation(implementation)
    return ImageClassifier(module, ["cat", "dog", "owl"], Preprocessing(size, MEAN, STD))


def explained(model, method, **options):
    options = {"features": f"patch:{SIDE}", "checks": "none", "target": Logit("dog")} | options
    return pellucid.explain(model, drawn(*model.preprocessing.size), method=method, **options)


class Plain:
    """What transformers itself tells of a call, as arrays; read at the first token, or at all that the head pools."""

    def __init__(self, family):
        model = loaded(family, implementation="eager")
        row = model.encode(drawn(*model.preprocessing.size)).row[None].double()
        out = model.module(row, output_attentions=True, output_hidden_states=True)
        found = torch.autograd.grad(out.logits[0, 1], out.attentions)
        self.weights = [each[0].detach().numpy() for each in out.attentions]
        self.slopes = [each[0].numpy() for each in found]
        self.score = float(out.logits[0, 1].detach())

    def scores(self, method):
        a, g, r = self.weights, self.slopes, 0
        return {
            "raw_attention": lambda: oracle.raw_attention(a, r),
            "rollout": lambda: oracle.rollout(a, r),
            "attention_flow": lambda: oracle.attention_flow(a, r),
            "attention_x_gradient": lambda: oracle.attention_x_gradient(a, g, r),
            "grad_sam": lambda: oracle.grad_sam(a, g),
            "gae": lambda: oracle.gae(a, g, r),
        }[method]()


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def plain():
    return {family: Plain(family) for family in ("vit", "deit")}


@pytest.mark.parametrize("family", ["vit", "deit"])
@pytest.mark.parametrize("method", FORMULAS)
def test_a_patch_has_the_score_that_the_formula_gives_its_token(plain, family, method):
    """Written out by an eager call, read at [CLS]; pellucid's own model runs SDPA."""
    found = explained(loaded(family), method)
    expected = plain[family].scores(method)
    assert len(expected) == FAMILIES[family] + 6
    np.testing.assert_allclose(found.values[0], expected[FAMILIES[family] :], rtol=1e-5, atol=1e-7)
    assert [feature.label for feature in found.features] == ["0,0", "0,1", "0,2", "1,0", "1,1", "1,2"]
    assert found.full_values[0] == pytest.approx(plain[family].score, rel=1e-5)
    assert found.baseline == "none: attention is not held against one"


@pytest.mark.parametrize("method", METHODS)
def test_patches_are_the_tokens_behind_the_prefix(family, method):
    model = loaded(family)
    question = Asked.of(model, drawn(*model.preprocessing.size), features="patch:6", target=Logit("dog")).question
    tokens = all_methods()[method]().positions(Watched(question)).values[0].double().numpy()
    found = explained(model, method).values[0]
    assert len(tokens) == FAMILIES[family] + len(found)
    np.testing.assert_allclose(found, tokens[FAMILIES[family] :], rtol=1e-5)
    assert np.abs(found).max() > 1e-9
    assert len(set(found.tolist())) == len(found)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_may_have_been_loaded_either_way(family, method):
    eager, fused = (explained(loaded(family, implementation=each), method).values for each in ("eager", "sdpa"))
    np.testing.assert_allclose(eager, fused, rtol=1e-4, atol=1e-6 * np.abs(eager).max())


@pytest.mark.parametrize("method", ["rollout", "attcat"])
@pytest.mark.parametrize("size", [(12, 18), (14, 23)])
def test_any_division_of_the_picture_sums_over_its_pixels(method, size):
    """Also where the picture's edge belongs to no patch."""
    model = loaded("vit", size)
    height, width = size
    question = Asked.of(model, drawn(*size), features="pixel", target=Logit("dog")).question
    tokens = all_methods()[method]().positions(Watched(question)).values[0].double().numpy()[1:].reshape(2, 3)
    shares = np.zeros(size)
    for y in range(12):
        for x in range(18):
            shares[y, x] = tokens[y // SIDE, x // SIDE] / SIDE**2
    np.testing.assert_allclose(explained(model, method, features="pixel").values[0], shares.ravel(), atol=1e-7)
    fours = np.zeros((-(-height // 4), -(-width // 4)))
    for y in range(height):
        for x in range(width):
            fours[y // 4, x // 4] += shares[y, x]
    np.testing.assert_allclose(explained(model, method, features="patch:4").values[0], fours.ravel(), atol=1e-7)
    segments = explained(model, method, features="superpixel:5")
    assert segments.values.sum() == pytest.approx(tokens.sum(), rel=1e-5)


def test_overlapping_patches_add_up():
    patches, picture = Patches((2, 3), (3, 4), (2, 3)), torch.zeros(1, 6, 11)
    scores = torch.arange(1.0, 15).reshape(2, 7)
    expected = np.zeros((2, 6, 11))
    for target in range(2):
        for row in range(2):
            for column in range(3):
                share = float(scores[target, 1 + 3 * row + column]) / 12
                expected[target, 2 * row : 2 * row + 3, 3 * column : 3 * column + 4] += share
    np.testing.assert_allclose(at_pixels(scores, [patches], picture), expected.reshape(2, -1), rtol=1e-6)


def test_only_a_convolution_that_cuts_the_picture_tells_its_patches():
    convolutions = [
        torch.nn.Conv2d(3, 3, 3, padding=1),
        torch.nn.Conv2d(3, 3, 2, dilation=2),
        torch.nn.Conv2d(3, 4, (2, 3), stride=(2, 3), padding="valid"),
        torch.nn.Conv2d(4, 4, 2),
    ]
    module, x = torch.nn.ModuleList(convolutions), torch.zeros(1, 3, 8, 9)
    with cutting(module, x[0]) as found:
        for each in convolutions[:3]:
            out = each(x)
        convolutions[3](out)
    assert found == [Patches((4, 3), (2, 3), (2, 3))]
    convolutions[2](x)
    assert len(found) == 1


def test_tokens_that_are_no_patches_have_no_place():
    picture, scores = torch.zeros(3, 8, 9), torch.ones(1, 11)
    for found, says in (([], "into no patches by a convolution"), ([Patches((4, 3), (2, 3), (2, 3))], "4 x 3 patches")):
        with pytest.raises(ModelError, match=f"attention sees 11 tokens, and the picture of 8 x 9 .*{says}"):
            at_pixels(scores, found, picture)


@pytest.mark.parametrize("method", METHODS)
def test_networks_that_do_not_attend_to_all_patches_at_once_are_refused(method):
    cnn = convolutional()
    with pytest.raises(ModelError, match=r"Sequential has no attention that can be watched.*such as attnlrp\.$"):
        pellucid.explain(cnn, drawn(8, 10), method=method)
    swin = "be taken apart" if method in ("value_norm", "alti") else "not see all positions|of all of its positions"
    for family, says in (("resnet", "has no attention that can be watched"), ("swin", swin)):
        model = loaded(family, (24, 24))
        before = left(model.module)
        with pytest.raises(ModelError, match=says):
            explained(model, method)
        assert left(model.module) == before


@pytest.mark.parametrize(
    ("weights", "state", "whole"),
    [
        ((1, 2, 6, 6), (1, 6, 8), True),
        ((3, 2, 6, 6), (3, 6, 8), True),
        ((3, 2, 6, 6), (1, 18, 8), False),
        ((1, 2, 6, 6), (1, 6, 2, 3), False),
        ((1, 2, 6, 3), (1, 6, 8), False),
        ((1, 2, 7, 7), (1, 6, 8), False),
    ],
)
def test_an_attention_is_whole_if_it_sees_all_positions_of_its_block(weights, state, whole):
    part = torch.nn.Identity()
    layer = Layer(part, "attention", torch.zeros(weights), torch.zeros(*weights[:2], weights[3], 4), part)
    assert is_whole(layer, torch.zeros(state)) == whole


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_behind(method):
    model = loaded("vit")
    next(model.module.parameters()).requires_grad_(False)
    model.module.train()
    before = left(model.module)
    explained(model, method)
    assert left(model.module) == before


@pytest.mark.parametrize("method", METHODS)
def test_what_is_spent_is_counted(method):
    model = loaded("deit")
    found = explained(model, method)
    tokens = FAMILIES["deit"] + 6
    assert found.cost.forwards == all_methods()[method]().rows(6)
    assert found.cost.backwards == (2 if method == "transatt" else 1 if method in GRADIENT else 0)
    # Value zeroing runs the blocks once unchanged and once for each token.
    runs = tokens + 2 if method == "value_zeroing" else found.cost.forwards
    assert found.cost.forward_equivalents == pytest.approx(runs)


def test_the_largest_piece_is_no_question_about_pixels():
    with pytest.raises(InputError, match=r"pieces='max' is for the tokens of a text.*leave pieces out"):
        explained(loaded("vit"), "rollout", pieces="max")


def test_the_shipped_vision_transformer_is_explained():
    model = pellucid.load("fashion-vit")
    found = pellucid.explain(model, drawn(28, 28, 1), method="rollout", checks="full")
    assert found.values.shape == (1, 49)
    assert 0.5 < found.values.sum() < 1
    assert {item.name for item in found.checks.items} >= {"deletion", "insertion"}
