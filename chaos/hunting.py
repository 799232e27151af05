"""Finding the processes of a federation by what they are, and whose."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROLES = {
    "superlink": "coordinator.flower_superlink",
    "serverapp": "flwr-serverapp",
    "superexec": "flower-superexec",
    "supernode": "client.flower_supernode",
    "forking": "client.forking",
    "clientapp": "flwr-clientapp",
    "adapting": "onebasin site adapt",
    "command": "onebasin coordinator run",
    "watcher": "onebasin site supernode",
}
"""What stands in the command line of each kind of process, or is its name."""
PASSING = ("serverapp", "clientapp", "adapting", "command")
"""Those that end with a campaign."""


def find(role: str, folder: Path) -> list[psutil.Process]:
    """Return the living processes of a kind below this one that belong to a federation's or a site's folder."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            line = " ".join([process.name(), *process.cmdline()])  # a ClientApp is forked, and has a name only
            if ROLES[role] in line and _of(process, line, folder):
                found.append(process)
    return found


def _of(process: psutil.Process, line: str, folder: Path) -> bool:
    return str(folder) in line or str(folder) in process.environ().get("FLWR_HOME", "")


def kill(processes: list[psutil.Process]) -> int:
    """Kill -9; return how many were still there to be killed."""
    killed = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            killed += 1
    return killed


@contextmanager
def slowed(find_them: Callable[[], list[psutil.Process]], *, share: float = 0.01) -> Iterator[None]:
    """Let processes run for a share of the time only, as if their machine were so much slower."""
    stop = threading.Event()

    def tell(what: signal.Signals, whom: list[psutil.Process]) -> None:
        for process in whom:
            with suppress(psutil.Error):
                process.send_signal(what)

    def pace() -> None:
        while not stop.is_set():
            slow = find_them()  # new ones come while it lasts
            tell(signal.SIGSTOP, slow)
            stop.wait(1.0 - share)
            tell(signal.SIGCONT, slow)
            time.sleep(share)

    thread = threading.Thread(target=pace, name="slow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        tell(signal.SIGCONT, find_them())
