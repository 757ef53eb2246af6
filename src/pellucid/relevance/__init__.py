"""Relevance: from an output back through every operation of a network, by rules in place of the chain rule."""

from pellucid.relevance.catalogue import DEFAULT, all_composites, composite, composites
from pellucid.relevance.composite import Composite
from pellucid.relevance.operations import Kind
from pellucid.relevance.rule import AbstractRule, AbstractTreatment, AsIs, Constant
from pellucid.relevance.trace import Trace
from pellucid.relevance.tracer import Tracer
from pellucid.relevance.tracing import trace

__all__ = [
    "DEFAULT",
    "AbstractRule",
    "AbstractTreatment",
    "AsIs",
    "Composite",
    "Constant",
    "Kind",
    "Trace",
    "Tracer",
    "all_composites",
    "composite",
    "composites",
    "trace",
]
