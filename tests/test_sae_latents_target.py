"""A latent as what is explained: against the network's own encoder called by hand, and the command line."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import pellucid
import tiny
from pellucid import Latent
from pellucid.cli import app
from pellucid.errors import InputError, UnknownNameError
from pellucid.methods import make_method
from pellucid.models import CausalLM, TextClassifier
from pellucid.sae import SAE, Config, Origin
from pellucid.targets.latents import IN_MEMORY

TEXT = "The patient is 52 years old"
SITE = "model.layers.1"


def dictionary(d=32, width=48, k=4, seed=0, origin=None, **options):
    draw = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(width, d, generator=draw), dim=1)
    found = {
        "W_enc": directions, "b_enc": 0.1 * torch.randn(width, generator=draw),
        "W_dec": directions.clone(), "b_dec": 0.1 * torch.randn(d, generator=draw),
    }  # fmt: skip
    config = Config(d_in=d, width=width, k=k, architecture="topk", **{"normalisation": "none"} | options)
    return SAE(config, found, origin)


@pytest.fixture(scope="module")
def model():
    return CausalLM(*tiny.decoder("llama"), name="tiny")


@pytest.fixture(scope="module")
def sae():
    return dictionary()


def passing(model, ids=None, embeddings=None, site=SITE):
    """What passes at the site in one plain call of the network, [seq, d]."""
    seen = []
    hook = model.module.get_submodule(site).register_forward_hook(lambda part, args, out: seen.append(out))
    try:
        model.module(**({"input_ids": torch.tensor([ids])} if embeddings is None else {"inputs_embeds": embeddings}))
    finally:
        hook.remove()
    out = seen[0]
    return (out[0] if isinstance(out, tuple) else out)[0]


def activations(model, sae, text):
    with torch.no_grad():
        return sae.encode(passing(model, model.row(text).ids))


@pytest.fixture(scope="module")
def latent(model, sae):
    """One that is active in the middle of the text."""
    z = activations(model, sae, TEXT)
    return int((z[4:] > 0).sum(0).argmax())


def test_occlusion_is_what_the_encoder_says_without_the_word(model, sae, latent):
    target = Latent(latent, sae=sae, site=SITE)
    found = pellucid.explain(model, TEXT, method="occlusion", features="word", target=target)
    full = float(activations(model, sae, TEXT)[:, latent].max())
    assert found.full_values[0] == pytest.approx(full, abs=1e-5)
    words = TEXT.split(" ")
    for place in range(len(words)):
        without = " ".join([*words[:place], *words[place + 1 :]])
        left = float(activations(model, sae, without)[:, latent].max())
        assert found.values[0, place] == pytest.approx(full - left, abs=1e-4)
    assert found.unit == "activation"
    assert found.target.digest
    assert found.fingerprint.weights == model.fingerprint().weights


def test_a_place_is_read_where_it_is_even_as_words_are_hidden(model, sae):
    z = activations(model, sae, TEXT)
    place = 6
    latent = int(z[place].argmax())
    found = pellucid.explain(
        model, TEXT, method="occlusion", features="token", target=Latent(latent, place, sae=sae, site=SITE)
    )
    assert found.baseline.startswith("pad")
    assert found.full_values[0] == pytest.approx(float(z[place, latent]), abs=1e-5)
    # What comes after the place cannot matter to a decoder.
    assert not found.values[0, place + 1 :].any()
    assert found.values[0, : place + 1].any()


@pytest.mark.parametrize("options", [{}, {"normalisation": "layer-norm"}, {"subtract_decoder_bias": False}])
def test_gradients_are_those_before_the_decision(model, options):
    sae = dictionary(**options)
    z = activations(model, sae, TEXT)
    latent = int(z[5].argmax())
    target = Latent(latent, 5, sae=sae, site=SITE)
    found = pellucid.explain(model, TEXT, method="input_x_gradient", features="token", target=target)
    ids = torch.tensor([model.encode(TEXT).row.ids])
    leaf = model.module.get_input_embeddings()(ids).detach().requires_grad_()
    a = sae.preactivations(passing(model, embeddings=leaf))[5, latent]
    (slope,) = torch.autograd.grad(a, leaf)
    np.testing.assert_allclose(found.values[0], (slope * leaf).sum(-1)[0].detach().numpy(), atol=2e-5)
    assert found.full_values[0] == pytest.approx(float(z[5, latent]), abs=1e-5)
    # Where no activation follows, plain LRP is input times gradient of what normalisers hold: checked by the engine's
    # own trace of the same network with the same encoder behind it.
    traced = pellucid.explain(model, TEXT, method="attnlrp", features="token", target=target)
    assert traced.layer_names == ("model.layers.0", "model.layers.1")
    assert np.isfinite(traced.values).all()


@pytest.mark.parametrize("method", ["attnlrp", "lrp-epsilon", "backtrace"])
def test_relevance_is_that_of_the_encoders_row(model, sae, latent, method):
    """The same trace begun at the site, by the engine, on the network with the encoder's row written behind it."""
    found = pellucid.explain(model, TEXT, method=method, features="token", target=Latent(latent, sae=sae, site=SITE))
    z = activations(model, sae, TEXT)
    place = int(z[:, latent].argmax())

    class Written(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = model.module.model

        def forward(self, ids):
            # The last block's output, before the final norm that the network goes on to.
            h = self.network.embed_tokens(ids)
            places = torch.arange(ids.shape[1])[None]
            turns = self.network.rotary_emb(h, places)
            for block in self.network.layers:
                h = block(h, attention_mask=None, position_embeddings=turns, position_ids=places)
            return torch.nn.functional.linear(h[:, place] - sae.b_dec, sae.W_enc[[latent]], sae.b_enc[[latent]])

    ids = torch.tensor([model.encode(TEXT).row.ids])
    expected = pellucid.trace(Written().eval(), ids, pellucid.Logit(0), composite=method)
    np.testing.assert_allclose(found.values[0], expected.input[0].numpy(), atol=1e-4)


def test_every_family_answers_a_latent(model, sae, latent):
    target = Latent(latent, sae=sae, site=SITE)
    for name in ("kernel_shap", "integrated_gradients", "smoothgrad", "lime", "cp-lrp", "zplus", "permutation_shapley"):
        found = pellucid.explain(model, TEXT, method=name, target=target, checks="full")
        assert np.isfinite(found.values).all()
        assert found.checks["deletion"].value is not None
    for name in ("raw_attention", "rollout"):
        with pytest.raises(InputError, match="knows no latents"):
            pellucid.explain(model, TEXT, method=name, target=target)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_an_encoder_of_text(family):
    model = TextClassifier(*tiny.encoder(family))
    sae, site = dictionary(d=16), f"{family}.encoder.layer.0"
    with torch.no_grad():
        z = sae.encode(passing(model, model.encode(TEXT).row.ids, site=site))
    latent = int(z[1:-1].max(0).values.argmax())
    target = Latent(latent, sae=sae, site=site)
    for method in ("occlusion", "input_x_gradient", "lrp-epsilon"):
        found = pellucid.explain(model, TEXT, method=method, target=target)
        assert found.full_values[0] == pytest.approx(float(z[1:-1, latent].max()), abs=1e-4)


def test_template_tokens_do_not_count(sae):
    model = CausalLM(*tiny.decoder("llama", tiny.CHATML))
    inputs = model.encode(TEXT)
    with torch.no_grad():
        z = sae.encode(passing(model, inputs.row.ids))
    own = [place for place, span in enumerate(inputs.spans) if span is not None]
    outside = [place for place, span in enumerate(inputs.spans) if span is None]
    latent = next(n for n in range(sae.width) if 0 < float(z[own, n].max()) < float(z[outside, n].max()))
    found = pellucid.explain(model, TEXT, method="occlusion", target=Latent(latent, sae=sae, site=SITE))
    assert found.full_values[0] == pytest.approx(float(z[own, latent].max()), abs=1e-5)


def test_a_target_names_its_dictionary_by_folder_and_digest(model, latent, tmp_path):
    folder = tmp_path / "sae"
    dictionary(origin=Origin(site=SITE)).save(folder)
    found = pellucid.explain(model, TEXT, method="occlusion", target=Latent(latent, sae=folder))
    saved = pellucid.Explanation.load(found.save(tmp_path / "one"))
    assert saved.target == found.target
    assert (saved.target.sae, saved.target.site) == (str(folder), SITE)
    again = pellucid.explain(model, TEXT, method="occlusion", target=saved.target)
    np.testing.assert_array_equal(again.values, found.values)
    # Another autoencoder in the same place is not silently taken.
    dictionary(seed=5, origin=Origin(site=SITE)).save(tmp_path / "other")
    moved = saved.target.model_copy(update={"sae": str(tmp_path / "other")})
    with pytest.raises(InputError, match="its weights are others"):
        pellucid.explain(model, TEXT, method="occlusion", target=moved)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"target": Latent(999, sae=dictionary(), site=SITE)}, "has no latent 999: its 48 are 0 to 47"),
        ({"target": Latent(1)}, "sae="),
        ({"target": Latent(1, sae=IN_MEMORY)}, "SAE.load"),
        ({"target": Latent(1, sae=dictionary(), site="model.layer.1")}, "did you mean 'model.layers.1'"),
        ({"target": Latent(1, sae=dictionary())}, "site='model.layers.15'"),
        ({"target": Latent(1, 500, sae=dictionary(), site=SITE)}, "no place 500"),
        ({"target": Latent(1, sae=dictionary(d=8), site=SITE)}, "32 dimensions .* made for 8"),
        ({"target": Latent(1, sae=dictionary(), site=SITE), "features": "latents", "sae": dictionary()}, "tokens"),
    ],
)
def test_bad_targets_are_refused_in_a_sentence(model, given, told):
    with pytest.raises((InputError, UnknownNameError), match=told):
        pellucid.explain(model, TEXT, method="occlusion", **given)


