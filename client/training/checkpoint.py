"""A half-done adaptation on disk: written atomically, read without pickle's dangers, continued bit for bit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from protos.errors import AdaptationError


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint so that a crash leaves either the old file or the new one, never half of one.

    Raises:
        AdaptationError: The file can't be written.

    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save may raise either when a disk is full
        with contextlib.suppress(OSError):
            part.unlink()  # room for whatever goes on
        seems = f"the disk seems to be full ({str(error).splitlines()[0]})"
        why = (error.strerror or str(error)) if isinstance(error, OSError) else seems
        raise AdaptationError(
            f"The checkpoint {path} can't be written: {why}.",
            "Free some space or name another place, and start again: the last checkpoint is still good.",
        ) from error


def load(path: Path, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read a checkpoint, or return None if there is none.

    Args:
        path: The file.
        expected: What the run is made of; the checkpoint's "run" must hold the same.

    Raises:
        AdaptationError: It can't be read, or is of another run; the first difference is named.

    """
    if not path.exists():
        return None
    fresh = f"Restore what it was made with, or remove {path} to start over."
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found: Mapping[str, Any] = content["run"]
    except Exception as error:  # torch.load raises almost anything on a damaged file
        raise AdaptationError(f"The checkpoint {path} can't be read: it is damaged or not ours.", fresh) from error
    for key in [*expected, *(key for key in found if key not in expected)]:
        if key not in found or key not in expected or found[key] != expected[key]:
            raise AdaptationError(
                f"The checkpoint {path} was made with {key} = {found.get(key)}, this run has {expected.get(key)}.",
                fresh,
            )
    return content


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets folders be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
