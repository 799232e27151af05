"""How the page puts times, states and what comes from outside."""

from __future__ import annotations

import time
from datetime import datetime

from coordinator.overview import span
from coordinator.report import text

TONES = {
    "merged": "good",
    "good": "good",
    "done": "good",
    "running": "busy",
    "adapting": "busy",
    "submitting": "busy",
    "folding": "busy",
    "cancelling": "busy",
    "under way": "busy",
    "failed": "bad",
    "refused": "bad",
    "missing": "bad",
    "stopped": "bad",
    "damaged": "bad",
    "not a request": "bad",
}
"""How a state's word is coloured, beside being a word; others are plain."""
LONGEST = 600
"""Characters of a message that are shown."""


def iso(seconds: float | None) -> str:
    """Return a time in seconds since 1970 as ISO 8601, local; empty if it is none."""
    found = _local(seconds)
    return found.isoformat(timespec="seconds") if found else ""


def moment(seconds: float | None) -> str:
    """Return a local time to the minute, or a dash."""
    found = _local(seconds)
    return f"{found:%Y-%m-%d %H:%M}" if found else text.MISSING


def relative(seconds: float | None, now: float | None = None) -> str:
    """Put a time into words, counted from now; empty if it is none."""
    if _local(seconds) is None:
        return ""
    assert seconds is not None
    left = seconds - (time.time() if now is None else now)
    if abs(left) < 1:
        return "now"
    return f"in {span(left)}" if left > 0 else f"{span(-left)} ago"


def zone() -> str:
    """Return this machine's offset from UTC."""
    offset = datetime.now().astimezone().strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:5]}"


def outside(value: object) -> str:
    """Return what came from outside on one line, without control or reordering characters, and not too long."""
    return text.plain(str(value), LONGEST)


def _local(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):
        return None
