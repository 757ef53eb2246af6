"""Pictures with texts: one explanation of both, against the network asked plainly and against enumeration."""

import copy
import math
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

import pellucid
from families import vision_language as families
from pellucid import Answer, Choice, Contrast, Generated, Logit, Options, Token, Tokens
from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.games import make_game
from pellucid.methods import all_methods, make_method
from pellucid.models.packing import Packing
from pellucid.models.vision_language import VisionLanguage
from pellucid.report import explanation_page, explanation_text

TEXT = "what color is the shape?"
METHODS = [name for name, kind in all_methods().items() if "vision-language" in kind.facts.modalities]
CHEAP = {
    "path_integral": {"max_pieces": 4},
    "expected_gradients": {"samples": 4},
    "kernel_shap": {"samples": 64},
    "permutation_shapley": {"permutations": 4},
    "owen": {"permutations": 4},
}
COMPOSITES = ("lrp-epsilon", "cp-lrp", "decompx", "attnlrp", "reslrp", "lrp-gamma", "backtrace", "backtrace-contrast")


@cache
def network():
    return copy.deepcopy(families.random_llava()).double()


@pytest.fixture(scope="module")
def model():
    return VisionLanguage(network(), families.processor(), name="tiny")


@pytest.fixture(scope="module")
def chatting():
    return VisionLanguage(network(), families.processor(families.CHAT), name="chatting")


def picture(seed=0, side=32):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


RAW = {"image": picture(), "text": TEXT}


def plainly(text=TEXT, image=None, pixels=None, before="<image>\n", **options):
    """Log-probabilities of the next token, by the library's own processor and the network's own forward pass."""
    read = families.processor()(images=picture() if image is None else image, text=before + text, return_tensors="pt")
    read["pixel_values"] = read["pixel_values"].double() if pixels is None else pixels
    with torch.no_grad():
        return network()(**read, **options).logits[0, -1].log_softmax(0)


def ids(*words):
    return [families.tokenizer().convert_tokens_to_ids(word) for word in words]


# What is read


@pytest.mark.parametrize("template", [None, families.CHAT])
def test_the_tokens_are_those_of_the_processor(template):
    reader = families.processor(template)
    model = VisionLanguage(network(), reader)
    text = f"<image>\n{TEXT}"
    if template:
        content = [{"type": "image"}, {"type": "text", "text": TEXT}]
        text = reader.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = model.encode(RAW)
    expected = reader(images=RAW["image"], text=text, return_tensors="pt")
    assert inputs.text.row.ids == tuple(expected["input_ids"][0].tolist())
    assert sum(model.slots(inputs.text)) == 16
    torch.testing.assert_close(inputs.picture.row, expected["pixel_values"][0])
    words = [feature for feature in model.features(inputs, "patch:8+word") if feature.kind == "word"]
    assert [word.label for word in words] == ["what", "color", "is", "the", "shape", "?"]


def test_a_template_that_writes_the_first_token_gets_no_second_one():
    model = VisionLanguage(network(), families.processor("<s>" + families.CHAT))
    assert model.encode(RAW).text.row.ids.count(ids("<s>")[0]) == 1


@pytest.mark.parametrize("options", [{"system": "a"}, {"chat": True}])
def test_without_a_template_there_is_no_place_for_a_message(options):
    with pytest.raises(InputError, match="no chat template"):
        VisionLanguage(network(), families.processor(), **options)


def test_a_system_message_stands_before_the_user():
    model = VisionLanguage(network(), families.processor(families.CHAT), system="red circle")
    pieces = model.encode(RAW).text.pieces
    assert pieces.index("red") < pieces.index("<image>")


# The network is asked as it asks itself


def test_the_next_token_is_that_of_the_plain_network(model):
    expected = plainly()
    assert model.predicted(model.encode(RAW)) == families.tokenizer().decode(expected.argmax())
    bound = model.bind(Token("red"), model.encode(RAW))
    (found,) = model.alternatives([model.encode(RAW).row], bound)
    torch.testing.assert_close(found.log_prob[0, 0], expected[ids("red")[0]])


