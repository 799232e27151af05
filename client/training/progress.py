"""What training tells whoever waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a phase has come."""

    phase: str
    """What is running: "base" or "adapt"."""
    step: int
    """Steps done, 1…steps."""
    steps: int
    """Steps in all."""
    loss: float
    """Loss of this step."""
    seconds: float
    """Time spent in this process, in seconds."""
    eta: float
    """Time left at the present pace, in seconds."""
    note: str = ""
    """Anything else worth a word."""
    coverage: float = 0.0
    """Share of target pixels whose pseudo-label is sure, 0…1."""
    memory: int = 0
    """The most memory of the GPU that was in use so far, in MB; 0 on a CPU."""


_EVERY = 2.0
"""Seconds between two lines."""

Report = Callable[[Progress], None]
"""Called after each step. An exception from it ends training; that is how to stop early."""


class Clock:
    """Tells the time spent and left, counting only the steps of this process."""

    def __init__(self, phase: str, first: int, steps: int) -> None:
        self._phase, self._first, self._steps = phase, first, steps
        self._start = time.monotonic()

    def progress(
        self, step: int, loss: float, note: str = "", *, coverage: float = 0.0, memory: int = 0
    ) -> Progress:
        """Return the progress after ``step`` steps, of which ``first`` were done before this process."""
        seconds = time.monotonic() - self._start
        eta = seconds / max(1, step - self._first) * (self._steps - step)
        return Progress(self._phase, step, self._steps, loss, seconds, eta, note, coverage, memory)


def spoken(say: Callable[[str], None]) -> Report:
    """Return a report that says a line from time to time, and one at the end."""
    said = 0.0

    def report(progress: Progress) -> None:
        nonlocal said
        if time.monotonic() - said > _EVERY or progress.step == progress.steps:
            said = time.monotonic()
            say(f"step {progress.step} of {progress.steps}, loss {progress.loss:.3f}, {progress.eta:.0f} s left")

    return report
