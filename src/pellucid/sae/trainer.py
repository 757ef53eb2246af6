"""Training an autoencoder: one exact step at a time, without autograd and without a matrix of tokens by latents."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import InputError, ModelError, NumericalError
from pellucid.sae.autoencoder import SAE, checked, normalised
from pellucid.sae.codes import Codes
from pellucid.sae.config import PER_TOKEN, Config, Origin
from pellucid.sae.step.auxiliary import add_auxiliary
from pellucid.sae.step.gradients import Gradients, Weights, learn
from pellucid.sae.step.jump import jump
from pellucid.sae.step.parameters import clipped, lengths
from pellucid.sae.step.selection import Encoder, largest_of_all, largest_of_each
from pellucid.sae.step.sparse import square

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")
_COUNTERS = {
    "steps": "steps", "tokens": "tokens", "threshold": "threshold", "smallest": "_smallest", "scale": "scale",
    "bandwidth": "bandwidth", "biased": "_biased",
}  # fmt: skip


class Step(NamedTuple):
    """What one step says of itself; all of it before the weights moved."""

    step: int
    """Its number, from 1."""
    tokens: int
    """Tokens in all steps so far."""
    loss: float
    """The loss, auxiliary part included."""
    aux: float
    """Its auxiliary part."""
    l0: float
    """Active latents of a token, on average."""
    fvu: float
    """Fraction of this batch's variance that the reconstruction leaves unexplained."""
    dead: int
    """Latents that have not fired for ``dead_after`` tokens, this batch included."""
    gradient: float
    """Norm of the gradient before it was clipped."""
    lr: float
    """The learning rate."""
    threshold: float
    """That of inference, or the mean of all."""


class _Outcome(NamedTuple):
    """What the two kinds of step have in common."""

    gradients: Gradients
    loss: float
    aux: float
    residual_square: float
    active: float
    """Active latents of all tokens."""
    threshold: Tensor | None
    """Gradient by the thresholds, where they are trained."""