@pytest.mark.parametrize("kind", ["patch+word", "patch:5+token", "superpixel:7+word", "pixel+word", "word", "patch"])
def test_the_packed_forward_pass_is_the_plain_one(model, kind):
    inputs = model.divided(model.encode(RAW), kind)
    embedded = model.embedded(inputs, model.bind(Token("red"), inputs), 0)
    with torch.no_grad():
        found = embedded(embedded.embeddings[None])
    assert float(found) == pytest.approx(float(plainly()[ids("red")[0]]), abs=1e-9)


@pytest.mark.parametrize(
    "target",
    [Answer("red circle"), Tokens("red circle yes"), Options(["red", "blue circle"]), Contrast("red", "no yes"),
     Choice(["red", "blue"]), Logit("red"), Generated(3)],
)  # fmt: skip
def test_every_target_scores_alike_in_rows_and_packed(model, target):
    inputs = model.encode(RAW)
    bound = model.bind(target, inputs)
    embedded = model.embedded(inputs, bound, 0)
    rows = [model.encode((picture(seed), text)).row for seed, text in ((1, "is there a circle"), (0, TEXT), (2, "yes"))]
    with torch.no_grad():
        packed = embedded(embedded.embeddings[None])
        batch = bound.target.score(model.alternatives(rows, bound))
        single = [bound.target.score(model.alternatives([row], bound)) for row in rows]
    torch.testing.assert_close(packed[0], batch[1])
    torch.testing.assert_close(torch.cat(single), batch)
    assert packed.shape[1] == len(bound.output_names)


def test_an_answer_is_scored_as_the_network_continues_it(model):
    red, circle = ids("red", "circle")
    expected = plainly()[red] + plainly(f"{TEXT} red")[circle]
    bound = model.bind(Answer("red circle"), model.encode(RAW))
    found = bound.target.score(model.alternatives([model.encode(RAW).row], bound))
    assert float(found) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_that_the_network_generates(model, beams):
    read = families.processor()(images=RAW["image"], text=f"<image>\n{TEXT}", return_tensors="pt")
    read["pixel_values"] = read["pixel_values"].double()
    expected = network().generate(**read, max_new_tokens=5, do_sample=False, num_beams=beams)
    new = expected[0, read["input_ids"].shape[1] :].tolist()
    bound = model.bind(Generated(5, beams=beams), model.encode(RAW))
    assert list(bound.target.token_ids) == new[: new.index(3) if 3 in new else 5]


# Gradients


