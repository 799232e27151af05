"""What a coordinator's metrics are, and where each is read: its journal, its folders, its certificates.

Nothing of an update is among them but its size, and no score: what a campaign's privacy keeps from the
coordinator can't be here, and what it lets the coordinator see is not for whoever may look at a dashboard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from coordinator import overview
from coordinator.campaign_folder import CampaignFolder
from coordinator.home import Home
from coordinator.journal import FILE, Course, Journal, Standing
from coordinator.members import PHASES, WORDS, State
from coordinator.overview import Overview
from coordinator.tally import Tallies, Tally
from protos import metrics
from protos.errors import OnebasinError
from protos.metrics import COUNTER, GAUGE, SUMMARY, Metric, Part, Sample

WAIT = 2.0
"""Seconds for which a scrape waits for the journal."""
ENDED = 5
"""How many campaigns that are over are shown: those that ended last."""
STATES = ("new", "running", "stopped", "failed", "merged", "cancelling", "cancelled")
OVER = frozenset({"failed", "merged", "cancelled"})

CAMPAIGN, MEMBER = ("campaign",), ("campaign", "site")
STATE = Metric(
    "onebasin_campaign_state",
    GAUGE,
    "1 for the state that a campaign is in, 0 for the others",
    (*CAMPAIGN, "state"),
)
STARTED = Metric("onebasin_campaign_started_timestamp_seconds", GAUGE, "When a campaign was first run", CAMPAIGN)
DEADLINE = Metric("onebasin_campaign_deadline_timestamp_seconds", GAUGE, "When a campaign's deadline is", CAMPAIGN)
LAST = Metric(
    "onebasin_campaign_last_event_timestamp_seconds", GAUGE, "When something last happened in a campaign", CAMPAIGN
)
MEMBERS = Metric("onebasin_campaign_members", GAUGE, "Members in each state", (*CAMPAIGN, "state"))
NEEDED = Metric("onebasin_campaign_minimum_sites", GAUGE, "Members that must deliver, by the rules", CAMPAIGN)
CONNECTED = Metric(
    "onebasin_campaign_sites_connected", GAUGE, "Members that are connected; only while a run is on", CAMPAIGN
)
EVENTS = Metric(
    "onebasin_campaign_events_total",
    COUNTER,
    "What happened in a campaign, by the name of the event",
    (*CAMPAIGN, "event"),
)
REFUSED = Metric(
    "onebasin_campaign_refused_updates_total",
    COUNTER,
    "Updates and members that were refused",
    (*CAMPAIGN, "reason"),
)
FOLD = Metric(
    "onebasin_fold_seconds", SUMMARY, "Folding updates into the merge state: how many, how long", CAMPAIGN
)
MERGE = Metric("onebasin_merge_seconds", SUMMARY, "Writing merged models: how many, how long", CAMPAIGN)
MEMBER_STATE = Metric(
    "onebasin_member_state", GAUGE, "Always 1; says in which state a member is", (*MEMBER, "state")
)
PHASE = Metric(
    "onebasin_member_phase", GAUGE, "Always 1; says what a member that adapts is at", (*MEMBER, "phase")
)
STEP = Metric("onebasin_member_step", GAUGE, "Steps of its phase that a member has done", MEMBER)
STEPS = Metric("onebasin_member_steps", GAUGE, "Steps of its phase that a member has to do in all", MEMBER)
LEFT = Metric("onebasin_member_left_seconds", GAUGE, "What a member says it needs until it is ready", MEMBER)
HEARD = Metric(
    "onebasin_member_heard_timestamp_seconds", GAUGE, "When a member last said something to a run", MEMBER
)
ONLINE = Metric(
    "onebasin_member_connected", GAUGE, "Whether a member is connected; only while a run is on", MEMBER
)
RECEIVED = Metric(
    "onebasin_member_received_bytes_total", COUNTER, "Bytes of a member's updates that arrived whole", MEMBER
)
SENT = Metric("onebasin_member_sent_bytes_total", COUNTER, "Bytes of models that were sent to a member", MEMBER)
JOURNAL_SIZE = Metric("onebasin_journal_size_bytes", GAUGE, "Size of the journal, which only grows")
TABLE = (
    *(STATE, STARTED, DEADLINE, LAST, MEMBERS, NEEDED, CONNECTED, EVENTS, REFUSED, FOLD, MERGE),
    *(MEMBER_STATE, PHASE, STEP, STEPS, LEFT, HEARD, ONLINE, RECEIVED, SENT, JOURNAL_SIZE),
)
"""All that only a coordinator has."""


class Readings:
    """What is read at a coordinator.

    Args:
        home: The coordinator.

    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._journal = home.folder / FILE
        self._tallies = Tallies(self._journal)
        self._known: dict[tuple[str, tuple[int, int]], CampaignFolder] = {}

    def parts(self) -> dict[str, Part]:
        """Return what is read, by name."""
        return {"campaigns": self._campaigns, "certificates": self._certificates, "disk": self._disk}

    def _campaigns(self) -> Iterator[Sample]:
        """Read the campaigns that are not over, and the last few that are."""
        # Opened anew each time: a journal that was put in its place is another file.
        journal = Journal(self._journal, WAIT, reading=True) if self._journal.exists() else None
        tallies = self._tallies.read(journal) if journal else {}
        problem: OnebasinError | None = None
        found: list[tuple[CampaignFolder, Overview]] = []
        for folder in self._folders():
            try:
                course = journal.course(folder.key) if journal else Course()
                standings = journal.standings(folder.key) if journal else {}
                found.append((folder, overview.by(folder, course, standings)))
            except OnebasinError as error:  # the others are shown all the same
                problem = error
        over = sorted((one for one in found if one[1].state in OVER), key=lambda one: _ended(one[1]))
        for folder, looked in [one for one in found if one[1].state not in OVER] + over[-ENDED:]:
            yield from campaign(folder, looked, tallies.get(folder.key, Tally()))
        if problem is not None:
            raise problem

    def _folders(self) -> Iterator[CampaignFolder]:
        """Yield the campaigns; one that was read once is not read again, as long as its file is the same."""
        there = {(str(folder.path), _file(folder.campaign_file)): folder for folder in self._home.campaigns()}
        self._known = {key: self._known.get(key, folder) for key, folder in there.items()}
        yield from self._known.values()

    def _certificates(self) -> Iterator[Sample]:
        for name in ("server.pem", "ca.crt"):
            yield metrics.certificate(self._home.keys / name, name)

    def _disk(self) -> Iterator[Sample]:
        yield from metrics.disk(self._home.folder)
        with suppress(FileNotFoundError):
            yield JOURNAL_SIZE(self._journal.stat().st_size)


