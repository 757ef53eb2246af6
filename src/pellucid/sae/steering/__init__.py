"""Steering by latents: changing what a model goes on with, and measuring what that does and what else it does."""

from pellucid.sae.steering.experiment import steer_experiment
from pellucid.sae.steering.generating import Sampling, answers, asked
from pellucid.sae.steering.judging import Judged, Rating, rate
from pellucid.sae.steering.matchers import AbstractMatcher, Called, Classified, Pattern
from pellucid.sae.steering.modes import MODES, AbstractMode
from pellucid.sae.steering.outcome import Summary
from pellucid.sae.steering.plan import CONTROLS, Budget, Settings, Subject
from pellucid.sae.steering.positions import Positions
from pellucid.sae.steering.steer import Steer, steered

__all__ = [
    "CONTROLS",
    "MODES",
    "AbstractMatcher",
    "AbstractMode",
    "Budget",
    "Called",
    "Classified",
    "Judged",
    "Pattern",
    "Positions",
    "Rating",
    "Sampling",
    "Settings",
    "Steer",
    "Subject",
    "Summary",
    "answers",
    "asked",
    "rate",
    "steer_experiment",
    "steered",
]
