"""From the output of a bare network to the numbers at which a trace begins."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.models.base import alternative
from pellucid.models.places import at_places
from pellucid.relevance.rule import Carrier
from pellucid.targets import AbstractPlace, AbstractTarget, Logit, Margin, Token

Start = str | Tensor
"""``"value"``: what the target is; ``"one"``: 1; a tensor shaped like the output: that (see ``_given`` for pairs)."""

LOGITS = ("logits", "pred_logits", "out")
"""What networks call their logits: of transformers, of detectors, of torchvision's segmentation networks."""
NEAR_ZERO = 1e-6
"""An output below this cannot be divided by."""


def scores(target: AbstractTarget | None, output: Float[Tensor, "row ..."]) -> Float[Tensor, " row"]:
    """The target on each row. Raises InputError on a target that a bare network, or this output, cannot have."""
    target = Logit() if target is None else target
    _check_kind(target)
    if isinstance(target, AbstractPlace):
        return torch.stack([_at_places(target, row[None]) for row in output])
    assert isinstance(target, Logit | Margin | Token)
    logits = logits_of(output, unbatched=False)
    classes = logits.shape[1]
    if target.label is not None and not 0 <= int(target.label) < classes:
        raise InputError(f"output {target.label} does not exist: the network has outputs 0 to {classes - 1}.")
    # Each row has its own preferred output where none is named.
    chosen = logits.argmax(1) if target.label is None else torch.full((len(logits),), int(target.label))
    rows = [
        target.score([alternative(row[None, None], index[None])])[0, 0]
        for row, index in zip(logits, chosen.to(logits.device), strict=True)
    ]
    return torch.stack(rows)


def _check_kind(target: AbstractTarget) -> None:
    """Raises InputError on a target that a bare network cannot have."""
    if not isinstance(target, AbstractTarget):
        raise InputError(f"a target is Logit, Margin or Token with the index of an output, not {target!r}: Logit(0).")
    if not isinstance(target, Logit | Margin | Token | AbstractPlace):
        raise InputError(
            f"{type(target).__name__} explains a text, and a bare network gives numbers: use Logit, Margin or Token "
            "with the index of an output, or pellucid.explain with a model from pellucid.load."
        )
    label = target.class_ if isinstance(target, AbstractPlace) else target.label
    if isinstance(label, str):
        raise InputError(f"a bare network has no label {label!r}: give the index of an output, such as Logit(0).")


def _at_places(target: AbstractPlace, row: Float[Tensor, "1 ..."]) -> Float[Tensor, ""]:
    """A target of places on one row, which has its own preferred class and mask where none is named."""
    target = target.resolved(row)
    assert isinstance(target.class_, int)
    return target.score([at_places(target, row, target.class_)])[0, 0]


def logits_of(output: Tensor, *, unbatched: bool) -> Float[Tensor, "row class"]:
    """What a target over a class is computed on: [row, class]; of a sequence of predictions the last.

    Raises InputError on an output of more dimensions.
    """
    if output.ndim == 1:
        return output[None] if unbatched else output[:, None]
    if output.ndim == 3:
        return output[:, -1]
    if output.ndim != 2:
        raise InputError(
            f"the output has shape {tuple(output.shape)}, and Logit, Margin and Token name an output of [batch, class] "
            "or [batch, sequence, class]: of [batch, class, height, width] explain Region(class, mask) or "
            "Pixel(class, y, x), and of any other give start= a tensor of the output's shape."
        )
    return output


def explained(
    output: Tensor, start: Start, targets: Sequence[AbstractTarget | None] = (), *, unbatched: bool
) -> Tensor:
    """The part of the output where a trace can begin, as a view: all of it for a target of places.

    Raises InputError as ``logits_of``.
    """
    whole = isinstance(start, Tensor) or any(isinstance(each, AbstractPlace) for each in targets)
    return output if whole else logits_of(output, unbatched=unbatched)


