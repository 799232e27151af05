"""Flower's SuperExec at a site, whose ClientApps are forked from a process that has imported Flower already.

Flower starts a process for each message, and that imports Flower: more than a second of a processor, for messages
that are answered in a few milliseconds. So this process imports it once, and divides itself: its child becomes the
SuperExec, and asks it over a socket for a ClientApp for each message. It has no threads, holds nothing open, and
does nothing else. The bundle of a run is loaded in the ClientApp; what it imports, the onebasin that is installed
here, is here already.

    python -m client.forking [arguments of flower-superexec]
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpcore  # noqa: F401  # Flower imports it when it is needed, and so do we what follows
from cryptography.hazmat.primitives.ciphers import aead  # noqa: F401
from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.superexec.executor import subprocess_executor
from flwr.supernode.cli import flwr_clientapp

from client import client_app  # noqa: F401  # what answers most messages; PyTorch is left to those that need it
from protos import linux
from protos.joining import join_once

NAME = "flwr-clientapp"


def main() -> Callable[[], None]:
    """Divide; return what this process is to do: in the child the SuperExec, in each of ours a ClientApp.

    The caller calls it at the end of the program, so that it ends as Flower's own program does.
    """
    ours, theirs = socket.socketpair()
    here = os.getpid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    if os.fork() == 0:
        ours.close()
        return superexec(theirs, here)
    theirs.close()
    return serve(ours)


def superexec(asks: socket.socket, parent: int) -> Callable[[], None]:
    """Return Flower's SuperExec, which asks its parent for ClientApps instead of starting them."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    linux.end_with_parent(parent)

    def started(command: list[str], **options: Any) -> subprocess.Popen[bytes] | None:
        if command[0] != NAME:
            return subprocess.Popen(command, **options)
        asks.sendall(json.dumps(command).encode() + b"\n")
        return None

    subprocess_executor.__dict__["subprocess"] = SimpleNamespace(Popen=started, DEVNULL=subprocess.DEVNULL)
    sys.argv[0] = "flower-superexec"
    run: Callable[[], None] = flower_superexec
    return run


def serve(asked: socket.socket) -> Callable[[], None]:
    """Fork a ClientApp for each command line that comes, until the SuperExec is gone; return what to do then."""
    with asked, asked.makefile() as lines:
        for line in lines:
            try:
                child = os.fork()
            except OSError:  # no memory, or too many processes: Flower gives the message up when its time is over
                traceback.print_exc()
                continue
            if child == 0:
                return clientapp(json.loads(line))
    return lambda: None


def clientapp(command: list[str]) -> Callable[[], None]:
    """Return Flower's ClientApp for one message."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    linux.call_this_process(NAME)
    join_once()
    sys.argv = command
    run: Callable[[], None] = flwr_clientapp
    return run


if __name__ == "__main__":
    main()()
