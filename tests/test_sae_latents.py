"""Latents as features: against the same splice written out by hand, enumeration, and networks with a closed form."""

import contextlib
import itertools
import json
import math

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn

import pellucid
import tiny
from families import vision_language as families
from pellucid import Answer, Choice, Logit, Margin, Tokens
from pellucid.errors import InputError, UnknownNameError
from pellucid.games.path import CHUNK_POSITIONS, Path
from pellucid.methods import AbstractCam, all_methods, make_method
from pellucid.methods.latents_asking import put
from pellucid.models import CausalLM, ImageClassifier, Preprocessing, TextClassifier
from pellucid.models.vision_language import VisionLanguage
from pellucid.report import explanation_page, explanation_text
from pellucid.report.firings import FiringsView
from pellucid.sae import SAE, Config, Origin
from pellucid.sae.dictionary import Dictionary
from pellucid.sae.events.digest import digest
from pellucid.sae.interpretation.results import INTERPRETATIONS, SETTINGS, Interpretation

TEXT = "The patient is 52"
SITE = "model.layers.0"
YES = Answer(" yes")
COEFFICIENTS = ("attnlrp", "lrp-epsilon", "cp-lrp", "reslrp")
CARRIED = ("backtrace", "backtrace-contrast", "lrp-gamma")


def weights(d, width, seed=0, bias=0.1):
    draw = torch.Generator().manual_seed(seed)
    directions = nn.functional.normalize(torch.randn(width, d, generator=draw), dim=1)
    shift = bias * torch.randn(d, generator=draw)
    return {"W_enc": directions.clone(), "b_enc": torch.zeros(width), "W_dec": directions, "b_dec": shift}


def dictionary(d=32, width=48, k=3, seed=0, origin=None, **options):
    given = {"architecture": "topk", "normalisation": "none"} | options
    threshold = {"threshold": given.pop("threshold")} if "threshold" in given else {}
    return SAE(Config(d_in=d, width=width, k=k, **given), weights(d, width, seed) | threshold, origin)


def faultless(d=32):
    """An autoencoder whose reconstruction is exact: a latent for either sign of each number."""
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    found = {"W_enc": both, "b_enc": torch.zeros(2 * d), "W_dec": both, "b_dec": torch.full((d,), 0.25)}
    config = Config(d_in=d, width=2 * d, k=1, architecture="jumprelu", normalisation="none")
    return SAE(config, found | {"threshold": torch.zeros(2 * d)})


@pytest.fixture(scope="module")
def model():
    return CausalLM(*tiny.decoder("llama"), name="tiny")


@pytest.fixture(scope="module")
def sae():
    return dictionary()


def by_hand(model, text, answer, change, site=SITE):
    """Log-probability of an answer's tokens with what passes at a site changed; one plain call of the network."""
    prompt, after = model.encode(text).row.ids, model.answer_ids(answer)
    ids = torch.tensor([[*prompt, *after]])
    part = model.module.get_submodule(site)
    hook = part.register_forward_hook(
        lambda _, args, out: (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)
    )
    try:
        logits = model.module(input_ids=ids).logits[0].log_softmax(-1)
    finally:
        hook.remove()
    return torch.stack([logits[len(prompt) - 1 + n, token] for n, token in enumerate(after)])


# The sum that passes at the site


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"architecture": "batchtopk", "threshold": torch.tensor(0.4)},
        {"architecture": "jumprelu", "threshold": torch.full((48,), 0.5)},
        {"architecture": "topk", "normalisation": "layer-norm"},
        {"architecture": "topk", "normalisation": "token-norm", "subtract_decoder_bias": False},
    ],
)
@pytest.mark.parametrize("features", ["latents", "latents:4"])
def test_the_terms_sum_to_what_passes(model, options, features):
    sae = dictionary(**options)
    facts = all_methods()["attnlrp"].facts
    question = put(model, TEXT, facts, target=YES, features=features, sae=sae, site=SITE, most_features=999)
    splice = question.splice
    seen = []
    by_hand(model, TEXT, " yes", lambda h: seen.append(h) or h)
    point = splice.coordinates
    whole = splice.composed(0, point[None])[0]
    torch.testing.assert_close(whole, seen[0][0, : len(whole)], atol=2e-5, rtol=1e-5)
    # Latents and bias alone are what the autoencoder itself gives back, and z is what it encodes, token's scale aside.
    without = point.clone()
    without[len(splice.latents) + splice.wholes.index("reconstruction error")] = 0
    torch.testing.assert_close(splice.composed(0, without[None])[0], sae(whole), atol=2e-5, rtol=1e-5)
    active = (sae.encode(whole) > 0).any(0).nonzero()[:, 0]
    assert splice.active == len(active)
    assert set(splice.latents.tolist()) <= set(active.tolist())
    assert ("other latents" in splice.wholes) == (features == "latents:4")