def test_a_latent_that_does_not_fire_is_refused_with_others_named(model, sae):
    z = activations(model, sae, TEXT)
    silent = int((z.max(0).values == 0).nonzero()[0])
    with pytest.raises(InputError, match="not active there; the most active ones are"):
        pellucid.explain(model, TEXT, method="occlusion", target=Latent(silent, sae=sae, site=SITE))
    strongest = int(z[3].argmax())
    with pytest.raises(InputError, match="moves it"):
        pellucid.explain(
            model, TEXT, method="occlusion", baseline="delete", target=Latent(strongest, 3, sae=sae, site=SITE)
        )


def test_a_negative_index_is_no_latent():
    with pytest.raises(InputError, match="latent"):
        Latent(-1)


def test_methods_made_by_hand_take_the_dictionary_of_the_call(model, sae, latent):
    found = pellucid.explain(model, TEXT, method=make_method("occlusion"), target=Latent(latent), sae=sae, site=SITE)
    named = pellucid.explain(model, TEXT, method="occlusion", target=Latent(latent, sae=sae, site=SITE))
    np.testing.assert_array_equal(found.values, named.values)


def test_the_command_line_goes_from_output_to_latents_to_tokens(model, latent, tmp_path):
    model.module.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    dictionary(origin=Origin(site=SITE)).save(tmp_path / "sae")
    words = ["explain", "--model", tmp_path / "model", "--text", TEXT, "--sae", tmp_path / "sae", "--json"]

    def ran(*more):
        result = CliRunner().invoke(app, [str(word) for word in (*words, *more)])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    first = ran("--method", "attnlrp", "--features", "latents", "--target", " yes", "--html", tmp_path / "page.html")
    assert {feature["kind"] for feature in first["features"]} == {"latent", "rest"}
    assert first["dictionary"]["site"] == SITE
    assert len(first["event_values"][0]) == len(first["event_places"]) == len(first["activations"])
    assert "Where the strongest latents fire" in (tmp_path / "page.html").read_text("utf-8")
    second = ran("--method", "occlusion", "--latent", latent)
    assert second["target"]["kind"] == "latent"
    assert {feature["kind"] for feature in second["features"]} == {"word"}
    place = ran("--method", "attnlrp", "--latent", f"{latent}@{_place(model, latent)}")
    assert place["target"]["position"] == _place(model, latent)
    refused = CliRunner().invoke(app, [str(word) for word in (*words, "--latent", "many")])
    assert refused.exit_code == 2
    assert "INDEX@PLACE" in refused.output + refused.stderr


def _place(model, latent):
    return int(activations(model, dictionary(), TEXT)[:, latent].argmax())
