"""Named places at which a process can be made to end, to prove that nothing is lost when it does.

Nothing happens unless the environment variable `VARIABLE` is set, to one of

    <name>[:n]      each process ends when it comes to that place for the n-th time
    /path/of/file   the file holds such a line, and counts for all processes together: each one that comes to the
                    place counts down, and the one that ends takes the file away, so this happens once

A process ends as if it were killed: no handler, no clean-up, no buffer is flushed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

VARIABLE = "ONEBASIN_FAULT"
EXIT_CODE = 137
"""What a shell says of a process that was killed with signal 9."""

POINTS = {
    # in protos: any file that is written atomically
    "file-written": "a file's content is on the disk, but still under its temporary name",
    "file-renamed": "a file has its name",
    # at the coordinator
    "command-submitted": "the command has handed the run to Flower",
    "request-sending": "a request is about to be sent",
    "request-sent": "a request was sent",
    "reply-pulled": "a reply was pulled, so Flower has it no more, and nothing of it is written down",
    "arrival-header": "the header of an update is written down, and none of its parameters",
    "arrival-part": "a part of an update is written down",
    "fold-before": "updates are complete, and not folded",
    "fold-after": "updates are folded, and nobody was told",
    "publish-made": "a result is made, and doesn't count yet",
    "publish-ready": "a result counts, and is not in its place",
    "publish-half": "the merged model is in its place, and the merge state not",
    "outcome-before": "the run is over, and how it ended is not written down",
    "outcome-after": "how the run ended is written down, and it still runs",
    "forget-before": "the result is reported, and single updates are still there",
    # at a site
    "request-taken": "a request is taken, so it will not be answered again, and not answered",
    "reply-leaving": "a reply is made and in the audit log, and did not leave",
    "adapt-starting": "a site is asked to adapt, and the process is not started",
    "adapt-started": "the adapting process was started, and nobody was told",
    "outbox-model": "the adapted model is in the outbox, without its header",
    "outbox-header": "the update is in the outbox, and the adapting process has not ended",
}
"""Every name, and where it is."""

_armed = os.environ.get(VARIABLE, "")
_passed = 0


def point(name: str) -> None:
    """Come to a place of that name; the process ends here if it is told to. Costs nothing otherwise."""
    if _armed and _is_due(name):
        os._exit(EXIT_CODE)


def _is_due(name: str) -> bool:
    global _passed  # how often this process came to the place
    if _armed.startswith("/"):
        return _counted_down(Path(_armed), name)
    wanted, _, times = _armed.partition(":")
    _passed += wanted == name
    return wanted == name and _passed == int(times or 1)


def _counted_down(path: Path, name: str) -> bool:
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            wanted, _, times = file.read().strip().partition(":")
            if wanted != name or not path.exists():  # whoever ended meanwhile has taken it away
                return False
            left = int(times or 1) - 1
            if left <= 0:
                path.unlink()
                return True
            file.seek(0)
            file.truncate()
            file.write(f"{name}:{left}")
            return False
    except FileNotFoundError:
        return False