# Games


def test_the_game_is_ablation_by_hand_and_exact_shapley_its_enumeration(model, sae):
    found = pellucid.explain(
        model, TEXT, method="exact_shapley", features="latents:5", sae=sae, site=SITE, target=Answer(" yes no")
    )
    named = [feature.index for feature in found.features if feature.kind == "latent"]
    assert [feature.label for feature in found.features[5:]] == ["other latents", "reconstruction error"]

    def value(present):
        def change(h):
            z = sae.encode(h)
            others = z.clone()
            others[..., named] = 0
            gone = sum(
                (z[..., [n]] * sae.W_dec[n] for place, n in enumerate(named) if place not in present),
                torch.zeros_like(h),
            )
            gone = gone + (0 if 5 in present else others @ sae.W_dec)
            return h - gone - (0 if 6 in present else h - sae.decode(z))

        with torch.no_grad():
            return float(by_hand(model, TEXT, " yes no", change).sum())

    players = range(7)
    game = {s: value(s) for n in range(8) for s in itertools.combinations(players, n)}
    expected = np.zeros(7)
    for player in players:
        for size in range(7):
            weight = math.factorial(size) * math.factorial(6 - size) / math.factorial(7)
            for rest in itertools.combinations([n for n in players if n != player], size):
                expected[player] += weight * (game[tuple(sorted((*rest, player)))] - game[rest])
    np.testing.assert_allclose(found.values[0], expected, atol=2e-5)
    assert found.base_values[0] == pytest.approx(game[()], abs=2e-5)
    assert found.full_values[0] == pytest.approx(game[tuple(players)], abs=2e-5)
    assert found.cost.rows >= 128
    assert found.cost.forwards < 10


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "llama"])
def test_occlusion_takes_out_one_latent_at_all_places(family):
    model = CausalLM(*tiny.decoder(family))
    site = {"gpt2": "transformer.h.0"}.get(family, SITE)
    sae = dictionary(seed=1)
    found = pellucid.explain(model, TEXT, method="occlusion", features="latents", sae=sae, site=site, target=YES)
    with torch.no_grad():
        full = float(by_hand(model, TEXT, " yes", lambda h: h, site).sum())
        for place in (0, 3, 7):
            latent = found.features[place].index
            gone = by_hand(model, TEXT, " yes", lambda h, n=latent: h - sae.encode(h)[..., [n]] * sae.W_dec[n], site)
            assert found.values[0, place] == pytest.approx(full - float(gone.sum()), abs=2e-5)
    assert found.checks["self_test"].passed


@pytest.mark.parametrize("family", ["bert", "distilbert", "deberta", "llama"])
def test_classifiers_of_text(family):
    model = TextClassifier(*tiny.encoder(family))
    site = {"llama": SITE, "distilbert": "distilbert.transformer.layer.0"}.get(family, f"{family}.encoder.layer.0")
    sae = dictionary(d=16, seed=2)
    options = {"features": "latents", "sae": sae, "site": site, "target": Margin("low")}
    found = pellucid.explain(model, TEXT, method="permutation_shapley", permutations=4, **options)
    assert found.values.sum() == pytest.approx(float(found.full_values[0] - found.base_values[0]), abs=1e-4)
    plain = pellucid.explain(model, TEXT, method="occlusion", features="word", target=Margin("low"))
    assert found.full_values[0] == pytest.approx(plain.full_values[0], abs=1e-5)
    traced = pellucid.explain(model, TEXT, method="lrp-epsilon", **options)
    assert traced.checks["completeness"].passed


# Gradients


