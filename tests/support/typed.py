"""The commands of a page, typed into a real shell as they stand."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from protos import programs
from protos.closing import Closing


def commands(page: Path) -> list[str]:
    """Return the lines of a page's bash blocks, which can be typed one after the other."""
    return [line for block in blocks(page.read_text(), "bash") for line in block]


def blocks(text: str, language: str) -> list[list[str]]:
    """Return the lines of each block in a language, without remarks; one that goes on in the next is one."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    plain = [re.sub(r"\s+# .*", "", block.replace("\\\n", " ")) for block in found]
    return [[line.strip() for line in block.splitlines() if line.strip()] for block in plain]


class Terminal(Closing):
    """A shell in a folder, in which `onebasin` is the one of this Python.

    What was started with ``&`` is ended when it is closed, and nothing of it may be left then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._running: list[subprocess.Popen[bytes]] = []

    def type(self, line: str, timeout: float = 200) -> str:
        """Type a line and return what it printed; with ``&`` at its end, return at once."""
        options = {"cwd": self.folder, "env": {**os.environ, "PATH": self._path}}
        if line.endswith("&"):
            with (self.folder / f"log{len(self._running)}").open("w") as log:
                words = ["bash", "-c", f"exec {line.removesuffix('&')}"]
                self._running.append(subprocess.Popen(words, stdout=log, stderr=log, **options))
            return ""
        words = ["bash", "-euo", "pipefail", "-c", line]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False, **options)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def close(self) -> None:
        """End what runs in the background, and wait for it."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            process.wait(30)

    def __exit__(self, *exc: object) -> None:
        self.close()
        time.sleep(0.5)
        lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
        left = [line for line in lines if str(self.folder) in line]
        assert not left or exc[0]


def wait_for(port: int) -> None:
    """Wait until something listens on a port."""
    until = time.monotonic() + 60
    while not programs.listening(port):
        assert time.monotonic() < until, f"nothing listens on port {port}"
        time.sleep(0.1)
