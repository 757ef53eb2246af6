"""What stands in for an absent part of a picture or an absent column of a table row."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.errors import InputError, MissingPackageError, UnknownNameError
from pellucid.games.game import Coalitions
from pellucid.games.imputer import AbstractImputer
from pellucid.models import AbstractTensorClassifier, Tabular, TensorInputs
from pellucid.models.pictures import AbstractImageModel
from pellucid.records import Feature

TensorModel = AbstractTensorClassifier[Any]
MOST_DRAWS = 100
NOISE = 0.01
"""Deviation of the noise that hides a noisy-linear filling, in the network's units [rong2022, appendix]."""


class AbstractTensorImputer(AbstractImputer):
    """Puts something else in the place of the positions of absent features."""

    def __init__(self, model: TensorModel, inputs: TensorInputs, features: Sequence[Feature]) -> None:
        self.model, self.inputs = model, inputs
        owners = model.owners(inputs, features)
        # A position of no feature is always present: it belongs to a column of ones after the last player.
        self._owner = torch.where(owners >= 0, owners, len(features)).view(inputs.row.shape[-2:])
        self.row = inputs.row.to(model.like)

    def present(self, coalitions: Coalitions) -> Bool[Tensor, "coalition ..."]:
        """For each coalition, whether each place of the tensor is there, of a shape that goes with the tensor's."""
        ones = np.ones((len(coalitions), 1), dtype=bool)
        mask = torch.from_numpy(np.concatenate([coalitions, ones], 1))[:, self._owner].to(self.row.device)
        return mask[:, None] if self.row.ndim == 3 else mask

    def as_tensor(self, embedding: Float[Tensor, " dim"] | Float[Tensor, "seq dim"]) -> Float[Tensor, "*shape"]:
        """A baseline's vectors laid out as the network's input."""
        sequence = embedding.expand(*self.model.to_sequence(self.row).shape)
        return self.model.to_tensor(sequence[None], self.inputs)[0]


@final
class Fixed(AbstractTensorImputer):
    """Absent parts take the place's value in one baseline: a mean, a median, a blurred copy."""

    def __init__(self, model: TensorModel, inputs: TensorInputs, features: Sequence[Feature], name: str) -> None:
        super().__init__(model, inputs, features)
        self.name = name
        baseline = model.baseline(name, inputs)
        self._described = baseline.described
        self._filler = self.as_tensor(baseline.embedding)

    @property
    def description(self) -> str:
        return self._described

    def rows(self, coalitions: Coalitions) -> Float[Tensor, "row ..."]:
        return torch.where(self.present(coalitions), self.row, self._filler)


@final
class Marginal(AbstractTensorImputer):
    """Absent parts take the values that they have in other inputs; the game averages over those, at most 100."""

    name = "marginal"

    def __init__(
        self, model: TensorModel, inputs: TensorInputs, features: Sequence[Feature], background: Sequence[Any]
    ) -> None:
        super().__init__(model, inputs, features)
        self._others = model.background(background[:MOST_DRAWS]).to(self.row)[:MOST_DRAWS]
        self.draws = len(self._others)

    @property
    def description(self) -> str:
        return f"marginal: mean over {self.draws} other inputs"

    def rows(self, coalitions: Coalitions) -> Float[Tensor, "row ..."]:
        mixed = torch.where(self.present(coalitions)[:, None], self.row, self._others)
        return mixed.flatten(0, 1)


