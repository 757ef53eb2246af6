"""The event store: every activation of every latent, sorted by latent, and what it tells of one."""

from pellucid.sae.events.coactivity import Partner
from pellucid.sae.events.logits import LogitEffects, TokenEffect, logits
from pellucid.sae.events.picking import Histogram, LatentEvents
from pellucid.sae.events.reading import Events

__all__ = ["Events", "Histogram", "LatentEvents", "LogitEffects", "Partner", "TokenEffect", "logits"]
