"""Flower's SuperExec, which starts the apps of a SuperLink or a SuperNode: kept running.

Flower starts it once and never looks at it again. If it is killed, by hand or for want of memory, its server lives
on and looks healthy, but starts no app ever after.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Sequence
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

from protos import linux

PROGRAM = "flower-superexec"
PAUSE = 1.0
"""Seconds until it is started again."""


class Kept:
    """A program that is started again when it ends without having been asked to, and ends with this process.

    Args:
        command: Its command line.
        log: Told when it is started again.
        options: Those of `subprocess.Popen`.

    """

    def __init__(self, command: Sequence[str], log: logging.Logger, **options: Any) -> None:
        self._command = command
        self._log = log
        self._options = options
        self._asked = threading.Event()
        # Held while one takes the other's place, so that whoever asks for the end asks the one that is there.
        self._changing = threading.Lock()
        self._process = self._start()
        threading.Thread(target=self._keep, name="superexec", daemon=True).start()

    def terminate(self) -> None:
        """Ask it to end, for good."""
        self._asked.set()
        with self._changing:
            self._process.terminate()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: It did not end in time (seconds).

        """
        return self._process.wait(timeout)

    def _start(self) -> subprocess.Popen[bytes]:
        # Flower's own watch asks whether there is a process of its parent's number, which may be another by then.
        bound = partial(linux.end_with_parent, os.getpid())
        return subprocess.Popen(self._command, preexec_fn=bound, **self._options)

    def _keep(self) -> None:
        while True:
            code = self._process.wait()
            self._asked.wait(PAUSE)
            with self._changing:
                if self._asked.is_set():
                    return
                try:
                    self._process = self._start()
                except OSError as error:  # no memory, or too many processes: so it is tried until there is
                    self._log.error("the SuperExec ended (exit code %s), and can't be started: %s", code, error)
                else:
                    self._log.error("the SuperExec ended (exit code %s): started again", code)


def keep(engine: ModuleType, log: logging.Logger, program: Sequence[str] = (PROGRAM,)) -> None:
    """Have the SuperExec that a module of Flower's starts kept; where that module starts none, do nothing.

    Args:
        engine: The module.
        log: Told when it is started again.
        program: What to start in its place.

    """
    if not hasattr(engine, "subprocess"):
        return

    def started(command: list[str], **options: Any) -> Kept | subprocess.Popen[bytes]:
        if command[0] == PROGRAM:
            return Kept([*program, *command[1:]], log, **options)
        return subprocess.Popen(command, **options)

    engine.__dict__["subprocess"] = SimpleNamespace(Popen=started, TimeoutExpired=subprocess.TimeoutExpired)
