"""The quorum: which members a campaign's rules still wait for, and whether those that delivered are enough."""

from __future__ import annotations

import time
from collections.abc import Mapping

from coordinator.members import Member, State
from protos.campaign import Campaign
from protos.errors import QuorumError
from protos.rules import SECURE_SUM

LATE = 120.0
"""Seconds that a site has, in a run that begins after the deadline, to connect and to say that it is ready."""


class Quorum:
    """A campaign's rules, applied to its members.

    Args:
        campaign: The campaign.
        members: Its members, by site.
        deadline: When its deadline is, in seconds since 1970.

    Attributes:
        started: When the run began (monotonic seconds).

    """

    def __init__(self, campaign: Campaign, members: Mapping[str, Member], deadline: float) -> None:
        self.started = time.monotonic()
        self._campaign = campaign
        self._rules = campaign.rules
        self._members = members
        self._summed = self._rules.privacy == SECURE_SUM
        # A point in time, which the journal keeps; within a run, clocks that are set don't count.
        self._ends = self.started + deadline - time.time()
        self._merged_before = False
        self._late = False

    @property
    def left(self) -> float:
        """Seconds until the deadline; negative once it has passed."""
        return self._ends - time.monotonic()

    @property
    def merged(self) -> int:
        """How many members' updates are in the merge state."""
        return sum(member.state is State.MERGED for member in self._members.values())

    def resume(self, *, merged_before: bool) -> None:
        """Take in whether an earlier run ended with a merged model, and whether this one begins late."""
        self._merged_before = merged_before
        self._late = self.left < 0 and (self._rules.at_deadline != "wait" or merged_before)

    def waits(self, member: Member) -> bool:
        """Tell whether a member has done its part, and waits for the others of a secure sum."""
        return self._summed and member.state is State.READY

    def too_late(self, member: Member) -> bool:
        """Tell whether a member isn't waited for any more because the deadline has passed."""
        if self.left >= 0 or self.waits(member):
            return False
        if self._late:  # what is finished is taken: it may have been finished in time, or joins late
            if member.state in (State.ABSENT, State.CONNECTED):
                return time.monotonic() - self.started > LATE
            return member.state is State.ADAPTING
        return self._rules.at_deadline != "wait" or self._enough()

    def check(self, *, final: bool) -> None:
        """Make sure that enough members have delivered (`final`), or still can.

        Raises:
            QuorumError: They haven't, or can't; says which are missing and why.

        """
        members = self._members.values()
        lost = [member for member in members if member.state in (State.REFUSED, State.MISSING)]
        possible = len(members) - len(lost)
        without = [member.site for member in lost if member.site in self._rules.required]
        withdrawn = sum(member.state is State.WITHDRAWN for member in members)
        needed = self._rules.minimum_sites  # those that withdrew had delivered: the operator let them go
        if (self.merged + withdrawn if final else possible) >= needed and not without:
            return
        reasons = "; ".join(member.reason for member in lost)
        rule = (
            f"{', '.join(without)} can't deliver, without which nothing is merged"
            if without
            else f"{needed} of {len(members)} sites are needed, at most {possible} can deliver, "
            "so nothing was merged"
        )
        raise QuorumError(
            f"campaign {self._campaign.name}: {rule}. {reasons}",
            "mend these sites and run the campaign again: what the others sent is not asked for twice",
        )

    def check_deadline(self) -> None:
        """End the run if the deadline has passed and the rules say so; a model that is merged already stays.

        Raises:
            QuorumError: By the rules nothing is merged after the deadline.

        """
        open_ = [m for m in self._members.values() if not m.state.final and not self.waits(m)]
        if self.left >= 0 or self._rules.at_deadline != "fail" or self._merged_before or not open_:
            return
        raise QuorumError(
            f"campaign {self._campaign.name}: by its rules nothing is merged, for the deadline has passed and "
            f"{', '.join(f'site {member.site} was {member.state.value}' for member in open_)}",
            "lay it down anew: onebasin coordinator create",
        )

    def _enough(self) -> bool:
        """Tell whether those that have delivered are enough for a merge."""
        there = (State.MERGED, State.WITHDRAWN)
        delivered = {m.site for m in self._members.values() if m.state in there or self.waits(m)}
        return len(delivered) >= self._rules.minimum_sites and delivered >= set(self._rules.required)
