"""A file that is read by position, with plain reads into the memory that the caller keeps and no more."""

from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protos import tensorfile
from protos.errors import ModelFileError

AGAIN = "copy it again from where it came"
_SHOWN = 100


def damaged(path: Path, why: str) -> ModelFileError:
    """Return the error for a file whose content contradicts itself."""
    return ModelFileError(f"{path} is damaged: {why}", AGAIN)


def shown(text: object) -> str:
    """Return text out of a file so that it can be printed: no control characters, no endless lines."""
    found = text if type(text) is str else f"something of type {type(text).__name__}"
    found = found if len(found) <= _SHOWN else found[:_SHOWN] + "…"
    return found if found.isprintable() else ascii(found)


class RawFile:
    """An open regular file of `size` bytes.

    Raises:
        ModelFileError: It is missing, can't be read, or is no regular file (reading a pipe might never end).

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise ModelFileError(f"{path} is no file", "name the file that holds the model")
            self._file = path.open("rb", buffering=0)
            self.size = os.fstat(self._file.fileno()).st_size
        except FileNotFoundError:
            raise ModelFileError(f"there is no file {path}", "check how its name is spelled") from None
        except (OSError, ValueError) as error:
            raise ModelFileError(f"can't read {path}: {error}", "check its permissions") from error

    def fill(self, view: memoryview, position: int) -> None:
        """Fill a writable view of bytes from `position` on.

        Raises:
            ModelFileError: The file ends before, or the disk fails.

        """
        while view:
            try:
                count = os.preadv(self._file.fileno(), [view], position)
            except OSError as error:
                raise ModelFileError(f"can't read {self.path}: {error.strerror}", "check the disk") from error
            if count == 0:
                raise ModelFileError(f"{self.path} ends too early, at byte {position}", AGAIN)
            view, position = view[count:], position + count

    def bytes(self, position: int, count: int) -> bytes:
        """Read `count` bytes, or fewer where the file ends; for the small things in a file's structure."""
        count = min(count, self.size - position)  # both may be any number that a file claims
        if count <= 0:
            return b""
        try:
            return os.pread(self._file.fileno(), count, position)
        except OSError as error:
            raise ModelFileError(f"can't read {self.path}: {error.strerror}", "check the disk") from error

    def array(self, position: int, storage: np.dtype[np.generic], count: int) -> npt.NDArray[np.generic]:
        """Read `count` elements of a dtype into a new flat array; nothing else is held."""
        values = np.empty(count, storage)
        if values.nbytes:
            self.fill(values.data.cast("B"), position)
        return values

    def crc(self, position: int, count: int) -> int:
        """Return the CRC-32 of `count` bytes, read a chunk at a time."""
        found, buffer = 0, memoryview(bytearray(min(count, tensorfile.CHUNK)))
        for start in range(position, position + count, max(len(buffer), 1)):
            view = buffer[: position + count - start]
            self.fill(view, start)
            found = zlib.crc32(view, found)
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()
