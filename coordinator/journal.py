"""The journal: which campaigns are under way, who has to move next in each, and what happened.

One SQLite file per coordinator, in WAL mode, so that a run writes while others read. What is merged is not said
here: the merge state says it, with the digests of what is inside, and where both differ the journal is corrected.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator.schema import MIGRATIONS, check_version, error_code, explained, migrate, transaction

FILE = "journal.db"
WAIT = 30.0
"""Seconds that one writer waits for another."""
Event = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """How a campaign went so far. Times are seconds since 1970.

    Attributes:
        started: When it was first run, or None.
        deadline: When its deadline is; None before it is run.
        outcome: How the last run ended; None while one is on, or after one that died.
        cancelled: When it was cancelled, or None.

    """

    started: float | None = None
    deadline: float | None = None
    outcome: Mapping[str, Any] | None = None
    cancelled: float | None = None


@dataclass(frozen=True)
class Standing:
    """Where a member stands.

    Attributes:
        state: A `coordinator.members.State`'s name.
        owner: Who has to move next; empty if nobody has.
        reason: Why it is refused, missing or withdrawn.
        digest: Its update's, hexadecimal; empty while it isn't known.
        since: Since when, in seconds since 1970.
        progress: What it last said about its adaptation.

    """

    state: str
    owner: str
    reason: str
    digest: str
    since: float
    progress: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Count:
    """How often something happened.

    Attributes:
        campaign: In which campaign, by its digest, hexadecimal.
        site: At which site; empty if at none.
        event: What.
        times: How often.
        last: When last, in seconds since 1970.

    """

    campaign: str
    site: str
    event: str
    times: int
    last: float


class Journal:
    """The journal of one coordinator. It is opened, and brought up to date, when it is first needed.

    Args:
        path: Its file.
        wait: Seconds to wait for another writer.
        reading: Whether it is only read: then it is neither made nor brought up to date.

    Every method raises JournalError if the file is damaged, of a newer onebasin, or in use for too long, and
    StorageError if it can't be written.

    """

    def __init__(self, path: Path, wait: float = WAIT, *, reading: bool = False) -> None:
        self.path = path
        self._wait = wait
        self._only_reading = reading
        self._lock = threading.RLock()
        self._opened: sqlite3.Connection | None = None

    # ------------------------------------------------------------- campaigns

    def begin(self, campaign: str, name: str, seconds: float) -> Course:
        """Begin a run, and return how the campaign went before; its deadline counts from its first run.

        Args:
            campaign: The campaign's digest, hexadecimal.
            name: What people call it.
            seconds: From the first run to the deadline.

        """
        now = time.time()
        with self._writing() as db:
            self._know(db, campaign, name)
            db.execute(
                "UPDATE campaigns SET started = ?, deadline = ? WHERE digest = ? AND started IS NULL",
                (now, now + seconds, campaign),
            )
        return self.course(campaign)

    def course(self, campaign: str) -> Course:
        """Return how a campaign went so far."""
        with self._reading() as db:
            row = db.execute(
                "SELECT started, deadline, outcome, cancelled FROM campaigns WHERE digest = ?", (campaign,)
            ).fetchone()
        if row is None:
            return Course()
        return Course(row[0], row[1], json.loads(row[2]) if row[2] else None, row[3])

    def cancel(self, campaign: str, name: str, *, cancelled: bool = True) -> None:
        """Write down that a campaign is cancelled, or that it is taken up again."""
        with self._writing() as db:
            self._know(db, campaign, name)
            now = time.time() if cancelled else None
            db.execute("UPDATE campaigns SET cancelled = ? WHERE digest = ?", (now, campaign))

    def end(self, campaign: str, name: str, outcome: Mapping[str, Any] | None) -> None:
        """Write down how a run ended, or with None that another one begins."""
        with self._writing() as db:
            self._know(db, campaign, name)
            content = None if outcome is None else json.dumps(outcome)
            db.execute("UPDATE campaigns SET outcome = ? WHERE digest = ?", (content, campaign))

    # --------------------------------------------------------------- members

    def place(
        self, campaign: str, site: str, state: str, owner: str, reason: str, digest: str, *, lasting: bool
    ) -> None:
        """Write down where a member stands (see `Standing`); nothing changes if it stood there already."""
        values = (state, owner, reason, digest)
        with self._writing(lasting=lasting) as db:
            db.execute(
                "INSERT INTO members (campaign, site, state, owner, reason, digest, since)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET (state, owner, reason, digest, since) ="
                " (excluded.state, excluded.owner, excluded.reason, excluded.digest, excluded.since)"
                " WHERE (state, owner, reason, digest) IS NOT"
                " (excluded.state, excluded.owner, excluded.reason, excluded.digest)",
                (campaign, site, *values, time.time()),
            )

    def standings(self, campaign: str) -> dict[str, Standing]:
        """Return where each member stands, by site; those of whom nothing is known are not there."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT site, state, owner, reason, digest, since, progress FROM members WHERE campaign = ?",
                (campaign,),
            ).fetchall()
        return {
            site: Standing(state, owner, reason, digest, since, json.loads(progress))
            for site, state, owner, reason, digest, since, progress in sorted(rows)
        }

    # ---------------------------------------------------------------- events

    def note(self, campaign: str, event: str, site: str, fields: Mapping[str, Any], *, lasting: bool) -> None:
        """Append an event.

        Args:
            campaign: The campaign's digest, hexadecimal.
            event: What happened.
            site: At which site; empty if at none.
            fields: More about it.
            lasting: Whether it must survive the machine's loss of power, and not only the coordinator's end.

        """
        content = json.dumps(dict(fields))
        with self._writing(lasting=lasting) as db:
            db.execute(
                "INSERT INTO events (campaign, time, event, site, fields) VALUES (?, ?, ?, ?, ?)",
                (campaign, round(time.time(), 3), event, site, content),
            )
            if event == "progress":
                db.execute(
                    "UPDATE members SET progress = ? WHERE campaign = ? AND site = ?", (content, campaign, site)
                )

    def events(self, campaign: str, after: int = 0) -> list[tuple[int, Event]]:
        """Return a campaign's events with their numbers, those after a number.

        Each has its time, in seconds since 1970, its name, its site if there is one, and what else was noted.
        """
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, time, event, site, fields FROM events WHERE campaign = ? AND id > ? ORDER BY id",
                (campaign, after),
            ).fetchall()
        return [(number, _event(*row)) for number, *row in rows]

    def last(self, campaign: str, event: str = "") -> int:
        """Return the number of a campaign's last event, of that name if one is given; 0 if there is none."""
        with self._reading() as db:
            found = db.execute(
                "SELECT max(id) FROM events WHERE campaign = ? AND ? IN ('', event)", (campaign, event)
            ).fetchone()
        return int(found[0] or 0)

    def counts(self, after: int = 0) -> tuple[int, list[Count]]:
        """Count the events of all campaigns, those after a number; return the number of the last one, too.

        Numbers ascend in the order in which events are written, and none is ever taken out.
        """
        with self._reading() as db:
            last = int(db.execute("SELECT max(id) FROM events").fetchone()[0] or 0)
            rows = db.execute(
                "SELECT campaign, site, event, count(*), max(time) FROM events WHERE id > ? AND id <= ?"
                " GROUP BY campaign, site, event",
                (after, last),
            ).fetchall()
        return last, [Count(*row) for row in rows]

    def named(self, events: Collection[str], after: int, to: int) -> list[tuple[str, Event]]:
        """Return the events of some names in all campaigns, each with its campaign, in order.

        Args:
            events: Their names.
            after: The number after which they begin.
            to: The number with which they end.

        """
        with self._reading() as db:
            rows = db.execute(
                "SELECT campaign, time, event, site, fields FROM events WHERE id > ? AND id <= ?"
                " AND event IN (SELECT value FROM json_each(?)) ORDER BY id",
                (after, to, json.dumps(list(events))),
            ).fetchall()
        return [(campaign, _event(*row)) for campaign, *row in rows]

    # -------------------------------------------------------------- the file

    @staticmethod
    def _know(db: sqlite3.Connection, campaign: str, name: str) -> None:
        db.execute("INSERT OR IGNORE INTO campaigns (digest, name) VALUES (?, ?)", (campaign, name))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, explained(self.path):
            yield self._connection()

    @contextmanager
    def _writing(self, *, lasting: bool = True) -> Iterator[sqlite3.Connection]:
        """Yield a transaction. One that is not lasting is on the disk together with the next one that is."""
        with self._lock, explained(self.path):
            db = self._connection()
            db.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
            with transaction(db):
                yield db

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            where = f"{self.path.absolute().as_uri()}?mode={'ro' if self._only_reading else 'rwc'}"
            db = sqlite3.connect(
                where, uri=True, timeout=self._wait, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, db.close)
            if self._only_reading:
                check_version(db, self.path)
            else:
                self._write_ahead(db)
                migrate(db, self.path, MIGRATIONS)
            self._opened = db
        return self._opened

    def _write_ahead(self, db: sqlite3.Connection) -> None:
        """Bring a new file into WAL mode. SQLite doesn't wait by itself for another process that does the same."""
        until = time.monotonic() + self._wait
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return


def _event(at: float, event: str, site: str, fields: str) -> Event:
    return {"time": at, "event": event, **({"site": site} if site else {}), **json.loads(fields)}
