"""Scoring many token sequences with as little work as an exact result allows.

A causal model sees the same keys and values for a prefix whatever follows it. Sorted, neighbouring sequences share long
prefixes: each call starts from the cache of the longest one, cropped. Where several neighbours have short rests, the
rests go through the network together. The answer is teacher-forced in the same call, and the output head sees only its
positions.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from pellucid.games.game import Values
from pellucid.models import AbstractTextModel, BoundTarget, CausalLM, Row
from pellucid.models.base import alternative
from pellucid.models.causal_lm import Cache
from pellucid.progress import Advance
from pellucid.targets import Alternative

# What a call costs beside its tokens, in tokens: reading the weights and starting a few hundred kernels. On two quiet
# CPU cores SmolLM2 took 99, 136, 268 and 452 ms for 10, 30, 120 and 250 tokens. A GPU needs thousands to notice them.
OVERHEAD_TOKENS = {"cpu": 55, "cuda": 2000}
# Most new tokens, and most tokens with their prefixes, that go through the network together: it bounds the memory.
GROUP_NEW_TOKENS = {"cpu": 1024, "cuda": 32768}
GROUP_ALL_TOKENS = {"cpu": 4096, "cuda": 131072}
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
MOST_IN_A_GROUP = 16

Scorer = Callable[[Sequence[Row], Advance], Values]


def scorer_for(model: AbstractTextModel, target: BoundTarget) -> Scorer:
    """The scorer that fits the model: prefix reuse for a causal one, plain batches for an encoder."""
    budget = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"])
    if isinstance(model, CausalLM):
        # Recurrent layers would also see the padding of a batch, so their rows go through one by one.
        budget = budget if model.hides_padding else 0
        return PrefixScorer(model, target) if model.reuses_prefix else BatchScorer(model, target, budget)
    return BatchScorer(model, target, budget)


class BatchScorer:
    """Scores rows in batches of similar length, of at most ``budget`` tokens or one row."""

    def __init__(self, model: AbstractTextModel, target: BoundTarget, budget: int) -> None:
        self._model, self._target, self._budget = model, target, budget

    def __call__(self, rows: Sequence[Row], advance: Advance) -> Values:
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
        values: list[np.ndarray] = [np.empty(0)] * len(rows)
        while order:
            size = 1
            while size < len(order) and (size + 1) * len(rows[order[size]].ids) <= self._budget:
                size += 1
            batch, order = order[:size], order[size:]
            scored = self._target.target.score(self._model.alternatives([rows[index] for index in batch], self._target))
            for index, value in zip(batch, scored.double().cpu().numpy(), strict=True):
                values[index] = value
            advance(size)
        return np.stack(values)


class _Sequence(NamedTuple):
    """A row with a teacher-forced continuation, as it goes through the network."""

    keys: tuple[int, ...]
    """Twice the token id, plus one where the token is visible: two sequences with equal keys score alike."""
    row: int
    """Which row it belongs to."""
    fed: tuple[int, ...]
    """The answer's tokens that are fed, all but the last."""

    @property
    def reusable(self) -> int:
        """How many of its first positions may come from a cache: logits are needed at all later ones."""
        return len(self.keys) - len(self.fed) - 1


