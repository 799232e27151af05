"""Putting a result in its place: the merged model with its receipt, and a new merge state, all at once or not.

A result is made in a folder of its own, and counts from the moment when that folder is renamed. Only then are its
parts moved to their places; if a crash comes in between, whoever holds the campaign next moves the rest: `finish`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protos import faults, files
from protos.errors import StorageError

MERGED, STATE = "merged", "state.safetensors"
_MAKING, _READY, _OLD = ".making", ".ready", ".old"


@contextmanager
def result(campaign: Path) -> Iterator[Path]:
    """Yield a folder to make a result in: ``merged`` as a whole, and ``state.safetensors`` if it is another.

    On success both take their places in the campaign's folder; otherwise that stays as it was.

    Raises:
        StorageError: The disk is full, for example.

    """
    finish(campaign)
    making = files.make_folder(campaign / _MAKING)
    files.make_folder(making / MERGED)
    try:
        yield making
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    with _stored(campaign):
        for folder in (*(path for path in making.rglob("*") if path.is_dir()), making):
            files.sync_folder(folder)
        faults.point("publish-made")
        making.rename(campaign / _READY)
        files.sync_folder(campaign)
        faults.point("publish-ready")
    finish(campaign)


def finish(campaign: Path) -> bool:
    """Move a result that counts already to its place, and drop one that never came to count.

    Returns:
        Whether there was one to be moved.

    Raises:
        StorageError: The folder can't be written to.

    """
    making, ready, old = (campaign / name for name in (_MAKING, _READY, _OLD))
    with _stored(campaign):
        found = ready.exists()
        if found:
            if (ready / MERGED).exists():
                if (campaign / MERGED).exists():
                    _drop(old)
                    (campaign / MERGED).rename(old)
                (ready / MERGED).rename(campaign / MERGED)
                faults.point("publish-half")
            if (ready / STATE).exists():
                (ready / STATE).replace(campaign / STATE)
            files.sync_folder(campaign)
            _drop(ready)
        _drop(old)
        _drop(making)
    return found


def _drop(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def _stored(campaign: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"can't write into {campaign}: {error.strerror}", "free some space or check permissions"
        ) from error
