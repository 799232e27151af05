"""Writing files so that a reader finds the old content or the new, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from protos import faults
from protos.errors import StorageError


@contextlib.contextmanager
def atomic(path: Path, *, mode: int = 0o644, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place on success and vanishes on failure.

    Args:
        path: The file.
        mode: Its permissions.
        durable: Whether the content must be on the disk (fsync) before the name is, and the name (fsync of the
            folder) before this returns. What can be made again needn't be.

    Raises:
        StorageError: The disk is full or the folder can't be written to; no partial file stays behind.

    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise StorageError(
            f"can't write {path}: {error.strerror}", "free some space or check permissions"
        ) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        faults.point("file-written")
        temporary.replace(path)
        faults.point("file-renamed")
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"can't write {path}: {error.strerror}", "free some space or check permissions"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def reserve(file: IO[bytes], size: int) -> None:
    """Make room for a whole file at once, so that a full disk is found before the work and not after it.

    Raises:
        OSError: There is no room.

    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        os.truncate(file.fileno(), size)


def write_at(file: IO[bytes], position: int, content: bytes | memoryview) -> None:
    """Write bytes to a place in a file, without moving its position: several threads may do so.

    Raises:
        OSError: The disk is full, for example.

    """
    view = memoryview(content)
    while view:
        done = os.pwrite(file.fileno(), view, position)
        view, position = view[done:], position + done


def make_folder(path: Path, *, mode: int = 0o755) -> Path:
    """Make a folder and those above it, if they are not there, and return it.

    Raises:
        StorageError: It can't be made.

    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise StorageError(
            f"can't make the folder {path}: {error.strerror}", "choose another or check permissions"
        ) from error
    return path


def write(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Write a whole small file atomically; a string is encoded as UTF-8."""
    with atomic(path, mode=mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def read(path: Path) -> bytes:
    """Read a small file.

    Raises:
        StorageError: It can't be read.

    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"can't read {path}: {error.strerror}", "see whether it is there, and whose it is"
        ) from error


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