def test_gradients_are_those_of_the_splice_written_out(model, sae):
    answer = " yes no"
    found = pellucid.explain(
        model, TEXT, method="input_x_gradient", features="latents", sae=sae, site=SITE, target=Tokens(answer)
    )
    leaf = {}

    def change(h):
        z = sae.encode(h).detach().requires_grad_()
        error = (h - sae.decode(z)).detach().requires_grad_()
        leaf.update(z=z, error=error)
        return sae.decode(z) + error

    scores = by_hand(model, TEXT, answer, change)
    assert len(scores) == len(found.values) > 1
    for row, score in enumerate(scores):
        z, error = torch.autograd.grad(score, [leaf["z"], leaf["error"]], retain_graph=True)
        products = (z * leaf["z"])[0].detach()
        expected = [float(products[:, each.index].sum()) for each in found.features[:-1]]
        expected.append(float((error * leaf["error"]).sum().detach()))
        np.testing.assert_allclose(found.values[row], expected, atol=2e-5)
        for value, (feature, place) in zip(found.event_values[row], found.event_places, strict=True):
            if feature < len(found.features) - 1:
                assert value == pytest.approx(float(products[place, found.features[feature].index]), abs=2e-5)


def test_integrated_gradients_end_at_the_bias_alone(model, sae):
    found = pellucid.explain(
        model, TEXT, method="integrated_gradients", features="latents", sae=sae, site=SITE, target=YES, tolerance=0.01
    )
    with torch.no_grad():
        base = float(by_hand(model, TEXT, " yes", lambda h: sae.b_dec.expand_as(h)).sum())
    assert found.base_values[0] == pytest.approx(base, abs=2e-5)
    assert found.values.sum() == pytest.approx(float(found.full_values[0]) - base, rel=0.02)
    sums = np.zeros(len(found.features))
    np.add.at(sums, found.event_places[:, 0], found.event_values[0])
    np.testing.assert_allclose(sums, found.values[0], atol=1e-5)


def test_points_of_a_path_go_through_together_as_their_places_allow(model, sae):
    facts = all_methods()["integrated_gradients"].facts
    question = put(model, TEXT * 8, facts, target=YES, features="latents:3", sae=sae, site=SITE, most_features=99)
    path = Path(question, None)
    places = len(question.splice.pieces)
    assert places > 40
    assert max(part.stop - part.start for part in path.chunks(100)) == CHUNK_POSITIONS["text"]["cpu"] // places


# Relevance


@pytest.mark.parametrize("method", COEFFICIENTS)
def test_without_an_error_latents_have_what_arrives_at_the_site(model, method):
    sae = faultless()
    found = pellucid.explain(model, TEXT, method=method, features="latents", sae=sae, site=SITE, target=Logit(7))
    ids = torch.tensor([model.encode(TEXT).row.ids])
    at_site = pellucid.trace(model.module, {"input_ids": ids}, Logit(7), composite=method, keep=[SITE])[SITE][0]
    error = found.feature_names.index("reconstruction error")
    assert abs(found.values[0, error]) < 1e-4
    assert found.values.sum() == pytest.approx(float(at_site.sum()), rel=1e-4, abs=1e-4)
    # Place by place too: each event belongs to one.
    by_place = np.zeros(len(found.pieces))
    np.add.at(by_place, found.event_places[:, 1], found.event_values[0])
    np.testing.assert_allclose(by_place, at_site.sum(-1).numpy(), atol=2e-4)
    assert found.checks["completeness"].passed


@pytest.mark.parametrize("method", [*COEFFICIENTS, *CARRIED])
def test_with_an_error_the_sum_is_still_what_arrives_at_the_site(model, sae, method):
    found = pellucid.explain(model, TEXT, method=method, features="latents", sae=sae, site=SITE, target=Logit(7))
    assert found.feature_names[-2:] == ["reconstruction error", "decoder bias"]
    assert found.checks["completeness"].passed
    ids = torch.tensor([model.encode(TEXT).row.ids])
    at_site = pellucid.trace(model.module, {"input_ids": ids}, Logit(7), composite=method, keep=[SITE])[SITE]
    assert found.values.sum() == pytest.approx(float(at_site.sum()), rel=1e-3)


