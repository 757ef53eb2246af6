"""The scalar that is explained. A target is an object, never a bare index.

Every target is defined over *alternatives*: a class of a classifier, or a text that a language model could answer.
An alternative is scored token by token (a class has one token): ``logit`` of the token, and ``rest``, the logsumexp of
all other logits at that place. From these follow, without cancellation,

    margin = logit - rest          log p = -softplus(rest - logit)

so that a target never needs to know which kind of model it is asked of.
"""

from typing import Annotated

from pydantic import Field

from pellucid.targets.answers import Answer, Choice, Contrast, Generated, Options, Tokens
from pellucid.targets.base import AbstractTarget, Alternative
from pellucid.targets.classes import Logit, Margin, Token
from pellucid.targets.latents import Latent
from pellucid.targets.masks import RunLengths
from pellucid.targets.places import AbstractPlace, Box, Pixel, Region, Step, predicted_classes

Target = Annotated[
    Logit
    | Margin
    | Token
    | Tokens
    | Answer
    | Options
    | Choice
    | Contrast
    | Generated
    | Region
    | Pixel
    | Box
    | Step
    | Latent,
    Field(discriminator="kind"),
]
"""Any target; the fixed registry that saved explanations are read with."""

__all__ = [
    "AbstractPlace",
    "AbstractTarget",
    "Alternative",
    "Answer",
    "Box",
    "Choice",
    "Contrast",
    "Generated",
    "Latent",
    "Logit",
    "Margin",
    "Options",
    "Pixel",
    "Region",
    "RunLengths",
    "Step",
    "Target",
    "Token",
    "Tokens",
    "predicted_classes",
]
