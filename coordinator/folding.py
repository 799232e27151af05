"""Folding arrived updates into the merge state, beside the conversation with the sites.

One worker folds, so that a site's upload doesn't wait for another's fold. Updates that are complete by the
time it is free go into one pass over the state: a sum of three terms costs hardly more than one of two.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from coordinator.arrivals import Arrival
from coordinator.merge.state import MergeState, Term, write_sum
from protos import faults
from protos.manifest import Manifest

log = logging.getLogger("onebasin.coordinator")


class Folding:
    """Folds arrivals into the state file, a batch at a time.

    Attributes:
        seconds: What folding the last batch took.

    """

    def __init__(self, state: Path, base: Manifest, base_digest: bytes) -> None:
        self._state = state
        self._base = base
        self._digest = base_digest
        self._worker = ThreadPoolExecutor(1, "fold")
        self._queue: list[Arrival] = []
        self._batch: list[Arrival] = []
        self._running: Future[float] | None = None
        self.seconds = 0.0

    def add(self, arrival: Arrival) -> None:
        """Queue a complete arrival."""
        self._queue.append(arrival)

    def step(self) -> list[Arrival]:
        """Start the next batch if none is running, and return the arrivals that were folded since the last call.

        Raises:
            UpdateRefusedError: An update is in the state already.
            StorageError: The disk is full; the state is as it was.

        """
        done: list[Arrival] = []
        if self._running is not None and self._running.done():
            self.seconds = self._running.result()
            done, self._batch, self._running = self._batch, [], None
        if self._running is None and self._queue:
            self._batch, self._queue = self._queue, []
            self._running = self._worker.submit(fold, self._state, self._base, self._digest, self._batch)
        return done

    @property
    def busy(self) -> bool:
        """Whether something is queued or being folded."""
        return self._running is not None or bool(self._queue)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._worker.shutdown(wait=True)


def fold(state: Path, base: Manifest, base_digest: bytes, arrivals: list[Arrival]) -> float:
    """Add arrivals to the state file, all of them or none; return the seconds that it took."""
    began = time.monotonic()
    with ExitStack() as opened:
        terms: list[tuple[int, Term]] = [(1, opened.enter_context(arrival.update())) for arrival in arrivals]
        if state.exists():
            terms.insert(0, (1, opened.enter_context(MergeState(state))))
        faults.point("fold-before")
        write_sum(state, base, base_digest, terms)
        faults.point("fold-after")
    return time.monotonic() - began
