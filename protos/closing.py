"""Values that hold something open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Is closed where a ``with`` ends, whatever happened in it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held open; nothing happens a second time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
