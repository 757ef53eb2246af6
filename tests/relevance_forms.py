"""Linear forms of every kind with their values according to torch, for tests of the relevance rules."""

from functools import partial

import torch
from torch.nn import functional as F

from oracles import relevance as slow
from pellucid.relevance.functional import backtrace, contrast, lrp
from pellucid.relevance.functional import linear_form as forms
from pellucid.relevance.functional.convolution import conv_transpose, convolution


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(found, expected, relative=1e-12):
    expected = torch.as_tensor(expected, dtype=torch.float64).reshape(found.shape)
    assert (found - expected).abs().max() <= relative * max(1.0, float(expected.abs().max())), (found, expected)


def pair(positive, negative):
    return torch.stack([positive, negative])


def w(*shape):
    return normal(*shape, seed=1)


def b(*shape):
    return normal(*shape, seed=2)


def x(*shape):
    return normal(*shape, seed=3)


def conv(x, weight, bias=None, **options):
    dims = weight.ndim - 2
    return convolution(x, weight, bias, **options), (F.conv1d, F.conv2d, F.conv3d)[dims - 1](x, weight, bias, **options)


def transposed(x, weight, bias=None, **options):
    operation = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.ndim - 3]
    return conv_transpose(x, weight, bias, **options), operation(x, weight, bias, **options)


def product(x, weight, bias=None, weight_first=False):
    value = weight @ x if weight_first else x @ weight
    form = forms.matmul(x, weight, bias, weight_first=weight_first)
    return form, value if bias is None else value + bias


def summed(equation, x, weight, weight_first=False):
    operands = (weight, x) if weight_first else (x, weight)
    return forms.einsum(equation, x, weight, weight_first=weight_first), torch.einsum(equation, *operands)


def map_of(function, x):
    return forms.nonnegative_map(function, x), function(x)


