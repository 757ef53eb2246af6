"""The evidence tells a good explanation from a bad one."""

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import pellucid
from pellucid import Answer, Choice, Margin, Template, Tokens, evidence, explain, explain_batch, write_table
from pellucid.errors import InputError, UnknownNameError
from pellucid.games import FunctionGame, Question
from pellucid.methods import AbstractMethod, Attribution
from pellucid.models import CausalLM, load
from pellucid.ranks import ranks_of, spearman
from pellucid.testing import TEXT, tiny_model


def attribution(values: list[list[float]], base: float, full: float, error: float | None = None) -> Attribution:
    matrix = np.array(values)
    errors = None if error is None else np.full_like(matrix, error)
    return Attribution(matrix, np.array([base]), np.array([full]), errors)


def test_completeness_is_relative_to_the_difference() -> None:
    assert evidence.completeness(attribution([[1.0, 1.0]], 0, 2)).value == 0
    found = evidence.completeness(attribution([[1.0, 0.8]], 0, 2))
    assert found.value == pytest.approx(0.1)
    assert found.passed is False
    # Within three standard errors of the sum the gap is the sampling's, not the method's.
    assert evidence.completeness(attribution([[1.0, 0.8]], 0, 2, error=0.1)).passed


def test_a_large_sampling_error_fails() -> None:
    assert evidence.sampling_error(attribution([[1.0, 0.1]], 0, 1.1, error=0.1)).passed
    assert evidence.sampling_error(attribution([[1.0, 0.1]], 0, 1.1, error=0.3)).passed is False


def test_scores_of_the_size_of_rounding_fail() -> None:
    assert evidence.above_noise(attribution([[1e-3]], 0, 1e-3), 1e-5).passed
    assert evidence.above_noise(attribution([[1e-5]], 0, 1e-5), 1e-5).passed is False


def test_removal_of_an_additive_game_is_its_partial_sums() -> None:
    weights = np.array([3.0, -1.0, 2.0, 0.0])
    game = FunctionGame(lambda coalitions: coalitions @ weights[:, None], 4)
    found = evidence.removal(game, weights, 4, seed=0)
    assert found.curves[0].tolist() == [4, 1, -1, -1, 0]
    assert found.removed.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert (found.means[0] <= found.means[1:]).all()
    back = evidence.removal(game, weights, 4, seed=0, insert=True)
    assert back.curves[0].tolist() == [0, 3, 5, 5, 4]
    # An order's deletion and its reverse's insertion need the same coalitions, so the second curve was nearly free.
    assert game.evaluations <= 2 + 2 * 3 + 4 * 3


@pytest.mark.parametrize("sign", [1, -1])
def test_deletion_knows_an_inverted_explanation(sign: int) -> None:
    class Signed(AbstractMethod):
        facts = pellucid.methods.make_method("exact_shapley").facts

        def rows(self, players: int) -> int:
            return 2**players

        def attribute(self, question: Question) -> Attribution:
            true = pellucid.methods.make_method("exact_shapley").attribute(question)
            return true._replace(values=sign * true.values)

    found = explain(tiny_model(), TEXT, method=Signed(), target=Answer("high"), checks="full")
    for name in ("deletion", "insertion"):
        assert sign * (found.checks[name].value or 0) > 0
    assert found.reliable is (sign > 0)


def test_reliable_is_none_where_nothing_could_tell() -> None:
    found = explain(tiny_model(), TEXT, method="occlusion", target=Answer("high"))
    assert found.reliable is None
    assert explain(tiny_model(), TEXT, method="exact_shapley", target=Answer("high")).reliable is True
    assert explain(tiny_model(), TEXT, method="exact_shapley", target=Answer("high"), checks="none").reliable is None


def test_an_integral_that_has_not_converged_says_so() -> None:
    found = explain(tiny_model(), TEXT, method="integrated_gradients", target=Answer("high"), steps=2)
    assert found.reliable is False
    assert "miss" in found.checks.reasons[0]
    enough = explain(tiny_model(), TEXT, method="integrated_gradients", target=Answer("high"), max_steps=2048)
    assert enough.reliable is True


def test_free_checks_cost_one_row_at_most() -> None:
    costs = [
        explain(tiny_model(), TEXT, method="kernel_shap", target=Answer("high"), checks=level).cost.rows
        for level in ("none", "free", "full")
    ]
    # The self-test: one plain row, and one cached row with a shorter one before it.
    assert costs[1] - costs[0] <= 3
    assert costs[2] > costs[1]


