"""Processes that are started together and end together, whatever happens.

On Linux this process adopts whatever its children leave behind (a child subreaper), so that even processes
which a killed SuperNode started are found and ended.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Self

import psutil

from protos import linux
from protos.errors import FederationError

_GRACE = 5.0
"""Seconds between asking a process to end and killing it."""


class Processes:
    """A context in which programs run in the background; leaving it ends them and all that they started."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        self._before: set[int] = set()

    def __enter__(self) -> Self:
        linux.adopt_orphans()
        self._before = {child.pid for child in psutil.Process().children()}
        return self

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start a program in a session of its own, so that Ctrl-C reaches it only through this context.

        Raises:
            FederationError: There is no such program.

        """
        with log.open("ab") as output:
            try:
                self._started[name] = (
                    subprocess.Popen(
                        list(command),
                        env=dict(environment),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    ),
                    log,
                )
            except OSError as error:
                raise FederationError(
                    f"can't start {command[0]}: {error.strerror}", "install onebasin again"
                ) from error

    def check(self) -> None:
        """Make sure that everything that was started still runs.

        Raises:
            FederationError: A program ended; names it and its log's last words.

        """
        for name, (process, log) in self._started.items():
            if (code := process.poll()) is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-3:]
                raise FederationError(f"{name} ended with exit code {code}: {' / '.join(last)}", f"see {log}")

    def pid(self, name: str) -> int:
        """Return a program's process id."""
        return self._started[name][0].pid

    def kill(self, name: str) -> int | None:
        """Kill a program without asking, as a crash would; what it started is left alone. Return its exit code."""
        process, _ = self._started.pop(name)
        process.kill()
        return process.wait()

    def wait(self, name: str, timeout: float) -> int:
        """Wait until a program ends by itself, and return its exit code."""
        process, _ = self._started[name]
        code = process.wait(timeout)
        del self._started[name]
        return code

    def _left(self) -> list[psutil.Process]:
        """Return what runs since this context was entered, but not what processes from before have started."""
        ours = [child for child in psutil.Process().children() if child.pid not in self._before]
        found = list(ours)
        for process in ours:
            with suppress(psutil.NoSuchProcess):
                found += process.children(recursive=True)
        return found

    def __exit__(self, *exc: object) -> None:
        with _undisturbed():
            # A dying parent can leave children that start others meanwhile, so look until nothing is left.
            for patience in (_GRACE, _GRACE, 1.0):
                left = self._left()
                if not left:
                    break
                for process in left:
                    _tell(process, signal.SIGTERM)
                _, stubborn = psutil.wait_procs(left, patience)
                for process in stubborn:
                    _tell(process, signal.SIGKILL)
                psutil.wait_procs(stubborn, patience)
            for started, _ in self._started.values():
                started.wait()


def _tell(process: psutil.Process, what: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(what)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore a second Ctrl-C: what is being cleaned up must be cleaned up."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that they are cleaned up after like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
