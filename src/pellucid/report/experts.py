"""Maps of a mixture of experts: layers by experts, and in one layer the experts that had a say by features."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from pellucid.report.grid import MOST_CELLS, Grid, grid
from pellucid.report.view import ExpertView, FeatureView


def layer_map(experts: ExpertView, target: int | None = None) -> Grid:
    """Layers from the top down over their experts, summed over the features; None: and over the targets."""
    return grid(short_names(experts.names)[::-1], layer_rows(experts, target), columns(experts))


def short_names(names: Sequence[str]) -> list[str]:
    """Names of modules without the last parts that they all share.

    >>> short_names(["layers.0.mlp.experts", "layers.1.mlp.experts"])
    ['layers.0', 'layers.1']
    """
    parts = [name.split(".") for name in names]
    while len(parts) > 1 and all(len(each) > 1 for each in parts) and len({each[-1] for each in parts}) == 1:
        parts = [each[:-1] for each in parts]
    return [".".join(each) for each in parts]


def columns(experts: ExpertView) -> list[FeatureView]:
    """The experts as heads of columns, counted from 0."""
    return [FeatureView(label=str(expert), kind="column") for expert in range(experts.shape[3])]


def layer_rows(experts: ExpertView, target: int | None = None) -> list[list[float]]:
    """Relevance as [layer][expert], the top layer first; None: the sum over the targets."""
    rows: list[list[float]] = _of(experts, target).sum(1)[::-1].tolist()
    return rows


def feature_map(experts: ExpertView, features: Sequence[FeatureView], layer: int, target: int | None = None) -> Grid:
    """The experts of a layer that had a say, over the features; None: the sum over the targets."""
    names, rows = feature_rows(experts, layer, target)
    return grid(names, rows, features)


def feature_rows(experts: ExpertView, layer: int, target: int | None = None) -> tuple[list[str], list[list[float]]]:
    """Names and relevance [expert][feature] of the experts of a layer that carry any."""
    heard = _heard(experts, layer)
    rows: list[list[float]] = _of(experts, target)[layer].T[heard].tolist()
    return [f"expert {expert}" for expert in heard], rows


def drawn_layers(experts: ExpertView) -> list[int]:
    """The layers whose experts a page draws over the features, from the top: as many as it has cells for."""
    return [*_fitting(experts)]


def heard_layers(experts: ExpertView) -> list[int]:
    """The layers whose experts gave some feature something, from the top."""
    return [layer for layer in reversed(range(len(experts.names))) if _heard(experts, layer)]


def _fitting(experts: ExpertView) -> Iterator[int]:
    room = MOST_CELLS
    for layer in heard_layers(experts):
        room -= len(_heard(experts, layer)) * experts.shape[2]
        if room < 0:
            return
        yield layer


def _heard(experts: ExpertView, layer: int) -> list[int]:
    heard: list[int] = np.flatnonzero((experts.values[:, layer] != 0).any((0, 1))).tolist()
    return heard


def _of(experts: ExpertView, target: int | None) -> Float[np.ndarray, "layer feature expert"]:
    values = experts.values.astype(np.float64)
    chosen: Float[np.ndarray, "layer feature expert"] = values.sum(0) if target is None else values[target]
    return chosen