def test_rounding_is_recorded_for_a_coarse_dtype() -> None:
    tiny = tiny_model()
    module = type(tiny.module)(tiny.module.config).to(torch.bfloat16)
    coarse = load((module, tiny.tokenizer))
    found = explain(coarse, TEXT, method="occlusion", target=Answer("high"))
    assert found.checks["noise_floor"].value is not None
    assert found.checks["noise_floor"].value > 1e-4
    assert found.fingerprint.dtype == "bfloat16"


def test_the_documented_limits_are_those_of_the_code() -> None:
    text = (Path(__file__).parents[1] / "docs" / "evidence.md").read_text()
    documented = dict(re.findall(r"`([A-Z_]+)` ([\d.]+)", text))
    assert set(documented) >= {"COMPLETENESS_GAP", "SAMPLING_ERROR", "SELF_TEST", "NOISE_MULTIPLE", "RANDOM_ORDERS"}
    for name, value in documented.items():
        assert getattr(evidence, name) == float(value), name


def test_a_batch_equals_single_calls() -> None:
    texts = [TEXT, "six nodes are positive", "the tumour is small"]
    options = {"method": "kernel_shap", "target": Tokens("high risk"), "seed": 5}
    batch = explain_batch(tiny_model(), texts, **options)
    for text, found in zip(texts, batch, strict=True):
        assert np.array_equal(found.values, explain(tiny_model(), text, **options).values)


def test_fields_are_the_default_features_of_a_prompt_and_words_of_a_text() -> None:
    prompt = Template("the tumour is {size} and {nodes} nodes are positive")(size="large", nodes="six")
    found = explain(tiny_model(), prompt, method="occlusion", target=Answer("high"))
    assert found.feature_names == ["size", "nodes"]
    assert found.baseline == "neutral: 'not recorded'"
    words = explain(tiny_model(), ["large", "tumour"], method="occlusion", target=Answer("high"))
    assert words.feature_names == ["large", "tumour"]
    background = [{"size": "small", "nodes": "no"}, {"size": "large", "nodes": "no"}]
    drawn = explain(
        tiny_model(), prompt, method="occlusion", target=Answer("high"), baseline="background", background=background
    )
    assert drawn.baseline.startswith("background")
    assert not np.allclose(drawn.values, found.values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "occlusion", "checks": "all"}, "checks"),
        ({"method": "occlusion", "seed": -1}, "seed"),
        ({"method": "occlusion", "features": "field"}, "field"),
        ({"method": "gradient", "baseline": "mask"}, "no baseline"),
        ({"method": "integrated_gradients", "baseline": "blur"}, "blur"),
        ({"method": "kernel_shap", "samples": 0}, "samples"),
        ({"method": "occlusion", "target": Margin("high risk")}, "Answer"),
        ({"method": "occlusion", "target": Choice(("high", "low")), "baseline": "mask"}, "mask token"),
    ],
)
def test_bad_arguments_are_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        explain(tiny_model(), TEXT, **{"target": Answer("high"), **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"method": "shapley"}, {"method": "lime", "features": "letter"}])
def test_unknown_names_say_what_is_known(options: dict[str, str]) -> None:
    with pytest.raises(UnknownNameError, match="Known: "):
        explain(tiny_model(), TEXT, target=Answer("high"), **options)


def test_a_user_module_given_by_hand_is_a_model() -> None:
    tiny = tiny_model()
    model = load((tiny.module, tiny.tokenizer))
    assert isinstance(model, CausalLM)
    assert explain(model, TEXT, method="occlusion", target=Answer("high")).values.shape == (1, 7)


def test_ranks_and_their_correlation() -> None:
    from scipy.stats import rankdata, spearmanr

    generator = np.random.default_rng(0)
    for _ in range(20):
        one, other = generator.integers(0, 6, (2, 9)).astype(float)
        assert ranks_of(one) == rankdata(one).tolist()
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert spearman(np.ones(4), np.arange(4.0)) is None


def test_many_explanations_become_a_table(tmp_path: Path) -> None:
    found = explain_batch(tiny_model(), [TEXT, "six nodes"], method="occlusion", target=Tokens("high risk"))
    table = pq.read_table(write_table(found, tmp_path / "all.parquet", ["first", "second"]))
    assert table.num_rows == 4
    assert table.column("record").to_pylist() == ["first", "first", "second", "second"]
    assert np.array_equal(np.float32(table.column("values")[1].as_py()), found[0].values[1])
    with pytest.raises(InputError, match="names"):
        write_table(found, tmp_path / "all.parquet", ["only"])
