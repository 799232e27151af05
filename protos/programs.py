"""Flower's programs, as both sides start them."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

_MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""Let glibc give a large buffer back to the system as soon as it is freed. By itself it keeps a heap per thread
and raises the threshold to the size of the largest buffer freed so far, so a program that moves megabytes in many
threads, as the SuperLink does, grows with what has passed through it, not with what it holds."""


def environment(flower_home: Path) -> dict[str, str]:
    """Return the environment for Flower's programs.

    They are found beside this Python, tell nobody of their use, keep their files in one folder, and look for new
    work five times a second: a short message should not wait for a second.
    """
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_HOME": str(flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PYTHONUNBUFFERED": "1",
        **_MALLOC,
    }


def listening(port: int) -> bool:
    """Tell whether something listens on a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