def seeds(
    output: Tensor, targets: Sequence[AbstractTarget | None], start: Start, carrier: Carrier, *, unbatched: bool
) -> tuple[Float[Tensor, "target ..."], Float[Tensor, " target"]]:
    """Where a trace begins: what is carried [row, *output], and the relevance that stands for [row].

    A row is a target; a pair has two rows for each, the relevance of the target and that of all other outputs. Raises
    InputError on a start that cannot be, or that a coefficient cannot carry: relevance where the output is 0.
    """
    z = explained(output.detach(), start, targets, unbatched=unbatched)
    slopes = None
    if isinstance(start, Tensor):
        relevance = _given(start, z, carrier)
    else:
        if not isinstance(start, str) or start not in ("value", "one"):
            raise InputError(f"start is 'value', 'one' or a tensor shaped like the output, not {start!r}.")
        if not targets:
            raise InputError("no target was given: name at least one, such as Logit(0), or leave target out.")
        slopes = torch.stack([_slopes(z, each) for each in targets])
        relevance = slopes if start == "one" else _products(slopes, z)
        if carrier == "pair":
            relevance = paired(slopes, relevance, torch.ones_like(z) if start == "one" else z)
    totals = relevance.double().flatten(1).sum(1)
    if carrier in ("relevance", "pair"):
        begun = relevance
    elif slopes is not None and (start == "value" or carrier == "gradient"):
        begun = slopes
    else:
        begun = _coefficients(z, relevance)
    full = torch.zeros(len(begun), *output.shape, dtype=output.dtype, device=output.device)
    for row, each in zip(full, begun, strict=True):
        explained(row, start, targets, unbatched=unbatched).copy_(each)
    return full, totals


def _given(start: Tensor, z: Tensor, carrier: Carrier) -> Float[Tensor, "row ..."]:
    """The relevance that a caller gives: shaped like the output, of a pair also [2, *output].

    A pair given as one has its positive and its negative part. Raises InputError on another shape.
    """
    start = start.detach().to(z)
    if carrier == "pair" and start.shape == (2, *z.shape):
        return start
    if start.shape != z.shape:
        raise InputError(f"start has shape {tuple(start.shape)} and the output {tuple(z.shape)}; they must agree.")
    return torch.stack([start.clamp(min=0), (-start).clamp(min=0)]) if carrier == "pair" else start[None]


def carried(slopes: Float[Tensor, "target ..."], z: Tensor, carrier: Carrier) -> Float[Tensor, "row ..."]:
    """What a trace of the value begins with, given dT/dz of each target: a row for each, of a pair two."""
    if carrier == "relevance":
        return _products(slopes, z)
    return paired(slopes, _products(slopes, z), z) if carrier == "pair" else slopes


def paired(slopes: Tensor, relevance: Tensor, others: Tensor) -> Float[Tensor, "row ..."]:
    """The two relevances of a pair, in turn: that of the outputs that speak for the target, and of those against it.

    Where none speaks against it, as for a logit, all other classes stand there: those at the target's own places, each
    with the weight that the target gives to the place.
    """
    against = slopes < 0
    any_against = against.flatten(1).any(1).view(-1, *(1 for _ in slopes.shape[1:]))
    # Maps have their classes first, [batch, class, height, width], everything else last.
    weight = slopes.abs().amax(2 if slopes.ndim > 4 else -1, keepdim=True)
    beside = torch.where((slopes == 0) & (weight > 0), weight * others, 0)
    negative = torch.where(any_against, torch.where(against, -relevance, 0), beside)
    return torch.stack([torch.where(against, 0, relevance), negative], 1).flatten(0, 1)


def _products(slopes: Tensor, z: Tensor) -> Tensor:
    """Slope z; 0 where there is no slope, even where an output that nobody asks about is infinite."""
    return torch.where(slopes != 0, slopes * z, 0)


def _slopes(z: Tensor, target: AbstractTarget | None) -> Tensor:
    """dT/dz."""
    cut = z.detach().requires_grad_()
    return torch.autograd.grad(scores(target, cut).sum(), cut)[0]


def _coefficients(z: Tensor, relevance: Tensor) -> Tensor:
    """C = R / z. Raises InputError where R is to start at an output of 0."""
    if bool(((relevance != 0) & (z.abs() < NEAR_ZERO)).any()):
        raise InputError(
            "the output is 0 where relevance should start, and a composite that carries coefficients R / z cannot "
            "divide by it: use start='value', or a composite that carries relevance, such as 'backtrace'."
        )
    return torch.where(relevance != 0, relevance / z, 0.0)


def output_of(value: Any) -> Tensor:
    """The tensor that is explained: the output itself, what is called its logits, or the first of several.

    Raises InputError where there is none.
    """
    if isinstance(value, Tensor):
        return value
    for name in LOGITS:
        found = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
        if isinstance(found, Tensor):
            return found
    members = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    for each in members:
        if isinstance(each, Tensor) and each.is_floating_point():
            return each
    raise InputError(f"the network gave a {type(value).__name__} without a tensor in it; there is nothing to explain.")
