"""The tally: what happened in each campaign, added up from the journal's events.

Events are never taken out of a journal, so what is added up from them only grows, also over restarts of whoever
adds. Each event is read once: a tally remembers how far it has come.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.journal import Count, Event, Journal
from coordinator.members import WORDS

HEARD = frozenset(
    {"adopted", "arrived", "connected", "evaluated", "header", "measured", "progress", "receipted", "stopped"}
)
"""Events that are something which a site said."""
READ = ("started", "connected", "disconnected", "arrived", "delivered", "folded", "merged", "refused")
"""Events of which more counts than that they happened. There are few of each."""


@dataclass
class Tally:
    """What happened in a campaign so far.

    Attributes:
        events: How often each event was noted.
        last: When the last one was, in seconds since 1970; 0 if there is none.
        heard: When each site last said something, in seconds since 1970.
        connected: Which sites are connected, as far as the last run knows.
        received: Bytes of updates that arrived whole, by site.
        sent: Bytes of models that were sent, by site.
        folds: Updates that were folded.
        fold_seconds: What folding them took.
        merges: Merged models that were written.
        merge_seconds: What writing them took.
        refused: How often a member was refused, by the word for why.

    """

    events: Counter[str] = field(default_factory=Counter)
    last: float = 0.0
    heard: dict[str, float] = field(default_factory=dict)
    connected: set[str] = field(default_factory=set)
    received: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    folds: int = 0
    fold_seconds: float = 0.0
    merges: int = 0
    merge_seconds: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)

    def count(self, found: Count) -> None:
        """Take in how often something happened."""
        self.events[found.event] += found.times
        self.last = max(self.last, found.last)
        if found.site and found.event in HEARD:
            self.heard[found.site] = max(self.heard.get(found.site, 0.0), found.last)

    def take(self, event: Event) -> None:
        """Take in an event that is one of `READ`. Numbers that an older onebasin did not note count as 0."""
        site = str(event.get("site", ""))
        match event["event"]:
            case "started":
                self.connected.clear()
            case "connected":
                self.connected.add(site)
            case "disconnected":
                self.connected.discard(site)
            case "arrived":
                self.received[site] += int(event.get("bytes", 0))
            case "delivered":
                self.sent[site] += int(event.get("bytes", 0))
            case "folded":
                self.folds += 1
                self.fold_seconds += float(event.get("seconds", 0.0))
            case "merged":
                self.merges += 1
                self.merge_seconds += float(event.get("seconds", 0.0))
            case "refused":
                word = str(event.get("reason", ""))
                self.refused[word if word in WORDS else "other"] += 1


class Tallies:
    """The tallies of all campaigns of a journal, brought up to date by what is new in it.

    Args:
        path: The journal's file.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = 0
        self._last = 0
        self._found: defaultdict[str, Tally] = defaultdict(Tally)

    def read(self, journal: Journal) -> Mapping[str, Tally]:
        """Return the tallies by the campaign's digest, hexadecimal; raises as `Journal`.

        A journal that was replaced, say by one from a backup, is added up from its beginning.
        """
        file = self._path.stat().st_ino
        last, counts = journal.counts(self._last)
        if file != self._file or last < self._last:
            self._last, self._found = 0, defaultdict(Tally)
            last, counts = journal.counts()
        events = journal.named(READ, self._last, last)
        for found in counts:
            self._found[found.campaign].count(found)
        for campaign, event in events:
            self._found[campaign].take(event)
        self._file, self._last = file, last
        return self._found
