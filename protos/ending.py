"""The end of a process that must not wait for anything."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def end_with(run: Callable[[], object]) -> NoReturn:
    """Run a program to its end, and end this process with it, whatever is left in it.

    A program that uses gRPC can hang where Python clears up: a channel is closed there, which waits for calls of
    threads that run no more. A SuperNode whose SuperLink forgot it did, and nobody started another.

    Args:
        run: The program. What it returns is the exit code, as for `sys.exit`; an error is 1, and its traceback is
            printed.

    """
    code: object = 1
    try:
        code = run()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody may be listening any more
            stream.flush()
    os._exit(code or 0)
