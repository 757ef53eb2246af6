"""What an autoencoder is and how it is trained, and where a trained one comes from: plain records."""

from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pellucid.errors import InputError, UnknownNameError

Architecture = Literal["topk", "batchtopk", "matryoshka", "jumprelu"]
Normalisation = Literal["none", "mean-square", "mean-norm", "layer-norm", "token-norm"]
PER_TOKEN = ("layer-norm", "token-norm")
"""Normalisations that a saved autoencoder still applies; the others are a number, which is folded into its weights."""
PREFIXES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the dictionary that the prefixes of a Matryoshka autoencoder hold, where none are given."""


_Decay = Annotated[float, Field(ge=0, lt=1)]


def _whole(value: Any) -> int:
    """A count in whatever form it may be given in; 0 where it is none."""
    try:
        return max(0, int(value)) if float(value) == int(value) else 0
    except (TypeError, ValueError, OverflowError):
        return 0


class Config(BaseModel):
    """An autoencoder and its training, in full: two runs of one configuration are one run.

    The loss of a batch is ``sum_i prefix_weights[i] * mean_tokens ||x - xhat_i||^2 + aux_weight * L_aux``, where xhat_i
    decodes the latents before ``prefixes[i]`` of one selection [bussmann2025]; with one prefix, the whole dictionary,
    that is the loss of [gao2024] and [bussmann2024]. Raises InputError, one sentence, on what does not fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    d_in: Annotated[int, Field(ge=1)]
    """Width of the activations."""
    width: Annotated[int, Field(ge=1)]
    """Latents in the dictionary."""
    k: Annotated[int, Field(ge=1)] = 32
    """Latents of a token that are active: of every token (topk), or on average over a batch."""
    architecture: str = "matryoshka"
    """topk [gao2024], batchtopk [bussmann2024], matryoshka [bussmann2025] or jumprelu [rajamanoharan2024]."""
    prefixes: tuple[int, ...] = ()
    """Sizes of the nested dictionaries, the last of which is the width. Empty: a sixteenth, eighth, quarter, half and
    all of it for matryoshka, else the whole alone."""
    prefix_weights: tuple[float, ...] = ()
    """Weight of each prefix in the loss. Empty: 1 / their number each."""
    bias_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a prefix without any latent, the decoder's bias alone; the first Matryoshka code had such a term."""
    reduction: Literal["sum", "mean"] = "sum"
    """Whether the squared error of a token is summed over its d_in numbers, or their mean is taken."""
    subtract_decoder_bias: bool = True
    """Whether the decoder's bias is taken off before encoding."""
    decoder: Literal["unit", "free"] = "unit"
    """unit: the decoder's rows are kept at length 1, and what of their gradient points along them is removed. free: a
    latent's activation counts times the length of its row; the lengths are folded away when training ends."""
    normalisation: Normalisation = "none"
    """none; mean-square: E||x||^2 = 1; mean-norm: E||x|| = sqrt(d_in); layer-norm: each token to mean 0 and variance 1;
    token-norm: each token to length sqrt(d_in). The second and third are one number for all tokens, which a training
    run takes from the store's statistics and hands to the trainer as its ``scale``."""
    bias: Literal["geometric-median", "mean", "zero"] = "geometric-median"
    """Where the decoder's bias begins: that of the first batch."""

    aux_weight: Annotated[float, Field(ge=0)] = 1 / 32
    """Weight of the loss by which dead latents learn the residual [gao2024, appendix A.2]. 0: none."""
    aux_k: Annotated[int, Field(ge=0)] = 0
    """Dead latents of a token that take part. 0: half of d_in."""
    aux_scale: Literal["residual-variance", "dead-share"] = "residual-variance"
    """What that loss is divided by: the variance of the residual; or it is multiplied by min(dead / aux_k, 1)."""
    aux_relu: bool = True
    """Whether dead latents are rectified before they decode."""
    dead_after: Annotated[int, Field(ge=1)] = 10_000_000
    """Tokens without firing after which a latent is dead."""

    lr: Annotated[float, Field(gt=0)] = 0.0
    """Learning rate of Adam. 0: 2e-4 / sqrt(width / 2^14), the scaling of [gao2024, figure 3]."""
    betas: tuple[_Decay, _Decay] = (0.9, 0.999)
    """Adam's."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Adam's."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient over all weights."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Steps in all, for the decay of the learning rate. None: it does not decay."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises from 0."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the steps at the end over which the learning rate falls to 0."""

    threshold_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Of the running mean of the smallest activation that a batch kept, which is the threshold of inference."""
    threshold_start: Annotated[int, Field(ge=0)] = 0
    """Steps before that mean begins."""
    threshold_from: Literal["first", "zero"] = "first"
    """Where it begins: at its first value, or at 0 (and is then too low for long)."""

    sparsity: Literal["target", "count"] = "target"
    """jumprelu: whether the loss has l0_weight * (L0 / k - 1)^2, or l0_weight * L0."""
    l0_weight: Annotated[float, Field(ge=0)] = 1.0
    """jumprelu: weight of that."""
    l0_warmup: Annotated[int, Field(ge=0)] = 0
    """jumprelu: steps over which that weight rises from 0."""
    threshold_init: Annotated[float, Field(gt=0)] | None = None
    """jumprelu: where every threshold begins. None: where k latents of a token are active in the first batch, since a
    threshold moves by no more than exp(lr * steps)."""
    bandwidth: Annotated[float, Field(gt=0)] | None = None
    """jumprelu: width of the window in which a threshold feels its latent. None: half of where it begins."""

    selection: Literal["float32", "bfloat16"] = "float32"
    """What finds the active latents: float32; or bfloat16, whose candidates are then scored in float32."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the initial weights."""

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InputError.from_validation("the autoencoder's configuration", error) from None

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Whatever follows from the rest is written out, so that a saved configuration says it."""
        width, d_in = _whole(given.get("width")), _whole(given.get("d_in"))
        if not width or not d_in:
            return given
        given = dict(given)
        nested = given.get("architecture", "matryoshka") == "matryoshka"
        if not given.get("prefixes"):
            sizes = sorted({max(1, round(width * share)) for share in PREFIXES}) if nested else [width]
            given["prefixes"] = tuple(sizes)
        if not given.get("prefix_weights") and isinstance(given["prefixes"], tuple | list):
            given["prefix_weights"] = (1 / len(given["prefixes"]),) * len(given["prefixes"])
        if not given.get("aux_k"):
            given["aux_k"] = max(1, d_in // 2)
        if not given.get("lr"):
            given["lr"] = 2e-4 / (width / 2**14) ** 0.5
        return given

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.architecture not in get_args(Architecture):
            raise UnknownNameError("architecture of an autoencoder", self.architecture, get_args(Architecture))
        if self.k > self.width:
            raise InputError(f"k is {self.k} and the dictionary has only {self.width} latents; give a smaller k.")
        rising = all(a < b for a, b in pairwise((0, *self.prefixes)))
        if not rising or self.prefixes[-1] != self.width:
            raise InputError(
                f"prefixes must rise and end at the width {self.width}, such as {self.width // 4},{self.width}; "
                f"got {','.join(map(str, self.prefixes))}."
            )
        if len(self.prefix_weights) != len(self.prefixes):
            raise InputError(f"{len(self.prefixes)} prefixes need as many weights, not {len(self.prefix_weights)}.")
        if min(self.prefix_weights) < 0 or max(self.prefix_weights) == 0:
            raise InputError(f"the weights of prefixes are 0 or more and not all 0; got {self.prefix_weights}.")
        if self.architecture != "matryoshka" and len(self.prefixes) > 1:
            raise InputError(f"{self.architecture} has no prefixes; leave them out or use matryoshka.")
        return self

    @property
    def unit(self) -> float:
        """What the squared error of a token is multiplied by."""
        return 1.0 if self.reduction == "sum" else 1 / self.d_in


class Origin(BaseModel):
    """Where an autoencoder comes from; whatever is not known is left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str = ""
    """The model whose activations it decodes, by the name that loads it."""
    fingerprint: str = ""
    """That model's fingerprint."""
    site: str = ""
    """Where in the model: the name of a module, with ``:input`` for what goes into it."""
    corpus: str = ""
    """What the model read."""
    selector: dict[str, Any] = {}
    """Which of its tokens were taken."""
    tokens: int = 0
    """Tokens that it was trained on, repeats included."""
    store: str = ""
    """Hash of the manifest of the activations."""
    training: dict[str, Any] = {}
    """What else is known of the training: its end, its hardware, the program."""
