"""Every composite of relevance rules as a method: one forward and one backward pass for all targets."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from types import new_class
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pellucid.account import Account
from pellucid.errors import ModelError
from pellucid.facts import Facts
from pellucid.games import Question, summed
from pellucid.methods.base import AbstractMethod, Attribution
from pellucid.models import Model
from pellucid.models.blocks import block_names
from pellucid.progress import progress
from pellucid.records import Check
from pellucid.relevance import Composite, Tracer, all_composites
from pellucid.relevance.capture import Slot
from pellucid.relevance.experts import Router
from pellucid.relevance.precision import Precision, widened
from pellucid.relevance.refusals import check_traceable
from pellucid.relevance.rule import Carrier
from pellucid.relevance.start import carried

NUMBERS_AT_ONCE = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Numbers of the input, or of the output, over all targets that go back through the network at once."""
LEAST_LEFT = 0.01
"""Share of the relevance at the output below which what arrives at the input, of either sign, explains nothing."""
WHOLE = 0.01
"""Largest share of the relevance at a place that its parts together may miss: float error, and stabilisers."""
DRAWN_ELSEWHERE = ("gradient", "input-x-gradient")
"""Composites that have a method of their own."""


class Relevance(AbstractMethod):
    """Relevance under one composite, summed over the positions of each feature.

    It says which parts of the input the output came from inside this network, not what the output would be without
    them: no baseline stands for anything absent. ``base_values`` is what no relevance began with.
    """

    composite: ClassVar[Composite]

    strict: bool = True
    """Refuse an operation without a rule; otherwise take it to first order and say so."""
    account: bool = False
    """Keep the account of where relevance went, at twice the price."""
    router: Router = "constant"
    """Take the routing weights of a mixture of experts as constants, or trace them back through the router."""
    precision: Precision = "float32"
    """A network of half precision is traced with its weights in float32, or in the network's own dtype."""
    at_once: int | None = Field(default=None, ge=1)
    """How many targets, such as tokens of an answer, go back through the network together; None: what fits in 32 MB for
    each of the tensors on the way."""

    def rows(self, players: int) -> int:
        return 1

    def attribute(self, question: Question) -> Attribution:
        question = question._replace(model=_precise(question.model, self.precision))
        run = _Run(self.composite, question, strict=self.strict, account=self.account, router=self.router)
        found = run.pulled(self.at_once)
        owner = run.owner
        players = len(question.features)
        scores = run.scores.detach().double()[0].cpu().numpy()
        layers = [summed(each, owner, players) for each in found.layers]
        experts = [_by_expert(each, owner, players) for each in found.experts.values()]
        approximated = [f"{operation} at {place!r}" for operation, place in run.tracer.engine.approximated]
        return Attribution(
            summed(found.at_input, owner, players),
            scores - found.seeded,
            scores,
            baseline="none: relevance is not held against one",
            checks=_checks(self.composite.facts, found, approximated, run.function.where),
            places=found.places,
            layers=np.stack(layers, 1) if layers else None,
            layer_names=tuple(run.blocks) if layers else (),
            experts=np.stack(experts, 1) if experts else None,
            expert_layer_names=tuple(found.experts),
            account=run.account(float(found.seeded.sum()), float(found.arrived.sum())),
            settings={"approximated": approximated} if approximated else {},
        )


class _Found(NamedTuple):
    at_input: Float[Tensor, "target seq"]
    layers: list[Float[Tensor, "target seq"]]
    experts: dict[str, Float[Tensor, "target seq expert"]]
    places: Float[np.ndarray, "target seq place"] | None
    seeded: Float[np.ndarray, " target"]
    arrived: Float[np.ndarray, " target"]
    joined: Float[np.ndarray, " target"] | None
    """What arrived where the parts were joined, before it was divided among them; None where there is no such place."""