def test_the_input_of_a_module_is_a_site_too(model, sae):
    options = {"method": "attnlrp", "features": "latents", "sae": sae, "target": YES}
    before = pellucid.explain(model, TEXT, site="model.layers.1:input", **options)
    behind = pellucid.explain(model, TEXT, site=SITE, **options)
    np.testing.assert_allclose(before.values, behind.values, atol=1e-5)


def test_half_precision_is_traced_in_float32(sae):
    module, tokenizer = tiny.decoder("llama")
    half = CausalLM(module.to(torch.bfloat16), tokenizer)
    found = pellucid.explain(half, TEXT, method="attnlrp", features="latents:6", sae=sae, site=SITE, target=YES)
    assert found.checks["completeness"].passed
    module.float()


# A network with a closed form: activations, a mean over places, a linear head


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.mix = nn.Identity()
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.mix(self.patches(x).flatten(2).transpose(1, 2).tanh()).mean(1))


@pytest.fixture(scope="module")
def pooled():
    module = tiny.randomised(Pooled)
    return ImageClassifier(module, ["left", "right"], Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3))


@pytest.mark.parametrize(
    "method", ["occlusion", "kernel_shap", "input_x_gradient", "integrated_gradients", "attnlrp", "lrp-0", "smoothgrad"]
)
def test_a_linear_tail_gives_each_latent_its_part(pooled, method):
    sae = dictionary(d=8, width=12, k=2, seed=3)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    options = {"features": "latents", "sae": sae, "site": "mix", "target": Logit("right")}
    found = pellucid.explain(pooled, image, method=method, **options)
    with torch.no_grad():
        x = pooled.encode(image).row[None]
        h = pooled.module.patches(x).flatten(2).transpose(1, 2).tanh()[0]
        z, slope = sae.encode(h), pooled.module.head.weight[1] / len(h)
        part = {
            f"latent {n}": float(z[:, n].sum() * sae.W_dec[n] @ slope) for n in range(12) if float(z[:, n].sum()) > 0
        }
        part["reconstruction error"] = float((h - sae.decode(z)).sum(0) @ slope)
        part["decoder bias"] = float(len(h) * sae.b_dec @ slope)
    assert set(found.feature_names) <= set(part)
    for name, value in zip(found.feature_names, found.values[0], strict=True):
        assert value == pytest.approx(part[name], abs=1e-4), name


class Sinking(Pooled):
    def forward(self, x):
        seen = self.patches(x).flatten(2).transpose(1, 2).tanh()
        return self.head(self.mix(torch.cat([200 * seen[:, :1], seen[:, 1:]], 1)).mean(1))


def test_massive_activations_are_one_whole_that_games_keep():
    module = tiny.randomised(Sinking)
    model = ImageClassifier(module, ["left", "right"], Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3))
    sae = dictionary(d=8, width=12, k=2, seed=3)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    options = {"features": "latents", "sae": sae, "site": "mix", "target": Logit("right")}
    traced = pellucid.explain(model, image, method="lrp-0", **options)
    with torch.no_grad():
        h = module.patches(model.encode(image).row[None]).flatten(2).transpose(1, 2).tanh()[0]
        slope, constant = module.head.weight[1] / len(h), float(module.head.bias[1])
        sink, rest = float(200 * h[0] @ slope), h[1:]
        z = sae.encode(rest)
        left = rest - sae.decode(z)
    assert traced.values[0, traced.feature_names.index("massive activations")] == pytest.approx(sink, rel=1e-4)
    assert set(traced.feature_names[:-3]) == {f"latent {n}" for n in range(12) if float(z[:, n].sum()) > 0}
    assert traced.dictionary.error_share == pytest.approx(float(left.pow(2).sum() / rest.pow(2).sum()), rel=1e-4)
    played = pellucid.explain(model, image, method="occlusion", **options)
    assert "massive activations" not in played.feature_names
    assert "massive activations stay" in played.baseline
    base = sink + float(len(rest) * sae.b_dec @ slope) + constant
    assert played.base_values[0] == pytest.approx(base, rel=1e-4)


# Pictures, and pictures with texts


