"""Flower's SuperLink, with its garbage collected as it grows, the approved sites registered, its SuperExec kept.

Its HTTP server leaves the body of each request in a reference cycle, and these are megabytes. Python's collector
counts objects, not bytes: it would let hundreds of megabytes pile up before it looks.

It keeps the nodes' keys in memory. So as soon as it is up, the keys of all approved sites are registered anew, if
the environment says whose SuperLink it is.

    python -m coordinator.flower_superlink [arguments of flower-superlink]
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from importlib.metadata import entry_points
from pathlib import Path

import psutil

from coordinator import roster, superlink
from coordinator.home import Home
from protos import logpump, logs, superexec
from protos.errors import OnebasinError

PROGRAM = "flower-superlink"
EVERY = 0.2
"""Seconds between two looks. A collection takes milliseconds, since what is there at the start is left out."""
GROWTH = 4 << 20
"""Bytes that it may grow by before they are collected: a quiet SuperLink makes none."""


def main() -> None:
    """Run it."""
    logpump.start()
    logs.attach("onebasin")
    (program,) = entry_points(group="console_scripts", name=PROGRAM)
    run = program.load()
    sys.argv[0] = PROGRAM
    superexec.keep(sys.modules[run.__module__], logging.getLogger("onebasin.coordinator"))
    gc.collect()
    gc.freeze()
    threading.Thread(target=collect, args=(threading.Event(),), name="gc", daemon=True).start()
    if folder := os.environ.get(superlink.HOME):
        threading.Thread(target=register, args=(Home(Path(folder)),), name="register", daemon=True).start()
    sys.exit(run())


def collect(stop: threading.Event) -> None:
    """Collect garbage when the process has grown, until asked to stop."""
    size = psutil.Process().memory_info
    least = size().rss
    while not stop.wait(EVERY):
        if (now := size().rss) > least + GROWTH:
            gc.collect()
            now = least = size().rss
        least = min(least, now)


def register(home: Home, patience: float = 120.0) -> None:
    """Wait until the SuperLink is up, and register all approved sites; what goes wrong is logged."""
    log = logging.getLogger("onebasin.coordinator")
    until = time.monotonic() + patience
    while not superlink.is_running(home):
        if time.monotonic() > until:
            log.error("the SuperLink did not come up: no site is registered")
            return
        time.sleep(0.2)
    for request in roster.approved(home):
        try:
            superlink.register(home, request)
        except OnebasinError as error:
            log.error("can't register site %s: %s", request.site, error)
        else:
            log.info("registered site %s", request.site)


if __name__ == "__main__":
    main()
