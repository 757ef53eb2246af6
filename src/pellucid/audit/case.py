"""One case: the decision, why, what would have changed it, and the record of all that."""

import time
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from pellucid.api import Asked, method_and_imputer
from pellucid.audit.attribution import Attribution
from pellucid.audit.cases import Case, Wordings
from pellucid.audit.choices import Verdict, decide
from pellucid.audit.config import AuditConfig
from pellucid.audit.counterfactual import Flip, FlipSearch
from pellucid.audit.hardware import read_machine
from pellucid.audit.keys import SiteKey
from pellucid.audit.record import (
    CaseInput,
    Change,
    Counterfactual,
    Decision,
    DecisionRecord,
    Decoding,
    Deletion,
    Environment,
    InputField,
    SelfTest,
    uuid7,
)
from pellucid.evidence import SELF_TEST, Level, removal
from pellucid.explanation import Explanation
from pellucid.memory import PeakMemory
from pellucid.models import CausalLM, Prompt, Template, TextClassifier, TextInputs
from pellucid.records import Cost

REPLAY_TOLERANCE = 1e-3
"""Largest difference of a score or log-probability at which a replay counts as the same result, in float32."""


class Audited(NamedTuple):
    """What is needed to audit cases one after the other."""

    model: CausalLM | TextClassifier
    """The model."""
    template: Template
    """The text with the fields."""
    wordings: Wordings
    """How it says values."""
    config: AuditConfig
    """The settings."""
    site: SiteKey
    """Makes digests of what the patient's text says."""
    environment: Environment
    """Where it runs."""
    search: FlipSearch | None
    """Finds changes that flip a decision; None where none is wanted."""
    run: str
    """Digest of the settings."""

    def prompt(self, case: Case) -> Prompt:
        """The text of one case."""
        return self.template(**self.wordings.words(case, self.template.fields))

    def record(self, case: Case, level: Level) -> DecisionRecord:
        """Audit one case. The record holds the text; ``redact`` takes it out."""
        started, config = _now(), self.config
        begun, before = time.perf_counter(), self.model.meter.snapshot()
        with PeakMemory() as memory:
            prompt = self.prompt(case)
            inputs = self.model.encode(prompt)
            verdict = decide(self.model, inputs, config)
            decided = time.perf_counter() - begun
            asked, explained = self._explain(prompt, verdict, level)
            explanations = [explained, *self._tokens(prompt, verdict)]
            deletion = _deletion(asked, explained)
            flip = self._flip(case, verdict, explained)
        spent = self.model.meter - before
        cost = Cost(
            forwards=spent.forwards,
            backwards=spent.backwards,
            rows=spent.rows,
            tokens=spent.tokens,
            forward_equivalents=round(spent.tokens / len(inputs.row.ids), 3),
            seconds=time.perf_counter() - begun,
            peak_memory_bytes=max(0, memory.above_bytes),
            peak_gpu_bytes=memory.gpu_bytes,
        )
        noise = _check_value(explained, "noise_floor")
        return DecisionRecord(
            record_id=uuid7(),
            started=started,
            finished=_now(),
            run=self.run,
            model=explained.fingerprint,
            input=self._input(case, inputs),
            decision=self._decision(case, verdict, decided),
            attributions=tuple(Attribution.of(each) for each in explanations),
            counterfactual=None if flip is None else self._counterfactual(case, flip),
            deletion=deletion,
            self_test=_self_test(explained),
            noise_floor=noise,
            tolerance=max(REPLAY_TOLERANCE, 4 * (noise or 0.0)),
            cost=cost,
            environment=self.environment,
            redacted=False,
        )

    def _explain(self, prompt: Prompt, verdict: Verdict, level: Level) -> tuple[Asked, Explanation]:
        config = self.config
        method, imputer = method_and_imputer(config.method, config.imputer, dict(config.settings))
        with PeakMemory() as memory:
            asked = Asked.of(
                self.model, prompt, target=verdict.target, features=config.features, imputer=imputer, seed=config.seed
            )
            return asked, asked.answer(method, level, memory)

    def _tokens(self, prompt: Prompt, verdict: Verdict) -> list[Explanation]:
        """The finer map, where one is wanted."""
        config = self.config
        if config.token_method is None:
            return []
        method, imputer = method_and_imputer(config.token_method, None, dict(config.token_settings))
        with PeakMemory() as memory:
            asked = Asked.of(
                self.model, prompt, target=verdict.target, features="token", imputer=imputer, seed=config.seed
            )
            return [asked.answer(method, "free", memory)]

    def _flip(self, case: Case, verdict: Verdict, explained: Explanation) -> Flip | None:
        if self.search is None or not verdict.options:
            return None
        scores = dict(zip(explained.feature_names, explained.values[0].tolist(), strict=True))
        values = {field: case.values[field] for field in self.template.fields}
        return self.search.run(values, verdict.output, scores if self.config.features == "field" else {})

    def _input(self, case: Case, inputs: TextInputs) -> CaseInput:
        prompt, config = inputs.prompt, self.config
        fields = [
            InputField(
                name=field.name,
                digest=self.site.digest(case.values[field.name] or "", case.id, field.name),
                value=case.values[field.name],
                wording=field.value,
                missing=field.missing,
                absent=field.absent,
                start=field.start,
                end=field.end,
            )
            for field in prompt.fields
        ]
        return CaseInput(
            case=case.id,
            digest=self.site.digest(prompt.text, case.id),
            site_key=self.site.key_id,
            template=str(config.template_file.name) if config.template_file else "inline",
            template_digest=config.template_digest(),
            tokens=len(inputs.row.ids),
            token_digest=self.site.digest(" ".join(map(str, inputs.row.ids)), case.id, "tokens"),
            text=prompt.text,
            fields=tuple(fields),
        )

    def _decision(self, case: Case, verdict: Verdict, seconds: float) -> Decision:
        chosen = bool(verdict.options)
        generate = self.config.generate
        return Decision(
            kind="choice" if chosen else "generated",
            options=verdict.options,
            probabilities=verdict.probabilities,
            chosen=verdict.output if chosen else None,
            output_digest=self.site.digest(verdict.output, case.id, "output"),
            output=None if chosen else verdict.output,
            token_ids=None if chosen else verdict.token_ids,
            log_probs=verdict.log_probs,
            seconds=seconds,
            decoding=None if generate is None else Decoding(**generate.model_dump()),
        )

    def _counterfactual(self, case: Case, flip: Flip) -> Counterfactual:
        changes = [
            Change(
                field=field,
                before=case.values[field],
                after=value,
                before_digest=self.site.digest(case.values[field] or "", case.id, field),
                after_digest=self.site.digest(value or "", case.id, field),
            )
            for field, value in flip.changes.items()
        ]
        return Counterfactual(
            found=bool(changes),
            changes=tuple(changes),
            decision=flip.decision or None,
            probability=flip.probability if changes else None,
            evaluations=flip.evaluations,
            searched=flip.searched,
            exhaustive=flip.exhaustive,
        )


def environment_of(model: CausalLM | TextClassifier) -> Environment:
    """Where a model runs."""
    machine = read_machine()
    return Environment(
        system=machine.system,
        python=machine.python,
        versions=machine.versions,
        cpu=machine.cpu,
        gpu=machine.gpu if model.device.type == "cuda" else None,
        threads=machine.threads,
        dtype=str(model.dtype).removeprefix("torch."),
    )


def _deletion(asked: Asked, explained: Explanation) -> Deletion:
    """One random order a case: the cohort pools them. Coalitions that the method played are not played again."""
    question = asked.question
    found = removal(question.game, explained.values.sum(0).astype(np.float64), 1, question.seed)
    by_score, at_random = (tuple(curve.tolist()) for curve in found.curves)
    return Deletion(removed=tuple(found.removed.tolist()), by_score=by_score, at_random=at_random)


def _self_test(explained: Explanation) -> SelfTest | None:
    value = _check_value(explained, "self_test")
    if value is None:
        return None
    return SelfTest(max_difference=value, tolerance=SELF_TEST, passed=value <= SELF_TEST)


def _check_value(explained: Explanation, name: str) -> float | None:
    return next((check.value for check in explained.checks.items if check.name == name), None)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
