"""What happens in a campaign, as it is noted: in the journal, and what matters in the audit log too."""

from __future__ import annotations

from typing import Any

from coordinator.journal import Journal
from coordinator.members import Member
from protos.audit import Audit

AUDITED = frozenset(
    {
        *("connected", "stranger", "arrived", "refused", "missing", "folded", "merged", "evaluating", "evaluated"),
        *("not-evaluated", "forgotten", "withdrawn", "completed", "summing", "dropped-out", "sum-given-up"),
        *("corrected", "cancelled", "stopped", "not-stopped", "receipted", "sent-on"),
    }
)
"""Events that go into the audit log too: not how far somebody is, but what came, went or was decided."""


class Events:
    """The events of a campaign, and where its members stand.

    Args:
        journal: Where they are written.
        campaign: The campaign's digest, hexadecimal.
        name: Its name, for the audit log.
        audit: Where those that are `AUDITED` are written as well.

    """

    def __init__(self, journal: Journal, campaign: str, name: str, audit: Audit) -> None:
        self._journal = journal
        self._campaign = campaign
        self._name = name
        self._audit = audit

    def note(self, event: str, site: str = "", **fields: Any) -> None:
        """Append an event.

        Raises:
            VerificationError: The audit log was changed, so nothing can be added to it.
            JournalError: The journal is damaged, or in use for too long.
            StorageError: The disk is full.

        """
        audited = event in AUDITED
        if audited:
            self._audit.note(event, campaign=self._name, **({"site": site} if site else {}), **fields)
        self._journal.note(self._campaign, event, site, fields, lasting=audited)

    def place(self, member: Member) -> None:
        """Write down where a member stands; raises as `note`."""
        state = member.state
        self._journal.place(
            self._campaign,
            member.site,
            state.value,
            state.owner,
            member.reason,
            member.digest.hex(),
            lasting=state.final,
        )
