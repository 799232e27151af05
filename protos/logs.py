"""Lines for a log: text for people, or one JSON object per line for programs.

Text is what there is by itself. With ``--log-format json`` or ``ONEBASIN_LOG=json``, which child processes
inherit, each line that a command prints while it runs is an object with a time (RFC 3339), a level, an event, the
campaign, the site, a message, and what else belongs to the event. What others print, `protos.logpump` wraps.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any

VARIABLE = "ONEBASIN_LOG"
"""The environment variable that says in which form lines are: ``text`` or ``json``."""
TEXT, JSON = "text", "json"
MARK = "ONEBASIN_LOG_MARK"
"""The environment variable with what our processes mark their lines by, so that no other text counts as one."""
FIRST = ("time", "level", "event", "campaign", "site", "message")
"""What each line has, in this order."""
LOG, OUTPUT = "log", "output"
"""The events of a program's log record, and of what somebody just printed."""
_TEXT_FORM = "%(asctime)s %(levelname)s %(message)s"

_about = {"campaign": "", "site": ""}


def as_json() -> bool:
    """Tell whether lines are JSON."""
    return os.environ.get(VARIABLE) == JSON


def about(**what: str) -> dict[str, str]:
    """Say which campaign or site this process works for; return what is known now."""
    assert what.keys() <= _about.keys()
    _about.update(what)
    return dict(_about)


def line(message: str, *, level: str = "info", event: str = LOG, at: float | None = None, **fields: Any) -> str:
    """Return a line, a JSON object without a line break in it.

    Args:
        message: What happened, for people.
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        event: What happened, for programs.
        at: When, in seconds since 1970; now if not given.
        fields: More about it; a campaign or site takes the place of the process's own.

    """
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    own = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "event": event,
        **{key: fields.get(key) or known for key, known in _about.items()},
        "message": message,
    }
    found = {**own, **{key: value for key, value in fields.items() if key not in own}}
    if mark := os.environ.get(MARK):
        found["mark"] = mark
    return dumped(found)


def dumped(found: dict[str, Any]) -> str:
    """Return an object as JSON that every parser takes: ASCII, and null where a number is none."""
    return json.dumps(_finite(found), default=str, allow_nan=False)


def say(message: str, *, level: str = "info", event: str = LOG, err: bool = False, **fields: Any) -> None:
    """Print a line in the form that is asked for; as text, a warning is called one.

    Args:
        message: What happened.
        level: See `line`.
        event: See `line`.
        err: Whether to print it on standard error.
        fields: See `line`; text leaves them out.

    """
    text = f"warning: {message}" if level == "warning" else message
    print(
        line(message, level=level, event=event, **fields) if as_json() else text,
        file=sys.stderr if err else sys.stdout,
        flush=True,
    )


def formatter() -> logging.Formatter:
    """Return what puts log records into the form that is asked for."""
    return _Lines() if as_json() else logging.Formatter(_TEXT_FORM)


def attach(name: str) -> None:
    """Have a logger's records printed as JSON lines, if that is asked for."""
    logger = logging.getLogger(name)
    if as_json() and not any(isinstance(handler.formatter, _Lines) for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(_Lines())
        logger.addHandler(handler)
        logger.propagate = False


class _Lines(logging.Formatter):
    """Makes a line of a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is one of its fields."""
        trace = {"traceback": self.formatException(record.exc_info)} if record.exc_info else {}
        return line(
            record.getMessage(), level=record.levelname.lower(), at=record.created, logger=record.name, **trace
        )


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
