"""Mixtures of experts written out: every expert asked for every token, and one mixture in closed form."""

import torch
from torch import nn
from torch.nn import functional as F


class Dense(nn.Module):
    """What a module of fused experts computes, without a choice: weights of 0 instead, which are constants."""

    def __init__(self, experts):
        super().__init__()
        self.inside = experts

    def forward(self, hidden, index, weights):
        count = len(self.inside.gate_up_proj)
        dense = torch.zeros(len(hidden), count, dtype=weights.dtype).scatter(1, index, weights.detach())
        said = [self._expert(hidden, expert) * dense[:, expert, None] for expert in range(count)]
        return torch.stack(said, 1).sum(1)

    def _expert(self, x, expert):
        up, down = self.inside.gate_up_proj[expert], self.inside.down_proj[expert]
        if not self.inside.is_transposed:
            gate, value = F.linear(x, up).chunk(2, -1)
            return F.linear(self.inside.act_fn(gate) * value, down)
        # The other family has its halves interleaved, clamped and shifted, with biases.
        both = x @ up + self.inside.gate_up_proj_bias[expert]
        gate = both[..., ::2].clamp(max=self.inside.limit)
        value = both[..., 1::2].clamp(-self.inside.limit, self.inside.limit)
        answer = (value + 1) * (gate * torch.sigmoid(gate * self.inside.alpha))
        return answer @ down + self.inside.down_proj_bias[expert]


def dense(network):
    """The same network with every mixture written out; changes the network that it is given."""
    for part in list(network.modules()):
        for name, child in list(part.named_children()):
            if type(getattr(child, "gate_up_proj", None)) is nn.Parameter and child.gate_up_proj.ndim == 3:
                setattr(part, name, Dense(child))
    return network


def rectified(x, up, down, weights, c):
    """LRP-0 of y_t = sum_e w_te D_e relu(U_e x_t), given c = R / y: relevance of x, and of each w_te D_e relu(U_e x_t).

    Shapes: x [token, in], up [expert, hidden, in], down [expert, out, hidden], weights [token, expert], c [token, out].
    A rectifier is linear where it is on [bach2015, section 3.1], so that relevance is x times the Jacobian's row.
    """
    tokens, experts = weights.shape
    at_x, at_experts = torch.zeros_like(x), torch.zeros(tokens, experts, dtype=x.dtype)
    for t in range(tokens):
        for e in range(experts):
            on = torch.diag((up[e] @ x[t] > 0).to(x.dtype))
            matrix = weights[t, e] * down[e] @ on @ up[e]
            at_x[t] += x[t] * (matrix.T @ c[t])
            at_experts[t, e] = c[t] @ (matrix @ x[t])
    return at_x, at_experts
