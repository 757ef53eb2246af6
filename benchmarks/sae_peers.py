"""The training steps that are compared, all from equal weights: of SAELens, dictionary_learning, sparsify and ours.

Each is made by a function of a ``Case`` and gives ``step(x) -> loss``, which is the library's own public step.
"""

import os
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch

Step = Callable[[torch.Tensor], float]
LR = 1e-4
FOREVER = 10**9
"""Steps or tokens that no run reaches: no decay, no dead latents."""
ARCHITECTURES = ("topk", "batchtopk", "matryoshka")
SHARES = (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


@dataclass(frozen=True)
class Case:
    """What all of them train, and on what."""

    architecture: str
    width: int
    d_in: int = 576
    batch: int = 4096
    k: int = 32

    @property
    def groups(self) -> list[int]:
        sizes = [int(self.width * share) for share in SHARES[:-1]]
        return [*sizes, self.width - sum(sizes)]

    @property
    def prefixes(self) -> list[int]:
        found = torch.tensor(self.groups).cumsum(0)
        return [int(each) for each in found]


def data(case: Case, batches: int, seed: int = 0) -> list[torch.Tensor]:
    """Batches of tokens that are sums of few of twice d_in directions, with noise and an offset."""
    drawn = torch.Generator().manual_seed(seed)
    count = 2 * case.d_in
    directions = torch.randn(count, case.d_in, generator=drawn)
    directions /= directions.norm(dim=1, keepdim=True)
    offset = torch.randn(case.d_in, generator=drawn)
    found = []
    for _ in range(batches):
        active = torch.rand(case.batch, count, generator=drawn) < 16 / count
        strength = torch.rand(case.batch, count, generator=drawn) * 4 * active
        noise = 0.1 * torch.randn(case.batch, case.d_in, generator=drawn)
        found.append(strength @ directions + noise + 0.2 * offset)
    return found


def weights(case: Case, first: torch.Tensor, seed: int = 1) -> dict[str, torch.Tensor]:
    """Where all of them begin: unit rows, the encoder their transpose, and the mean of the first batch."""
    drawn = torch.Generator().manual_seed(seed)
    rows = torch.randn(case.width, case.d_in, generator=drawn)
    rows /= rows.norm(dim=1, keepdim=True)
    biases = {"b_enc": torch.zeros(case.width), "b_dec": first.mean(0)}
    return {"W_enc": rows.clone(), "W_dec": rows, **biases}


def dictionary_learning(case: Case, state: dict[str, torch.Tensor]) -> Step:
    """``Trainer.update``, from its second step: the first would set the decoder's bias to its geometric median."""
    quiet()
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k

    shared = {
        "steps": FOREVER, "activation_dim": case.d_in, "dict_size": case.width, "k": case.k, "layer": 0,
        "lm_name": "none", "lr": LR, "warmup_steps": 0, "threshold_start_step": 0, "seed": 0, "device": "cpu",
    }  # fmt: skip
    if case.architecture == "topk":
        trainer = top_k.TopKTrainer(**shared)
    elif case.architecture == "batchtopk":
        trainer = batch_top_k.BatchTopKTrainer(**shared)
    else:
        fractions = [each / case.width for each in case.groups]
        trainer = matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer(**shared, group_fractions=fractions)
        if trainer.group_sizes != case.groups:
            raise RuntimeError(f"dictionary_learning rounds the groups to {trainer.group_sizes}, not {case.groups}")
    ae = trainer.ae
    linear = case.architecture != "matryoshka"
    with torch.no_grad():
        (ae.encoder.weight if linear else ae.W_enc).copy_(state["W_enc"] if linear else state["W_enc"].T)
        (ae.encoder.bias if linear else ae.b_enc).copy_(state["b_enc"])
        (ae.decoder.weight if linear else ae.W_dec).copy_(state["W_dec"].T if linear else state["W_dec"])
        ae.b_dec.copy_(state["b_dec"])
    taken = 0

    def step(x: torch.Tensor) -> float:
        nonlocal taken
        taken += 1
        return float(trainer.update(taken, x))

    return step


def sae_lens(case: Case, state: dict[str, torch.Tensor]) -> Step:
    """``SAETrainer.step``."""
    quiet()
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes import batchtopk_sae, matryoshka_batchtopk_sae, topk_sae
    from sae_lens.training.sae_trainer import SAETrainer

    shared = {"d_in": case.d_in, "d_sae": case.width, "k": case.k, "dtype": "float32", "device": "cpu"}
    if case.architecture == "topk":
        sae = topk_sae.TopKTrainingSAE(topk_sae.TopKTrainingSAEConfig(**shared))
    elif case.architecture == "batchtopk":
        sae = batchtopk_sae.BatchTopKTrainingSAE(batchtopk_sae.BatchTopKTrainingSAEConfig(**shared))
    else:
        made = matryoshka_batchtopk_sae.MatryoshkaBatchTopKTrainingSAEConfig(**shared, matryoshka_widths=case.prefixes)
        sae = matryoshka_batchtopk_sae.MatryoshkaBatchTopKTrainingSAE(made)
    with torch.no_grad():
        sae.W_enc.copy_(state["W_enc"].T)
        sae.b_enc.copy_(state["b_enc"])
        sae.W_dec.copy_(state["W_dec"])
        sae.b_dec.copy_(state["b_dec"])
    config = SAETrainerConfig(
        total_training_samples=FOREVER * case.batch,
        train_batch_size_samples=case.batch,
        lr=LR,
        lr_end=LR,
        dead_feature_window=FOREVER,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(cfg=config, sae=sae, data_provider=iter(()))

    def step(x: torch.Tensor) -> float:
        found = trainer.step(x)
        trainer.n_training_steps += 1
        return float(found.loss.detach())

    return step


def sparsify(case: Case, state: dict[str, torch.Tensor]) -> Step:
    """The lines of ``Trainer.fit`` between two batches of activations; the rest of it runs a language model.

    Its loss is the share of variance unexplained. Raises LookupError for another architecture than topk.
    """
    quiet()
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    if case.architecture != "topk":
        raise LookupError("sparsify has TopK only")
    coder = SparseCoder(case.d_in, SparseCoderConfig(num_latents=case.width, k=case.k), dtype=torch.float32)
    with torch.no_grad():
        coder.encoder.weight.copy_(state["W_enc"])
        coder.encoder.bias.copy_(state["b_enc"])
        coder.W_dec.copy_(state["W_dec"])
        coder.b_dec.copy_(state["b_dec"])
    optimizer = torch.optim.Adam([{"params": coder.parameters(), "lr": LR}])
    since = torch.zeros(case.width, dtype=torch.long)
    fired = torch.zeros(case.width, dtype=torch.bool)

    def step(x: torch.Tensor) -> float:
        coder.set_decoder_norm_to_unit_norm()
        variance = (x - x.mean(0)).pow(2).sum()
        out = coder(x=x, y=x, dead_mask=None, total_variance=variance)
        fired[out.latent_indices.flatten()] = True
        loss = float(out.fvu.detach())
        out.fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        since.add_(len(x))
        since[fired] = 0
        fired.zero_()
        return loss

    return step


def ours(case: Case, state: dict[str, torch.Tensor], like: str, selection: str = "float32") -> Step:
    """``Trainer.step`` with the loss, the decoder and the clipping of ``like``."""
    from pellucid.sae.presets import preset
    from pellucid.sae.trainer import Trainer

    manner = "sae-lens" if like == "sae_lens" else "dictionary-learning"
    prefixes = {"prefixes": tuple(case.prefixes)} if case.architecture == "matryoshka" else {}
    # The gradient of sparsify's loss is smaller by the variance of a token, and Adam's eps is not.
    own = {"clip": None, "eps": 1e-8 * variance_of_token(case)} if like == "sparsify" else {}
    config = preset(
        manner, d_in=case.d_in, width=case.width, k=case.k, architecture=case.architecture, lr=LR, warmup=0,
        threshold_start=0, normalisation="none", dead_after=FOREVER * case.batch, selection=selection,
        **prefixes, **own,
    )  # fmt: skip
    trainer = Trainer(config, state={name: value.clone() for name, value in state.items()})

    def step(x: torch.Tensor) -> float:
        found = trainer.step(x)
        return float(found.fvu if like == "sparsify" else found.loss)

    return step


def floor(case: Case, state: dict[str, torch.Tensor]) -> Step:
    """The encoder's forward product and its weights' gradient, bare, in float32 and into memory that is there."""
    encoder = state["W_enc"].T.contiguous()
    activations = torch.empty(case.batch, case.width)
    gradient = torch.empty(case.width, case.d_in)

    def step(x: torch.Tensor) -> float:
        torch.mm(x, encoder, out=activations)
        torch.mm(activations.T, x, out=gradient)
        return float("nan")

    return step


def variance_of_token(case: Case) -> float:
    """Of the data of a case: the mean squared distance of a token from the mean token."""
    first = data(case, 1)[0]
    return float((first - first.mean(0)).pow(2).sum(1).mean())


PEERS: dict[str, Callable[[Case, dict[str, torch.Tensor]], Step]] = {
    "dictionary_learning": dictionary_learning,
    "sae_lens": sae_lens,
    "sparsify": sparsify,
}
LOOKS_LIKE = ("dictionary_learning", "sae_lens")
"""Whose manner of training ours is also timed in with bfloat16 selection."""
PACKAGES = {"dictionary_learning": "dictionary-learning", "sae_lens": "sae-lens", "sparsify": "eai-sparsify"}


def versions() -> dict[str, str | None]:
    """The peers' versions; None for one that cannot be imported here."""
    found: dict[str, str | None] = {}
    for name, make in PEERS.items():
        try:
            make(Case("topk", 64, d_in=16, batch=8, k=2), weights(Case("topk", 64, d_in=16), torch.zeros(2, 16)))
            found[name] = version(PACKAGES[name])
        except ImportError:
            found[name] = None
    return found


def quiet() -> None:
    """The peers warn of what they do without on import, and one of them asks a hub for its login."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("WANDB_MODE", "disabled")
    if "dictionary_learning" not in sys.modules and "nnsight" not in sys.modules:
        # Only its buffers need it, and it does not import beside a recent transformers everywhere.
        try:
            import nnsight  # noqa: F401
        except ImportError:
            sys.modules["nnsight"] = types.ModuleType("nnsight")
