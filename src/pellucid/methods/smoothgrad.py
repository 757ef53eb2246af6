"""SmoothGrad: the gradient averaged over noisy copies of the input."""

from typing import Annotated, ClassVar, final

import numpy as np
import torch
from pydantic import Field

from pellucid.facts import Facts
from pellucid.games import Question
from pellucid.games.path import Path
from pellucid.methods.base import AbstractMethod, Attribution
from pellucid.progress import progress


@final
class SmoothGrad(AbstractMethod):
    """Mean over n noisy inputs of x . df/dx at x + noise [smilkov2017, section 2], with its standard error.

    The noise is Gaussian, its deviation a fraction of the deviation of the input's own embeddings.
    """

    samples: Annotated[int, Field(ge=2)] = 25
    """Noisy copies of the input."""
    noise: Annotated[float, Field(gt=0)] = 0.1
    """Deviation of the noise, as a fraction of the deviation of the embeddings."""
    facts: ClassVar[Facts] = Facts(
        name="smoothgrad",
        title="SmoothGrad x Input",
        family="gradient",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("gradient",),
        sampled=True,
        cost="samples (forward + 1 backward a target) + 2 forward passes",
        source="Smilkov et al. 2017, section 2",
    )

    def rows(self, players: int) -> int:
        return self.samples + 2

    def attribute(self, question: Question) -> Attribution:
        path = Path(question, "zero")
        generator = torch.Generator().manual_seed(question.seed)
        spread = self.noise * float(path.input.float().std(correction=0))
        owned = (path.owner >= 0)[:, None]
        found = []
        with progress("Smoothing gradients", self.samples) as advance:
            for part in path.chunks(self.samples):
                size = (part.stop - part.start, *path.input.shape)
                noise = spread * torch.randn(size, generator=generator).to(path.input)
                _, gradients = path.gradients(path.input + noise * owned)
                found += [path.to_features(each) for each in torch.einsum("tbsd,sd->bts", gradients, path.input)]
                advance(part.stop - part.start)
        draws = np.stack(found)
        base, full = path.value(path.at(torch.tensor([0.0, 1.0])))
        error = draws.std(0, ddof=1) / len(draws) ** 0.5
        return Attribution(draws.mean(0), base.cpu().numpy(), full.cpu().numpy(), error)
