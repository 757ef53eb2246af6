"""Captum 0.9 on the same prompt, and its own estimators fed from our game instead of from the model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.attr import (
    FeatureAblation,
    KernelShap,
    LayerIntegratedGradients,
    LLMAttribution,
    LLMGradientAttribution,
    ShapleyValueSampling,
    TextTemplateInput,
    TextTokenInput,
)

from setting import ABSENT, FIELDS, Setting

METHODS = {"occlusion": FeatureAblation, "kernel_shap": KernelShap, "shapley": ShapleyValueSampling}
ONE_PASS = {"forward_in_tokens": False, "use_cached_outputs": False}
BY_TOKEN = {"forward_in_tokens": True, "use_cached_outputs": False}
DEFAULT = {"forward_in_tokens": True, "use_cached_outputs": True}
SEED = 0
Score = Callable[[np.ndarray], np.ndarray]


class Attributed(NamedTuple):
    """Scores of the fields."""

    answer: np.ndarray
    """For the whole answer [feature]."""
    tokens: np.ndarray | None
    """For each of its tokens [token, feature]; None where Captum gives none."""

    def difference(self, other: "Attributed") -> dict[str, float | None]:
        """Largest absolute differences."""
        tokens = None if self.tokens is None or other.tokens is None else np.abs(self.tokens - other.tokens).max()
        return {
            "answer": float(np.abs(self.answer - other.answer).max()),
            "tokens": None if tokens is None else float(tokens),
            "largest_score": float(np.abs(self.answer).max()),
        }


class _Replay(LLMAttribution):
    """Captum's attribution whose evaluations are first only written down, and then answered from a table."""

    def __init__(self, method: Any, tokenizer: Any) -> None:
        super().__init__(method, tokenizer)
        self.asked: list[np.ndarray] = []
        self.table: dict[bytes, torch.Tensor] = {}

    def _forward_func(self, perturbed_tensor, inp, target_tokens, *_) -> torch.Tensor:
        coalition = perturbed_tensor[0].numpy().astype(bool)
        if self.table:
            values = self.table[coalition.tobytes()]
        else:
            self.asked.append(coalition)
            values = torch.zeros(1 + len(target_tokens))
        return values[None] if self.include_per_token_attr else values[0]


def text_input(setting: Setting) -> TextTemplateInput:
    """The prompt with its fields, for Captum."""
    return TextTemplateInput(setting.rendered, dict(FIELDS), dict.fromkeys(FIELDS, ABSENT))


def captum(setting: Setting, name: str, mode: dict[str, bool], **settings: Any) -> Attributed:
    """Captum's own attribution."""
    attribution = LLMAttribution(METHODS[name](setting.model.module), setting.model.tokenizer)
    return _attribute(attribution, setting, **mode, **settings)


def coalitions(setting: Setting, name: str, **settings: Any) -> np.ndarray:
    """Every coalition that Captum evaluates, in its order [evaluation, feature]."""
    replay = _Replay(METHODS[name](setting.model.module), setting.model.tokenizer)
    _attribute(replay, setting, **settings)
    return np.stack(replay.asked)


def replayed(setting: Setting, name: str, score: Score, **settings: Any) -> Attributed:
    """Captum's estimator over our game: record, score, replay. ``score``: the log-probability of each token."""
    replay = _Replay(METHODS[name](setting.model.module), setting.model.tokenizer)
    _attribute(replay, setting, **settings)
    asked = np.unique(np.stack(replay.asked), axis=0)
    values = torch.from_numpy(score(asked))
    values = torch.cat([values.sum(1, keepdim=True), values], 1).float()
    replay.table = {coalition.tobytes(): row for coalition, row in zip(asked, values, strict=True)}
    return _attribute(replay, setting, **settings)


def _attribute(attribution: LLMAttribution, setting: Setting, **settings: Any) -> Attributed:
    torch.manual_seed(SEED)
    with torch.no_grad():
        found = attribution.attribute(text_input(setting), target=torch.tensor(setting.answer), **settings)
    tokens = None if found.token_attr is None else found.token_attr.numpy()
    return Attributed(found.seq_attr.numpy(), tokens)


def log_prob(setting: Setting, mode: dict[str, bool]) -> float:
    """Captum's log-probability of the answer on the full prompt."""
    attribution = LLMAttribution(FeatureAblation(setting.model.module), setting.model.tokenizer)
    inp = text_input(setting)
    with torch.no_grad():
        values = attribution._forward_func(
            inp.to_tensor(),
            inp,
            torch.tensor(setting.answer),
            mode["use_cached_outputs"],
            None,
            mode["forward_in_tokens"],
        )
    return float(values[0, 0])


def integrated_gradients(setting: Setting, steps: int, tokens: int, batch: int | None) -> Attributed:
    """Captum's integrated gradients of the answer's first tokens, over the tokens of the user's text.

    Captum leaves tokens out by their kind; its mask is set here by position, so that both change the same ones.
    """
    model = setting.model
    owner = model.owners(setting.inputs, model.features(setting.inputs, "token"))
    inp = TextTokenInput(setting.rendered(**FIELDS), model.tokenizer, baselines=model.tokenizer.unk_token_id)
    inp.itp_mask = (owner >= 0)[None]
    inp.itp_tensor = inp.inp_tensor[inp.itp_mask][None]
    inp.values = model.tokenizer.convert_ids_to_tokens(inp.itp_tensor[0].tolist())
    method = LayerIntegratedGradients(model.module, model.module.get_input_embeddings())
    found = LLMGradientAttribution(method, model.tokenizer).attribute(
        inp, target=torch.tensor(setting.answer[:tokens]), n_steps=steps, internal_batch_size=batch
    )
    return Attributed(found.seq_attr.numpy(), found.token_attr.numpy())
