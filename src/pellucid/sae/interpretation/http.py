"""One JSON document sent to a server, one got back, with the patience that servers ask for."""

import json
import random
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pellucid.errors import InputError, ModelError

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Statuses after which the same request may well succeed."""
LONGEST_WAIT = 300.0
"""Seconds; a server that asks for more is left alone."""
MOST_BYTES = 1 << 24
SHOWN = 160


class RefusedError(Exception):
    """The server answered, and will answer the same again."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(f"{status}: {message}")


class _AgainError(Exception):
    """It may work another time."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        self.wait = wait
        super().__init__(reason)


class Reply(NamedTuple):
    """What a server answered."""

    document: dict[str, Any]
    """The JSON object."""
    retries: int
    """How many attempts had failed before."""
    seconds: float
    """How long the attempt that succeeded took."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection would carry the key to whatever place the server names."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def require_address(url: str) -> None:
    """Raise InputError where there can be no server at an address, in the words that somebody gave."""
    if not url.startswith(("http://", "https://")):
        raise InputError(f"the address of an endpoint begins with http:// or https://, and {url!r} does not.")
    parts, reason = None, ""
    try:
        parts = urlsplit(url)
        # As the socket does it: a part of a name has 1 to 63 characters.
        usable = bool(parts.hostname and parts.hostname.encode("idna")) and parts.port != 0
    except ValueError as error:
        usable, reason = False, f" ({error})"
    if parts is not None and "@" in parts.netloc:
        raise InputError("the address of an endpoint holds no user and no password; give the key in PELLUCID_LLM_KEY.")
    if not usable or not all("!" <= sign <= "~" for sign in url):
        raise InputError(
            f"{url!r} is no address of an endpoint{reason}; write one in ASCII, such as http://localhost:8000/v1."
        )


class Poster:
    """Sends documents to one address.

    Args:
        url: where to.
        key: sent as a bearer token; empty: none. It stands in no message and no file.
        timeout: seconds without an answer before an attempt counts as failed.
        retries: attempts beyond the first.
        pause: seconds before the second attempt; doubled for each further one, and drawn between half and all of that,
            so that many threads do not come back at once.
        per_minute: the most attempts a minute, over all threads; None: any number.

    Raises:
        InputError: there can be no server at the address.
    """

    def __init__(
        self, url: str, key: str, *, timeout: float, retries: int, pause: float, per_minute: float | None
    ) -> None:
        require_address(url)
        self.url, self._key, self._timeout, self._retries, self._pause = url, key, timeout, retries, pause
        self._apart = 60 / per_minute if per_minute else 0.0
        self._free, self._lock, self._random = 0.0, threading.Lock(), random.Random(0)
        self._opener = urllib.request.build_opener(_NoRedirect())

    def post(self, document: dict[str, Any], stop: threading.Event) -> Reply:
        """The server's answer. Raises RefusedError, and ModelError where none comes after all attempts."""
        reason = ""
        for attempt in range(self._retries + 1):
            if stop.is_set():
                raise ModelError("the call was given up, since another one failed.")
            try:
                self._take_turn(stop)
                begun = time.monotonic()
                return Reply(self._once(document), attempt, time.monotonic() - begun)
            except _AgainError as error:
                reason = str(error)
                if attempt < self._retries:
                    stop.wait(self._wait(attempt, error.wait))
        raise ModelError(
            f"the endpoint {self.url} gave no usable answer in {self._retries + 1} attempts ({reason}); what was "
            "answered before is kept: run the same command again when it works."
        )

    def _take_turn(self, stop: threading.Event) -> None:
        """Wait for this attempt's turn under the limit of attempts a minute."""
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._free)
            self._free = begin + self._apart
        if begin > now:
            stop.wait(begin - now)

    def _wait(self, attempt: int, asked: float | None) -> float:
        if asked is not None and asked > LONGEST_WAIT:
            raise ModelError(
                f"the endpoint {self.url} asks to wait {asked:.0f} seconds, longer than {LONGEST_WAIT:.0f}; what was "
                "answered before is kept: run the same command again later."
            )
        with self._lock:
            drawn = self._pause * float(2**attempt) * self._random.uniform(0.5, 1)
        return max(drawn, asked or 0.0)

    def _once(self, document: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "User-Agent": "pellucid"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, json.dumps(document).encode(), headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                content = response.read(MOST_BYTES)
        except urllib.error.HTTPError as error:
            raise self._failed(error) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise _AgainError(str(reason) or type(error).__name__) from None
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            raise _AgainError(f"it sent no JSON: {self._shown(content)!r}") from None
        if not isinstance(found, dict):
            raise _AgainError(f"it sent no JSON object: {self._shown(content)!r}")
        return found

    def _failed(self, error: urllib.error.HTTPError) -> Exception:
        with error:
            try:
                body = error.read(MOST_BYTES)
            except (OSError, HTTPException):
                body = b""
        message = self._shown(_message(body))
        if error.code in RETRIED:
            return _AgainError(f"status {error.code}: {message}", _seconds(error.headers.get("Retry-After")))
        return RefusedError(error.code, message)

    def _shown(self, content: bytes) -> str:
        text = content.decode("utf-8", "replace")
        if self._key:
            # Some servers repeat the key that they refuse.
            text = text.replace(self._key, "***")
        text = " ".join(text.split())
        return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _message(body: bytes) -> bytes:
    """What an error's body says, where it is of the usual form."""
    try:
        document = json.loads(body)
        error = document.get("error", document.get("detail", document))
        found = error.get("message", error) if isinstance(error, dict) else error
        return found.encode() if isinstance(found, str) else body
    except (ValueError, AttributeError, RecursionError):
        return body


def _seconds(given: str | None) -> float | None:
    """``Retry-After``: seconds, or a date."""
    if given is None:
        return None
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(given)
    except ValueError:
        return None
    moment = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
