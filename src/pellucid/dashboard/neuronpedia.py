"""Latents in Neuronpedia's format, and their explanations beside it.

The format is that of SAEDashboard's class ``NeuronpediaDashboardBatch`` in its form with ``qualifying_token_index`` and
``sae_id_suffix``; explanations have no place in it and go into a file of their own, a line each.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pellucid.errors import RecordError
from pellucid.report.latents_view import BandView, LatentView, LogitView

FORMAT = "SAEDashboard NeuronpediaDashboardBatch with qualifying_token_index"
_EMPTY = (
    "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1", "correlated_neurons_indices",
    "correlated_neurons_l1", "correlated_neurons_pearson", "logits_hist_data_bar_heights",
    "logits_hist_data_bar_values", "decoder_weights_dist",
)  # fmt: skip
"""Lists of the format for which nothing was computed."""


def feature(view: LatentView, *, prompts: int, dataset: str) -> dict[str, Any]:
    """One latent as a feature. Values are rounded to three decimals, as SAEDashboard does.

    Args:
        view: the latent.
        prompts: samples of the corpus.
        dataset: what the corpus is called.
    """
    middles = [
        (low * high) ** 0.5 for low, high in zip(view.histogram.edges[:-1], view.histogram.edges[1:], strict=True)
    ]
    return {
        "feature_index": view.latent,
        **{name: [] for name in _EMPTY},
        "correlated_features_indices": [each.latent for each in view.coactive],
        "correlated_features_l1": [],
        "correlated_features_pearson": [],
        "neg_str": [each.text for each in view.suppressed],
        "neg_values": _values(view.suppressed),
        "pos_str": [each.text for each in view.promoted],
        "pos_values": _values(view.promoted),
        "frac_nonzero": view.density,
        "freq_hist_data_bar_values": [round(each, 3) for each in middles],
        "freq_hist_data_bar_heights": list(view.histogram.counts),
        "n_prompts_total": prompts,
        "n_tokens_in_prompt": max((len(each.tokens) for band in view.bands for each in band.examples), default=0),
        "dataset": dataset,
        "activations": [each for number, band in enumerate(view.bands) for each in _activations(band, number == 0)],
    }


def _values(logits: Iterable[LogitView]) -> list[float]:
    return [round(each.value, 3) for each in logits]


def _activations(band: BandView, is_top: bool) -> Iterator[dict[str, Any]]:
    """Examples of a band; the highest are marked by -1, as SAEDashboard does."""
    bounds = (-1, band.high, -1) if is_top else (band.low, band.high, band.share)
    for each in band.examples:
        yield {
            "bin_min": bounds[0],
            "bin_max": bounds[1],
            "bin_contains": bounds[2],
            "tokens": [token.text for token in each.tokens],
            "values": [round(token.value, 3) for token in each.tokens],
            "qualifying_token_index": next(at for at, token in enumerate(each.tokens) if token.is_peak),
        }


def explanation(view: LatentView, sae_set: str) -> dict[str, Any]:
    """The explanation of a latent as Neuronpedia names its parts."""
    return {
        "modelId": view.model,
        "layer": f"{layer_of(view.site)}-{sae_set}",
        "index": str(view.latent),
        "description": view.explanation,
        "explanationModelName": view.explainer,
        "typeName": "pellucid",
    }


def layer_of(site: str) -> int:
    """The last number in a site's name; 0 where there is none."""
    found = re.findall(r"\d+", site)
    return int(found[-1]) if found else 0


def write_neuronpedia(
    path: Path, views: Iterable[LatentView], *, model: str, site: str, sae_set: str, prompts: int, dataset: str
) -> Path:
    """Write a batch of features, one at a time, and give the path of the explanations beside it.

    Raises RecordError where it cannot be written; then neither file is changed.
    """
    beside = path.with_name(f"{path.stem}-explanations.jsonl")
    parts = {each: each.with_name(f".{each.name}.{os.getpid()}.tmp") for each in (path, beside)}
    head = {"model_id": model, "layer": layer_of(site), "sae_set": sae_set, "sae_id_suffix": None}
    try:
        with parts[path].open("w", encoding="utf-8") as file, parts[beside].open("w", encoding="utf-8") as words:
            file.write(f'{json.dumps(head)[:-1]}, "features": [')
            for number, view in enumerate(views):
                said = json.dumps(feature(view, prompts=prompts, dataset=dataset), allow_nan=False)
                file.write(f"{',' if number else ''}\n{said}")
                if view.explanation:
                    words.write(f"{json.dumps(explanation(view, sae_set))}\n")
            file.write("\n]}\n")
        for whole, part in parts.items():
            part.replace(whole)
    except OSError as error:
        raise RecordError(f"{str(path)!r} cannot be written: {error.strerror}.") from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return beside
