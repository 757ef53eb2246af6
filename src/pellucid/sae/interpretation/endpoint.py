"""A language model behind an HTTP endpoint of the form that OpenAI's has: ``POST .../chat/completions``."""

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from typing import Any, final

from pellucid.errors import InputError, ModelError
from pellucid.sae.interpretation.asking import Answer, Ledger, Question, Step
from pellucid.sae.interpretation.budget import Budget
from pellucid.sae.interpretation.cache import Cache
from pellucid.sae.interpretation.drawing import data_url
from pellucid.sae.interpretation.http import Poster, RefusedError, Reply, require_address
from pellucid.sae.interpretation.threads import mapped

KEYS = ("PELLUCID_LLM_KEY", "OPENAI_API_KEY")
"""Variables that hold the key, where none is named: the first that is set."""
TOP = 10
"""Alternatives of each token that are asked for."""
FORMATS = ("json_schema", "json_object", "text")


@final
class Endpoint:
    """A language model of an OpenAI-compatible server.

    What a server refuses by name (a JSON schema, log-probabilities, a seed ...) is left out from then on, and said in
    ``notes``. Answers are cached by all that was sent.

    Args:
        url: base address, such as http://localhost:8000/v1.
        model: the model's name there.
        key_variable: environment variable with the key; None: the first of ``KEYS`` that is set, and no key else.
        budget: what may be spent.
        cache: answers of before.
        sees: whether the model takes pictures.
        per_prompt: examples a prompt.
        threads: calls side by side.
        timeout: seconds.
        retries: attempts beyond the first.
        pause: seconds before the second attempt, doubled for each further one.
        per_minute: the most attempts a minute.
        seed: sent along, for servers that take one.

    Raises:
        InputError: the address is none, or the variable that was named holds no key.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str | None = None,
        budget: Budget | None = None,
        cache: Cache | None = None,
        sees: bool = False,
        per_prompt: int = 5,
        threads: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        pause: float = 1.0,
        per_minute: float | None = None,
        seed: int = 0,
    ) -> None:
        self.name, self.sees, self.per_prompt, self.notes = model, sees, per_prompt, list[str]()
        self._budget, self._cache, self._threads, self._seed = budget or Budget(), cache, threads, seed
        require_address(url)
        self._poster = Poster(
            f"{url.rstrip('/').removesuffix('/chat/completions')}/chat/completions", _key(key_variable),
            timeout=timeout, retries=retries, pause=pause, per_minute=per_minute,
        )  # fmt: skip
        self._lock, self._left_out, self._format = threading.Lock(), set[str](), 0

    @property
    def ledger(self) -> Ledger:
        """What was spent since this object was made."""
        return self._budget.ledger

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers, in order. Raises ModelError where none comes, or the budget is used up."""
        return mapped(self._answer, questions, self._threads)

    def _answer(self, question: Question, stop: threading.Event) -> Answer:
        wanted = self._wanted(question)
        digest = hashlib.sha256(json.dumps([self._poster.url, wanted], sort_keys=True).encode()).hexdigest()
        known = self._cache.get(digest) if self._cache else None
        if known is not None:
            self._budget.add(Ledger(cached=1))
            return known
        self._budget.begin()
        try:
            reply = self._sent(wanted, stop)
            answer = _read(reply.document, self._poster.url)
        except BaseException:
            self._budget.fail()
            raise
        self._budget.add(
            Ledger(
                calls=1, tokens_in=answer.tokens_in, tokens_out=answer.tokens_out, retries=reply.retries,
                seconds=reply.seconds,
            )
        )  # fmt: skip
        if self._cache:
            self._cache.put(digest, answer)
        return answer

    def _wanted(self, question: Question) -> dict[str, Any]:
        """The request as it is before anything is left out of it."""
        content: Any = question.user
        if question.pictures:
            shown = [{"type": "image_url", "image_url": {"url": data_url(each)}} for each in question.pictures]
            content = [{"type": "text", "text": question.user}, *shown]
        wanted: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": "system", "content": question.system}, {"role": "user", "content": content}],
            "temperature": 0,
            "seed": self._seed,
            "max_tokens": question.most_tokens,
        }
        if question.answers is not None:
            schema = {"name": "answer", "strict": True, "schema": question.answers}
            wanted["response_format"] = {"type": FORMATS[0], "json_schema": schema}
        if question.labels:
            wanted |= {"logprobs": True, "top_logprobs": TOP}
        return wanted

    def _sent(self, wanted: dict[str, Any], stop: threading.Event) -> Reply:
        while True:
            known = self._state()
            try:
                return self._poster.post(self._reduced(wanted), stop)
            except RefusedError as error:
                if not self._give_way(wanted, error, known):
                    raise ModelError(_refusal(self._poster.url, error)) from None

    def _state(self) -> tuple[int, int]:
        with self._lock:
            return self._format, len(self._left_out)

    def _reduced(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """The request without what the server is known to refuse."""
        with self._lock:
            kind, left_out = FORMATS[self._format], set(self._left_out)
        sent = {name: value for name, value in wanted.items() if name not in left_out}
        if "max_tokens" in left_out:
            sent["max_completion_tokens"] = wanted["max_tokens"]
        if "response_format" in sent and kind == "text":
            del sent["response_format"]
        elif "response_format" in sent and kind == "json_object":
            sent["response_format"] = {"type": kind}
        return sent

    def _give_way(self, wanted: dict[str, Any], error: RefusedError, known: tuple[int, int]) -> bool:
        """Leave out what the server's refusal names; False where it names nothing that can be left out."""
        if error.status not in (400, 404, 422, 501):
            return False
        said = error.message.lower()
        with self._lock:
            if known != (self._format, len(self._left_out)):
                # Another thread has just learnt something; try with that first.
                return True
            if any(word in said for word in ("logprob", "log_prob")) and "logprobs" not in self._left_out:
                self._left_out |= {"logprobs", "top_logprobs"}
                return self._noted("gives no log-probabilities, so there is no AUC of its judgements")
            for name in ("max_tokens", "temperature", "seed"):
                if name in said and name in wanted and name not in self._left_out:
                    self._left_out.add(name)
                    return self._noted(f"takes no {name}, which was left out")
            if "schema" in said or "format" in said or "grammar" in said:
                return "response_format" in wanted and self._loosen()
        return False

    def _loosen(self) -> bool:
        if self._format + 1 == len(FORMATS):
            return False
        refused, self._format = FORMATS[self._format], self._format + 1
        return self._noted(f"takes no response_format {refused}, so {FORMATS[self._format]} was asked for")

    def _noted(self, what: str) -> bool:
        self.notes.append(f"the endpoint {what}.")
        return True


def _key(variable: str | None) -> str:
    found = next((os.environ[name] for name in ([variable] if variable else KEYS) if os.environ.get(name)), "")
    if variable and not found:
        raise InputError(f"the environment variable {variable!r} holds no key; set it, or name another one.")
    if not found.isascii() or not found.isprintable():
        raise InputError("the key in the environment has characters that no key has; set it again without line breaks.")
    return found


def _refusal(url: str, error: RefusedError) -> str:
    if error.status in (401, 403):
        advice = f"set the key in an environment variable, {' or '.join(KEYS)}, or name it with --key-variable"
    elif error.status == 404:
        advice = "check the address, which usually ends in /v1, and the model's name"
    else:
        advice = "check the address and the model's name"
    return f"the endpoint {url} refuses the request with status {error.status} ({error.message}); {advice}."


def _read(document: dict[str, Any], url: str) -> Answer:
    """The answer in a completion. Raises ModelError where it is no completion."""
    try:
        choice = document["choices"][0]
        text = choice["message"]["content"]
        steps = tuple(_steps((choice.get("logprobs") or {}).get("content") or ()))
        usage = document.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (LookupError, TypeError, ValueError, AttributeError):
        said = json.dumps(document)[:160]
        raise ModelError(
            f"the endpoint {url} answers, but not with a chat completion: {said}; check the address, which usually "
            "ends in /v1."
        ) from None
    return Answer(text if isinstance(text, str) else "", steps, *tokens)


def _steps(content: Sequence[dict[str, Any]]) -> list[Step]:
    def read(given: Sequence[dict[str, Any]]) -> dict[str, float]:
        return {each["token"]: float(each["logprob"]) for each in given}

    return [Step(each["token"], read([each]) | read(each.get("top_logprobs") or ())) for each in content]
