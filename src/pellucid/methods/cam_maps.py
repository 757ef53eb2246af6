"""The formulas of class activation maps: activations of one layer and the target's gradients there, a map out.

A place is a cell of a convolution's output, or a token. None of them has a sign: what speaks against the target is cut
off by the last rectifier, as all three papers do.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Layered = Float[Tensor, "channel place"]


def grad_cam(activations: Layered, gradients: Layered) -> Float[Tensor, " place"]:
    """relu(sum_c w_c A_c) with w_c the mean of channel c's gradient over places [selvaraju2017, eq. 1 and 2].

    Where the output is linear in the means of the channels, it is the map of the output's own summands [zhou2016].
    """
    return torch.relu(gradients.mean(1) @ activations)


def grad_cam_plus_plus(activations: Layered, gradients: Layered) -> Float[Tensor, " place"]:
    """relu(sum_c w_c A_c), w_c = sum_p alpha_cp relu(g_cp) [chattopadhay2018, eq. 19].

    alpha = g^2 / (2 g^2 + g^3 sum_q A_cq), 0 where nothing is there to divide by. The paper's output is exp(target),
    whose derivatives are powers of g times one positive number, which is left out.
    """
    squares = gradients**2
    under = 2 * squares + squares * gradients * activations.sum(1, keepdim=True)
    alpha = torch.where(under == 0, 0.0, squares / torch.where(under == 0, 1.0, under))
    return torch.relu((alpha * torch.relu(gradients)).sum(1) @ activations)


def layer_cam(activations: Layered, gradients: Layered) -> Float[Tensor, " place"]:
    """relu(sum_c relu(g_cp) A_cp): every place has its own weight [jiang2021, eq. 6 and 7]."""
    return torch.relu((torch.relu(gradients) * activations).sum(0))