def test_a_picture_by_its_patches():
    config = hf.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=4,
        num_labels=2,
    )  # fmt: skip
    module = tiny.randomised(lambda: hf.ViTForImageClassification(config))
    vit = ImageClassifier(module, ["cat", "dog"], Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3))
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    sae, blocks = (
        dictionary(d=16),
        [name for name, _ in module.named_modules() if name.endswith(("layer.0", "layers.0"))],
    )
    options = {"sae": sae, "site": blocks[0]}
    for method in ("attnlrp", "occlusion"):
        found = pellucid.explain(vit, image, method=method, features="latents", **options)
        assert len(found.pieces) == 17
    latent = pellucid.Latent(found.features[0].index, **options)
    for method in ("input_x_gradient", "occlusion"):
        patches = pellucid.explain(vit, image, method=method, features="patch:4", target=latent)
        assert patches.values.shape == (1, 16)
        assert patches.picture is not None
        assert patches.full_values[0] > 0


def test_a_picture_with_a_text():
    model = VisionLanguage(families.random_llava(), families.processor(), name="tiny")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    raw = {"image": image, "text": "what color is the shape?"}
    site = next(name for name, _ in model.module.named_modules() if name.endswith("language_model.layers.0"))
    width = model.module.config.get_text_config().hidden_size
    options = {"sae": dictionary(d=width), "site": site}
    for method in ("attnlrp", "occlusion", "integrated_gradients"):
        found = pellucid.explain(model, raw, method=method, features="latents:8", target=Answer("red"), **options)
        assert found.picture is None
        assert len(found.pieces) == model.encode(raw).text.positions + len(model.texts.answer_ids("red")) - 1
        written = "".join(found.pieces)
        assert " patch 0,0 patch 0,1 patch 0,2 patch 0,3 patch 1,0" in written
        assert "patch 3,3 what color is the shape" in written
        assert "<image>" not in written
    latent = pellucid.Latent(found.features[0].index, **options)
    for method in ("attnlrp", "occlusion"):
        both = pellucid.explain(model, raw, method=method, features="patch+word", target=latent)
        assert {feature.kind for feature in both.features} == {"patch", "word"}
        assert both.full_values[0] > 0


# Several answers, evidence, results


def test_several_answers_share_the_places_of_the_prompt(model, sae):
    target = Choice((" yes no", " low", " high risk"))
    options = {"features": "latents", "sae": sae, "site": SITE, "target": target}
    found = pellucid.explain(model, TEXT, method="occlusion", **options)
    plain = pellucid.explain(model, TEXT, method="occlusion", target=target)
    assert found.full_values[0] == pytest.approx(plain.full_values[0], abs=1e-4)
    assert found.pieces[: len(model.encode(TEXT).pieces)] == model.encode(TEXT).pieces
    gradients = pellucid.explain(model, TEXT, method="integrated_gradients", tolerance=0.01, **options)
    assert gradients.full_values[0] == pytest.approx(plain.full_values[0], abs=1e-4)
    assert gradients.base_values[0] == pytest.approx(found.base_values[0], abs=1e-4)


def test_every_method_of_the_families_answers_and_the_others_say_why(model, sae):
    options = {"features": "latents:6", "sae": sae, "site": SITE, "target": YES, "checks": "none"}
    for name, kind in all_methods().items():
        facts = kind.facts
        method = make_method(name, **({"max_pieces": 8} if name == "path_integral" else {}))
        if "text" not in facts.modalities:
            continue
        # Maps have places of the input, which latents are none of.
        mapped = issubclass(kind, AbstractCam)
        if facts.family in ("perturbation", "gradient", "relevance") and "background" not in facts.needs and not mapped:
            found = pellucid.explain(model, TEXT, method=method, **options)
            assert np.isfinite(found.values).all(), name
        else:
            with pytest.raises(InputError, match="latents"):
                pellucid.explain(model, TEXT, method=method, **options)


def test_deletion_compares_named_latents_with_other_latents(model, sae):
    options = {"features": "latents", "sae": sae, "site": SITE, "target": YES}
    question = put(model, TEXT, all_methods()["occlusion"].facts, most_features=999, **options)
    latents = len(question.splice.latents)
    game = question.deleting()
    assert game.players == latents == len(question.features) - 1
    # With every latent gone the error is still there.
    with torch.no_grad():
        left = by_hand(model, TEXT, " yes", lambda h: h - sae.encode(h) @ sae.W_dec)
    assert float(game.empty[0]) == pytest.approx(float(left.sum()), abs=2e-5)
    found = pellucid.explain(model, TEXT, method="exact_shapley", checks="full", **options | {"features": "latents:9"})
    assert found.checks["deletion"].value > 0
    assert found.checks["insertion"].value > 0
    assert found.checks["deletion"].threshold > 0


