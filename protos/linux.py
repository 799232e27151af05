"""What only Linux can do for a process, and Python has no words for; elsewhere nothing happens.

Each is one system call, so it may also be called between fork and exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


def end_with_parent(parent: int) -> None:
    """Have the kernel ask this process to end (SIGTERM) when the one that started it is gone, however it ended.

    Args:
        parent: The number of the one that started it. If that was gone before the kernel could be told, this
            process ends here.

    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def adopt_orphans() -> None:
    """Make this process the parent of what its children leave behind when they end."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def call_this_process(name: str) -> None:
    """Give this process another name in the lists of processes; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()))


def _prctl(option: int, value: Any) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
