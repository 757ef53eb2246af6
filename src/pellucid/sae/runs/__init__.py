"""Training autoencoders from a store of activations: several at a time, stopped and continued without a trace."""

from pellucid.sae.runs.fitting import Fitted, fitted
from pellucid.sae.runs.grid import Grid
from pellucid.sae.runs.plan import Plan, Planned, read_plan
from pellucid.sae.runs.record import Run, read_runs
from pellucid.sae.runs.training import train

__all__ = ["Fitted", "Grid", "Plan", "Planned", "Run", "fitted", "read_plan", "read_runs", "train"]