@pytest.mark.parametrize("count", [1, 2])
def test_where_latents_have_few_orders_deletion_tells_nothing(model, sae, count):
    question = put(
        model, TEXT, all_methods()["occlusion"].facts, target=YES, features=f"latents:{count}", sae=sae, site=SITE,
        most_features=99,
    )  # fmt: skip
    found = pellucid.explain(
        model, TEXT, method="exact_shapley", features=f"latents:{count}", sae=sae, site=SITE, target=YES, checks="full"
    )
    assert question.deleting().players == count
    for name in ("deletion", "insertion"):
        assert found.checks[name].passed is None
        assert "too few to tell" in found.checks[name].detail
    assert found.checks.reliable is not False


def test_a_latent_without_a_value_is_from_nowhere(model, sae):
    found = pellucid.explain(model, TEXT, method="attnlrp", features="latents", sae=sae, site=SITE, target=YES)
    nothing = found.model_copy(update={"event_values": np.zeros_like(found.event_values)})
    assert FiringsView.of(nothing).peaks == {}
    view = FiringsView.of(found)
    assert set(view.peaks) == {feature for (feature, _), told in zip(view.events, view.told, strict=True) if told}
    assert "mostly from “is”" in view.peaks.values()


def test_another_model_is_refused_and_another_site_is_told(model):
    own = model.fingerprint().weights
    options = {"method": "occlusion", "site": SITE, "target": YES}
    elsewhere = dictionary(origin=Origin(model="tiny", fingerprint=own, site="model.layers.1"))
    found = pellucid.explain(model, TEXT, features="latents", sae=elsewhere, **options)
    assert found.checks["site"].passed is False
    assert not found.checks["site"].decisive
    assert "trained at model.layers.1 and reads model.layers.0" in found.checks["site"].detail
    latent = pellucid.Latent(found.features[0].index, sae=elsewhere, site=SITE)
    told = pellucid.explain(model, TEXT, **options | {"target": latent, "site": None})
    assert told.checks["site"].passed is False
    there = dictionary(origin=Origin(model="tiny", fingerprint=own, site=SITE))
    found = pellucid.explain(model, TEXT, features="latents", sae=there, **options)
    assert "site" not in [each.name for each in found.checks.items]
    other = dictionary(origin=Origin(model="another", fingerprint="0" * 64, site=SITE))
    for given in ({"features": "latents", "sae": other}, {"target": pellucid.Latent(0, sae=other)}):
        with pytest.raises(InputError, match="trained on another with other weights"):
            pellucid.explain(model, TEXT, **options | given)


def test_interpretations_of_another_autoencoder_are_not_its_meanings(tmp_path):
    dictionary(origin=Origin(site=SITE)).save(tmp_path)
    (tmp_path / INTERPRETATIONS).write_text(f"{Interpretation(latent=0, explanation='cats').model_dump_json()}\n")
    (tmp_path / SETTINGS).write_text(json.dumps({"sources": {"sae": digest(dictionary())}}))
    assert Dictionary.of(tmp_path, None).meanings == {0: "cats"}
    (tmp_path / SETTINGS).write_text(json.dumps({"sources": {"sae": digest(dictionary(seed=1))}}))
    with pytest.raises(InputError, match="of another autoencoder"):
        Dictionary.of(tmp_path, None)


def test_a_result_says_which_dictionary_and_comes_back_from_a_file(model, sae, tmp_path):
    found = pellucid.explain(model, TEXT, method="attnlrp", features="latents:5", sae=sae, site=SITE, target=YES)
    assert (found.dictionary.site, found.dictionary.width) == (SITE, 48)
    assert 0 < found.dictionary.error_share < 1
    for path in (tmp_path / "folder", tmp_path / "one.zip"):
        found.save(path)
        again = pellucid.Explanation.load(path)
        assert again.to_json() == found.to_json()
        np.testing.assert_array_equal(again.event_values, found.event_values)
    # Values at places add up to the value.
    sums = np.zeros(len(found.features))
    np.add.at(sums, found.event_places[:, 0], found.event_values[0])
    np.testing.assert_allclose(sums, found.values[0], atol=1e-5)
    kept = found.keeping([4, 0])
    assert set(kept.event_places[:, 0].tolist()) == {0, 1}
    own = found.event_places[:, 0] == 4
    np.testing.assert_array_equal(kept.activations[kept.event_places[:, 0] == 0], found.activations[own])


