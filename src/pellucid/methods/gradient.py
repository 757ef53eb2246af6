"""The plain gradient, and its product with the input."""

from typing import ClassVar, final

from pellucid.facts import Facts
from pellucid.games import Question
from pellucid.games.path import Path
from pellucid.methods.base import AbstractMethod, Attribution


@final
class Gradient(AbstractMethod):
    """Euclidean norm of the gradient at each token's embedding, summed over its tokens [simonyan2014, section 3].

    How steep the target is, not what the input contributes: unsigned, and in no sense complete.
    """

    facts: ClassVar[Facts] = Facts(
        name="gradient",
        title="Gradient norm (saliency)",
        unit="norm of the gradient",
        family="gradient",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("gradient",),
        signed=False,
        cost="2 forward passes and 1 backward pass a target",
        source="Simonyan et al. 2014, section 3",
    )

    def rows(self, players: int) -> int:
        return 2

    def attribute(self, question: Question) -> Attribution:
        path = Path(question, "zero")
        scores, gradients = path.gradients(path.input[None])
        base = path.value(path.baseline[None])[0]
        return Attribution(path.to_features(gradients[:, 0].norm(dim=-1)), base.cpu().numpy(), scores[0].cpu().numpy())


@final
class InputXGradient(AbstractMethod):
    """Gradient times the distance from a baseline: phi_t = (x_t - b) . df/dx_t [shrikumar2017, section 2].

    With the zero baseline this is Input x Gradient as usually meant. Exact for a linear model; elsewhere the
    first-order guess, whose completeness gap says how far the model is from linear here.
    """

    baseline: str = "zero"
    """What stands for an absent position."""
    facts: ClassVar[Facts] = Facts(
        name="input_x_gradient",
        title="Input x Gradient",
        family="gradient",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("gradient", "baseline"),
        cost="2 forward passes and 1 backward pass a target",
        source="Shrikumar et al. 2017, section 2",
    )

    def rows(self, players: int) -> int:
        return 2

    def attribute(self, question: Question) -> Attribution:
        path = Path(question, self.baseline)
        scores, gradients = path.gradients(path.input[None])
        products = gradients[:, 0].double() * (path.input - path.baseline).double()
        base = path.value(path.baseline[None])[0]
        return Attribution(
            path.to_features(products.sum(-1)),
            base.cpu().numpy(),
            scores[0].cpu().numpy(),
            baseline=path.described,
            places=path.by_place(products),
        )
