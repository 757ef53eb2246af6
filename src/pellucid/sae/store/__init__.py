"""Activations of a model, kept on disk: harvested once, read as often as one likes."""

from pellucid.sae.store.corpora import AbstractCorpus, Document, Message, read_corpus
from pellucid.sae.store.estimate import Estimate
from pellucid.sae.store.harvesting import harvest
from pellucid.sae.store.job import Harvested
from pellucid.sae.store.manifest import Manifest
from pellucid.sae.store.order import Cursor
from pellucid.sae.store.reading import Batch, Store
from pellucid.sae.store.selector import TokenSelector
from pellucid.sae.store.statistics import Statistics
from pellucid.sae.store.tables import Sample

__all__ = [
    "AbstractCorpus",
    "Batch",
    "Cursor",
    "Document",
    "Estimate",
    "Harvested",
    "Manifest",
    "Message",
    "Sample",
    "Statistics",
    "Store",
    "TokenSelector",
    "harvest",
    "read_corpus",
]
