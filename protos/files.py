"""Writing files so that a reader finds the old content or the new, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from protos.errors import StorageError


@contextlib.contextmanager
def atomic(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place on success and vanishes on failure.

    The content is on the disk (fsync) before the name is, and the name (fsync of the folder) before this
    returns.

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
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"can't write {path}: {error.strerror}", "free some space or check permissions"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
