"""Exported programs: their operations are known, and their relevance is that of the network they were made of."""

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F

import pellucid
from pellucid.errors import ModelError
from pellucid.models.exported import RowByRow, check_format, export, read_own
from pellucid.relevance.aten import _UPSAMPLING, _WRITTEN_OUT, plain
from pellucid.relevance.catalogue import all_composites
from pellucid.targets import Logit
from relevance_tools import Classifier, X, classifier, near

aten = torch.ops.aten


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PICTURE, ROW = randn(2, 4, 6, 6), randn(3, 8)
CHANNELS = [randn(4, seed=each) for each in range(1, 4)]
VARIANCE = randn(4).abs() + 0.5
HEADS = [randn(2, 2, 5, 4, seed=each) for each in range(3)]
KERNEL, TRANSPOSED = randn(6, 2, 3, 3), randn(4, 3, 2, 2)

# By operation: the overload, and what it is called with. Every one that is written out is here.
CALLS = {
    "slice": (aten.slice.Tensor, (PICTURE, -1, 1, 100, 2)),
    "slice of the first": (aten.slice.Tensor, (ROW,)),
    "index": (aten.index.Tensor, (PICTURE, [None, torch.tensor([2, 0])])),
    "to": (aten.to.dtype_layout, (ROW,), {"dtype": torch.float32, "layout": torch.strided, "device": "cpu"}),
    "to a dtype": (aten.to.dtype, (ROW, torch.float16)),
    "to another": (aten.to.other, (ROW, torch.ones(1))),
    "_to_copy": (aten._to_copy.default, (ROW,), {"dtype": torch.float32}),
    "lift_fresh_copy": (aten.lift_fresh_copy.default, (ROW,)),
    "lift_fresh": (aten.lift_fresh.default, (ROW,)),
    "alias": (aten.alias.default, (ROW,)),
    "view": (aten.view.default, (ROW, [2, -1])),
    "_unsafe_view": (aten._unsafe_view.default, (ROW, [4, 6])),
    "_reshape_alias": (aten._reshape_alias.default, (ROW, [6, 4], [4, 1])),
    "layer_norm": (aten.layer_norm.default, (ROW, [8], ROW[0], ROW[1], 1e-3, True)),
    "native_layer_norm": (aten.native_layer_norm.default, (ROW, [8], ROW[0], None, 1e-3)),
    "native_group_norm": (aten.native_group_norm.default, (PICTURE, CHANNELS[0], CHANNELS[1], 2, 4, 36, 2, 1e-3)),
    "_native_batch_norm_legit_no_training": (
        aten._native_batch_norm_legit_no_training.default,
        (PICTURE, *CHANNELS, VARIANCE, 0.1, 1e-3),
    ),
    "native_batch_norm": (aten.native_batch_norm.default, (PICTURE, *CHANNELS, VARIANCE, False, 0.1, 1e-3)),
    "convolution": (
        aten.convolution.default,
        (PICTURE, KERNEL, None, [2, 1], [1, 1], [1, 2], False, [0, 0], 2),
    ),
    "convolution, transposed": (
        aten.convolution.default,
        (PICTURE, TRANSPOSED, None, [2, 2], [0, 0], [1, 1], True, [1, 1], 1),
    ),
    "max_pool2d_with_indices": (aten.max_pool2d_with_indices.default, (PICTURE, [2, 2])),
    "_softmax": (aten._softmax.default, (ROW, 1, False)),
    "_log_softmax": (aten._log_softmax.default, (ROW, 1, False)),
    "_adaptive_avg_pool2d": (aten._adaptive_avg_pool2d.default, (PICTURE, [2, 3])),
    "einsum": (aten.einsum.default, ("ab,cb->ac", [ROW, ROW])),
    "_scaled_dot_product_flash_attention_for_cpu": (
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        (*HEADS, 0.0, True),
        {"scale": 0.3},
    ),
    "linalg_vector_norm": (aten.linalg_vector_norm.default, (ROW, 2, [1], True)),
    "upsample_nearest1d": (aten.upsample_nearest1d.vec, (PICTURE[0], [9], None)),
    "upsample_nearest2d": (aten.upsample_nearest2d.vec, (PICTURE, None, [2.0, 3.0])),
    "upsample_nearest3d": (aten.upsample_nearest3d.vec, (PICTURE[None], [5, 7, 8], None)),
    "upsample_linear1d": (aten.upsample_linear1d.vec, (PICTURE[0], [9], True, None)),
    "upsample_bilinear2d": (aten.upsample_bilinear2d.vec, (PICTURE, [9, 8], False, None)),
    "upsample_bicubic2d": (aten.upsample_bicubic2d.vec, (PICTURE, None, True, [2.0, 2.0])),
    "upsample_trilinear3d": (aten.upsample_trilinear3d.vec, (PICTURE[None], [5, 7, 8], False, None)),
    "upsample_bilinear2d, scales too": (aten.upsample_bilinear2d.default, (PICTURE, [9, 10], False, 1.6, 1.7)),
    "upsample_bilinear2d, one scale": (aten.upsample_bilinear2d.default, (PICTURE, [9, 11], False), {"scales_h": 1.6}),
    "upsample_bilinear2d, aligned": (aten.upsample_bilinear2d.default, (PICTURE, [9, 11], True, 1.6, 1.2)),
    "upsample_nearest2d, scales too": (aten.upsample_nearest2d.default, (PICTURE, [9, 10], 1.6, 1.7)),
    "upsample_nearest1d, scale too": (aten.upsample_nearest1d.default, (PICTURE[0], [9], 1.6)),
    "upsample_bilinear2d by name": (
        aten.upsample_bilinear2d.vec,
        (),
        {"input": PICTURE, "output_size": None, "align_corners": False, "scale_factors": [1.6, 1.7]},
    ),
    "_upsample_nearest_exact1d": (aten._upsample_nearest_exact1d.vec, (PICTURE[0], [9], None)),
    "_upsample_nearest_exact2d": (aten._upsample_nearest_exact2d.default, (PICTURE, [9, 10], 1.6, 1.7)),
    "_upsample_nearest_exact3d": (aten._upsample_nearest_exact3d.vec, (PICTURE[None], [5, 7, 8], None)),
    "_upsample_bilinear2d_aa": (aten._upsample_bilinear2d_aa.vec, (PICTURE, [3, 4], False, None)),
    "_upsample_bicubic2d_aa": (aten._upsample_bicubic2d_aa.default, (PICTURE, [3, 4], False)),
    "copy": (aten.copy.default, (ROW, ROW[0].float())),
    "fill": (aten.fill.Scalar, (ROW, 2)),
    "fill by a tensor": (aten.fill.Tensor, (ROW, torch.tensor(2.0))),
    "zero": (aten.zero.default, (ROW,)),
    "numpy_T": (aten.numpy_T.default, (ROW,)),
    "view of another dtype": (aten.view.dtype, (ROW, torch.int64)),
    "index_put": (aten.index_put.default, (PICTURE, [None, torch.tensor([2, 0])], randn(2, 6, 6))),
    "index_put, adding": (
        aten.index_put.default,
        (PICTURE, [None, torch.tensor([2, 2]), None, torch.tensor([1, 1])], randn(2, 6), True),
    ),
    "index_put everywhere": (aten.index_put.default, (ROW, [torch.tensor([2, 0])], randn(8))),
    "index_put_": (aten.index_put_.default, (randn(2, 4), [None, torch.tensor([2, 0])], randn(2))),
    # Namesakes, some of which functions of torch.nn.functional would take otherwise.
    "elu": (aten.elu.default, (ROW, 0.5)),
    "leaky_relu": (aten.leaky_relu.default, (ROW, 0.3)),
    "gelu": (aten.gelu.default, (ROW,), {"approximate": "tanh"}),
    "batch_norm": (aten.batch_norm.default, (PICTURE, *CHANNELS, VARIANCE, False, 0.1, 1e-3, True)),
    "group_norm": (aten.group_norm.default, (PICTURE, 2, CHANNELS[0], CHANNELS[1], 1e-3, True)),
    "linear": (aten.linear.default, (ROW, randn(3, 8), randn(3))),
    "addmm": (aten.addmm.default, (randn(3), ROW, randn(8, 3)), {"beta": 2, "alpha": 0.5}),
    "add": (aten.add.Tensor, (ROW, ROW), {"alpha": 3}),
    "rsub": (aten.rsub.Scalar, (ROW, 2, 3)),
    "mean": (aten.mean.dim, (PICTURE, [2, 3], True)),
    "select": (aten.select.int, (PICTURE, 1, -1)),
    "split": (aten.split.Tensor, (ROW, 3, 1)),
    "max": (aten.max.dim, (ROW, 1)),
    "pow": (aten.pow.Tensor_Scalar, (ROW, 2)),
    "scaled_dot_product_attention": (aten.scaled_dot_product_attention.default, tuple(HEADS), {"is_causal": True}),
    "embedding": (aten.embedding.default, (ROW, torch.tensor([2, 0]))),
    "pad": (aten.pad.default, (ROW, [1, 2])),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_operation_is_computed_as_the_function_computes_it(name):
    func, args, *more = CALLS[name]
    kwargs = more[0] if more else {}
    found, expected = plain(func)(*args, **kwargs), func(*args, **kwargs)
    pairs = zip(found, expected, strict=False) if isinstance(expected, tuple | list) else [(found, expected)]
    for number, (a, b) in enumerate(pairs):
        if number == 0 or a is not None:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_every_operation_that_is_written_out_is_tried():
    assert {*_WRITTEN_OUT, *_UPSAMPLING} <= {*CALLS}


def test_recurrent_operations_are_those_of_torch():
    assert plain(aten.lstm.input) is torch.lstm
    assert plain(aten.gru.input) is torch.gru


@pytest.mark.parametrize("func", [torch.relu, F.relu, len, aten.relu, torch.ops.prims.sin.default])
def test_what_is_no_operation_of_aten_is_left_alone(func):
    assert plain(func) is None


def test_scales_that_do_not_give_the_size_are_refused():
    with pytest.raises(ModelError, match=r"enlarges \[6, 6\] to \[9, 9\] by scales \[2.0, None\]"):
        plain(aten.upsample_bilinear2d.default)(PICTURE, [9, 9], False, 2.0)


class Writing(nn.Module):
    """Writes into places in every way that a program has."""

    def __init__(self, write):
        super().__init__()
        self.write, self.first, self.head = write, nn.Linear(6, 6), nn.Linear(6, 3)
        self.register_buffer("places", torch.tensor([0, 2]))

    def forward(self, x):
        y = self.first(x) * 1.0
        return self.head(self.write(self, y))


def put_at_places(net, y):
    y[:, net.places] = y[:, net.places + 1] * 2
    return y


def put_into_constants(net, y):
    made = y.new_zeros(2, 6)
    made[:, net.places] = y[:, net.places]
    made[:, 3:].copy_(y[:, 3:])
    return made


def put_nothing(net, y):
    y[:, :2].zero_()
    y[:, 2].fill_(2.0)
    y[:, 3] = y[:, 4]
    return y


def shaped_in_place(net, y):
    y.t_()
    return y.unsqueeze_(0).squeeze_(0).T


@pytest.mark.parametrize("core", [False, True])
@pytest.mark.parametrize("composite", ["attnlrp", "lrp-gamma", "backtrace"])
@pytest.mark.parametrize("write", [put_at_places, put_into_constants, put_nothing, shaped_in_place])
def test_a_program_that_writes_has_the_relevance_of_its_network(write, composite, core):
    torch.manual_seed(0)
    module, x = Writing(write).double().eval(), randn(2, 6)
    made = torch.export.export(module, (x,))
    made = (made.run_decompositions({}) if core else made).module()
    expected = pellucid.trace(module, x, Logit(1), composite=composite).input
    near(pellucid.trace(made, x, Logit(1), composite=composite).input, expected)


def test_the_bits_of_what_is_traced_are_refused():
    class Bits(nn.Module):
        def forward(self, x):
            return torch.ops.aten.view.dtype(torch.ops.aten.view.dtype(x, torch.int64), torch.float64) + x

    with pytest.raises(ModelError, match=r"reads the bits of torch\.float64 as torch\.int64"):
        pellucid.trace(Bits(), ROW, Logit(1))


class Convolutional(nn.Module):
    """In place, batch norm, groups, a residual, pools, both ways of enlarging."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8, padding=1)
        self.up, self.group = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.GroupNorm(2, 4)
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)), inplace=True)
        x = x + F.gelu(self.depthwise(x))
        x = self.group(self.up(F.max_pool2d(x, 2)))
        x *= 2
        x = F.interpolate(F.adaptive_avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear")
        return self.head(x[:, :, 0:].flatten(1))


def convolutional():
    module = Convolutional().double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in [*module.parameters(), module.norm.running_mean]:
            each.copy_(0.3 * torch.randn(each.shape, generator=generator))
        module.norm.running_var.uniform_(0.5, 2, generator=generator)
    return module


NETWORKS = {"convolutional": (convolutional, randn(2, 3, 8, 8)), "transformer": (classifier, X)}


# Of torch's own: what it says of a recurrent layer, and of itself while it takes operations apart.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The tensor attributes self.layer._flat_weights:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


def program(module, x, core=False):
    made = torch.export.export(module, (x,), dynamic_shapes=({0: Dim("batch")},))
    return (made.run_decompositions() if core else made).module()


@pytest.mark.parametrize("composite", all_composites())
@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_has_the_relevance_of_its_network(name, composite):
    make, x = NETWORKS[name]
    module = make()
    expected = pellucid.trace(module, x, Logit(1), composite=composite)
    found = pellucid.trace(program(module, x), x[:2], Logit(1), composite=composite)
    near(found.input, expected.input[:, :2] if expected.input.ndim > x.ndim else expected.input[:2])
    assert found.approximated == ()


@pytest.mark.parametrize("composite", ["gradient", "lrp-0", "decompx"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_in_core_operations_has_it_too(name, composite):
    # Other composites tell a layer from the operations that it consists of.
    make, x = NETWORKS[name]
    module = make()
    expected = pellucid.trace(module, x, Logit(1), composite=composite).input
    near(pellucid.trace(program(module, x, core=True), x, Logit(1), composite=composite).input, expected, 1e-6)


@pytest.mark.parametrize("composite", ["attnlrp", "lrp-gamma", "backtrace"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_program_has_the_relevance_of_its_network(kind, composite):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = kind(4, 5, 2, batch_first=True, bidirectional=True), nn.Linear(10, 2)

        def forward(self, x):
            return self.head(self.layer(x)[0][:, -1])

    torch.manual_seed(0)
    module, x = Recurrent().double().eval(), randn(2, 6, 4)
    found, expected = (
        pellucid.trace(each, x, Logit(0), composite=composite)
        for each in (torch.export.export(module, (x,)).module(), module)
    )
    near(found.input, expected.input)


# Our own files


def test_a_program_that_was_written_is_read_back(tmp_path):
    module = convolutional()
    export(module, (randn(2, 3, 8, 8),), tmp_path / "a.pt2")
    found = read_own(tmp_path / "a.pt2")
    x = randn(5, 3, 8, 8, seed=1)
    near(found(x), module(x))
    assert {*map(tuple, (p.shape for p in found.parameters()))} >= {tuple(p.shape) for p in module.parameters()}
    assert not [each for each in found.graph.nodes if "_assert_tensor_metadata" in str(each.target)]


class OneByOne(nn.Module):
    """Looks at how many rows there are."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return torch.stack([self.layer(row) for row in list(x)])


def test_a_network_for_one_batch_alone_is_asked_row_by_row(tmp_path):
    module = OneByOne().double()
    export(module, (randn(2, 4),), tmp_path / "a.pt2")
    found = read_own(tmp_path / "a.pt2")
    x = randn(5, 4)
    assert isinstance(found, RowByRow)
    near(found(x), module(x))
    traces = [pellucid.trace(each, x, Logit(1), composite="lrp-epsilon") for each in (found, module)]
    near(traces[0].input, traces[1].input)


class Looking(nn.Module):
    """Decides by the numbers."""

    def forward(self, x):
        return x if float(x.sum()) > 0 else -x


def test_a_network_that_looks_at_the_numbers_is_refused(tmp_path):
    with pytest.raises(ModelError, match="start Python with KERAS_BACKEND=torch"):
        export(Looking(), (torch.ones(2, 3),), tmp_path / "a.pt2")
    assert not (tmp_path / "a.pt2").exists()


def test_checkpoints_are_written_out(tmp_path):
    module = Classifier(again=None).eval()
    export(module, (X[:2].float(),), tmp_path / "a.pt2")
    near(read_own(tmp_path / "a.pt2")(X.float()), module(X.float()), 1e-5)


# Files of others


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.pt2", r"can run code when it is read"),
        ("a.onnx", "no converter from ONNX"),
        ("a.ONNX", "no converter from ONNX"),
        ("a.pb", "holds no Keras layers"),
        ("a.tflite", "is for running only"),
    ],
)
def test_a_format_that_cannot_be_loaded_is_refused_with_the_way_around(name, said, tmp_path):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match=said) as error:
        check_format(tmp_path / name)
    assert str(error.value).startswith(name)
    assert "\n" not in str(error.value)


def test_a_saved_model_of_tensorflow_is_refused_with_the_way_around(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match=r"is a TensorFlow SavedModel.*docs/keras\.md"):
        check_format(tmp_path)


def test_other_files_are_let_through(tmp_path):
    for name in ("model.gguf", "model.keras", "org/model"):
        check_format(tmp_path / name)
    check_format(tmp_path)