def test_pages_show_where_the_strongest_fire(model, sae, tmp_path):
    folder = tmp_path / "dictionary"
    dictionary(origin=Origin(site=SITE)).save(folder)
    first = pellucid.explain(model, TEXT, method="attnlrp", features="latents", sae=sae, site=SITE, target=YES)
    latent = first.features[0].index
    meaning = Interpretation(latent=latent, explanation="words about patients")
    (folder / INTERPRETATIONS).write_text(meaning.model_dump_json() + "\n", "utf-8")
    found = pellucid.explain(model, TEXT, method="attnlrp", features="latents", sae=folder, target=YES)
    assert found.features[0].value == "words about patients"
    assert found.dictionary.name == str(folder)
    np.testing.assert_array_equal(found.values, first.values)
    page = explanation_page(found)
    assert "Where the strongest latents fire" in page
    assert page.count("words about patients") >= 2
    assert f"latent {latent}" in explanation_text(found)
    assert "unexplained" in explanation_text(found)


# Bad input


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"features": "latents", "sae": dictionary(d=8), "site": SITE}, "32 dimensions .* made for 8"),
        ({"features": "latents", "sae": dictionary(), "site": "model.layer.0"}, "did you mean 'model.layers.0'"),
        ({"features": "latents"}, "sae="),
        ({"features": "latents", "sae": dictionary()}, "site='model.layers.15'"),
        ({"sae": dictionary()}, "features='latents'"),
        ({"site": SITE}, "features='latents'"),
        ({"features": "latents:0", "sae": dictionary(), "site": SITE}, "latents:50"),
        ({"features": "latents", "sae": 7, "site": SITE}, "SAE.load"),
        ({"features": "latents", "sae": dictionary(), "site": SITE, "baseline": "delete"}, "baseline of latents"),
        ({"features": "latents", "sae": dictionary(), "site": "lm_head"}, "330|dimensions"),
        ({"features": "latents", "sae": "no/such/folder", "site": SITE}, "no/such/folder"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(model, given, told):
    with pytest.raises((InputError, UnknownNameError), match=told):
        pellucid.explain(model, TEXT, method="occlusion", target=YES, **given)


def test_more_latents_than_can_be_played_are_refused(model, sae):
    with pytest.raises(InputError, match="latents:50"):
        put(
            model, TEXT, all_methods()["occlusion"].facts, target=YES, features="latents", sae=sae, site=SITE,
            most_features=3,
        )  # fmt: skip


def test_a_game_without_a_number_has_at_most_256_players(model):
    wide = dictionary(width=600, k=80)
    options = {"target": YES, "sae": wide, "site": SITE, "most_features": 8192}
    games, traced = all_methods()["occlusion"].facts, all_methods()["attnlrp"].facts
    with pytest.raises(InputError, match=r"at most 256 .*latents:50"):
        put(model, TEXT, games, features="latents", **options)
    assert len(put(model, TEXT, games, features="latents:300", **options).features) > 256
    assert len(put(model, TEXT, traced, features="latents", **options).features) > 256


def test_a_place_without_a_sequence_is_refused(pooled):
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"batch, seq"):
        pellucid.explain(pooled, image, method="occlusion", features="latents", sae=dictionary(d=8), site="patches")


def test_the_network_is_left_as_it_was(model, sae):
    before = {
        name: len(part._forward_hooks) + len(part._forward_pre_hooks) for name, part in model.module.named_modules()
    }
    for given in ({"site": SITE}, {"site": "lm_head"}):
        with contextlib.suppress(InputError):
            pellucid.explain(model, TEXT, method="attnlrp", features="latents", sae=sae, target=YES, **given)
    after = {
        name: len(part._forward_hooks) + len(part._forward_pre_hooks) for name, part in model.module.named_modules()
    }
    assert after == before
    assert torch.is_grad_enabled()
