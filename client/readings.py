"""What a site's metrics are, and where each is read: its campaigns' folders, its audit log, its SuperNode.

They are for the people at the site, and stay there: nothing here is sent to anybody who doesn't ask for it at the
site's own address.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from client import adapting, stock
from client.adaptation import PROGRESS
from client.adapting import PHASES
from client.joined import Joined
from client.site import Site
from protos import campaign as campaigns
from protos import messages_pb2 as pb
from protos import metrics
from protos.audit import LOG, Entry, Place, tail
from protos.errors import OnebasinError
from protos.metrics import COUNTER, GAUGE, Metric, Part, Sample

SHOWN = 10
"""How many campaigns are shown: those that were joined last."""
STATES = ("idle", "adapting", "ready", "failed", "stopped", "cleared")
REPLIES = tuple(field.name for field in pb.Reply.DESCRIPTOR.oneofs_by_name["what"].fields)
REASONS = tuple(name.removeprefix("REASON_").lower() for name in pb.Refusal.Reason.keys())  # noqa: SIM118  # protobuf's

CAMPAIGN = ("campaign",)
STATE = Metric(
    "onebasin_site_state",
    GAUGE,
    "1 for how far this site is in a campaign, 0 for the other states",
    (*CAMPAIGN, "state"),
)
PHASE = Metric(
    "onebasin_site_phase", GAUGE, "1 for what adapting is at, 0 for its other phases", (*CAMPAIGN, "phase")
)
STEP = Metric("onebasin_site_step", GAUGE, "Steps of its phase that adapting has done", CAMPAIGN)
STEPS = Metric("onebasin_site_steps", GAUGE, "Steps of its phase that adapting has to do in all", CAMPAIGN)
LEFT = Metric("onebasin_site_left_seconds", GAUGE, "What adapting needs at the present pace", CAMPAIGN)
LOSS = Metric("onebasin_site_loss", GAUGE, "Loss of adapting's last step", CAMPAIGN)
UPDATED = Metric(
    "onebasin_site_progress_timestamp_seconds", GAUGE, "When adapting last said how far it is", CAMPAIGN
)
OUTBOX = Metric("onebasin_site_outbox_updates", GAUGE, "Updates in the outbox, by what became of them", ("state",))
OUTBOX_BYTES = Metric("onebasin_site_outbox_bytes", GAUGE, "Bytes that the updates in the outbox take")
REPLIED = Metric("onebasin_site_replies_total", COUNTER, "Replies that left this site", (*CAMPAIGN, "reply"))
REFUSED = Metric("onebasin_site_refusals_total", COUNTER, "Requests that this site refused", (*CAMPAIGN, "reason"))
SENT = Metric(
    "onebasin_site_sent_bytes_total", COUNTER, "Bytes that left this site, before they were sealed", CAMPAIGN
)
RECEIVED = Metric(
    "onebasin_site_received_bytes_total", COUNTER, "Bytes of models that came to this site", CAMPAIGN
)
LINES = Metric(
    "onebasin_site_audit_lines_total", COUNTER, "Lines of the audit log, all chained to the ones before"
)
TABLE = (
    *(STATE, PHASE, STEP, STEPS, LEFT, LOSS, UPDATED, OUTBOX, OUTBOX_BYTES),
    *(REPLIED, REFUSED, SENT, RECEIVED, LINES),
)
"""All that only a site has."""


@dataclass
class Traffic:
    """What went and came in a campaign, added up from the audit log.

    Attributes:
        replies: Replies that left, by their kind.
        refusals: Requests that were refused, by the reason.
        sent: Bytes that left.
        received: Bytes of models that came.

    """

    replies: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0

    def take(self, entry: Entry) -> None:
        """Take in a line of the log."""
        if entry.event not in ("left", "refused"):
            return
        found = entry.fields
        if entry.event == "refused":
            reason = found.get("reason")
            self.refusals[reason if reason in REASONS else "other"] += 1
        else:
            reply = found.get("reply")
            self.replies[reply if reply in REPLIES else "other"] += 1
        sizes = {key: value for key, value in found.items() if key == "bytes" or key.endswith("_bytes")}
        self.received += int(metrics.number(sizes.pop("received_bytes", 0)) or 0)
        self.sent += sum(int(metrics.number(size) or 0) for size in sizes.values())


class Readings:
    """What is read at a site.

    Args:
        site: The site.

    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._log = site.folder / LOG
        self._place = Place()
        self._traffic: defaultdict[str, Traffic] = defaultdict(Traffic)

    def parts(self) -> dict[str, Part]:
        """Return what is read, by name."""
        return {
            "campaigns": self._campaigns,
            "outbox": self._outbox,
            "audit": self._audit,
            "certificates": self._certificates,
            "disk": lambda: metrics.disk(self._site.folder),
        }

    def _campaigns(self) -> Iterator[Sample]:
        for name, joined in self._joined().items():
            yield from campaign(name, joined)

    def _outbox(self) -> Iterator[Sample]:
        entries = stock.stock(self._site)
        states = Counter(entry.state for entry in entries)
        for state in (stock.PENDING, stock.RECEIPTED, stock.CLEARED):
            yield OUTBOX(states[state], state)
        yield OUTBOX_BYTES(sum(entry.bytes for entry in entries))

    def _audit(self) -> Iterator[Sample]:
        """Read what is new in the audit log; a log that is not the one that was read, from its beginning."""
        if not self._place.holds(self._log):
            self._place = Place()
            self._traffic.clear()
        problem: OnebasinError | None = None
        try:
            for entry, place in tail(self._log, self._place):
                self._traffic[str(entry.fields.get("campaign", ""))].take(entry)
                self._place = place
        except OnebasinError as error:  # what comes before it holds
            problem = error
        yield LINES(self._place.anchor.seq)
        for name, joined in self._joined().items():
            yield from traffic(name, self._traffic[joined.campaign.digest.hex()])
        if problem is not None:
            raise problem

    def _certificates(self) -> Iterator[Sample]:
        path = self._site.folder / self._site.settings.superlink.root_certificates
        if path.exists():  # before the coordinator's welcome there is none
            yield metrics.certificate(path, path.name)

    def _joined(self) -> dict[str, Joined]:
        """Return the campaigns that were joined last, by names that differ; coordinators may choose the same."""
        paths = list((self._site.folder / "campaigns").glob("*/campaign.binpb"))
        paths.sort(key=lambda path: path.stat().st_mtime)
        found = [Joined(self._site, campaigns.load(path)) for path in paths[-SHOWN:]]
        times = Counter(joined.campaign.name for joined in found)
        return {_told_apart(joined, times[joined.campaign.name]): joined for joined in found}


def campaign(name: str, joined: Joined) -> Iterator[Sample]:
    """Yield how far a site is in a campaign."""
    found = adapting.status(joined)
    yield from metrics.one_of(STATE, STATES, found.state, name)
    yield from metrics.one_of(PHASE, PHASES, found.phase, name)
    shown = ((STEP, found.step), (STEPS, found.steps), (LEFT, found.eta), (LOSS, found.loss))
    for metric, value in shown if found.phase else ():
        if (given := metrics.number(value)) is not None:
            yield metric(given, name)
    with suppress(FileNotFoundError):
        yield UPDATED((joined.folder / PROGRESS).stat().st_mtime, name)


def traffic(name: str, found: Traffic) -> Iterator[Sample]:
    """Yield what went and came in a campaign."""
    yield SENT(found.sent, name)
    yield RECEIVED(found.received, name)
    for reply, times in sorted(found.replies.items()):
        yield REPLIED(times, name, reply)
    for reason, times in sorted(found.refusals.items()):
        yield REFUSED(times, name, reason)


def _told_apart(joined: Joined, times: int) -> str:
    campaign = joined.campaign
    return campaign.name if times == 1 else f"{campaign.name} {campaign.digest.hex()[:12]}"
