"""A network of half precision as one that computes in float32, so that what travels back loses nothing."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pellucid.errors import ModelError

Precision = Literal["float32", "network"]
"""In what relevance is carried: float32 at the least, or whatever the network computes in."""

HALF = frozenset({torch.float16, torch.bfloat16})


def widened(module: nn.Module) -> nn.Module:
    """A network that computes in float32 with the same weights, and leaves the one that was given alone.

    Autograd carries numbers in the dtype of the tensors they belong to, and relevance in float16 underflows. The copy
    holds the weights of half precision anew in float32 and shares all others; tied weights stay tied. A network
    without half precision is returned itself. Raises ModelError where it holds something that cannot be copied, such as
    weights that lie elsewhere until they are needed.
    """
    held = dict.fromkeys([*module.parameters(), *module.buffers()])
    if not any(each.dtype in HALF for each in held):
        return module
    if any(each.is_meta for each in held):
        raise ModelError(
            f"{type(module).__name__} keeps weights of half precision elsewhere until they are needed, so that they "
            "cannot be copied into float32; trace it with precision='network'."
        )
    # By identity, so that whatever refers to a weight refers to its copy. What a module holds beside its weights, such
    # as what it gave last, may be a part of a graph, and a hook is its owner's.
    beside = [each for part in module.modules() for each in vars(part).values() if isinstance(each, Tensor)]
    held_hooks = [(part._forward_hooks, part._forward_pre_hooks) for part in module.modules()]
    hooks = [hook for both in held_hooks for each in both for hook in each.values()]
    memo = {id(each): each for each in hooks} | {id(each): _wide(each) for each in (*beside, *held)}
    try:
        return copy.deepcopy(module, memo)
    except (TypeError, RuntimeError) as error:
        raise ModelError(
            f"{type(module).__name__} cannot be copied into float32 ({error}); load it in float32, or trace it with "
            "precision='network'."
        ) from error


def _wide(tensor: Tensor) -> Tensor:
    if tensor.dtype not in HALF:
        return tensor
    wide = tensor.detach().float()
    return nn.Parameter(wide, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else wide


def in_float32(value: Any) -> Any:
    """Nested arguments with every tensor of half precision in float32."""
    return tree_map_only(Tensor, lambda each: each.float() if each.dtype in HALF else each, value)
