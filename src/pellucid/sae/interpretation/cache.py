"""Answers that were given before, in one file."""

import json
import sqlite3
import threading
from pathlib import Path

from pellucid.errors import RecordError
from pellucid.sae.interpretation.asking import Answer, Step


class Cache:
    """Answers by the digest of what was asked, kept as soon as they are given. Safe from several threads.

    Raises RecordError where the file is no such cache, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Several runs may share one file: each waits for the other's write.
            self._database = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            self._database.execute("CREATE TABLE IF NOT EXISTS answers (digest TEXT PRIMARY KEY, answer TEXT NOT NULL)")
            self._database.execute("SELECT digest, answer FROM answers LIMIT 1")
        except sqlite3.Error as error:
            raise RecordError(
                f"{str(path)!r} cannot be used as a cache of answers ({error}); name another file."
            ) from None

    def get(self, digest: str) -> Answer | None:
        """The answer, if it is known."""
        with self._lock:
            row = self._database.execute("SELECT answer FROM answers WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return None
        text, steps, tokens_in, tokens_out = json.loads(row[0])
        return Answer(text, tuple(Step(*each) for each in steps), tokens_in, tokens_out, cached=True)

    def put(self, digest: str, answer: Answer) -> None:
        """Keep an answer. Raises RecordError where the disk takes no more."""
        content = json.dumps([answer.text, answer.steps, answer.tokens_in, answer.tokens_out])
        try:
            with self._lock:
                self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (digest, content))
        except sqlite3.Error as error:
            raise RecordError(
                f"the cache {str(self.path)!r} cannot be written ({error}); what was kept before is still there."
            ) from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
