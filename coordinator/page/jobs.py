"""What takes longer than a page should: it is done in a thread, and the page shows how far it is."""

from __future__ import annotations

import itertools
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from protos.errors import ConfigurationError, OnebasinError

Say = Callable[[str], None]
"""Takes a line about how it goes."""
_LINES = 50
_KEPT = 5


@dataclass
class Job:
    """Something that is being done, or was.

    Attributes:
        number: From 1.
        campaign: The campaign's name.
        title: What it is, for people.
        started: When, in seconds since 1970.
        ended: When it ended, or None.
        lines: What was said on the way, the newest last.
        result: What came of it, if it went well.
        problem: What went wrong, if something did.
        fix: What to do then.

    """

    number: int
    campaign: str
    title: str
    started: float
    ended: float | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    result: str = ""
    problem: str = ""
    fix: str = ""

    @property
    def state(self) -> str:
        """``under way``, ``done`` or ``failed``."""
        return "under way" if self.ended is None else "failed" if self.problem else "done"


class Jobs:
    """All jobs; one at a time for a campaign.

    They end with the program. What they write counts all at once or not at all, so nothing is left half done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._kept: dict[str, deque[Job]] = {}

    def start(self, campaign: str, title: str, work: Callable[[Say], str]) -> Job:
        """Begin something.

        Args:
            campaign: The campaign's name.
            title: What it is, for people.
            work: Does it; is given what takes lines, and returns what came of it.

        Raises:
            ConfigurationError: Something else is being done with this campaign.

        """
        with self._lock:
            kept = self._kept.setdefault(campaign, deque(maxlen=_KEPT))
            if kept and kept[0].ended is None:
                raise ConfigurationError(
                    f"campaign {campaign}: {kept[0].title} is under way", "wait until that is done"
                )
            job = Job(next(self._numbers), campaign, title, time.time())
            kept.appendleft(job)
        threading.Thread(target=self._do, args=(job, work), name=f"page-job-{job.number}", daemon=True).start()
        return job

    def of(self, campaign: str) -> list[Job]:
        """List the jobs of a campaign, the newest first."""
        with self._lock:
            return list(self._kept.get(campaign, ()))

    @staticmethod
    def _do(job: Job, work: Callable[[Say], str]) -> None:
        try:
            job.result = work(job.lines.append)
        except OnebasinError as error:
            job.problem, job.fix = error.what, error.fix
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            job.problem, job.fix = f"unexpected: {type(error).__name__}", "the output of this program says more"
        finally:
            job.ended = time.time()
