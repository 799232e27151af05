"""One job over many names by a few threads, without a future for each of thousands of small tensors."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(names: Iterable[K], job: Callable[[K], V], threads: int) -> dict[K, V]:
    """Do a job for each name, and return the results by name, in the names' order.

    Args:
        names: All different.
        job: Called from several threads at a time if there are several.
        threads: How many.

    Raises:
        Exception: The first that a job raised; jobs that had not begun by then are not begun.

    """
    listed = list(names)
    if threads == 1 or len(listed) < 2:
        return {name: job(name) for name in listed}
    waiting, lock, done = iter(listed), threading.Lock(), dict[K, V]()
    failed = threading.Event()

    def work() -> None:
        while not failed.is_set():
            with lock:
                try:
                    name = next(waiting)
                except StopIteration:
                    return
            try:
                done[name] = job(name)
            except BaseException:
                failed.set()
                raise

    with ThreadPoolExecutor(threads, "onebasin") as pool:
        for future in [pool.submit(work) for _ in range(min(threads, len(listed)))]:
            future.result()
    return {name: done[name] for name in listed}
