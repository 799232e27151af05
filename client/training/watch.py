"""An early warning of classes that collapse: the teacher said them, and then for long it doesn't any more.

Self-training can lose a class for good: what the teacher never says, the student never learns. It shows in the
pseudo-labels thousands of steps before it shows in a score.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from client.data.labels import CLASSES

PATIENCE = 100
"""Steps for which a class has to be gone, at least."""

GAPS = 20
"""… and by how much that has to be longer than the class's mean distance from one step that has it to the next."""

SEEN = 20
"""Steps that must have had the class before."""

EVERY = 25
"""Steps between two looks; in between nothing is copied from the device."""

_log = logging.getLogger(__name__)


class Watch:
    """Counts, for each class, the steps whose pseudo-labels had it, and those since the last one.

    Args:
        classes: How many classes there are.
        device: Where the pseudo-labels are.

    """

    def __init__(self, classes: int, device: torch.device) -> None:
        self._seen = torch.zeros(classes, dtype=torch.int64, device=device)
        self._gone = torch.zeros(classes, dtype=torch.int64, device=device)
        self._steps = 0
        self._lost: tuple[int, ...] = ()

    @property
    def lost(self) -> tuple[int, ...]:
        """The classes that were gone at the last look."""
        return self._lost

    def count(self, guess: Tensor) -> None:
        """Take in one step's pseudo-labels, uint8 of any shape; from time to time look, and log what is new."""
        there = torch.bincount(guess.flatten(), minlength=len(self._seen))[: len(self._seen)] > 0
        self._seen += there
        self._gone = torch.where(there, 0, self._gone + 1)
        self._steps += 1
        if self._steps % EVERY == 0:
            self._look()

    def state(self) -> dict[str, object]:
        """Return what a checkpoint has to hold."""
        return {"seen": self._seen.cpu(), "gone": self._gone.cpu(), "steps": self._steps, "lost": self._lost}

    def load(self, state: dict[str, object]) -> None:
        """Take a checkpoint's state back."""
        seen, gone, steps, lost = (state[key] for key in ("seen", "gone", "steps", "lost"))
        assert isinstance(seen, Tensor) and isinstance(gone, Tensor)
        assert isinstance(steps, int) and isinstance(lost, Sequence)
        self._seen, self._gone = seen.to(self._seen.device), gone.to(self._gone.device)
        self._steps, self._lost = steps, tuple(lost)

    def _look(self) -> None:
        found = []
        for number, (seen, gone) in enumerate(zip(self._seen.tolist(), self._gone.tolist(), strict=True)):
            distance = (self._steps - gone) / max(seen, 1)
            if seen >= SEEN and gone > max(PATIENCE, GAPS * distance):
                found.append(number)
                if number not in self._lost:
                    _log.warning(
                        "the class %s has not been in the pseudo-labels for %d steps, but was in %d before: it "
                        "may have collapsed; if it stays away, try another seed, a lower learning rate or "
                        "rare-class sampling",
                        name_of(number),
                        gone,
                        seen,
                    )
        self._lost = tuple(found)


def name_of(number: int) -> str:
    """Return a class's name, or its number where there is none."""
    return CLASSES[number] if number < len(CLASSES) else str(number)
