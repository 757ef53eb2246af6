"""A sparse autoencoder: activations to latents and back."""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import InputError
from pellucid.sae.codes import Codes
from pellucid.sae.config import PER_TOKEN, Config, Origin

CHUNK_NUMBERS = 1 << 22
"""Pre-activations that are held at a time while active latents are found."""


class Normaliser(NamedTuple):
    """What was done to each token before it was encoded, to undo it."""

    shift: Float[Tensor, "*batch one"]
    """Taken off."""
    scale: Float[Tensor, "*batch one"]
    """Divided by."""


class SAE(nn.Module):
    """A dictionary of directions with the encoder that finds which of them are active [gao2024, section 2].

    a = W_enc (x - b_dec) + b_enc; z keeps of ReLU(a) the k largest of a token (topk), what exceeds a threshold
    (batchtopk, matryoshka) or each latent's own (jumprelu); xhat = z W_dec + b_dec.

    Args:
        config: what it is.
        weights: ``W_enc`` [width, d_in], ``b_enc`` [width], ``W_dec`` [width, d_in], ``b_dec`` [d_in], and
            ``threshold``, a number or [width], where the architecture has one.
        origin: where it comes from.

    Raises:
        InputError: weights are missing, or of another shape, or not finite.
    """

    W_enc: Float[Tensor, "latent dim"]
    b_enc: Float[Tensor, " latent"]
    W_dec: Float[Tensor, "latent dim"]
    b_dec: Float[Tensor, " dim"]
    threshold: Float[Tensor, ""] | Float[Tensor, " latent"]

    def __init__(self, config: Config, weights: dict[str, Tensor], origin: Origin | None = None) -> None:
        super().__init__()
        self.config, self.origin = config, origin or Origin()
        for name, value in checked(config, weights).items():
            self.register_buffer(name, value)

    @property
    def width(self) -> int:
        """Latents in the dictionary."""
        return self.config.width

    def normalised(self, x: Float[Tensor, "*batch dim"]) -> tuple[Float[Tensor, "*batch dim"], Normaliser | None]:
        """The activations as the encoder takes them, and what undoes it; scalars are folded into the weights."""
        self._check_width(x)
        return normalised(x.to(self.W_enc.dtype), self.config.normalisation)

    def preactivations(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch latent"]:
        """Every latent before the decision which are active; dense, so for a few tokens."""
        return self._encoded(self.normalised(x)[0])

    def _encoded(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch latent"]:
        if self.config.subtract_decoder_bias:
            x = x - self.b_dec
        return nn.functional.linear(x, self.W_enc, self.b_enc)

    def active(self, a: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Pre-activations with all but the active latents set to 0; the others keep their gradient."""
        if self.config.architecture == "topk":
            top = a.relu().topk(self.config.k, sorted=False)
            return torch.zeros_like(a).scatter(-1, top.indices, top.values)
        return torch.where((a > self.threshold) & (a > 0), a, 0)

    def encode(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch latent"]:
        """Activations of all latents, most of them 0; dense, so for a few tokens. Raises InputError on the width."""
        return self.active(self.preactivations(x))

    def codes(self, x: Float[Tensor, "token dim"]) -> Codes:
        """The active latents of any number of tokens, without a matrix of them."""
        x, _ = self.normalised(x)
        size = max(1, CHUNK_NUMBERS // self.width)
        found = []
        for start in range(0, len(x), size):
            z = self.active(self._encoded(x[start : start + size]))
            tokens, latents = z.nonzero(as_tuple=True)
            found.append((tokens + start, latents, z[tokens, latents]))
        if not found:
            none = torch.zeros(0, dtype=torch.long, device=x.device)
            return Codes(none, none, x.new_zeros(0), 0, self.width)
        tokens, latents, values = (torch.cat(each) for each in zip(*found, strict=True))
        return Codes(tokens, latents, values, len(x), self.width)

    def decode(
        self, z: Float[Tensor, "*batch latent"], like: Float[Tensor, "*batch dim"] | None = None
    ) -> Float[Tensor, "*batch dim"]:
        """Activations that the latents stand for.

        Args:
            z: activations of latents.
            like: what was encoded, for an autoencoder that normalises each token and so cannot know its scale. Raises
                InputError where that is needed and missing.
        """
        return self._restored(z @ self.W_dec + self.b_dec, like)

    def decode_codes(self, codes: Codes, like: Float[Tensor, "token dim"] | None = None) -> Float[Tensor, "token dim"]:
        """``decode`` of a list of active latents."""
        if not len(codes.tokens):
            return self._restored(self.b_dec.expand(codes.token_count, -1), like)
        summed = nn.functional.embedding_bag(
            codes.latents, self.W_dec, codes.offsets, mode="sum", per_sample_weights=codes.values
        )
        return self._restored(summed + self.b_dec, like)

    def _restored(self, x: Tensor, like: Tensor | None) -> Tensor:
        if self.config.normalisation not in PER_TOKEN:
            return x
        if like is None:
            raise InputError(
                f"this autoencoder normalises every token ({self.config.normalisation}), so decoding needs what was "
                "encoded: decode(z, like=x)."
            )
        undo = self.normalised(like)[1]
        assert undo is not None
        return x * undo.scale + undo.shift

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """The reconstruction of activations."""
        flat = x.reshape(-1, x.shape[-1])
        return self.decode_codes(self.codes(flat), flat).reshape(x.shape).to(x.dtype)

    def _check_width(self, x: Tensor) -> None:
        if x.shape[-1] != self.config.d_in:
            raise InputError(
                f"the activations have {x.shape[-1]} dimensions and this autoencoder was made for {self.config.d_in}; "
                "take the site that it was trained on."
            )

    @classmethod
    def load(cls, path: str | Path) -> "SAE":
        """An autoencoder from a folder in any layout that is known. Raises InputError, RecordError."""
        from pellucid.sae.formats import read

        return read(path)

    def save(self, path: str | Path, format: str = "pellucid") -> None:
        """Write into a folder: "pellucid", "sae-lens", "dictionary-learning" or "sparsify". Raises InputError."""
        from pellucid.sae.formats import write

        write(self, path, format)


def checked(config: Config, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """An autoencoder's weights, the threshold among them. Raises InputError on a missing, misshapen or NaN one."""
    shapes = {
        "W_enc": (config.width, config.d_in), "b_enc": (config.width,),
        "W_dec": (config.width, config.d_in), "b_dec": (config.d_in,),
    }  # fmt: skip
    found = {}
    for name, shape in shapes.items():
        if name not in weights:
            raise InputError(f"the autoencoder has no weights {name}; it needs {', '.join(shapes)}.")
        if tuple(weights[name].shape) != shape:
            raise InputError(f"{name} has the shape {list(weights[name].shape)} and should have {list(shape)}.")
        found[name] = weights[name].detach()
    threshold = weights.get("threshold", torch.zeros(()))
    if threshold.shape not in ((), (config.width,)):
        raise InputError(f"the threshold is one number or {config.width}, not of shape {list(threshold.shape)}.")
    found["threshold"] = threshold.detach().to(found["b_enc"])
    for name, value in found.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{name} of the autoencoder has NaN or infinite numbers; it cannot be used.")
    return found


def normalised(x: Float[Tensor, "*batch dim"], mode: str) -> tuple[Float[Tensor, "*batch dim"], Normaliser | None]:
    """Tokens normalised each by itself where the mode says so, and what undoes it."""
    if mode not in PER_TOKEN:
        return x, None
    tiny = 1e-5
    if mode == "token-norm":
        scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5 + tiny
        return x / scale, Normaliser(torch.zeros_like(scale), scale)
    shift = x.mean(-1, keepdim=True)
    scale = (x - shift).pow(2).mean(-1, keepdim=True).sqrt() + tiny
    return (x - shift) / scale, Normaliser(shift, scale)