class _Run:
    """One traced call of a question's network."""

    def __init__(
        self, composite: Composite, question: Question, *, strict: bool, account: bool, router: Router
    ) -> None:
        model = question.model
        self.composite, self._meter = composite, model.meter
        check_traceable(model.module)
        # From the first position on, so that those before the first feature receive their share and do not pass it on.
        self.function = question.embedded(0)
        self.owner = question.owners.to(model.device)
        self.leaf = self.function.embeddings[None].detach().requires_grad_()
        # Elsewhere a layer's places are not those of the input.
        sequential = model.modality == "text" and not self.function.by_place
        self.blocks = block_names(model.module) if sequential else []
        tracer = Tracer(
            model.module, composite, keep=self.blocks, strict=strict, account=account, folded=True, router=router,
            experts=bool(self.blocks),
        )  # fmt: skip
        with torch.inference_mode(mode=False), torch.enable_grad(), logits_alone(model.module), tracer:
            self.scores: Float[Tensor, "row target"] = self.function(self.leaf)
        self.tracer = tracer
        self._joined = [Slot(each, composite.carrier, folded=True) for each in self.function.joined]
        if not tracer.outputs or not self.scores.requires_grad:
            raise ModelError(
                f"the output of {model.name} does not depend on the input under composite {composite.name!r}; use "
                "another composite, or a method that perturbs, such as kernel_shap."
            )

    def pulled(self, at_once: int | None) -> _Found:
        """Relevance of every target at the input and at each block; None: as many at a time as memory allows."""
        cuts = [each.cut for each in self.tracer.outputs]
        targets, pair = self.scores.shape[1], self.composite.carrier == "pair"
        limit = NUMBERS_AT_ONCE.get(self.leaf.device.type, NUMBERS_AT_ONCE["cuda"])
        size = at_once or max(1, limit // max(self.leaf.numel(), *(cut.numel() for cut in cuts)))
        # What is looked up beside the input, such as positions, takes its share as well.
        leaves = [self.leaf, *(each.vectors for each in self.tracer.engine.embedded)]
        rows, seeded = [], []
        with progress("Tracing back", targets) as advance:
            for start in range(0, targets, size):
                slopes = [self._slopes(target, cuts) for target in range(start, min(start + size, targets))]
                begun = [torch.stack(each) for each in zip(*slopes, strict=True)]
                seeds = [_seed(one, cut.detach(), self.composite.carrier) for one, cut in zip(begun, cuts, strict=True)]
                # A coefficient times its value is the relevance; that of a pair is the difference of the two.
                starts = seeds if pair else [one * cut.detach() for one, cut in zip(begun, cuts, strict=True)]
                seeded.append(torch.stack([_totals(_difference(each, pair)) for each in starts]).sum(0))
                rows.append(self.tracer.pull(seeds, leaves, again=start + size < targets))
                self._meter.backwards += len(slopes)
                advance(len(slopes))
        found = [torch.cat(each) for each in zip(*rows, strict=True)]
        if self.composite.carrier == "coefficient":
            found = [each.float() * leaf.detach().float() for each, leaf in zip(found, leaves, strict=True)]
        at_input, *beside = (_difference(each, pair) for each in found)
        arrived = torch.stack([_totals(each) for each in (at_input, *beside)]).sum(0)
        return _Found(
            at_input.sum(-1)[:, 0],
            self._layers(len(found[0]), pair),
            self._experts(len(found[0]), pair),
            at_input[:, 0].double().cpu().numpy() if self.function.by_place else None,
            torch.cat(seeded).cpu().numpy(),
            arrived.cpu().numpy(),
            self._at_joint(len(found[0]), pair),
        )

    def _at_joint(self, rows: int, pair: bool) -> Float[np.ndarray, " target"] | None:
        there = [_totals(_difference(each.relevance(rows), pair)) for each in self._joined]
        return torch.stack(there).sum(0).cpu().numpy() if there else None

    def account(self, seeded: float, arrived: float) -> Account | None:
        """The account of the whole run, if one was kept."""
        book = self.tracer.engine.book
        return None if book is None else book.account(seeded, arrived)

    def _slopes(self, target: int, cuts: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.scores[0, target], cuts, retain_graph=True, materialize_grads=True)

    def _layers(self, rows: int, pair: bool) -> list[Tensor]:
        """Relevance [target, seq] at each block's output; what a forced answer adds behind the input is left out."""
        slots = self.tracer.slots
        length = self.leaf.shape[1]
        # Behind the site of a latent that is explained nothing is traced.
        reached = [name for name in self.blocks if slots.get((name, 0))]
        found = [slots[name, 0][0].relevance(rows) for name in reached]
        before, self.blocks = self.blocks[: len(reached)], reached
        if reached != before or any(each.ndim != 3 or each.shape[2] < length for each in found):
            return []
        return [_difference(each, pair)[:, 0, :length] for each in found]

    def _experts(self, rows: int, pair: bool) -> dict[str, Tensor]:
        """Relevance [target, seq, expert] of every mixture; of fewer experts than others have, the rest is 0."""
        length = self.leaf.shape[1]
        found = {name: said for (name, call), said in self.tracer.said.items() if call == 0 and said.slot is not None}
        if any(len(each.chosen) < length for each in found.values()):
            return {}
        most = max((each.experts for each in found.values()), default=0)
        whole = {name: _difference(each.relevance(rows), pair)[:, :length] for name, each in found.items()}
        return {name: nn.functional.pad(each, (0, most - each.shape[-1])) for name, each in whole.items()}


def _precise(model: Model, precision: Precision) -> Model:
    """The model itself, or one of half precision as one that computes in float32 and shares its meter."""
    network = widened(model.module) if precision == "float32" else model.module
    if network is model.module:
        return model
    twin = copy(model)
    twin.module = network
    return twin


@contextmanager
def logits_alone(module: nn.Module) -> Iterator[None]:
    """Inside, logits that the network wraps in an object of its own come without it, where a trace can see them."""

    def unwrap(part: nn.Module, args: Any, output: Any) -> Any:
        seen = any(isinstance(each, Tensor) for each in tree_leaves(output))
        return output if seen else getattr(output, "logits", output)

    hook = module.register_forward_hook(unwrap)
    try:
        yield
    finally:
        hook.remove()


def _seed(slopes: Float[Tensor, "target ..."], z: Tensor, carrier: Carrier) -> Float[Tensor, "row ..."]:
    """What each target begins with at an output; nothing where it does not depend on it."""
    seed = carried(slopes, z, carrier)
    depends = (slopes != 0).flatten(1).any(1).repeat_interleave(len(seed) // len(slopes))
    return seed * depends.view(-1, *(1 for _ in z.shape))


def _by_expert(
    relevance: Float[Tensor, "target seq expert"], owner: Int[Tensor, " seq"], players: int
) -> Float[np.ndarray, "target player expert"]:
    return np.stack([summed(each, owner, players) for each in relevance.unbind(-1)], -1)


def _difference(rows: Tensor, pair: bool) -> Tensor:
    return rows[0::2] - rows[1::2] if pair else rows


def _totals(relevance: Tensor) -> Tensor:
    return relevance.double().flatten(1).sum(1)


def _checks(facts: Facts, found: _Found, approximated: list[str], where: str) -> tuple[Check, ...]:
    """What the run itself tells: how much came through, and what has no rule."""
    checks = []
    if facts.conserving:
        seeded, arrived = found.seeded.sum(), found.arrived.sum()
        share = float(np.abs(arrived) / max(np.abs(seeded), np.finfo(np.float32).tiny))
        detail = (
            f"of a relevance of {seeded:.4g} at the output {arrived:.4g} arrived at {where}; biases and constants on "
            "the way absorbed or added the rest (checks='full' accounts for it)."
        )
        checks.append(Check(name="arrival", value=share, threshold=None, passed=None, decisive=False, detail=detail))
        checks += _reach(found)
    if found.joined is not None:
        checks.append(_whole(found, found.joined, facts))
    if approximated:
        detail = f"no rule is there for {', '.join(approximated)}, which were taken to first order."
        checks.append(
            Check(name="rules", value=len(approximated), threshold=0, passed=False, decisive=False, detail=detail)
        )
    return tuple(checks)


def _whole(found: _Found, joined: Float[np.ndarray, " target"], facts: Facts) -> Check:
    """Whether the parts of what passes at a place have, together, the relevance that arrived there."""
    scale = np.maximum(np.abs(joined), found.at_input.double().abs().amax(1).cpu().numpy())
    gap = float(np.max(np.abs(found.arrived - joined) / np.maximum(scale, np.finfo(np.float32).tiny)))
    return Check(
        name="completeness",
        value=gap,
        threshold=WHOLE,
        passed=gap <= WHOLE if facts.conserving else None,
        decisive=False,
        detail=f"latents, error and bias have {found.arrived.sum():.4g} of the {joined.sum():.4g} that arrived at "
        f"their site: a gap of {gap:.2%}, of which {WHOLE:.0%} is allowed.",
    )


def _reach(found: _Found) -> list[Check]:
    """A failed check where next to nothing of what began at the output is left at the input, of either sign."""
    left = found.at_input.double().abs().sum(1).cpu().numpy()
    shares = left / np.maximum(np.abs(found.seeded), np.finfo(np.float32).tiny)
    if shares.min() >= LEAST_LEFT:
        return []
    detail = (
        f"biases and constants absorbed nearly all on the way, and what is drawn is the {shares.min():.2%} that they "
        "left; take another composite, such as reslrp, or a method that perturbs."
    )
    share = float(shares.min())
    return [Check(name="reach", value=share, threshold=LEAST_LEFT, passed=False, decisive=False, detail=detail)]


def relevance_method(composite: Composite) -> type[Relevance]:
    """The method of a composite, which has its name and facts."""
    # A class as if it had been written out: its docstring is what the composite is.
    body: dict[str, Any] = {
        "__doc__": f"{composite.facts.title} [{composite.facts.source}].\n\n{Relevance.__doc__}",
        "__module__": __name__,
        "composite": composite,
        "facts": composite.facts,
        "__annotations__": {"composite": ClassVar[Composite], "facts": ClassVar[Facts]},
    }
    name = "".join(part.capitalize() for part in composite.name.split("-"))
    made: type[Relevance] = new_class(name, (Relevance,), exec_body=lambda space: space.update(body))
    return made


def relevance_methods() -> dict[str, type[Relevance]]:
    """A method for every composite that has none of its own."""
    return {name: relevance_method(each) for name, each in all_composites().items() if name not in DRAWN_ELSEWHERE}
