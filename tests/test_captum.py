"""Captum's own functions on the same model give the same scores."""

import numpy as np
import pytest
import torch

import pellucid
import tiny
from peers import captum
from pellucid import Answer, Margin
from pellucid.api import Asked

TEXT = "The tumour grows fast today"
FAMILIES = ["llama", "bert"]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


class Setting:
    """One question, and the same as plain functions that captum can call."""

    def __init__(self, family):
        made = tiny.encoder("bert") if family == "bert" else tiny.decoder("llama", tiny.CHATML)
        self.model = pellucid.load(made, dtype="float64")
        self.target = Margin("high") if family == "bert" else Answer("high risk")
        question = Asked.of(self.model, TEXT, target=self.target, features="word", imputer="pad").question
        self.question, self.inputs, self.bound = question, question.inputs, question.target
        self.players = len(question.features)
        self._scores = {}
        self.answer = () if family == "bert" else self.bound.alternatives[0]

    def of_logits(self, logits):
        """The target from the logits of a plain pass [batch, ...]."""
        if not self.answer:
            return logits[:, 2] - torch.logsumexp(logits[:, :2], 1)
        places = range(len(self.inputs.row.ids) - 1, len(self.inputs.row.ids) + len(self.answer) - 1)
        return logits.log_softmax(-1)[:, places, self.answer].sum(1)

    def of_ids(self, ids):
        """The target of prompt ids [batch, seq]."""
        whole = torch.cat([ids, torch.tensor(self.answer[:-1], dtype=ids.dtype).expand(len(ids), -1)], 1)
        return self.of_logits(self.model.module(input_ids=whole).logits)

    def of_embeddings(self, embeddings):
        """The target of prompt embeddings [batch, seq, dim]."""
        answer = self.model.embed(torch.tensor(self.answer[:-1], dtype=torch.long)).expand(len(embeddings), -1, -1)
        return self.of_logits(self.model.module(inputs_embeds=torch.cat([embeddings, answer], 1)).logits)

    def of_coalitions(self, coalitions):
        """The target of coalitions [batch, player] of 0 and 1, each scored plainly, once."""
        rows = self.question.game.imputer.rows(coalitions.bool().numpy())
        for row in rows:
            if row not in self._scores:
                self._scores[row] = self.target.score(self.model.alternatives([row], self.bound))[0, 0]
        return torch.stack([self._scores[row] for row in rows])

    def explain(self, method, **settings):
        if "baseline" not in settings and method in (
            "occlusion",
            "exact_shapley",
            "kernel_shap",
            "permutation_shapley",
            "lime",
        ):
            settings["baseline"] = "pad"
        return pellucid.explain(self.model, TEXT, method=method, target=self.target, features="word", **settings)

    @property
    def owner(self):
        return self.model.owners(self.inputs, self.question.features)

    @property
    def present(self):
        return torch.ones(1, self.players, dtype=torch.float64)

    def summed(self, scores):
        """Scores of positions [seq] summed over each word."""
        return np.array([float(scores[self.owner == player].sum()) for player in range(self.players)])


@pytest.fixture(scope="module", params=FAMILIES)
def setting(request):
    return Setting(request.param)


def test_occlusion_is_feature_ablation(setting):
    expected = captum.FeatureAblation(setting.of_coalitions).attribute(setting.present)
    np.testing.assert_allclose(setting.explain("occlusion").values, expected, atol=1e-5)


def test_exact_shapley_is_shapley_values(setting):
    expected = captum.ShapleyValues(setting.of_coalitions).attribute(setting.present)
    found = setting.explain("exact_shapley")
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    for method, settings in (("kernel_shap", {"samples": 14}), ("permutation_shapley", {"permutations": 4})):
        sampled = setting.explain(method, **settings)
        error = np.maximum(sampled.standard_error, 1e-6)
        assert (np.abs(sampled.values - found.values) < 4 * error).all()


def test_captums_own_samplers_agree_within_their_errors(setting):
    """Repeated runs of captum's samplers scatter around our exact values: no bias beyond four standard errors."""
    exact = setting.explain("exact_shapley").values[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        orders = captum.ShapleyValueSampling(setting.of_coalitions)
        kernel = captum.KernelShap(setting.of_coalitions)
        for draw, repeats in (
            (lambda: orders.attribute(setting.present, n_samples=10), 10),
            (lambda: kernel.attribute(setting.present, n_samples=200), 10),
        ):
            runs = torch.cat([draw() for _ in range(repeats)]).numpy()
            error = runs.std(0, ddof=1) / repeats**0.5
            # Captum's KernelSHAP weighs the empty and the full coalition by a large finite number.
            assert (np.abs(runs.mean(0) - exact) < 4 * error + 1e-3 * np.abs(exact).max()).all()


def test_lime_is_captums_lime_on_the_same_samples(setting):
    """Both fit a weighted linear model to perturbations; with every coalition drawn often they meet."""
    from captum._utils.models.linear_model import SkLearnLinearRegression
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    ours = setting.explain("lime").values[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lime = captum.Lime(
            setting.of_coalitions,
            interpretable_model=SkLearnLinearRegression(),
            similarity_func=get_exp_kernel_similarity_function("euclidean", kernel_width=1000.0),
        )
        theirs = lime.attribute(setting.present, n_samples=300)[0].numpy()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9


def test_input_x_gradient_is_captums(setting):
    embeddings = setting.model.embed(torch.tensor([setting.inputs.row.ids])).requires_grad_()
    expected = captum.InputXGradient(setting.of_embeddings).attribute(embeddings)[0].sum(-1).detach()
    np.testing.assert_allclose(setting.explain("input_x_gradient").values[0], setting.summed(expected), atol=1e-5)
    if not setting.answer:
        layer = captum.LayerGradientXActivation(setting.of_ids, setting.model.module.get_input_embeddings())
        by_layer = layer.attribute(torch.tensor([setting.inputs.row.ids]))[0].sum(-1).detach()
        np.testing.assert_allclose(setting.summed(by_layer), setting.summed(expected), atol=1e-8)


@pytest.mark.parametrize("baseline", ["pad", "eos"])
def test_integrated_gradients_of_fixed_steps_are_captums(setting, baseline):
    token = getattr(setting.model.tokenizer, f"{baseline}_token_id")
    if token is None:
        token, baseline = setting.model.tokenizer.unk_token_id, "unk"
    ids = torch.tensor([setting.inputs.row.ids])
    start = torch.where(setting.owner[None] >= 0, token, ids)
    found = setting.explain("integrated_gradients", baseline=baseline, steps=12).values[0]
    layer = captum.LayerIntegratedGradients(setting.of_ids, setting.model.module.get_input_embeddings())
    if setting.answer:
        # The answer's own embeddings are held fixed, so that the path runs over the prompt alone.
        both = (setting.model.embed(ids), setting.model.embed(start))
        integrated = captum.IntegratedGradients(setting.of_embeddings)
        expected = integrated.attribute(both[0], baselines=both[1], n_steps=12, method="gausslegendre")
    else:
        expected = layer.attribute(ids, baselines=start, n_steps=12, method="gausslegendre")
    np.testing.assert_allclose(found, setting.summed(expected[0].sum(-1).detach()), atol=1e-5)
