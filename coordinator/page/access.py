"""Who may see the page: the token that opens it, sessions, forms' tokens, and how often somebody may guess."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from protos import files, keyfiles
from protos.errors import ConfigurationError

SHORTEST = 20
"""Characters that a token must have, should somebody choose one; those made here have 43, of 256 random bits."""
LIFETIME = 12 * 3600.0
"""Seconds after which a session ends."""
_SESSIONS = 100
_GUESSES, _PERIOD = 5, 60.0


def token(path: Path, *, anew: bool = False) -> str:
    """Return the token that opens the page, from its file; one is made if there is none.

    Args:
        path: The file. Nobody but its owner may read it.
        anew: Make another one in any case.

    Raises:
        ConfigurationError: Others can read the file, or what it holds is too short.
        StorageError: It can't be written.

    """
    if anew or not path.exists():
        files.write(path, secrets.token_urlsafe(32) + "\n", mode=0o600)
    found = keyfiles.owned(path).decode("utf-8", "replace").strip()
    if len(found) < SHORTEST:
        raise ConfigurationError(f"the token in {path} is too short", "make another: --new-token")
    return found


def same(one: str, other: str) -> bool:
    """Compare two secrets, in a time that says nothing about where they differ."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (one, other))
    return hmac.compare_digest(*digests)


class Sessions:
    """Who is logged in. They live as long as the program does.

    A visitor is known by a random number in a cookie, whether logged in or not. The token in a form is derived
    from that number by a key that never leaves the program, so no other site can make one.

    Args:
        clock: Returns seconds.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._open: dict[bytes, float] = {}

    @staticmethod
    def visitor() -> str:
        """Return a number for somebody new."""
        return secrets.token_urlsafe(32)

    def begin(self) -> str:
        """Let somebody in, under a new number: one from before the login must not become worth anything."""
        visitor = self.visitor()
        while len(self._open) >= _SESSIONS:
            del self._open[next(iter(self._open))]  # the oldest
        self._open[_digest(visitor)] = self._clock() + LIFETIME
        return visitor

    def known(self, visitor: str) -> bool:
        """Tell whether somebody is logged in."""
        return self._open.get(_digest(visitor), float("-inf")) > self._clock()

    def end(self, visitor: str) -> None:
        """Log somebody out."""
        self._open.pop(_digest(visitor), None)

    def form_token(self, visitor: str) -> str:
        """Return what a visitor's forms carry."""
        return hmac.new(self._key, visitor.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def is_form_token(self, visitor: str, given: str) -> bool:
        """Tell whether a form is one that this visitor was given."""
        return bool(visitor) and same(self.form_token(visitor), given)


class Guesses:
    """Wrong tokens, whoever gave them: after five within a minute no token is looked at until that minute is over.

    Args:
        clock: Returns seconds.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: deque[float] = deque(maxlen=_GUESSES)

    def wait(self) -> float:
        """Return the seconds until a token is looked at again; 0 if it is now."""
        if len(self._wrong) < _GUESSES:
            return 0.0
        return max(0.0, self._wrong[0] + _PERIOD - self._clock())

    def wrong(self) -> None:
        """Count a wrong one."""
        self._wrong.append(self._clock())


def _digest(visitor: str) -> bytes:
    return hashlib.sha256(visitor.encode("utf-8", "surrogatepass")).digest()
