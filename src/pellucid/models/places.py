"""The scores of a class at some places of an output."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.models.base import alternative
from pellucid.targets import AbstractPlace, Alternative


def at_places(target: AbstractPlace, logits: Float[Tensor, "batch ..."], index: int) -> Alternative:
    """How a batch scores class ``index`` at the places of a target, one token a place.

    A class that is the only one has nothing beside it: its ``rest`` is 0, and its margin the log-odds of a sigmoid.
    Raises InputError where the output has no such places, NumericalError on NaN or infinite logits there.
    """
    places = target.places(logits)
    found = alternative(places, torch.full((places.shape[1],), index, device=places.device))
    return found if places.shape[2] > 1 else found._replace(rest=torch.zeros_like(found.logit))