class Trainer:
    """Trains one autoencoder. The same configuration, weights and batches give the same result, to the bit.

    Cost of a step: one product of the batch with the encoder, and sums over its active latents; memory: one chunk of
    512 tokens by all latents beside the weights, their gradients and Adam's two moments.

    Args:
        config: the autoencoder and its training.
        state: weights to begin with: ``W_enc`` [width, d_in], ``b_enc`` [width], ``W_dec`` [width, d_in], ``b_dec``
            [d_in], in the units of the normalised activations; None: W_dec of random directions, W_enc equal to it.
        scale: what the activations are multiplied by; a normalisation by one number is done by it alone (``scale_of``).
        device: where to train.

    Raises:
        InputError: weights of another shape; ModelError: bfloat16 selection where no hardware makes such products.
    """

    def __init__(
        self,
        config: Config,
        state: Mapping[str, Tensor] | None = None,
        *,
        scale: float = 1.0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config, self.scale, self.device = config, scale, torch.device(device)
        check_selection(config.selection, self.device)
        found = checked(config, dict(state) if state is not None else initial(config))
        given = [found[name].to(self.device, torch.float32, copy=True).contiguous() for name in NAMES]
        self._biased = state is not None
        if config.decoder == "unit" and state is None:
            given[2] /= lengths(given[2])[:, None]
        self.weights = Weights(*(torch.nn.Parameter(each, requires_grad=False) for each in given))
        first = torch.full((config.width,), config.threshold_init or 1.0, device=self.device)
        self.log_threshold = torch.nn.Parameter(first.log(), requires_grad=False)
        self.bandwidth = config.bandwidth or (config.threshold_init or 0.0) / 2
        self.threshold = self._smallest = -1.0
        self.steps = self.tokens = 0
        self.silent = torch.zeros(config.width, dtype=torch.long, device=self.device)
        trained = [*self.weights, self.log_threshold] if self._jumps else list(self.weights)
        self._adam = torch.optim.Adam(trained, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)

    @property
    def _jumps(self) -> bool:
        return self.config.architecture == "jumprelu"

    @property
    def dead(self) -> Int[Tensor, " dead"]:
        """The latents that have not fired for ``dead_after`` tokens."""
        return (self.silent >= self.config.dead_after).nonzero().squeeze(1)

    @torch.no_grad()
    def step(self, x: Float[Tensor, "token dim"]) -> Step:
        """Learn from a batch of raw activations. Raises InputError on its width, NumericalError on NaN or infinity."""
        config = self.config
        x = self._prepared(x)
        if not self._biased:
            self.weights.decoder_bias.copy_(beginning(config, x))
            self._biased = True
        # The mean is subtracted before squaring, or float32 would lose a small variance beside a large mean.
        spread = square(x - x.mean(0))
        centred = x - self.weights.decoder_bias
        encoder = self._encoder(centred if config.subtract_decoder_bias else x)
        if self._jumps and not self.steps and config.threshold_init is None:
            self._begin_thresholds(encoder)
        outcome = self._jump(encoder, centred) if self._jumps else self._events(encoder, centred)
        norm, lr = self._move(outcome)
        self.steps, self.tokens = self.steps + 1, self.tokens + len(x)
        threshold = float(self.log_threshold.exp().mean()) if self._jumps else self.threshold
        return Step(
            self.steps, self.tokens, outcome.loss + outcome.aux, outcome.aux, outcome.active / len(x),
            outcome.residual_square / spread if spread else float("nan"), len(self.dead), norm, lr, threshold,
        )  # fmt: skip

    def _prepared(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.config.d_in or not len(x):
            raise InputError(f"a batch is [token, {self.config.d_in}] for this autoencoder, not {list(x.shape)}.")
        x = x.to(self.device, torch.float32)
        if not torch.isfinite(x).all():
            bad = int((~torch.isfinite(x)).any(1).sum())
            raise NumericalError(
                f"step {self.steps + 1}: {bad} of the batch's {len(x)} tokens have NaN or infinite activations."
            )
        x, _ = normalised(x, self.config.normalisation)
        return x if self.scale == 1 else x * self.scale

    def _encoder(self, x: Tensor) -> Encoder:
        own, config = self.weights, self.config
        stretched = config.decoder == "free" and not self._jumps
        found = lengths(own.decoder) if stretched else None
        return Encoder(x, own.encoder, own.encoder_bias, config.selection == "bfloat16", found)

    def _events(self, encoder: Encoder, centred: Tensor) -> _Outcome:
        config = self.config
        chosen = self._selected(encoder)
        self._count(torch.bincount(chosen.latents, minlength=config.width), chosen.token_count)
        self._follow(chosen)
        dead = self.dead
        residual = torch.empty_like(centred) if len(dead) and config.aux_weight else None
        found = learn(config, encoder.activations(chosen), self.weights, encoder.x, centred, residual)
        aux = 0.0
        if residual is not None:
            aux = add_auxiliary(found.gradients, config, self.weights, encoder, dead, residual)
        return _Outcome(found.gradients, found.loss, aux, found.missed, len(chosen.values), None)

    def _selected(self, encoder: Encoder) -> Codes:
        if self.config.architecture == "topk":
            return largest_of_each(encoder, self.config.k)
        return largest_of_all(encoder, self.config.k * len(encoder.x))

    def _begin_thresholds(self, encoder: Encoder) -> None:
        """Where k latents of a token are active on average; a window in proportion."""
        smallest = float(largest_of_all(encoder, self.config.k * len(encoder.x)).values.min())
        self.log_threshold.fill_(math.log(smallest))
        self.bandwidth = self.config.bandwidth or smallest / 2

    def _jump(self, encoder: Encoder, centred: Tensor) -> _Outcome:
        config = self.config
        warm = min(1.0, (self.steps + 1) / config.l0_warmup) if config.l0_warmup else 1.0
        threshold = self.log_threshold.exp()
        found = jump(config, self.weights, threshold, self.bandwidth, encoder, centred, warm * config.l0_weight)
        self._count(found.fired, len(centred))
        missed = square(found.residual)
        # The thresholds are trained by their logarithm, so that they stay positive.
        by_log = found.threshold * threshold
        return _Outcome(found.gradients, found.loss, 0.0, missed, float(found.fired.sum()), by_log)

    def _count(self, fired: Tensor, tokens: int) -> None:
        self.silent.add_(tokens)
        self.silent[fired > 0] = 0

    def _follow(self, codes: Codes) -> None:
        """The running mean of the smallest activation that a batch kept."""
        config = self.config
        if not len(codes.values):
            return
        self._smallest = smallest = float(codes.values.min())
        if self.steps < config.threshold_start:
            return
        if self.threshold < 0:
            self.threshold = smallest if config.threshold_from == "first" else 0.0
            if config.threshold_from == "first":
                return
        self.threshold = config.threshold_decay * self.threshold + (1 - config.threshold_decay) * smallest

    def _move(self, outcome: _Outcome) -> tuple[float, float]:
        """Adam's step; the norm of the gradient and the learning rate."""
        config, own = self.config, self.weights
        if config.subtract_decoder_bias:
            # What the encoder reads is x - b_dec, so its gradient reaches that bias as well.
            outcome.gradients.decoder_bias.sub_(outcome.gradients.encoder_bias @ own.encoder)
        if config.decoder == "unit":
            # What points along a row is undone when the row is brought back to its length.
            along = outcome.gradients.along / own.decoder.square().sum(1).clamp(min=1e-12)
            outcome.gradients.decoder.addcmul_(along[:, None], own.decoder, value=-1)
        gradients, trained = list(outcome.gradients[:4]), list[Tensor](own)
        if outcome.threshold is not None:
            gradients.append(outcome.threshold)
            trained.append(self.log_threshold)
        norm = clipped(gradients, config.clip)
        if not torch.isfinite(torch.tensor(norm)):
            raise NumericalError(f"the gradient of step {self.steps + 1} is not finite; lower the learning rate.")
        lr = config.lr * rate(config, self.steps)
        self._adam.param_groups[0]["lr"] = lr
        for each, gradient in zip(trained, gradients, strict=True):
            each.grad = gradient
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        if config.decoder == "unit":
            own.decoder.div_(lengths(own.decoder)[:, None])
        return norm, lr

    @torch.no_grad()
    def export(self, origin: Origin | None = None) -> SAE:
        """The autoencoder for raw activations: scale and decoder lengths are folded into its weights."""
        config, scale = self.config, self.scale
        own = self.weights
        length = lengths(own.decoder)
        # The scores by which events are chosen are in units of rows of length 1 already.
        threshold = self.log_threshold.exp() * length if self._jumps else torch.tensor(self.inference_threshold)
        weights = {
            "W_enc": own.encoder * length[:, None],
            "b_enc": own.encoder_bias * length / scale,
            "W_dec": own.decoder / length[:, None],
            "b_dec": own.decoder_bias / scale,
            "threshold": threshold.to(self.device) / scale,
        }
        changes: dict[str, Any] = {"decoder": "unit"}
        if config.normalisation not in PER_TOKEN:
            changes["normalisation"] = "none"
        return SAE(config.model_copy(update=changes), weights, origin)

    @property
    def inference_threshold(self) -> float:
        """The running mean, or until it has begun what the last batch kept; 0 before the first."""
        return max(0.0, self.threshold if self.threshold >= 0 else self._smallest)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on: tensors, and plain numbers."""
        moments = {
            f"{name}.{moment}": value[moment].clone()
            for name, each in zip((*NAMES, "log_threshold"), (*self.weights, self.log_threshold), strict=True)
            if (value := self._adam.state.get(each))
            for moment in ("exp_avg", "exp_avg_sq")
        }
        own = {name: each.detach().clone() for name, each in zip(NAMES, self.weights, strict=True)}
        held = {"log_threshold": self.log_threshold.detach().clone(), "silent": self.silent.clone()}
        return own | held | moments | {name: getattr(self, place) for name, place in _COUNTERS.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken. Raises InputError where something is missing or misshapen."""
        checked(self.config, {name: state[name] for name in NAMES if name in state})
        missing = [name for name in ("log_threshold", "silent", *_COUNTERS) if name not in state]
        if missing:
            raise InputError(f"the training state lacks {', '.join(missing)}; it is not one of a trainer.")
        held = dict(zip((*NAMES, "log_threshold"), (*self.weights, self.log_threshold), strict=True))
        for name, place in _COUNTERS.items():
            setattr(self, place, type(getattr(self, place))(state[name]))
        self.silent.copy_(state["silent"])
        self._adam.state.clear()
        for name, each in held.items():
            each.copy_(state[name])
            if f"{name}.exp_avg" in state:
                self._adam.state[each] = {
                    "step": torch.tensor(float(self.steps), device=self.device),
                    "exp_avg": state[f"{name}.exp_avg"].to(self.device, copy=True),
                    "exp_avg_sq": state[f"{name}.exp_avg_sq"].to(self.device, copy=True),
                }


def initial(config: Config) -> dict[str, Tensor]:
    """Weights before training: random directions of length 1, the encoder equal to the decoder, no biases."""
    generator = torch.Generator().manual_seed(config.seed)
    decoder = torch.randn(config.width, config.d_in, generator=generator)
    decoder /= lengths(decoder)[:, None]
    zeros = {"b_enc": torch.zeros(config.width), "b_dec": torch.zeros(config.d_in)}
    return {"W_enc": decoder.clone(), "W_dec": decoder, **zeros}


def beginning(config: Config, x: Float[Tensor, "token dim"]) -> Float[Tensor, " dim"]:
    """Where the decoder's bias begins."""
    if config.bias == "zero":
        return torch.zeros_like(x[0])
    guess = x.mean(0)
    for _ in range(100 if config.bias == "geometric-median" else 0):
        # Weiszfeld's iteration; a token that lies on the guess would weigh without bound.
        weights = 1 / (x - guess).norm(dim=1).clamp(min=1e-12)
        moved: Tensor = (weights / weights.sum()) @ x
        if float((moved - guess).norm()) < 1e-5:
            return moved
        guess = moved
    return guess


def rate(config: Config, step: int) -> float:
    """Share of the learning rate at a step, counted from 0: a linear rise, a plateau and a linear fall."""
    share = min(1.0, step / config.warmup) if config.warmup else 1.0
    if config.steps is None or not config.decay:
        return share
    fall = max(1.0, config.decay * config.steps)
    return share * min(1.0, max(0.0, (config.steps - step) / fall))


def scale_of(config: Config, mean_square_norm: float, mean_norm: float) -> float:
    """What activations are multiplied by, from the mean of their squared length and of their length."""
    if config.normalisation == "mean-square":
        return float(1 / mean_square_norm**0.5)
    if config.normalisation == "mean-norm":
        return float(config.d_in**0.5 / mean_norm)
    return 1.0


def check_selection(selection: str, device: torch.device) -> None:
    """Raises ModelError where bfloat16 products are asked for and would be emulated."""
    if selection != "bfloat16":
        return
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    if not able:
        raise ModelError(f"the {device.type} here makes no bfloat16 products in hardware; use selection='float32'.")
