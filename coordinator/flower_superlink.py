"""Flower's SuperLink, with its garbage collected by the clock.

Its HTTP server leaves the body of each request in a reference cycle, and these are megabytes. Python's collector
counts objects, not bytes: it would let hundreds of megabytes pile up before it looks.

    python -m coordinator.flower_superlink [arguments of flower-superlink]
"""

from __future__ import annotations

import gc
import sys
import threading
from importlib.metadata import entry_points

PROGRAM = "flower-superlink"
EVERY = 0.2
"""Seconds between two collections; one takes a few milliseconds, since what is there at the start is left out."""


def main() -> None:
    """Run it."""
    (program,) = entry_points(group="console_scripts", name=PROGRAM)
    run = program.load()
    sys.argv[0] = PROGRAM
    gc.collect()
    gc.freeze()
    threading.Thread(target=collect, args=(threading.Event(),), name="gc", daemon=True).start()
    sys.exit(run())


def collect(stop: threading.Event) -> None:
    """Collect garbage every now and then until asked to stop."""
    while not stop.wait(EVERY):
        gc.collect()


if __name__ == "__main__":
    main()
