"""The networks that pellucid ships weights for, built from a config: convolutions, a perceptron, boosted trees."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pellucid.errors import InputError, ModelError, UnknownNameError

Size = Annotated[int, Field(ge=1)]
ActivationName = Literal["relu", "silu", "gelu"]
ACTIVATIONS: Mapping[str, type[nn.Module]] = MappingProxyType({"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU})


class _Settings(BaseModel):
    """What a network reads of its config. The rest of the config belongs to the model around it."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    labels: Annotated[list[str], Field(min_length=2)]
    """Class labels, in the order of the logits."""
    activation: ActivationName = "relu"
    """What stands between the layers."""


class _Number(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    kind: Literal["number"]
    inputs: ClassVar[int] = 1


class _Category(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    kind: Literal["category"]
    levels: Annotated[list[str], Field(min_length=2)]

    @property
    def inputs(self) -> int:
        """One position of the network's input for each level."""
        return len(self.levels)


class _CnnSettings(_Settings):
    channels: Size
    """Channels of a picture."""
    widths: Annotated[list[Size], Field(min_length=1)]
    """Channels after each convolution."""


class _MlpSettings(_Settings):
    columns: Annotated[list[Annotated[_Number | _Category, Field(discriminator="kind")]], Field(min_length=1)]
    """The table's columns, in order."""
    hidden: list[Size]
    """Units of each hidden layer; none makes a linear model."""


class _BoostingSettings(_Settings):
    trees: Size
    """How many trees are summed."""
    depth: Annotated[int, Field(ge=1, le=12)]
    """Questions on the way to a leaf; a tree of depth 12 has 4,096 leaves."""


S = TypeVar("S", bound=_Settings)


class SmallCnn(nn.Module):
    """3 x 3 convolutions, each with batch norm and an activation; the mean over the picture; one linear layer.

    A 2 x 2 max-pool stands between two convolutions. Nothing depends on the picture's size, but each pool halves it.
    Because the last layer is linear in the mean over the picture, class activation maps are exact on this network.
    """

    def __init__(
        self, *, channels: int, classes: int, widths: Sequence[int], activation: ActivationName = "relu"
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for before, width in zip([channels, *widths], widths, strict=False):
            pool = [nn.MaxPool2d(2)] if parts else []
            convolution = nn.Conv2d(before, width, 3, padding=1, bias=False)
            parts += [*pool, convolution, nn.BatchNorm2d(width), ACTIVATIONS[activation]()]
        self.features = nn.Sequential(*parts)
        self.head = nn.Linear(widths[-1], classes)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SmallCnn":
        """Read ``channels``, ``widths``, ``activation`` and the number of ``labels``. Raises InputError."""
        settings = _read(_CnnSettings, config)
        return cls(
            channels=settings.channels,
            classes=len(settings.labels),
            widths=settings.widths,
            activation=settings.activation,
        )

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Logits of standardised pictures."""
        logits: Float[Tensor, "batch class"] = self.head(self.features(x).mean((2, 3)))
        return logits


class Mlp(nn.Module):
    """Linear layers with activations between them, on standardised numbers and one-hot categories."""

    def __init__(
        self, *, inputs: int, classes: int, hidden: Sequence[int], activation: ActivationName = "relu"
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for before, width in zip([inputs, *hidden], hidden, strict=False):
            parts += [nn.Linear(before, width), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*parts, nn.Linear([inputs, *hidden][-1], classes))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Mlp":
        """Read ``columns``, ``hidden``, ``activation`` and the number of ``labels``. Raises InputError."""
        settings = _read(_MlpSettings, config)
        return cls(
            inputs=sum(column.inputs for column in settings.columns),
            classes=len(settings.labels),
            hidden=settings.hidden,
            activation=settings.activation,
        )

    def forward(self, x: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch class"]:
        """Logits of encoded rows."""
        logits: Float[Tensor, "batch class"] = self.layers(x)
        return logits


class Boosting(nn.Module):
    """A sum of binary trees, such as gradient boosting grows [friedman2001]: logits constant between thresholds.

    Every tree is complete: the children of node i are 2 i + 1 (value <= threshold) and 2 i + 2. A branch that ends
    early goes on with questions whose answer does not matter. No gradient passes.
    """

    feature: Int[Tensor, "tree node"]
    threshold: Float[Tensor, "tree node"]

    def __init__(self, *, classes: int, trees: int, depth: int) -> None:
        super().__init__()
        nodes = 2**depth - 1
        self.depth = depth
        self.register_buffer("feature", torch.zeros(trees, nodes, dtype=torch.int64))
        self.register_buffer("threshold", torch.full((trees, nodes), torch.finfo(torch.float32).max))
        self.leaves = nn.Parameter(torch.zeros(trees, nodes + 1, classes), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(classes), requires_grad=False)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Boosting":
        """Read ``trees``, ``depth`` and the number of ``labels``. Raises InputError."""
        settings = _read(_BoostingSettings, config)
        return cls(classes=len(settings.labels), trees=settings.trees, depth=settings.depth)

    def forward(self, x: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch class"]:
        """Logits of encoded rows."""
        tree = torch.arange(len(self.feature), device=x.device)
        node = tree.new_zeros(len(x), len(tree))
        for _ in range(self.depth):
            goes_right = x.gather(1, self.feature[tree, node]) > self.threshold[tree, node]
            node = 2 * node + 1 + goes_right
        logits: Float[Tensor, "batch class"] = self.bias + self.leaves[tree, node - self.feature.shape[1]].sum(1)
        return logits


Network = SmallCnn | Mlp | Boosting
ARCHITECTURES: Mapping[str, type[SmallCnn] | type[Mlp] | type[Boosting]] = MappingProxyType(
    {"small-cnn": SmallCnn, "mlp": Mlp, "boosting": Boosting}
)


def build(config: Mapping[str, Any]) -> Network:
    """A network with fresh weights, of the architecture and the sizes that a config names.

    Raises UnknownNameError on an architecture that is none of ``ARCHITECTURES``, InputError on a setting that is
    missing or cannot be.
    """
    name = str(config.get("architecture"))
    if name not in ARCHITECTURES:
        raise UnknownNameError("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name].from_config(config)


def read_network(folder: Path) -> Network:
    """The network of a folder with ``config.json`` and ``model.safetensors``, in evaluation mode.

    Raises ModelError where a file is missing or broken, or where the weights are not exactly those of the network.
    """
    try:
        module = build(json.loads((folder / "config.json").read_text("utf-8")))
        weights = load_file(folder / "model.safetensors")
        module.load_state_dict(weights, strict=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = " ".join(str(error).split()).rstrip(".")
        raise ModelError(f"the network in {str(folder)!r} could not be read: {first}.") from error
    return module.eval()


def _read(kind: type[S], config: Mapping[str, Any]) -> S:
    try:
        return kind.model_validate(dict(config))
    except ValidationError as error:
        what = f"the config of the {config.get('architecture', 'network')}"
        raise InputError.from_validation(what, error) from None


__all__ = ["ACTIVATIONS", "ARCHITECTURES", "Boosting", "Mlp", "Network", "SmallCnn", "build", "read_network"]
