"""A language model in this process as a judge and as an explainer."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError, ModelError, NumericalError
from pellucid.models.causal_lm import Cache as Keys
from pellucid.models.causal_lm import CausalLM
from pellucid.models.making import LoadedModel
from pellucid.models.tokens import Row
from pellucid.sae.interpretation.asking import Answer, Ledger, Question, Step
from pellucid.sae.interpretation.budget import Budget
from pellucid.sae.interpretation.cache import Cache
from pellucid.targets import Generated

BATCH_TOKENS = 2048
"""New tokens that are run at a time, where the memory of an accelerator is not asked for."""


@final
class LocalLLM:
    """A decoder of pellucid. Labels are chosen by the log-probabilities of "0" and "1", so that every one can be read.

    What the questions of one latent begin with is run once, where the model's past can be kept.

    Args:
        model: a causal language model.
        budget: what may be spent.
        cache: answers of before.
    """

    sees = False
    per_prompt = 1

    def __init__(self, model: LoadedModel, budget: Budget | None = None, cache: Cache | None = None) -> None:
        if not isinstance(model, CausalLM):
            raise InputError(f"{model.name} is no language model, so it can neither explain nor judge; take another.")
        self.name, self._model, self._cache = model.name, model, cache
        self._budget, self.notes = budget or Budget(), list[str]()
        self._digits = {digit: _last_token(model, digit) for digit in "01"}
        if len(set(self._digits.values())) < 2:
            raise ModelError(f"{model.name} has no tokens for 0 and 1, so it cannot judge; use another model.")
        self._identity = model.fingerprint().weights if cache else ""

    @property
    def ledger(self) -> Ledger:
        """What was spent since this object was made."""
        return self._budget.ledger

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers, in order. Raises ModelError where the budget is used up, ContextLengthError on a long prompt."""
        found: dict[int, Answer] = {}
        for group in self._groups(questions, found):
            begun = time.perf_counter()
            answers = self._judged([questions[number] for number in group])
            seconds = time.perf_counter() - begun
            for number, answer in zip(group, answers, strict=True):
                self._keep(questions[number], answer, seconds / len(group))
                found[number] = answer
        return [found[number] for number in range(len(questions))]

    def _groups(self, questions: Sequence[Question], found: dict[int, Answer]) -> Iterator[list[int]]:
        """Questions that are answered together: those for one label, as many as fit; others one by one."""
        group: list[int] = []
        tokens = 0
        for number, question in enumerate(questions):
            known = self._cache.get(self._digest(question)) if self._cache else None
            if known is not None:
                self._budget.add(Ledger(cached=1))
                found[number] = known
                continue
            length = len(_written(question)) // 3
            together = question.labels == 1 and (not group or questions[group[0]].labels == 1)
            if group and (not together or tokens + length > BATCH_TOKENS):
                yield group
                group, tokens = [], 0
            try:
                self._budget.begin()
            except ModelError:
                # What was still paid for is answered, and so kept.
                if group:
                    yield group
                raise
            group.append(number)
            tokens += length
        if group:
            yield group

    def _digest(self, question: Question) -> str:
        return hashlib.sha256(f"{self._identity}{question.digest}".encode()).hexdigest()

    def _keep(self, question: Question, answer: Answer, seconds: float) -> None:
        tokens = {"tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out}
        self._budget.add(Ledger(calls=1, seconds=seconds, **tokens))
        if self._cache:
            self._cache.put(self._digest(question), answer)

    def _judged(self, questions: Sequence[Question]) -> list[Answer]:
        rows = [self._model.encode(self._plain(_written(question))).row for question in questions]
        if questions[0].labels == 1:
            return [self._one(logits, row) for logits, row in zip(self._next(rows), rows, strict=True)]
        (question,), (row,) = questions, rows
        return [self._several(row, question.labels) if question.labels else self._said(question, row)]

    def _plain(self, text: str) -> str:
        """The text with the model's own control tokens pulled apart: a corpus of chats holds them."""
        for token in self._model.tokenizer.all_special_tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def _said(self, question: Question, row: Row) -> Answer:
        inputs = self._model.encode(self._plain(_written(question)))
        if question.begin:
            inputs = replace(inputs, row=Row.of((*row.ids, *self._model.answer_ids(question.begin))))
        try:
            ids = self._model.generate(inputs, Generated(max_new_tokens=question.most_tokens))
        except InputError:
            # It ended its answer at once: nothing was said, which is counted and no mistake of the person's.
            ids = ()
        text = str(self._model.tokenizer.decode(list(ids), skip_special_tokens=True)) if ids else ""
        return Answer(text, (), len(row.ids), len(ids))

    def _next(self, rows: Sequence[Row]) -> Float[Tensor, "batch vocab"]:
        """Logits of the token after each row; what all rows begin with is run once."""
        model = self._model
        shared = _shared(rows) if len(rows) > 1 and model.reuses_prefix else 0
        past: Keys = []
        with torch.no_grad():
            if shared:
                begin = Row(rows[0].ids[:shared], rows[0].visible[:shared])
                past = model.run(*model.batch([begin], "left"), keep=1, cache=True).cache
            ids, visible, lengths = model.batch([Row(row.ids[shared:], row.visible[shared:]) for row in rows], "left")
            visible = torch.cat([visible.new_ones(len(rows), shared), visible], 1)
            logits = model.run(ids, visible, lengths, keep=1, past=past).logits[:, -1].float()
        if not torch.isfinite(logits).all():
            raise NumericalError(f"{self.name} returned NaN or infinite logits, so it cannot judge; use float32.")
        return logits

    def _one(self, logits: Float[Tensor, " vocab"], row: Row) -> Answer:
        step = self._step(logits)
        return Answer(step.token, (step,), len(row.ids), 1)

    def _step(self, logits: Float[Tensor, " vocab"]) -> Step:
        scores = logits.log_softmax(-1)
        told = {digit: float(scores[token]) for digit, token in self._digits.items()}
        return Step(max(told, key=told.__getitem__), told)

    def _several(self, row: Row, count: int) -> Answer:
        """A list of labels, of which the model chooses each and nothing else."""
        ids, between = (*row.ids, *self._model.answer_ids('{"labels": [')), self._model.answer_ids(", ")
        steps: list[Step] = []
        for _ in range(count):
            step = self._step(self._next([Row.of(ids)])[0])
            ids = (*ids, self._digits[step.token], *between)
            steps.append(step)
        text = f'{{"labels": [{", ".join(step.token for step in steps)}]}}'
        return Answer(text, tuple(steps), len(row.ids), count)


def _written(question: Question) -> str:
    # The chat template's system message is the model's own, which a prompt cannot change.
    return f"{question.system}\n\n{question.user}"


def _shared(rows: Sequence[Row]) -> int:
    """How many tokens all rows begin with, less than any has."""
    columns = zip(*(row.ids[:-1] for row in rows), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def _last_token(model: CausalLM, digit: str) -> int:
    # Some tokenizers put a token for the beginning of a word before it.
    return model.answer_ids(digit)[-1]
