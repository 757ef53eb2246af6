"""Captum's methods that take gradients, on the embeddings of the input and pellucid's baselines."""

from abc import abstractmethod
from typing import Annotated, ClassVar, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pellucid.benchmark.peers.base import ANY, AbstractPeer, ForeignCode
from pellucid.benchmark.peers.captum_games import SOURCE, VERSION
from pellucid.benchmark.peers.scoring import Scored
from pellucid.facts import Facts
from pellucid.games import Path, Question
from pellucid.methods import Attribution


class AbstractCaptumGradient(AbstractPeer):
    """A method of Captum that differentiates. Scores of an embedding's numbers are summed over a feature's positions.

    Each target is asked for by itself, and rows count for each.
    """

    library: ClassVar[str] = "captum"
    baseline: str | None = None
    """What stands for an absent position; None: the mean, or for a text the mask, padding or end-of-text token."""

    def run(self, question: Question, code: ForeignCode) -> Attribution:
        path = Path(question, self.baseline)
        network = self.network(question, path)
        base, full = path.value(torch.stack([path.baseline, path.input])).cpu().numpy()
        found = [self.ask(network, path, target)[0].detach().double().sum(-1) for target in range(len(full))]
        return Attribution(
            path.to_features(torch.stack(found)),
            base,
            full,
            baseline=path.described if "baseline" in self.facts.needs else "",
            settings={"rows_asked": network.rows_asked},
        )

    def network(self, question: Question, path: Path) -> Scored:
        """What Captum differentiates."""
        return Scored(path)

    @abstractmethod
    def ask(self, network: Scored, path: Path, target: int) -> Float[Tensor, "1 seq dim"]:
        """What Captum says of one target."""


@final
class Saliency(AbstractCaptumGradient):
    """``captum.attr.Saliency``: absolute values of the gradient [kokhlikyan2020; simonyan2014, section 3]."""

    facts: ClassVar[Facts] = Facts(
        name="captum:saliency",
        title=f"Saliency ({VERSION})",
        unit="absolute gradient",
        family="gradient",
        modalities=ANY,
        needs=("gradient",),
        signed=False,
        cost="3 forward passes and 1 backward pass a target",
        source=f"{SOURCE}; Simonyan et al. 2014, section 3",
    )

    def rows(self, players: int) -> int:
        return 3

    def ask(self, network: Scored, path: Path, target: int) -> Float[Tensor, "1 seq dim"]:
        from captum.attr import Saliency as Captums

        found: Tensor = Captums(network).attribute(path.input[None], target=target)
        return found


@final
class InputXGradient(AbstractCaptumGradient):
    """``captum.attr.InputXGradient``: from zero, whatever the baseline [kokhlikyan2020; shrikumar2017, section 2]."""

    baseline: str | None = "zero"
    """What f(baseline) is told for; the library multiplies by the input itself."""
    facts: ClassVar[Facts] = Facts(
        name="captum:input_x_gradient",
        title=f"Input x Gradient ({VERSION})",
        family="gradient",
        modalities=ANY,
        needs=("gradient",),
        cost="3 forward passes and 1 backward pass a target",
        source=f"{SOURCE}; Shrikumar et al. 2017, section 2",
    )

    def rows(self, players: int) -> int:
        return 3

    def ask(self, network: Scored, path: Path, target: int) -> Float[Tensor, "1 seq dim"]:
        from captum.attr import InputXGradient as Captums

        found: Tensor = Captums(network).attribute(path.input[None], target=target)
        return found


@final
class IntegratedGradients(AbstractCaptumGradient):
    """``captum.attr.IntegratedGradients`` at fixed Gauss-Legendre points [kokhlikyan2020; sundararajan2017, eq. 1].

    On a text it runs over embeddings, which is what Captum's ``LayerIntegratedGradients`` of the embedding layer does.
    """

    steps: Annotated[int, Field(ge=1)] = 50
    """Points on the path; the library calls them ``n_steps``."""
    facts: ClassVar[Facts] = Facts(
        name="captum:integrated_gradients",
        title=f"Integrated gradients ({VERSION})",
        family="gradient",
        modalities=ANY,
        needs=("gradient", "baseline"),
        complete=True,
        cost="steps (forward + backward) + 2 forward passes, by default 50",
        source=f"{SOURCE}; Sundararajan et al. 2017, eq. 1",
        notice="Takes the steps that it is told, whether the integral has converged or not.",
    )

    def rows(self, players: int) -> int:
        return self.steps + 2

    def ask(self, network: Scored, path: Path, target: int) -> Float[Tensor, "1 seq dim"]:
        from captum.attr import IntegratedGradients as Captums

        found: Tensor = Captums(network).attribute(
            path.input[None],
            path.baseline[None],
            target=target,
            n_steps=self.steps,
            internal_batch_size=path.chunks(self.steps)[0].stop,
        )
        return found


@final
class GradientShap(AbstractCaptumGradient):
    """``captum.attr.GradientShap``: gradients at random points of the path [kokhlikyan2020; erion2021, eq. 4].

    One baseline, that of the question, and no noise on the input, as the library does by default.
    """

    samples: Annotated[int, Field(ge=1)] = 5
    """Points; the library calls them ``n_samples``."""
    facts: ClassVar[Facts] = Facts(
        name="captum:gradient_shap",
        title=f"GradientSHAP ({VERSION})",
        family="gradient",
        modalities=ANY,
        needs=("gradient", "baseline"),
        sampled=True,
        cost="samples (forward + backward) + 2 forward passes, by default 5",
        source=f"{SOURCE}; Erion et al. 2021, eq. 4",
        notice="Gives no standard errors; five points are the library's default.",
    )

    def rows(self, players: int) -> int:
        return self.samples + 2

    def ask(self, network: Scored, path: Path, target: int) -> Float[Tensor, "1 seq dim"]:
        from captum.attr import GradientShap as Captums

        whole = torch.zeros_like(path.input)[None]
        for part in path.chunks(self.samples):
            count = part.stop - part.start
            found = Captums(network).attribute(path.input[None], path.baseline[None], target=target, n_samples=count)
            whole += found * (count / self.samples)
        return whole


@final
class DeepLift(AbstractCaptumGradient):
    """``captum.attr.DeepLift``: the rescale rule, by hooks on activation modules [kokhlikyan2020; shrikumar2017]."""

    facts: ClassVar[Facts] = Facts(
        name="captum:deep_lift",
        title=f"DeepLIFT ({VERSION})",
        family="gradient",
        modalities=("image", "tabular"),
        needs=("gradient", "baseline"),
        complete=True,
        cost="4 forward passes and 1 backward pass a target",
        source=f"{SOURCE}; Shrikumar et al. 2017, section 3.5.2",
        notice="Takes ReLU6, or an activation that is a function call, as its gradient, and does not say so.",
    )

    def rows(self, players: int) -> int:
        return 4

    def network(self, question: Question, path: Path) -> Scored:
        return Scored(path, question.model.module)

    def ask(self, network: Scored, path: Path, target: int) -> Float[Tensor, "1 seq dim"]:
        from captum.attr import DeepLift as Captums

        found: Tensor = Captums(network).attribute(path.input[None], path.baseline[None], target=target)
        return found
