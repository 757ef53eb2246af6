"""Steering: where and by how much activations change, cached or not, against sums by hand."""

import numpy as np
import pytest
import torch
import transformers as hf

import pellucid
import tiny
from pellucid.errors import ContextLengthError, InputError, UnknownNameError
from pellucid.models import CausalLM, TextClassifier
from pellucid.sae import SAE, Config, Site, edited
from pellucid.sae.steering import MODES, Positions, Sampling, Steer, answers, asked, steered
from pellucid.sae.steering.measuring import read_back, shift
from pellucid.sae.steering.modes import mode_of, reach
from pellucid.sae.steering.positions import Sequences
from pellucid.sae.steering.scales import activation_scale, norm_scale, seen

SITE = Site.of("model.layers.0")
PROMPTS = ("The patient is 52 years old.", "high risk", "It hurts. Does it? Yes!")
FAMILIES = ("llama", "gpt2", "gemma2")
SITES = {"llama": "model.layers.0", "gpt2": "transformer.h.0", "gemma2": "model.layers.0:input"}


def dictionary(d_in=32, width=16, *, seed=0, unit=True, **settings):
    """An autoencoder of random directions."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(width, d_in, generator=generator)
    if unit:
        rows = rows / rows.norm(dim=1, keepdim=True)
    config = Config(d_in=d_in, width=width, **{"k": 4, "architecture": "topk", **settings})
    weights = {"W_enc": rows + 0.1, "b_enc": 0.1 * torch.randn(width, generator=generator), "W_dec": rows}
    return SAE(config, {**weights, "b_dec": torch.randn(d_in, generator=generator)})


@pytest.fixture(scope="module")
def model():
    return CausalLM(*tiny.decoder("llama"))


def greedy(model, prompt, steps, site, change):
    """An answer token by token: no cache, no padding, and the change made wherever ``change`` says it is."""
    ids = list(model.encode(prompt).row.ids)
    length = len(ids)
    for _ in range(steps):

        def edit(h):
            return torch.stack([row + change(row, place, length) for place, row in enumerate(h[0])])[None]

        with torch.no_grad(), edited(model.module, site, edit):
            logits = model.module(torch.tensor([ids]), use_cache=False).logits
        ids.append(int(logits[0, -1].argmax()))
    return tuple(ids[length:])


# Where


def test_places_are_counted_from_each_prompt():
    # Two prompts of 2 and 4 tokens in a batch of 4 columns, and then two generated tokens.
    sequences = Sequences(torch.tensor([2, 0]), torch.tensor([2, 4]))
    wanted = {
        "all": ["..xxxx", "xxxxxx"],
        "prompt": ["..xx..", "xxxx.."],
        "last-prompt": ["...x..", "...x.."],
        "generated": ["....xx", "....xx"],
        "answer": ["...xxx", "...xxx"],
        "0,-1": ["..xx..", "x..x.."],
        "1,4": ["...x..", ".x..x."],
        "-3": ["......", ".x...."],
    }
    for name, drawn in wanted.items():
        whole = Positions.of(name).mask(sequences, 0, 6)
        assert ["".join(".x"[int(each)] for each in row) for row in whole] == drawn, name
        parts = [Positions.of(name).mask(sequences, first, new) for first, new in ((0, 4), (4, 1), (5, 1))]
        assert torch.equal(torch.cat(parts, 1), whole), name


@pytest.mark.parametrize("given", ["answers", "1,x", "", "listed"])
def test_an_unknown_place_is_refused(given):
    with pytest.raises(UnknownNameError, match="no place to steer is called"):
        Positions.of(given)
    with pytest.raises(InputError, match="no position is listed"):
        Positions.of([])


# By how much


@pytest.fixture(params=[True, False], ids=["unit", "free"])
def case(request):
    sae = dictionary(unit=request.param)
    h = torch.randn(50, 32, generator=torch.Generator().manual_seed(5)) * 3
    return sae, h


def steer(sae, mode, latents=(3, 9), strength=2.0, scales=(0.7, 1.1), **rest):
    return Steer(sae, latents, scales, strength, mode_of(mode), **rest)


def test_adding_is_a_sum_of_rows(case):
    sae, h = case
    wanted = 2 * 0.7 * sae.W_dec[3] + 2 * 1.1 * sae.W_dec[9]
    assert torch.allclose(steer(sae, "add").change(h), wanted.expand_as(h))


@pytest.mark.parametrize(("mode", "values"), [("clamp", (1.4, 2.2)), ("ablate", (0.0, 0.0))])
def test_clamping_decodes_other_latents_and_keeps_the_error(case, mode, values):
    sae, h = case
    z = sae.encode(h)
    assert (z[:, 3] > 0).any()
    assert (z[:, 3] == 0).any()
    error = h - sae.decode(z)
    z[:, 3], z[:, 9] = values
    assert torch.allclose(h + steer(sae, mode).change(h), sae.decode(z) + error, atol=1e-5)


def test_projecting_sets_the_part_along_and_leaves_the_orthogonal_one(case):
    sae, h = case
    after = h + steer(sae, "project").change(h)
    basis, _ = np.linalg.qr(sae.W_dec[[3, 9]].numpy().T)
    orthogonal = np.eye(32) - basis @ basis.T
    assert np.allclose(after.numpy() @ orthogonal, h.numpy() @ orthogonal, atol=1e-5)
    along = 1.4 * sae.W_dec[3] + 2.2 * sae.W_dec[9]
    assert np.allclose(after.numpy() @ basis, along.numpy() @ basis, atol=1e-5)


def test_cap_and_floor_hold_a_projection_on_one_side(case):
    sae, h = case
    row = sae.W_dec[3]
    before = h @ row / (row @ row)
    assert before.min() < 0.5 < before.max()
    for mode, bound in (("cap", before.clamp(max=0.5)), ("floor", before.clamp(min=0.5))):
        after = h + steer(sae, mode, (3,), 0.5, (1.0,)).change(h)
        assert torch.allclose(after @ row / (row @ row), bound, atol=1e-5)
        kept = bound == before
        assert torch.equal(after[kept], h[kept])


def test_reach_is_that_of_least_squares():
    rows, h = torch.randn(3, 8), torch.randn(20, 8)
    wanted = np.linalg.lstsq(rows.numpy().T, h.numpy().T, rcond=None)[0].T
    assert np.allclose(reach(h, rows).numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_a_control_changes_each_token_as_far(mode):
    sae = dictionary(unit=False)
    h = torch.randn(40, 32) * 3
    along = torch.randn(1, 32)
    plain = steer(sae, mode, (3,), 2.0, (0.7,)).change(h)
    other = steer(sae, mode, (3,), 2.0, (0.7,), along=along).change(h)
    assert torch.allclose(plain.norm(dim=1), other.norm(dim=1), atol=1e-4)
    unit = along[0] / along.norm()
    assert torch.allclose(other, (other @ unit)[:, None] * unit, atol=1e-4)


@pytest.mark.parametrize("normalisation", ["layer-norm", "token-norm"])
@pytest.mark.parametrize("mode", ["clamp", "ablate", "add"])
def test_tokens_that_are_normalised_are_steered_in_their_own_unit(mode, normalisation):
    sae = dictionary(normalisation=normalisation)
    h = torch.randn(30, 32) * torch.rand(30, 1) * 9
    z = sae.encode(h)
    error = h - sae.decode(z, like=h)
    z[:, 3] = {"clamp": torch.tensor(1.4), "ablate": torch.tensor(0.0), "add": z[:, 3] + 1.4}[mode]
    wanted = sae.decode(z, like=h) + error
    assert torch.allclose(h + steer(sae, mode, (3,), 2.0, (0.7,)).change(h), wanted, atol=1e-4)


@pytest.mark.parametrize("architecture", ["batchtopk", "jumprelu"])
def test_every_architecture_is_ablated(architecture):
    sae = dictionary(architecture=architecture)
    sae.threshold.fill_(0.3)
    h = torch.randn(30, 32) * 2
    z = sae.encode(h)
    error = h - sae.decode(z)
    z[:, 9] = 0
    assert torch.allclose(h + steer(sae, "ablate", (9,), 1.0, (1.0,)).change(h), sae.decode(z) + error, atol=1e-5)


def test_latents_that_are_not_there_are_refused():
    sae = dictionary()
    with pytest.raises(InputError, match="there is no latent 16: this autoencoder has latents 0 to 15"):
        Steer(sae, (16,), (1.0,))
    with pytest.raises(InputError, match="named twice"):
        Steer(sae, (3, 3), (1.0, 1.0))
    with pytest.raises(InputError, match="2 latents are steered and 1 scales"):
        Steer(sae, (3, 4), (1.0,))
    with pytest.raises(UnknownNameError, match="no way to steer is called 'addd'; did you mean 'add'"):
        mode_of("addd")


# In a network


@pytest.mark.parametrize("mode", ["add", "clamp", "ablate", "project"])
def test_a_change_of_nothing_is_no_change(model, mode):
    sae = dictionary()
    prompts = asked(model, PROMPTS)
    ids, visible, _ = model.batch(prompts.rows, "left")
    plain = model.module(ids, attention_mask=visible.long()).logits
    nowhere = Steer(sae, (3,), (1.0,), 0.0, mode_of(mode), Positions.of([99]))
    with steered(model.module, SITE, nowhere, prompts.sequences):
        assert torch.equal(model.module(ids, attention_mask=visible.long()).logits, plain)
    if mode == "add":
        for places in ("all", "prompt"):
            none = Steer(sae, (3,), (1.0,), 0.0, mode_of(mode), Positions.of(places))
            with steered(model.module, SITE, none, prompts.sequences):
                assert torch.equal(model.module(ids, attention_mask=visible.long()).logits, plain)
    assert not model.module.model.layers[0]._forward_hooks
    assert not model.module._forward_pre_hooks


def test_the_hidden_state_is_what_was_computed_by_hand(model):
    sae, seen_there = dictionary(), []
    prompts = asked(model, PROMPTS)
    ids, visible, _ = model.batch(prompts.rows, "left")
    given = {"input_ids": ids, "attention_mask": visible.long()}
    with torch.no_grad(), edited(model.module, SITE, lambda h: seen_there.append(h) or h):
        model.module(**given)
    push = Steer(sae, (3,), (1.5,), 2.0, mode_of("add"), Positions.of("last-prompt"))
    # Of two edits of one place the later one sees what the earlier one made.
    with (
        steered(model.module, SITE, push, prompts.sequences),
        edited(model.module, SITE, lambda h: seen_there.append(h) or h),
    ):
        model.module(**given)
    before, after = seen_there
    assert torch.equal(after[:, :-1], before[:, :-1])
    assert torch.allclose(after[:, -1], before[:, -1] + 3 * sae.W_dec[3], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("places", ["all", "answer", "generated", "1,-1,8"])
def test_generation_with_a_cache_and_in_a_batch_is_that_without(family, places):
    model = CausalLM(*tiny.decoder(family))
    sae, site = dictionary(), Site.of(SITES[family])
    push = Steer(sae, (3, 9), (1.0, 2.0), 6.0, mode_of("clamp"), Positions.of(places))

    def change(h, place, length):
        wanted = {
            "all": True,
            "answer": place >= length - 1,
            "generated": place >= length,
            "1,-1,8": place in (1, length - 1, 8),
        }
        return push.change(h[None])[0] if wanted[places] else torch.zeros_like(h)

    alone = [greedy(model, prompt, 6, site, change) for prompt in PROMPTS]
    ends = {model.tokenizer.eos_token_id}
    alone = [ids[: next((n for n, token in enumerate(ids) if token in ends), None)] for ids in alone]
    together = answers(asked(model, PROMPTS), Sampling(max_new_tokens=6), steer=push, site=site)
    assert together == alone
    assert together != answers(asked(model, PROMPTS), Sampling(max_new_tokens=6))


def test_samples_follow_the_seed_and_share_their_random_numbers(model):
    prompts, how = asked(model, PROMPTS), Sampling(max_new_tokens=8, temperature=1.0, seed=3)
    none = Steer(dictionary(), (3,), (1.0,), 0.0)
    plain = answers(prompts, how)
    assert answers(prompts, how, steer=none, site=SITE) == plain
    assert answers(prompts, how, sample=1) != plain
    state = torch.get_rng_state()
    assert answers(prompts, how) == plain
    assert torch.equal(torch.get_rng_state(), state)


def test_an_answer_may_be_empty(model):
    token = model.tokenizer.eos_token_id
    sae = dictionary()
    rows = sae.W_dec.clone()
    rows[0] = model.module.lm_head.weight[token]
    ending = SAE(sae.config, {**sae.state_dict(), "W_dec": rows})
    push = Steer(ending, (0,), (100.0,))
    found = answers(asked(model, PROMPTS), Sampling(max_new_tokens=4), steer=push, site=Site.of("model.norm"))
    assert found == [(), (), ()]
    assert read_back(asked(model, PROMPTS), found, sae, SITE) == [(None, {})] * 3


def test_a_model_with_pictures_is_steered():
    model = pellucid.load("llava-easy-vqa")
    pictures = sorted((pellucid.models.catalogue.ZOO / "llava-easy-vqa/examples").glob("*.png"))[:2]
    raws = [
        {"image": picture, "text": text}
        for picture, text in zip(pictures, ("what color is the shape?", "is there a circle?"), strict=True)
    ]
    site = Site.of("model.language_model.layers.0")
    prompts, how = asked(model, raws), Sampling(max_new_tokens=3)
    width = model.module.config.text_config.hidden_size
    sae = dictionary(width)
    push = Steer(sae, (3,), (1000.0,), 1.0, mode_of("add"), Positions.of("answer"))
    found = answers(prompts, how, steer=push, site=site)
    plain = answers(prompts, how)
    assert plain != found
    none = Steer(sae, (3,), (1000.0,), 0.0, mode_of("add"), Positions.of("all"))
    assert answers(prompts, how, steer=none, site=site) == plain
    # The same without a cache: the whole sequence, placeholders included, is computed for each token.
    for raw, answer in zip(raws, found, strict=True):
        alone = asked(model, [raw])
        ids = list(alone.rows[0].ids)
        for token in answer:
            with steered(model.module, site, push, alone.sequences):
                out = model.module(
                    input_ids=torch.tensor([ids]), pixel_values=alone.reader.pixels, use_cache=False
                ).logits
            assert int(out[0, -1].argmax()) == token
            ids.append(token)
    with pytest.raises(InputError, match="take one of the language model's layers"):
        answers(prompts, how, steer=push, site=Site.of("model.multi_modal_projector.linear_1"))


def test_what_does_not_fit_is_refused(model):
    sae = dictionary()
    prompts, how = asked(model, PROMPTS), Sampling(max_new_tokens=2)
    with pytest.raises(InputError, match="32 dimensions and this autoencoder was made for 8"):
        answers(prompts, how, steer=Steer(dictionary(8), (0,), (1.0,)), site=SITE)
    with pytest.raises(UnknownNameError, match=r"model\.layers\.7.*did you mean 'model\.layers\.\d'"):
        answers(prompts, how, steer=Steer(sae, (0,), (1.0,)), site=Site.of("model.layers.7"))
    with pytest.raises(ContextLengthError):
        answers(prompts, Sampling(max_new_tokens=300))
    with pytest.raises(InputError, match="no prompt to steer"):
        asked(model, [])
    with pytest.raises(InputError, match="does not answer in text"):
        asked(TextClassifier(*tiny.encoder("bert")), ["a"])


# What is measured


def test_perplexity_is_the_loss_of_transformers_and_latents_those_of_the_answer(model):
    sae = dictionary()
    prompts = asked(model, PROMPTS)
    found = [(5, 9, 30, 44), (), (7, 7)]
    reads = read_back(prompts, found, sae, SITE)
    assert reads[1] == (None, {})
    for row, ids, read in zip(prompts.rows, found, reads, strict=True):
        if not ids:
            continue
        whole = torch.tensor([row.ids + ids])
        labels = whole.clone()
        labels[:, : len(row.ids)] = -100
        kept = []
        with torch.no_grad(), edited(model.module, SITE, lambda h, kept=kept: kept.append(h) or h):
            loss = model.module(whole, labels=labels).loss
        assert read.nll == pytest.approx(float(loss), rel=1e-5)
        means = sae.encode(kept[0][0, len(row.ids) :]).mean(0)
        wanted = {latent: float(value) for latent, value in enumerate(means) if value > 0}
        assert read.active == pytest.approx(wanted, rel=1e-4)


def test_shift_is_between_0_and_1():
    assert shift({1: 2.0}, {1: 2.0}, []) == 0
    assert shift({1: 2.0}, {3: 0.5}, []) == 1
    assert shift({1: 2.0, 4: 9.0}, {1: 2.0}, [4]) == 0
    assert shift({}, {}, []) == 0
    assert shift({1: 2.0}, {1: 6.0}, []) == shift({1: 20.0}, {1: 60.0}, []) == 0.5


class Fired:
    """Events of one latent, made by hand."""

    tokens = 5000

    def __init__(self, values):
        self.values = np.asarray(values, np.float32)

    def of(self, latent):
        return self


def test_scales_are_a_high_activation_or_a_length(model):
    values = np.random.default_rng(0).permutation(np.arange(1, 2001))
    assert activation_scale(Fired(values), 0) == 1998
    assert activation_scale(Fired([2.0]), 0) == 2
    with pytest.raises(InputError, match="latent 4 is never active in the 5000 tokens"):
        activation_scale(Fired([]), 4)
    sae = dictionary(unit=False)
    passing = seen(model, PROMPTS, sae, SITE, rows=2)
    lengths = []
    for prompt in PROMPTS:
        kept = []
        with torch.no_grad(), edited(model.module, SITE, lambda h, kept=kept: kept.append(h) or h):
            model.module(torch.tensor([model.encode(prompt).row.ids]))
        lengths += kept[0][0].norm(dim=1).tolist()
    assert passing.codes.token_count == len(lengths)
    assert passing.norm == pytest.approx(float(torch.tensor(lengths).median()), rel=1e-5)
    assert norm_scale(passing, sae, 3) * float(sae.W_dec[3].norm()) == pytest.approx(passing.norm)


def test_a_scale_of_normalised_tokens_moves_by_the_length(model):
    sae = dictionary(normalisation="token-norm")
    passing = seen(model, PROMPTS, sae, SITE)
    assert passing.unit != 1
    assert norm_scale(passing, sae, 3) * passing.unit == pytest.approx(passing.norm)


def test_transformers_offers_what_positions_are_counted_by():
    assert hf.DynamicCache().get_seq_length() == 0
