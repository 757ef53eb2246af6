"""How good an autoencoder is: reconstruction, the model's loss, probes, and dictionaries whose truth is known."""

from pellucid.sae.evaluation.evaluating import evaluate
from pellucid.sae.evaluation.probing import Labelled, read_labelled
from pellucid.sae.evaluation.records import (
    Densities,
    Evaluation,
    Interval,
    Loss,
    Probe,
    Probing,
    Quality,
    Similarity,
)
from pellucid.sae.evaluation.recovery import Recovery, recovery
from pellucid.sae.evaluation.synthetic import Draw, Superposition

__all__ = [
    "Densities",
    "Draw",
    "Evaluation",
    "Interval",
    "Labelled",
    "Loss",
    "Probe",
    "Probing",
    "Quality",
    "Recovery",
    "Similarity",
    "Superposition",
    "evaluate",
    "read_labelled",
    "recovery",
]
