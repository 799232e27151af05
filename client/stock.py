"""What is in a site's outboxes: one update per campaign, pending or receipted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from client.adopting import RECEIPT, check_receipt
from client.joined import Joined
from client.outbox import Outbox
from client.site import Site
from protos.errors import OnebasinError
from protos.receipts import Receipt

PENDING, RECEIPTED, CLEARED = "pending", "receipted", "cleared"


@dataclass(frozen=True)
class Entry:
    """An update.

    Attributes:
        campaign: The campaign's name.
        campaign_digest: Its digest, hexadecimal.
        update: The update's digest, hexadecimal.
        bytes: What it takes on the disk.
        age: Seconds since it was stored.
        state: ``pending``: it may still be asked for. ``receipted``: the coordinator's receipt for exactly this
            update is here. ``cleared``: it was removed after that.
        receipt: The receipt's digest, hexadecimal; empty if none is here.

    """

    campaign: str
    campaign_digest: str
    update: str
    bytes: int
    age: float
    state: str
    receipt: str

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return asdict(self)


def stock(site: Site) -> list[Entry]:
    """List a site's updates, the oldest first."""
    found = [_entry(joined) for joined in site.all_joined() if Outbox(joined).known]
    return sorted(found, key=lambda entry: -entry.age)


def clear(site: Site) -> list[Entry]:
    """Remove the updates that are receipted, and return them as they were.

    Raises:
        StorageError: One can't be removed.

    """
    gone = []
    for joined in site.all_joined():
        outbox = Outbox(joined)
        if not outbox.known:
            continue
        entry = _entry(joined)
        if entry.state == RECEIPTED or (entry.state == CLEARED and outbox.model.exists()):
            outbox.clear(entry.receipt)
            gone.append(entry)
    return gone


def table(entries: Iterable[Entry]) -> Table:
    """Put updates into a table."""
    found = Table("campaign", "update", "state", "MB", "age", "receipt")
    for entry in entries:
        age = f"{entry.age / 86_400:.1f} days" if entry.age >= 86_400 else f"{entry.age / 3600:.1f} hours"
        found.add_row(
            entry.campaign,
            entry.update[:12],
            entry.state,
            f"{entry.bytes / 1e6:.1f}",
            age,
            entry.receipt[:12] or "–",
        )
    return found


def _entry(joined: Joined) -> Entry:
    outbox, receipt = Outbox(joined), _receipt(joined)
    return Entry(
        campaign=joined.campaign.name,
        campaign_digest=joined.campaign.digest.hex(),
        update=outbox.digest().hex(),
        bytes=outbox.nbytes,
        age=max(time.time() - outbox.stored, 0.0),
        state=CLEARED if outbox.cleared else RECEIPTED if receipt is not None else PENDING,
        receipt="" if receipt is None else receipt.digest,
    )


def _receipt(joined: Joined) -> Receipt | None:
    """Return the receipt for the update, if it is here; one that doesn't hold is none."""
    try:
        return check_receipt(joined, (joined.folder / RECEIPT).read_bytes())
    except (OSError, OnebasinError):
        return None
