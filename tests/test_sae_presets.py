"""Presets against the libraries' own words: what each of them weighs, in numbers worked out by hand."""

import pytest

from pellucid.errors import InputError, UnknownNameError
from pellucid.sae.presets import PRESETS, preset, sizes


def test_the_first_code_takes_the_mean_over_prefixes_and_a_term_of_the_bias():
    found = preset("matryoshka", d_in=64, width=1024)
    assert found.prefixes == (64, 128, 256, 512, 1024)
    assert found.prefix_weights == (1 / 6,) * 5
    assert found.bias_weight == 1 / 6
    assert (found.reduction, found.decoder, found.betas) == ("mean", "unit", (0.9, 0.99))
    assert found.dead_after == 20 * 4096


def test_sae_lens_sums_its_prefixes_and_leaves_the_decoder_free():
    found = preset("sae-lens", d_in=64, width=1024)
    assert found.prefix_weights == (1.0,) * 5
    assert (found.bias_weight, found.reduction, found.decoder) == (0, "sum", "free")
    assert (found.aux_weight, found.aux_scale, found.aux_relu) == (1.0, "dead-share", False)
    assert (found.threshold_decay, found.threshold_from) == (0.99, "zero")


def test_dictionary_learning_divides_by_the_number_of_groups_twice():
    found = preset("dictionary-learning", d_in=64, width=1024)
    assert found.prefixes == (32, 96, 224, 480, 1024)
    assert found.prefix_weights == pytest.approx((1 / 25,) * 5)
    assert found.lr == pytest.approx(2e-4 / (1024 / 2**14) ** 0.5)
    assert (found.normalisation, found.aux_weight, found.threshold_start) == ("mean-square", 1 / 32, 1000)


def test_maira_2_has_half_of_the_dictionary_first_and_needs_its_k():
    found = preset("maira-2", d_in=4096, width=16384, k=64)
    assert found.prefixes == (8192, 12288, 14336, 15360, 16384)
    assert found.prefix_weights == pytest.approx((0.04,) * 5)
    with pytest.raises(InputError, match="the k of the preset 'maira-2' is not known"):
        preset("maira-2", d_in=4096, width=16384)
    assert "k" in PRESETS["maira-2"].unknown


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_without_prefixes_there_is_one_weight(name, architecture):
    found = preset(name, d_in=8, width=64, k=4, architecture=architecture)
    assert found.prefixes == (64,)
    assert found.prefix_weights == (1.0,)
    assert found.bias_weight == 0


def test_prefixes_of_ones_own_get_the_presets_weights():
    found = preset("dictionary-learning", d_in=8, width=64, k=4, prefixes=(16, 64))
    assert found.prefix_weights == (0.25, 0.25)
    assert preset("matryoshka", d_in=8, width=64, k=4, prefixes=(16, 64)).bias_weight == 1 / 3
    own = preset("sae-lens", d_in=8, width=64, k=4, prefixes=(16, 64), prefix_weights=(3.0, 1.0))
    assert own.prefix_weights == (3.0, 1.0)


def test_groups_are_cut_as_dictionary_learning_cuts_them():
    # int(f * n) for all but the last, which takes the rest.
    assert sizes(1000, (1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32)) == (31, 93, 218, 468, 1000)


def test_what_cannot_be_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'matryoshka'"):
        preset("matroshka", d_in=8, width=64)
    with pytest.raises(InputError, match="a dictionary of 8 latents is too small"):
        preset("dictionary-learning", d_in=8, width=8, k=2)
    with pytest.raises(InputError, match="there is no such setting"):
        preset("sae-lens", d_in=8, width=64, learning_rate=1.0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_where_it_is_from(name):
    assert PRESETS[name].source
