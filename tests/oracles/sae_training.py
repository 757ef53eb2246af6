"""One training step of an autoencoder by autograd over dense matrices, written from the papers."""

import torch


def dense_loss(config, weights, x, dead):
    """(loss, latents [token, latent]) of TopK, BatchTopK or Matryoshka, with the auxiliary loss of ``dead``."""
    encoder, encoder_bias, decoder, bias = weights
    length = decoder.norm(dim=1) if config.decoder == "free" else torch.ones(len(decoder))
    scores = ((x - bias if config.subtract_decoder_bias else x) @ encoder.T + encoder_bias) * length
    positive = scores.relu()
    if config.architecture == "topk":
        top = positive.topk(config.k)
        z = torch.zeros_like(positive).scatter(1, top.indices, top.values)
    else:
        top = positive.flatten().topk(config.k * len(x))
        z = torch.zeros_like(positive.flatten()).scatter(0, top.indices, top.values).view_as(positive)
    rows = decoder / length[:, None]
    loss = config.bias_weight * squared(x - bias, config)
    for prefix, weight in zip(config.prefixes, config.prefix_weights, strict=True):
        loss = loss + weight * squared(x - (z[:, :prefix] @ rows[:prefix] + bias), config)
    if len(dead) and config.aux_weight:
        residual = (x - (z @ rows + bias)).detach()
        left = (positive if config.aux_relu else scores)[:, dead]
        top = left.topk(min(config.aux_k, len(dead)))
        left = torch.zeros_like(left).scatter(1, top.indices, top.values)
        missed = (residual - left @ rows[dead]).pow(2).sum(1).mean()
        if config.aux_scale == "residual-variance":
            scale = 1 / (residual - residual.mean(0)).pow(2).sum(1).mean()
        else:
            scale = min(len(dead) / config.aux_k, 1) * config.unit
        loss = loss + config.aux_weight * scale * missed
    return loss, z


def squared(error, config):
    """Mean over tokens of the squared length, or of the mean square."""
    return error.pow(2).sum(1).mean() * (1 if config.reduction == "sum" else 1 / config.d_in)


class _Rectangle(torch.autograd.Function):
    """A step whose slope is a rectangle of the bandwidth's width."""

    @staticmethod
    def forward(ctx, distance, bandwidth):
        ctx.save_for_backward(distance)
        ctx.bandwidth = bandwidth
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, slope):
        (distance,) = ctx.saved_tensors
        return slope * (distance.abs() < ctx.bandwidth / 2) / ctx.bandwidth, None


def jump_loss(config, weights, log_threshold, x):
    """JumpReLU's loss: z = a H(a - t), where H's slope reaches the threshold alone; and the count of H."""
    encoder, encoder_bias, decoder, bias = weights
    threshold = log_threshold.exp()
    a = (x - bias) @ encoder.T + encoder_bias
    gate = _Rectangle.apply(a.detach() - threshold, config.bandwidth)
    positive = (a > 0).to(a.dtype)
    # As in the paper's equation 11: where the threshold feels the jump, it feels its own height.
    felt = threshold.detach() * (gate - gate.detach())
    z = positive * (a * gate.detach() + felt)
    count = (gate * positive).sum(1).mean()
    extra = count if config.sparsity == "count" else (count / config.k - 1) ** 2
    return squared(x - (z @ decoder + bias), config) + config.l0_weight * extra