def test_gradients_are_finite_differences_and_padding_has_none(model):
    inputs = model.divided(model.encode(RAW), "patch:8+token")
    embedded = model.embedded(inputs, model.bind(Token("red"), inputs), 0)
    x = embedded.embeddings[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(embedded(x).sum(), x)
    assert gradient.shape == (1, 16 + inputs.positions, 8 * 8 * 3)
    for part in (slice(0, 16), slice(16, None)):
        step = torch.zeros_like(x)
        step[:, part] = torch.randn(step[:, part].shape, generator=torch.Generator().manual_seed(1)) * 1e-3
        with torch.no_grad():
            difference = embedded(x + step) - embedded(x - step)
        slope = (gradient * step).sum() * 2
        assert float(slope) != 0
        # The network normalises in single precision.
        assert float(difference) == pytest.approx(float(slope), rel=2e-3)
    slots = model.slots(inputs.text)
    assert not gradient[0, 16:][slots].any()
    assert not gradient[0, 16:, 24:].any()
    assert gradient[0, 16:][~slots][:, :24].any(1).all()


def test_input_times_gradient_is_that_of_pixels_and_embeddings(model):
    """By hand: both arguments of the network's own forward pass, features summed with NumPy."""
    inputs = model.encode(RAW)
    row = torch.tensor(inputs.text.row.ids)
    pixels = inputs.picture.row.double()[None].requires_grad_()
    embeddings = network().get_input_embeddings()(row)[None].detach().requires_grad_()
    logits = network()(pixel_values=pixels, inputs_embeds=embeddings).logits[0, -1]
    by_pixel, by_token = torch.autograd.grad(logits.log_softmax(0)[ids("red")[0]], [pixels, embeddings])
    grid = (by_pixel * pixels).detach()[0].sum(0).reshape(4, 8, 4, 8).sum((1, 3)).flatten()
    tokens = (by_token * embeddings).detach()[0].sum(1)[~model.slots(inputs.text)][-6:]
    for method in ("input_x_gradient", "input-x-gradient"):
        kinds = {"features": "patch:8+word", "target": Token("red")}
        composed = method if method in all_methods() else _composite(method)
        found = pellucid.explain(model, RAW, method=composed, **kinds)
        np.testing.assert_allclose(found.values[0], torch.cat([grid, tokens]).numpy(), rtol=1e-4, atol=1e-6)


def _composite(name):
    from pellucid.methods.relevance import relevance_method
    from pellucid.relevance import composite

    return relevance_method(composite(name))()


# Games


def test_exact_shapley_values_are_those_of_enumeration(model):
    """Four quarters of the picture and four words, by the definition, the network asked plainly for every coalition."""
    text = "what color is red"
    words, red = text.split(), ids("blue")[0]
    whole = model.encode((RAW["image"], text)).picture.row.double()[None]
    players = range(8)

    @cache
    def value(coalition):
        pixels = whole.clone()
        for quarter in set(range(4)) - set(coalition):
            top, left = 16 * (quarter // 2), 16 * (quarter % 2)
            pixels[:, :, top : top + 16, left : left + 16] = 0
        kept = " ".join(word for place, word in enumerate(words) if 4 + place in coalition)
        return float(plainly(kept, pixels=pixels)[red])

    expected = [
        sum(
            (value(tuple(sorted((*rest, player)))) - value(rest)) / (8 * math.comb(7, size))
            for size in range(8)
            for rest in combinations([each for each in players if each != player], size)
        )
        for player in players
    ]
    asked = {"target": Token("blue"), "features": "patch:16+word"}
    found = pellucid.explain(model, {"image": RAW["image"], "text": text}, method="exact_shapley", **asked)
    np.testing.assert_allclose(found.values[0], expected, atol=1e-6)
    assert found.full_values[0] == pytest.approx(value(tuple(players)), abs=1e-6)
    assert [feature.kind for feature in found.features] == ["patch"] * 4 + ["word"] * 4


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_patches_and_words(model, name):
    settings = {
        "target": Choice(["red", "blue"]),
        "features": "patch:16+word",
        "background": [(picture(3), "a"), {"image": picture(4), "text": "b"}, picture(5)],
    } | CHEAP.get(name, {})
    found = pellucid.explain(model, RAW, method=name, **settings)
    assert found.values.shape == (1, 4 + 6)
    assert np.isfinite(found.values).all()
    assert np.abs(found.values[0, :4]).max() > 0
    assert np.abs(found.values[0, 4:]).max() > 0
    assert found.picture.shape == (32, 32, 3)
    assert found.regions.max() == 3
    assert found.target.chosen in ("red", "blue")
    again = pellucid.explain(model, RAW, method=name, **settings)
    np.testing.assert_allclose(again.values, found.values, atol=1e-6)


def test_complete_methods_sum_to_the_difference(model):
    for name in ("integrated_gradients", "permutation_shapley", "kernel_shap"):
        found = pellucid.explain(model, RAW, method=name, target=Token("red"), features="patch:16+word")
        gap = found.values.sum() - (found.full_values - found.base_values)[0]
        assert abs(gap) < 0.05 * np.abs(found.values).max(), name


def test_occlusion_takes_one_part_away_at_a_time(model):
    found = pellucid.explain(model, RAW, method="occlusion", target=Token("red"), features="patch:16+word")
    red = ids("red")[0]
    pixels = model.encode(RAW).picture.row.double()[None].clone()
    pixels[:, :, :16, 16:] = 0
    assert found.values[0, 1] == pytest.approx(float(plainly()[red] - plainly(pixels=pixels)[red]), abs=1e-6)
    without = "what color the shape?"
    assert found.values[0, 6] == pytest.approx(float(plainly()[red] - plainly(without)[red]), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "whole"),
    [(None, "mean+delete"), ("blur", "blur+delete"), ("pad", "mean+pad"), ("black+pad", "black+pad"),
     ("marginal", "marginal+delete"), ("noisy-linear+pad", "noisy-linear+pad")],
)  # fmt: skip
def test_each_half_has_an_imputer_of_its_own(model, name, whole):
    inputs = model.divided(model.encode(RAW), "patch:16+word")
    features, bound = model.features(inputs, "patch:16+word"), model.bind(Token("red"), inputs)
    game = make_game(model, inputs, features, bound, name, [picture(7), (picture(8), "a")])
    assert game.imputer.name == whole
    assert game.imputer.description.startswith("picture: ")
    assert "; text: " in game.imputer.description
    assert game.full[0] == pytest.approx(float(plainly()[ids("red")[0]]), abs=1e-9)
    assert game.imputer.draws == (2 if name == "marginal" else 1)


def test_a_marginal_game_is_the_mean_over_other_pictures(model):
    inputs = model.divided(model.encode(RAW), "patch:16+word")
    features, bound = model.features(inputs, "patch:16+word"), model.bind(Token("red"), inputs)
    others = [picture(7), picture(8)]
    game = make_game(model, inputs, features, bound, "marginal", others)
    coalition = np.array([[False] * 4 + [True] * 6])
    expected = np.mean([float(plainly(image=each)[ids("red")[0]]) for each in others])
    assert game.value(coalition)[0, 0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("kind", "players"), [("patch:16", 4), ("word", 6), ("token", 6)])
def test_one_half_alone_leaves_the_other_as_it_is(model, kind, players):
    both = pellucid.explain(model, RAW, method="occlusion", target=Token("red"), features="patch:16+word")
    half = pellucid.explain(model, RAW, method="occlusion", target=Token("red"), features=kind)
    assert half.values.shape == (1, players)
    assert (half.picture is None) == (players == 6)
    part = both.values[0, :4] if players == 4 else both.values[0, 4:]
    np.testing.assert_allclose(half.values[0], part, atol=1e-6)
    for method in ("attnlrp", "integrated_gradients"):
        assert (
            pellucid.explain(model, RAW, method=method, features=kind, target=Token("red")).values.shape[1] == players
        )


# Relevance


@pytest.mark.parametrize("composite", COMPOSITES)
def test_relevance_is_accounted_for(model, composite):
    made = make_method(composite, account=True)
    found = pellucid.explain(model, RAW, method=made, target=Logit("red"), checks="free")
    assert found.checks["conservation"].passed
    assert found.checks["conservation"].value < 1e-6
    assert found.full_values[0] != 0


@pytest.mark.parametrize("make", families.EXAMPLES)
def test_the_examples_trace_as_they_run(make):
    example = make()
    with torch.no_grad():
        expected = example.module(**example.inputs).logits[0, -1, example.target.label]
    found = pellucid.trace(example.module, example.inputs, composite="attnlrp", target=example.target)
    torch.testing.assert_close(torch.as_tensor(found.seeded).squeeze().float(), expected, rtol=1e-4, atol=1e-5)
    assert found.input["pixel_values"].abs().sum() > 0
    assert found.input["input_ids"].abs().sum() > 0
    placeholders = example.inputs["input_ids"] == example.module.config.image_token_id
    assert not found.input["input_ids"][placeholders].any()


def test_a_network_of_half_precision_is_traced_in_single():
    module = copy.deepcopy(families.random_llava())
    whole = VisionLanguage(module, families.processor())
    half = VisionLanguage(copy.deepcopy(module).bfloat16(), families.processor())
    asked = {"method": "attnlrp", "target": Token("red"), "features": "patch:8+word"}
    one, other = (pellucid.explain(model, RAW, **asked) for model in (whole, half))
    assert half.module.lm_head.weight.dtype is torch.bfloat16
    assert np.corrcoef(one.values[0], other.values[0])[0, 1] > 0.99


# What is shown


@pytest.mark.parametrize(("target", "named"), [(Token("red"), 1), (Tokens("red circle"), 2)])
def test_a_page_shows_both_on_one_scale(chatting, target, named):
    found = pellucid.explain(chatting, RAW, method="attnlrp", target=target, features="patch:8+token+template")
    page = explanation_page(found)
    assert page.count("data:image/png") == 1 + 3 * named
    assert "running token" in page
    assert all(word in page for word in ("what", "color", "Of the input its patches sum to"))
    assert "&lt;image&gt;" not in page
    text = explanation_text(found)
    assert "shape" in text
    assert "0,1" in text
    assert "its tokens sum to" in text


def test_a_figure_has_the_words_below_the_picture(model):
    found = pellucid.explain(model, RAW, method="attnlrp", target=Token("red"))
    from pellucid.report import plots

    for view in plots.VIEWS:
        axes = plots.overlay(found, view=view).axes
        assert [each.get_text() for each in axes[1].texts] == ["what", "color", "is", "the", "shape", "?"]


def test_coarser_features_keep_the_picture(model):
    found = pellucid.explain(model, RAW, method="attnlrp", target=Token("red"), features="patch:8+token")
    coarse = found.sum_to("sentence")
    assert [feature.kind for feature in coarse.features] == ["patch"] * 16 + ["sentence"]
    np.testing.assert_allclose(coarse.values[0, :16], found.values[0, :16])
    assert coarse.values.sum() == pytest.approx(found.values.sum(), rel=1e-5)
    assert repr(coarse).startswith("Explanation(attnlrp, 1 x 16 patches and 1 sentences")


def test_without_the_template_the_picture_stays(chatting, tmp_path):
    found = pellucid.explain(chatting, RAW, method="attnlrp", target=Token("red"), features="patch:8+token+template")
    assert all(feature.value != "<image>" for feature in found.features)
    part = found.without_template()
    assert len(part.features) == 16 + 6 < len(found.features)
    assert part.picture is not None
    back = pellucid.Explanation.load(part.save(tmp_path / "part.zip"))
    np.testing.assert_array_equal(back.regions, found.regions)
    assert found.keeping([1, 0, 20]).picture is None


# What else a model says of itself


def test_the_fingerprint_covers_every_part():
    module = copy.deepcopy(families.random_llava())
    prints = [VisionLanguage(module, families.processor()).fingerprint()]
    other = families.processor()
    other.image_processor.image_mean = [0.5, 0.5, 0.5]
    prints.append(VisionLanguage(module, other).fingerprint())
    other = families.processor()
    other.tokenizer.add_tokens(["tree"])
    prints.append(VisionLanguage(module, other).fingerprint())
    prints.append(VisionLanguage(module, families.processor(families.CHAT)).fingerprint())
    with torch.no_grad():
        module.lm_head.weight[0, 0] += 1
    prints.append(VisionLanguage(module, families.processor()).fingerprint())
    seen = {(each.weights, each.tokenizer, each.template) for each in prints}
    assert len(seen) == len(prints)
    assert VisionLanguage(module, families.processor()).fingerprint() == prints[-1]


def test_noise_moves_both_halves_and_goes_away(model):
    inputs = model.encode(RAW)
    bound = model.bind(Token("red"), inputs)
    before = model.alternatives([inputs.row], bound)[0].logit
    with model.nudged(inputs, 0.1, 0) as moved:
        embedded = model.embedded(moved, bound, 0)
        inside = embedded.embeddings
        assert model.alternatives([moved.row], bound)[0].logit != before
        assert embedded(inside[None]).isfinite()
    after = model.embedded(inputs, bound, 0).embeddings
    assert (inside - after)[:64].abs().max() > 0
    assert (inside - after)[64:].abs().max() > 0
    torch.testing.assert_close(model.alternatives([inputs.row], bound)[0].logit, before)


def test_the_cost_is_counted_in_passes_over_the_input(model):
    found = pellucid.explain(
        model, RAW, method="occlusion", target=Token("red"), features="patch:16+word", checks="none"
    )
    assert found.cost.rows == 12
    # A word less is a token less.
    assert 11 < found.cost.forward_equivalents <= 12


def test_full_checks_have_another_baseline_to_try(model):
    asked = {"target": Token("red"), "features": "patch:16+word", "checks": "full"}
    found = pellucid.explain(model, RAW, method="occlusion", **asked)
    assert "blur+pad" in found.checks["baseline_stability"].detail
    assert found.checks["deletion"].value is not None


@pytest.mark.parametrize("shape", [(6, 9, 4), (5, 5, 5), (7, 3, 2)])
def test_packing_gives_back_what_it_got(shape):
    height, width, side = shape
    rows, columns = torch.arange(height) // side, torch.arange(width) // side
    packing = Packing(rows[:, None] * (int(columns.max()) + 1) + columns, 3, 10)
    pictures, tokens = torch.randn(2, 3, height, width), torch.randn(2, 4, 10)
    packed = packing.packed(pictures, tokens)
    assert packed.shape == (2, packing.regions + 4, max(side * side * 3, 10))
    torch.testing.assert_close(packing.pictures(packed), pictures)
    torch.testing.assert_close(packing.tokens(packed), tokens)
    assert int((packed != 0).sum()) == pictures.numel() + tokens.numel()
    torch.testing.assert_close(packed[0, 0, : min(side, width) * 3 : 3], pictures[0, 0, 0, :side])


# What is refused


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("a text alone", "not str"),
        ({"image": picture()}, "keys 'image' and 'text', and 'image' came"),
        ({"image": picture(), "text": "a", "more": 1}, "'more' came"),
        ((picture(), ""), "the text is empty"),
        ((picture(), "what is <image>"), "stands for the picture"),
        (("no-such.png", "a"), "no picture at"),
        ((picture().astype(float), "a"), "uint8"),
    ],
)
def test_inputs_that_are_refused(model, raw, said):
    with pytest.raises(InputError, match=said):
        model.encode(raw)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"features": "patch+wrd"}, UnknownNameError, "patch\\+wrd"),
        ({"features": "column"}, UnknownNameError, "column"),
        ({"features": "patch:900+word"}, InputError, "larger than the picture"),
        ({"baseline": "grey"}, UnknownNameError, "grey"),
        ({"baseline": "delete+mean"}, UnknownNameError, "delete\\+mean"),
        ({"baseline": "blur", "features": "word"}, InputError, "no feature of the picture"),
        ({"baseline": "mask"}, InputError, "no mask token"),
        ({"baseline": "marginal"}, InputError, "no background pictures"),
    ],
)
def test_questions_that_are_refused(model, options, error, said):
    with pytest.raises(error, match=said):
        pellucid.explain(model, RAW, method="occlusion", target=Token("red"), **options)


