"""Freshness: a request is answered once, and not after its time.

The names of requests that were taken are files of a folder: making one is atomic and fails if it is there,
whichever process was first, and they outlive the process that answers. Each goes once its request is too old.
"""

from __future__ import annotations

import time
from pathlib import Path

from protos import files
from protos.errors import OnebasinError, StorageError
from protos.letters import LONGEST

LEEWAY = 300
"""Seconds by which the clocks of coordinator and site may differ."""


class StaleError(OnebasinError):
    """A request came too late, or a second time."""


class Taken:
    """The requests that a site took.

    Args:
        folder: Where their names are kept.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, nonce: bytes, expires: int) -> None:
        """Take a request, which must be signed: nobody else may fill the folder.

        Args:
            nonce: The request's.
            expires: Seconds since 1970 until which it may be answered.

        Raises:
            StaleError: It has expired, lives for longer than any may, or was taken before.
            StorageError: The disk is full.

        """
        left = expires - time.time()
        if left < -LEEWAY:
            raise StaleError(f"a request arrived {-left:.0f} s after it had expired", _CLOCKS)
        if left > LONGEST + LEEWAY:
            raise StaleError(f"a request says that it may be answered for another {left:.0f} s", _CLOCKS)
        files.make_folder(self._folder)
        self._forget()
        try:
            (self._folder / f"{expires}-{nonce.hex()}").touch(exist_ok=False)
        except FileExistsError:
            raise StaleError("a request arrived that this site took before", _REPLAYED) from None
        except OSError as error:
            raise StorageError(f"can't write to {self._folder}: {error.strerror}", "free some space") from error

    def _forget(self) -> None:
        """Drop the names of requests that would be refused for their age."""
        oldest = time.time() - LEEWAY
        for path in self._folder.iterdir():
            expires = path.name.partition("-")[0]
            if expires.isdigit() and int(expires) < oldest:
                path.unlink(missing_ok=True)


_CLOCKS = "compare this machine's clock with the coordinator's"
_REPLAYED = "somebody between the coordinator and this site sent it again"