# Each a linear form and what torch itself gives for the same operation.
FORMS = {
    "linear": lambda: (forms.linear(x(5), w(4, 5), b(4)), F.linear(x(5), w(4, 5), b(4))),
    "linear, batch": lambda: (forms.linear(x(2, 3, 5), w(4, 5), b(4)), F.linear(x(2, 3, 5), w(4, 5), b(4))),
    "linear, no bias": lambda: (forms.linear(x(2, 5), w(4, 5)), F.linear(x(2, 5), w(4, 5))),
    "linear, one unit": lambda: (forms.linear(x(2, 5), w(5), b()), F.linear(x(2, 5), w(5)) + b()),
    "conv1d": lambda: conv(x(2, 3, 7), w(4, 3, 3), b(4), stride=2, padding=1),
    "conv1d, unbatched": lambda: conv(x(3, 7), w(4, 3, 3), b(4), stride=3, padding=2),
    # torch warns that it copies its input here, so the expected value is of the padding written out.
    "conv1d, same, even kernel": lambda: (
        convolution(x(1, 2, 6), w(3, 2, 4), b(3), padding="same"),
        F.conv1d(F.pad(x(1, 2, 6), (1, 2)), w(3, 2, 4), b(3)),
    ),
    "conv1d, stride beyond kernel": lambda: conv(x(1, 2, 9), w(3, 2, 2), b(3), stride=4),
    "conv2d": lambda: conv(x(2, 2, 5, 6), w(3, 2, 3, 2), b(3), stride=(2, 1), padding=(1, 0)),
    "conv2d, unbatched": lambda: conv(x(2, 5, 4), w(3, 2, 2, 2), b(3), stride=2),
    "conv2d, dilation": lambda: conv(x(1, 2, 7, 8), w(2, 2, 2, 3), b(2), dilation=(3, 2), padding=1, stride=2),
    "conv2d, groups": lambda: conv(x(1, 4, 4, 4), w(6, 2, 2, 2), b(6), groups=2, padding=[1]),
    "conv2d, depthwise": lambda: conv(x(2, 3, 4, 4), w(3, 1, 3, 3), b(3), groups=3, padding=1, stride=2),
    "conv2d, depthwise multiplied": lambda: conv(x(1, 2, 4, 4), w(4, 1, 2, 2), b(4), groups=2),
    "conv2d, same": lambda: conv(x(1, 2, 5, 5), w(2, 2, 3, 3), b(2), padding="same", dilation=(1, 2)),
    "conv2d, same, uneven": lambda: (
        convolution(x(1, 2, 5, 5), w(2, 2, 2, 3), b(2), padding="same", dilation=(3, 1)),
        F.conv2d(F.pad(x(1, 2, 5, 5), (1, 1, 1, 2)), w(2, 2, 2, 3), b(2), dilation=(3, 1)),
    ),
    "conv2d, valid": lambda: conv(x(1, 2, 4, 4), w(2, 2, 3, 3), padding="valid"),
    "conv3d": lambda: conv(x(1, 2, 3, 4, 5), w(2, 2, 2, 2, 3), b(2), stride=(1, 2, 2), padding=(0, 1, 1)),
    "conv3d, same": lambda: conv(x(2, 3, 2, 3), w(2, 2, 3, 1, 3), b(2), padding="same"),
    "conv_transpose1d": lambda: transposed(x(2, 3, 4), w(3, 2, 3), b(2), stride=3, output_padding=2, padding=1),
    "conv_transpose1d, dilated": lambda: transposed(x(3, 4), w(3, 2, 2), b(2), dilation=3, output_padding=2),
    "conv_transpose2d": lambda: transposed(x(1, 4, 3, 2), w(4, 2, 2, 3), b(4), stride=2, groups=2, padding=(1, 0)),
    "conv_transpose2d, depthwise": lambda: transposed(x(2, 2, 2, 3), w(2, 1, 2, 2), b(2), groups=2, stride=(2, 1)),
    "conv_transpose3d": lambda: transposed(
        x(1, 2, 2, 2, 3), w(2, 2, 2, 1, 2), b(2), stride=2, output_padding=(1, 0, 1)
    ),
    "matmul": lambda: product(x(3, 4), w(4, 2)),
    "matmul, bias": lambda: product(x(3, 4), w(4, 2), b(2)),
    "matmul, constant first": lambda: product(x(4, 2), w(3, 4), weight_first=True),
    "matmul, batches": lambda: product(x(2, 3, 4), w(2, 4, 2)),
    "matmul, batch of the constant": lambda: product(x(3, 4), w(2, 4, 2)),
    "matmul, batch of the constant, first": lambda: product(x(4, 2), w(2, 3, 4), weight_first=True),
    "matmul, broadcast batch": lambda: product(x(1, 2, 3, 4), w(3, 1, 4, 2)),
    "matmul, vector": lambda: product(x(4), w(4, 3)),
    "matmul, vector with batch": lambda: product(x(4), w(2, 4, 3)),
    "matmul, vector with batch, first": lambda: product(x(4), w(2, 3, 4), weight_first=True),
    "matmul, by a vector": lambda: product(x(2, 3, 4), w(4)),
    "matmul, vector first": lambda: product(x(2, 4, 3), w(4), weight_first=True),
    "matmul, vectors": lambda: product(x(4), w(4)),
    "matmul, vectors, constant first": lambda: product(x(4), w(4), weight_first=True),
    "addmm": lambda: (
        forms.addmm(b(3), x(2, 4), w(4, 3), beta=0.5, alpha=-2),
        torch.addmm(b(3), x(2, 4), w(4, 3), beta=0.5, alpha=-2),
    ),
    "baddbmm": lambda: (
        forms.addmm(b(2, 1, 3), x(2, 2, 4), w(2, 4, 3), alpha=0.25),
        torch.baddbmm(b(2, 1, 3), x(2, 2, 4), w(2, 4, 3), alpha=0.25),
    ),
    "addmm, constant first": lambda: (
        forms.addmm(b(2, 3), x(4, 3), w(2, 4), weight_first=True),
        torch.addmm(b(2, 3), w(2, 4), x(4, 3)),
    ),
    "einsum": lambda: summed("bqhd, hdo -> bqo", x(2, 2, 2, 3), w(2, 3, 2)),
    "einsum, constant first": lambda: summed("ij,bjk->bki", x(2, 3, 2), w(4, 3), weight_first=True),
    "einsum, outer": lambda: summed("i,j->ij", x(3), w(2)),
    "einsum, lone letter": lambda: summed("ij,k->ik", x(3, 2), w(2)),
    "einsum, diagonal": lambda: summed("ii,i->i", x(3, 3), w(3)),
    "einsum, ellipsis": lambda: summed("...i,ij->...j", x(2, 2, 3), w(3, 2)),
    "einsum, implicit": lambda: summed("ij,jk", x(2, 3), w(3, 2)),
    "einsum, size 1": lambda: summed("ij,ij->i", x(3, 1), w(3, 2)),
    "mean": lambda: map_of(lambda t: t.mean((0, 2)), x(2, 3, 2)),
    "sum": lambda: map_of(lambda t: t.sum(-1, keepdim=True), x(2, 3)),
    "avg_pool1d": lambda: map_of(lambda t: F.avg_pool1d(t, 3, 2, 1), x(1, 2, 6)),
    "avg_pool2d": lambda: map_of(
        lambda t: F.avg_pool2d(t, (3, 2), 2, 1, ceil_mode=True, count_include_pad=False), x(1, 2, 5, 5)
    ),
    "avg_pool3d": lambda: map_of(lambda t: F.avg_pool3d(t, 2), x(1, 2, 2, 4, 3)),
    "adaptive_avg_pool2d": lambda: map_of(lambda t: F.adaptive_avg_pool2d(t, (2, 3)), x(2, 2, 5, 4)),
}


RULES = {
    "backtrace": backtrace.linear,
    "backtrace, tanh": partial(backtrace.linear, following="tanh"),
    "backtrace, swish": partial(backtrace.linear, following="swish"),
    "contrast": lambda form, r: contrast.linear(form, pair(r, -r))[0],
    "contrast, other": lambda form, r: contrast.linear(form, pair(r, r.square()))[1],
    "epsilon": lrp.epsilon,
    "gamma": lrp.gamma,
    "alpha_beta": lrp.alpha_beta,
    "zplus": lrp.zplus,
    "flat": lrp.flat,
    "w_square": lrp.w_square,
    "z_box": lambda form, r: lrp.z_box(form, -4.0, 4.0, r),
}


def relevance_of(form, seed=4):
    return normal(*form.value().shape, seed=seed)


def flattened(form):
    """Matrix, input and bias of a form as lists, for the replicas."""
    bias = torch.zeros(()) if form.bias is None else form.bias
    full = bias.expand(form.value().shape)
    return slow.matrix(form.product, form.x, form.weight), form.x.flatten().tolist(), full.flatten().tolist()
