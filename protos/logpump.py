"""The log's pump: whatever a process and those that it starts print, comes out as JSON lines.

Flower's programs print lines of their own and start others that do, and a library may print what it likes. So a
process that wants it puts a pipe in the place of its standard output and error; a small process at the other end
wraps each line. It ends when nobody is left who could print, so the last words of a program that is killed
are not lost.

A line counts as one of ours only with a mark that is in our processes' environment alone: text from elsewhere
that looks like a line of the log is wrapped like any other.

    python -m protos.logpump CONTEXT
"""

from __future__ import annotations

import atexit
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO, Any

from protos import logs

_LONGEST = 1 << 16
"""Bytes that are taken for one line: a program that prints no line's end must not fill the memory."""
_PATIENCE = 2.0
"""Seconds that a process which ends waits until its last lines are out; others may hold the pipe for longer."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LEVEL = re.compile(
    r"(?:[0-9-]+T[0-9:.]+Z (?=\S+ \[)|)"  # the web server's lines: time, level, [logger]
    r"(DEBUG|INFO|WARNING|ERROR|CRITICAL)"
    r"(?:(?: +[0-9-]+ [0-9:,]+)? *:\s*| (?=\[))"  # Flower's: level, perhaps a time, colon
    r"(.*)",
    re.DOTALL,
)
"""How Flower's lines begin."""


def start() -> None:
    """Have all that this process prints from now on come out as JSON lines, if that is asked for.

    What `logs.about` knows by now is what lines carry that say nothing else.
    """
    if not logs.as_json():
        return
    os.environ[logs.MARK] = secrets.token_hex(16)
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "protos.logpump", json.dumps(logs.about())]
    pump = subprocess.Popen(command, stdin=reading)
    os.close(reading)
    for descriptor in (1, 2):
        os.dup2(writing, descriptor)
    os.close(writing)
    atexit.register(_drain, pump)


def _drain(pump: subprocess.Popen[bytes]) -> None:
    """Let the last lines out before this process ends."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    with suppress(subprocess.TimeoutExpired):
        pump.wait(_PATIENCE)


def wrapped(raw: bytes, about: Mapping[str, str] | None = None, mark: str = "") -> dict[str, Any] | None:
    """Return what a printed line says; None if it is empty.

    Args:
        raw: The line, with whatever is in it.
        about: The campaign and the site that it belongs to unless it says so itself.
        mark: What lines of ours are marked by; empty if none are expected.

    """
    about = about or {}
    text = _COLOURS.sub("", raw.decode(errors="replace")).rstrip()
    if mark and mark in text:  # nothing else gets as far as the parser
        with suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict) and found.pop("mark", "") == mark:
                return {**found, **{key: found.get(key) or known for key, known in about.items()}}
    level, message = "info", text
    if said := _LEVEL.fullmatch(text):
        level, message = said[1].lower(), said[2]
    if not message:
        return None
    found = json.loads(logs.line(message, level=level, event=logs.OUTPUT, **dict[str, Any](about)))
    found.pop("mark", None)
    return dict(found)


def lines(source: IO[bytes]) -> Iterator[bytes]:
    """Yield what is printed line by line, as soon as a line is there; one that is too long is cut."""
    while line := source.readline(_LONGEST):
        yield line


def main() -> None:
    """Wrap what comes in until all who could print are gone; whoever ends them need not end this too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    about, mark = json.loads(sys.argv[1]), os.environ.get(logs.MARK, "")
    with suppress(BrokenPipeError):
        for raw in lines(sys.stdin.buffer):
            found = wrapped(raw, about, mark)
            if found is not None:
                print(logs.dumped(found), flush=True)


if __name__ == "__main__":
    main()