def test_methods_of_other_models_are_refused(model):
    with pytest.raises(InputError, match="rollout explains text, image"):
        pellucid.explain(model, RAW, method="rollout")


def test_processors_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="no tokenizer and no image_processor"):
        VisionLanguage(network(), families.tokenizer(), name="tiny")
    talkative = families.processor()
    written = talkative.replace_image_token
    talkative.replace_image_token = lambda *args, **kwargs: written(*args, **kwargs) + "<unk>"
    with pytest.raises(ModelError, match="more around a picture"):
        VisionLanguage(network(), talkative, name="tiny")
    text_only = hf.LlamaForCausalLM(families.configuration().text_config)
    with pytest.raises(ModelError, match="image_token_id"):
        VisionLanguage(text_only, families.processor(), name="tiny")
    twice = families.processor(families.CHAT.replace("<image>", "<image> <image>"))
    with pytest.raises(ModelError, match="2 places"):
        VisionLanguage(network(), twice, name="tiny")


def test_a_picture_that_the_processor_does_not_make_square_is_refused():
    reader = families.processor()
    reader.image_processor.size = {"shortest_edge": 32}
    model = VisionLanguage(network(), reader)
    with pytest.raises(InputError, match="cut the picture to a square"):
        model.encode((Image.new("RGB", (80, 40)), "a"))


# The trained one


def test_the_trained_model_looks_at_the_shape():
    """On its own example pictures: more relevance lies on the shape than its share of the picture."""
    reader = hf.AutoProcessor.from_pretrained(families.TRAINED)
    module = hf.AutoModelForImageTextToText.from_pretrained(families.TRAINED, dtype=torch.float32)
    model = VisionLanguage(module, reader)
    gains = []
    for place in sorted((families.TRAINED / "examples").glob("*.png")):
        found = pellucid.explain(model, (place, "what is the color of the shape?"), method="attnlrp", target=Logit())
        colour = np.abs(found.picture.astype(int) - found.picture[0, 0].astype(int)).sum(2) > 60
        shape = np.array([colour[found.regions == region].mean() for region in range(64)])
        positive = found.values[0, :64].clip(0)
        gains.append((positive * shape).sum() / positive.sum() - shape.mean())
    assert len(gains) >= 4
    assert np.mean(gains) > 0.05