def campaign(folder: CampaignFolder, looked: Overview, tally: Tally) -> Iterator[Sample]:
    """Yield what is to be seen of a campaign.

    Args:
        folder: The campaign.
        looked: Where it stands.
        tally: What happened in it.

    """
    name, running = folder.path.name, looked.state in ("running", "cancelling")
    yield from metrics.one_of(STATE, STATES, looked.state, name)
    yield NEEDED(folder.campaign.rules.minimum_sites, name)
    for metric, moment in ((STARTED, looked.started), (DEADLINE, looked.deadline), (LAST, tally.last)):
        if moment:
            yield metric(moment, name)
    states = Counter(standing.state for standing in looked.sites.values())
    for state in State:
        yield MEMBERS(states[state.value], name, state.value)
    if running:
        yield CONNECTED(len(tally.connected & looked.sites.keys()), name)
    for event, times in sorted(tally.events.items()):
        yield EVENTS(times, name, event)
    for word in sorted(WORDS):
        yield REFUSED(tally.refused[word], name, word)
    yield FOLD(tally.fold_seconds, name, times=tally.folds)
    yield MERGE(tally.merge_seconds, name, times=tally.merges)
    for site, standing in looked.sites.items():
        yield from member(name, site, standing, tally)
        if running:
            yield ONLINE(site in tally.connected, name, site)


def member(name: str, site: str, standing: Standing, tally: Tally) -> Iterator[Sample]:
    """Yield what is to be seen of a member: no more than what it says of itself in `messages.proto`'s Progress."""
    states = [state.value for state in State]
    yield MEMBER_STATE(1, name, site, standing.state if standing.state in states else "other")
    if site in tally.heard:
        yield HEARD(tally.heard[site], name, site)
    yield RECEIVED(tally.received[site], name, site)
    yield SENT(tally.sent[site], name, site)
    if standing.progress:
        phase = standing.progress.get("phase")
        yield PHASE(1, name, site, str(phase) if phase in PHASES.values() else "other")
        for metric, key in ((STEP, "step"), (STEPS, "steps"), (LEFT, "eta")):
            if (value := metrics.number(standing.progress.get(key))) is not None:
                yield metric(value, name, site)


def _file(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def _ended(looked: Overview) -> float:
    """Return when a campaign ended, in seconds since 1970."""
    return metrics.number((looked.outcome or {}).get("time")) or looked.started or 0.0
