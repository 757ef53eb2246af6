"""Expected gradients: integrated gradients averaged over baselines that are real inputs."""

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
class ExpectedGradients(AbstractMethod):
    """E over baselines b and a ~ U[0, 1] of (x - b) . df/dx at b + a (x - b) [erion2021, eq. 4], with standard errors.

    A baseline is another picture or table row of the background; in a text, a token drawn at random from the vocabulary
    in place of each token of a feature. ``a`` is drawn by strata. Complete in expectation: the scores sum to
    f(x) - E f(b) within their standard error.
    """

    samples: Annotated[int, Field(ge=2)] = 64
    """Pairs of a baseline and a point on its path."""
    facts: ClassVar[Facts] = Facts(
        name="expected_gradients",
        title="Expected gradients",
        family="gradient",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("gradient", "background"),
        complete=True,
        sampled=True,
        cost="samples (2 forward + 1 backward a target) + 1 forward passes",
        source="Erion et al. 2021, eq. 4",
    )

    def rows(self, players: int) -> int:
        return 2 * self.samples + 1

    def attribute(self, question: Question) -> Attribution:
        path = Path(question, "zero")
        generator = torch.Generator().manual_seed(question.seed)
        shares = (
            torch.randperm(self.samples, generator=generator) + torch.rand(self.samples, generator=generator)
        ) / self.samples
        others = question.stand_ins(self.samples, generator)
        owned = (path.owner >= 0)[:, None]
        found, bases = [], []
        with progress("Expecting gradients", self.samples) as advance:
            for part in path.chunks(self.samples):
                baselines = torch.where(owned, others.embedding[part, path.function.offset :], path.input)
                distance = path.input - baselines
                _, gradients = path.gradients(baselines + shares[part].to(path.input)[:, None, None] * distance)
                found += [path.to_features(each) for each in torch.einsum("tbsd,bsd->bts", gradients, distance)]
                bases.append(path.value(baselines))
                advance(part.stop - part.start)
        draws = np.stack(found)
        base, full = torch.cat(bases).mean(0).cpu().numpy(), path.value(path.input[None])[0].cpu().numpy()
        error = draws.std(0, ddof=1) / len(draws) ** 0.5
        return Attribution(draws.mean(0), base, full, error, baseline=others.described)
