"""Putting arrays that arrive together with little memory.

Flower moves an array in chunks. It adds them to a bytearray that grows, and then copies that: for a moment the
array is in memory three times, with its chunks. Here its pieces are only noted, and joined in one go; and where
several arrive at the same time, one is put together after the other.
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any, Self

from flwr.app.message import array

INFLATE = "inflate_object_from_contents"
"""What Flower puts a message together with."""


class Pieces:
    """Stands in for that bytearray."""

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []

    def __iadd__(self, piece: bytes | memoryview) -> Self:
        self._pieces.append(piece)
        return self

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)


def join_once() -> None:
    """Have arrays that arrive in this process joined so."""
    vars(array)["bytearray"] = Pieces


def one_at_a_time(engine: ModuleType) -> None:
    """Have a module of Flower's, which pulls messages, put one together after the other, whatever the thread.

    Args:
        engine: The module; where it puts none together, nothing is done.

    """
    inflate, alone = getattr(engine, INFLATE, None), threading.Lock()
    if inflate is None:
        return

    def inflated(*args: Any, **options: Any) -> Any:
        with alone:
            return inflate(*args, **options)

    vars(engine)[INFLATE] = inflated