@final
class NoisyLinear(AbstractTensorImputer):
    """Each absent pixel is the weighted mean of its neighbours, with a little noise [rong2022, section 4].

    Neighbours by an edge weigh 1/6 and by a corner 1/12, divided by the sum of those that there are. The absent pixels
    solve that linear system together. Where nothing is left to start from, all of them take the mean colour.
    """

    name = "noisy-linear"

    def __init__(self, model: TensorModel, inputs: TensorInputs, features: Sequence[Feature], seed: int) -> None:
        super().__init__(model, inputs, features)
        if inputs.row.ndim != 3:
            raise InputError("the baseline 'noisy-linear' fills pictures; use 'mean', 'median' or 'marginal'.")
        generator = torch.Generator().manual_seed(seed)
        self._noise = (NOISE * torch.randn(inputs.row.shape, generator=generator)).numpy()
        self._mean = self.as_tensor(model.baseline("mean", inputs).embedding).cpu().numpy()
        self._weights = _neighbours(*inputs.row.shape[1:])

    @property
    def description(self) -> str:
        return f"noisy-linear: weighted mean of the neighbours (the mean colour where none is left), noise {NOISE}"

    def rows(self, coalitions: Coalitions) -> Float[Tensor, "row ..."]:
        present = self.present(coalitions)[:, 0].cpu().numpy()
        return torch.from_numpy(np.stack([self._filled(each) for each in present])).to(self.row)

    def _filled(self, present: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "channel height width"]:
        from scipy.sparse import identity
        from scipy.sparse.linalg import splu

        picture = self.row.float().cpu().numpy()
        if not present.any():
            return np.where(present, picture, self._mean + self._noise)
        absent = np.flatnonzero(~present)
        if not len(absent):
            return picture
        flat = picture.reshape(len(picture), -1)
        rows = self._weights[absent]
        known = np.where(present.ravel(), flat, 0)
        # One factorisation serves all channels.
        solved = splu((identity(len(absent), format="csr") - rows[:, absent]).tocsc()).solve(rows @ known.T)
        filled = flat.copy()
        filled[:, absent] = solved.T + self._noise.reshape(flat.shape)[:, absent]
        return filled.reshape(picture.shape).astype(np.float32)


def _neighbours(height: int, width: int) -> Any:
    """The weight of each pixel's neighbours, as a sparse matrix [pixel, pixel] whose rows sum to 1."""
    try:
        from scipy.sparse import coo_matrix, diags
    except ImportError:
        raise MissingPackageError("scipy, which solves for absent pixels", "pip install 'pellucid[image]'") from None
    place = np.arange(height * width).reshape(height, width)
    rows, columns, weights = [], [], []
    for down, right in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        here = place[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
        there = place[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
        rows.append(here.ravel())
        columns.append(there.ravel())
        weights.append(np.full(here.size, 1 / 12 if down and right else 1 / 6))
    places = (np.concatenate(rows), np.concatenate(columns))
    matrix = coo_matrix((np.concatenate(weights), places), shape=(height * width, height * width)).tocsr()
    # A picture of one pixel has no neighbours; nothing is ever asked of them.
    return diags(1 / np.maximum(np.asarray(matrix.sum(1)).ravel(), 1e-9)).dot(matrix).tocsr()


FIXED: dict[type[TensorModel], tuple[str, ...]] = {
    AbstractImageModel: ("mean", "blur", "black", "zero"),
    Tabular: ("mean", "median", "zero"),
}


def make_tensor_imputer(
    name: str | None,
    model: TensorModel,
    inputs: TensorInputs,
    features: Sequence[Feature],
    background: Sequence[Any] = (),
    seed: int = 0,
) -> AbstractTensorImputer:
    """The imputer of a name; None: ``mean``. Raises UnknownNameError on another, InputError where it does not fit."""
    name = name or "mean"
    fixed = next(names for kind, names in FIXED.items() if isinstance(model, kind))
    if name == Marginal.name:
        return Marginal(model, inputs, features, background)
    if name == NoisyLinear.name:
        return NoisyLinear(model, inputs, features, seed)
    if name not in fixed:
        pictures_only = [NoisyLinear.name] if isinstance(model, AbstractImageModel) else []
        raise UnknownNameError("baseline", name, [*fixed, Marginal.name, *pictures_only])
    return Fixed(model, inputs, features, name)