class PrefixScorer:
    """Scores rows of a causal model, computing every shared prefix as seldom as it pays.

    Exact up to float rounding: only the shapes of the matrix products change. ``self_test`` measures that.
    """

    def __init__(self, model: CausalLM, target: BoundTarget) -> None:
        self._model, self._target = model, target
        self._fed = sorted({answer[:-1] for answer in target.alternatives})
        kind = model.device.type if model.device.type in OVERHEAD_TOKENS else "cuda"
        self._overhead = OVERHEAD_TOKENS[kind]
        self._most_new, self._most = GROUP_NEW_TOKENS[kind], GROUP_ALL_TOKENS[kind]
        # Kept from call to call: a method asks for its coalitions, the full and the empty one in turn.
        self._cached: tuple[int, ...] = ()
        self._cache: Cache = []
        self._reused: dict[Row, np.ndarray] = {}
        config = model.module.config.get_text_config()
        windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
        self._window = min((int(window) for window in windows if window), default=1 << 62)

    def __call__(self, rows: Sequence[Row], advance: Advance) -> Values:
        parts: dict[tuple[int, tuple[int, ...]], Float[torch.Tensor, "token vocab"]] = {}
        values: list[np.ndarray] = [np.empty(0)] * len(rows)
        plain: set[int] = set()
        for sequence, logits, start in self._logits(self._sorted(rows), advance):
            parts[sequence.row, sequence.fed] = logits
            if not start:
                plain.add(sequence.row)
            if all((sequence.row, fed) in parts for fed in self._fed):
                found = {fed: parts.pop((sequence.row, fed)) for fed in self._fed}
                values[sequence.row] = self._score(found)
        self._reused.update(
            (row, value) for index, (row, value) in enumerate(zip(rows, values, strict=True)) if index not in plain
        )
        return np.stack(values)

    def self_test(self, row: Row) -> float:
        """Largest difference between the cached and the plain score of one row; 0 where there is no prefix to reuse."""
        if len(row.ids) < 2:
            return 0.0
        plain = self._target.target.score(self._model.alternatives([row], self._target))
        if row not in self._reused:
            # A shorter sequence before it makes the row start from a cropped cache.
            self([Row(row.ids[:-1], row.visible[:-1])], lambda steps: None)
            self([row], lambda steps: None)
        return float(np.abs(plain[0].double().cpu().numpy() - self._reused.pop(row)).max())

    def _sorted(self, rows: Sequence[Row]) -> list[_Sequence]:
        sequences = []
        for index, row in enumerate(rows):
            for fed in self._fed:
                keys = tuple(2 * token + seen for token, seen in zip(row.ids, row.visible, strict=True))
                sequences.append(_Sequence(keys + tuple(2 * token + 1 for token in fed), index, fed))
        return sorted(sequences)

    def _score(self, logits: dict[tuple[int, ...], Float[torch.Tensor, "token vocab"]]) -> np.ndarray:
        device = self._model.device
        alternatives: list[Alternative] = [
            alternative(logits[answer[:-1]][None], torch.tensor(answer, device=device))
            for answer in self._target.alternatives
        ]
        scores: torch.Tensor = self._target.target.score(alternatives)
        return scores[0].double().cpu().numpy()

    def _logits(
        self, order: Sequence[_Sequence], advance: Advance
    ) -> Iterator[tuple[_Sequence, Float[torch.Tensor, "token vocab"], int]]:
        """Each sequence with its logits, and how many of its positions came from a cache."""
        shared = [0, *(_shared(one.keys, other.keys) for one, other in pairwise(order))]
        done = 0
        while done < len(order):
            reach = _shared(self._cached, order[done].keys)
            size = self._group_size(order, shared, done, reach)
            group = order[done : done + size]
            common = min([*shared[done + 1 : done + size], *(one.reusable for one in group)])
            if size == 1:
                common = min(reach, common)
                logits = self._extend(group[0], common)
            else:
                trunk = _Sequence(group[0].keys[:common], -1, ())
                if common > reach:
                    self._extend(trunk, reach)
                else:
                    self._cached, self._cache = trunk.keys, _cropped(self._cache, common)
                logits, _ = self._run(group, common, self._cache, keep_cache=False)
            yield from zip(group, logits, [common] * size, strict=True)
            advance(size)
            done += size

    def _extend(self, sequence: _Sequence, start: int) -> list[Float[torch.Tensor, "token vocab"]]:
        """Logits of one sequence that starts from the kept cache, cropped; its own cache is kept instead."""
        logits, self._cache = self._run([sequence], start, _cropped(self._cache, start), keep_cache=True)
        self._cached = sequence.keys
        return logits

    def _group_size(self, order: Sequence[_Sequence], shared: Sequence[int], done: int, reach: int) -> int:
        """How many of the next sequences to run together: the number that saves most over running them in turn."""
        best, most = 1, 0.0
        common = order[done].reusable
        in_turn = self._overhead + len(order[done].keys) - min(reach, common)
        longest = len(order[done].keys)
        for size in range(2, min(MOST_IN_A_GROUP, len(order) - done) + 1):
            last = order[done + size - 1]
            in_turn += self._overhead + len(last.keys) - min(shared[done + size - 1], last.reusable)
            common = min(common, shared[done + size - 1], last.reusable)
            longest = max(longest, len(last.keys))
            # Padding between a prefix and shorter rests would push the prefix out of an attention window.
            if longest > self._window and len(last.keys) != len(order[done].keys):
                break
            trunk = self._overhead + common - reach if common > reach else 0
            together = trunk + self._overhead + size * (longest - common)
            if size * (longest - common) > self._most_new or size * longest > self._most:
                break
            if in_turn - together > most:
                best, most = size, in_turn - together
        return best

    def _run(
        self, group: Sequence[_Sequence], start: int, past: Cache, *, keep_cache: bool
    ) -> tuple[list[Float[torch.Tensor, "token vocab"]], Cache]:
        """Logits for each sequence from position ``start`` on, which all of them reach from the same past."""
        rests = [
            Row(tuple(key >> 1 for key in one.keys[start:]), tuple(bool(key & 1) for key in one.keys[start:]))
            for one in group
        ]
        ids, visible, lengths = self._model.batch(rests, "left")
        before = torch.tensor([bool(key & 1) for key in group[0].keys[:start]], device=visible.device, dtype=torch.bool)
        visible = torch.cat([before.expand(len(group), -1), visible], 1)
        keep = max(len(one.fed) for one in group) + 1
        with torch.no_grad():
            out = self._model.run(ids, visible, lengths, keep=keep, past=past, cache=keep_cache)
        return [logits[keep - len(one.fed) - 1 :] for one, logits in zip(group, out.logits, strict=True)], out.cache


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def _cropped(cache: Cache, length: int) -> Cache:
    return [(key[:, :, :length], value[:, :, :length]) for key, value in cache] if length else []
