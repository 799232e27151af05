"""Joining the chunks in which Flower moves an array, once.

Flower adds them to a bytearray that grows, and then copies that: for a moment the array is in memory three times,
with its chunks. Here its pieces are only noted, and joined in one go.
"""

from __future__ import annotations

from typing import Self

from flwr.app.message import array


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
