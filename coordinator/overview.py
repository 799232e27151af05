"""A campaign at a glance: where it and each of its members stand, by the journal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from coordinator.campaign_folder import CampaignFolder
from coordinator.journal import Course, Standing
from coordinator.members import State

_NEXT = {
    "new": "run it: onebasin coordinator run",
    "running": "watch it: onebasin coordinator watch",
    "stopped": "its run died; continue: onebasin coordinator run",
    "failed": "mend what the last run says, and run it again",
    "merged": "",
    "cancelling": "the sites are being told to stop",
    "cancelled": "take it up again: onebasin coordinator run --reopen",
}
"""What each state of a campaign waits for; a state that is not here comes from what is here by a command."""


@dataclass(frozen=True)
class Overview:
    """Where a campaign stands. Times are seconds since 1970.

    Attributes:
        campaign: Its name.
        digest: Its digest, hexadecimal.
        state: ``new``, ``running``, ``stopped``, ``failed``, ``merged``, ``cancelling`` or ``cancelled``.
        next: What to do, if anything.
        started: When it was first run, or None.
        deadline: When its deadline is, or None.
        sites: Where each member stands.
        outcome: How the last run ended, or None.

    """

    campaign: str
    digest: str
    state: str
    next: str
    started: float | None
    deadline: float | None
    sites: Mapping[str, Standing]
    outcome: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return asdict(self)

    def as_text(self, now: float | None = None) -> Iterator[str]:
        """Yield it line by line, for a terminal; `now` is the time to count from, in seconds since 1970."""
        now = time.time() if now is None else now
        yield f"campaign {self.campaign}  {self.digest}"
        left = "" if self.deadline is None else f", {_left(self.deadline - now)}"
        yield f"  {self.state}{left}{f'; {self.next}' if self.next else ''}"
        for site, standing in self.sites.items():
            yield f"  {site}: {_words(standing, now)}"
        if self.outcome is not None:
            yield f"last run: {'merged' if self.outcome['ok'] else self.outcome['what']}"


def overview(folder: CampaignFolder) -> Overview:
    """Look where a campaign stands; raises as `coordinator.journal.Journal`."""
    return by(folder, folder.course(), folder.home.journal.standings(folder.key))


def by(folder: CampaignFolder, course: Course, known: Mapping[str, Standing]) -> Overview:
    """Tell where a campaign stands by what a journal says of it.

    Args:
        folder: The campaign.
        course: How it went so far.
        known: Where members stand, as far as anything is known of them.

    """
    absent = State.ABSENT
    nobody = Standing(absent.value, absent.owner, "", "", course.started or 0.0)
    held = folder.held()
    state = (
        ("cancelling" if held else "cancelled")
        if course.cancelled is not None
        else "running"
        if held
        else "new"
        if course.started is None
        else "stopped"
        if course.outcome is None
        else "merged"
        if course.outcome["ok"]
        else "failed"
    )
    return Overview(
        campaign=folder.campaign.name,
        digest=folder.key,
        state=state,
        next=_NEXT[state],
        started=course.started,
        deadline=course.deadline,
        sites={site: known.get(site, nobody) for site in folder.campaign.sites},
        outcome=course.outcome,
    )


def share(standing: Standing) -> tuple[int, int] | None:
    """Return how many steps of its adaptation a member has done, and of how many; None if it is not adapting."""
    said = standing.progress
    if standing.state != State.ADAPTING.value or not said.get("steps"):
        return None
    steps = int(said["steps"])
    return min(max(int(said["step"]), 0), steps), steps


def _words(standing: Standing, now: float) -> str:
    found = [standing.state]
    if standing.state == State.ADAPTING.value and standing.progress:
        said = standing.progress
        found.append(f"({said['phase']}), step {said['step']} of {said['steps']}, {said['eta']:.0f} s left")
    if standing.since:
        found.append(f"for {span(now - standing.since)}")
    if standing.reason:
        found.append(f"– {standing.reason}")
    elif standing.owner:
        found.append(f"– it is the {standing.owner}'s turn")
    return " ".join(found)


def _left(seconds: float) -> str:
    return f"{span(seconds)} to the deadline" if seconds > 0 else f"the deadline passed {span(-seconds)} ago"


def span(seconds: float) -> str:
    """Put a time span into words, in its largest unit."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
