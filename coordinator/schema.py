"""The journal's file: the versions of its schema, transactions, and SQLite's errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from protos.errors import JournalError, StorageError

MIGRATIONS = (
    """
    CREATE TABLE campaigns (
        digest TEXT PRIMARY KEY, name TEXT NOT NULL, started REAL, deadline REAL, outcome TEXT
    ) STRICT;
    CREATE TABLE members (
        campaign TEXT NOT NULL, site TEXT NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL, reason TEXT NOT NULL,
        digest TEXT NOT NULL, since REAL NOT NULL, progress TEXT NOT NULL DEFAULT '{}',
        PRIMARY KEY (campaign, site)
    ) STRICT;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY, campaign TEXT NOT NULL, time REAL NOT NULL, event TEXT NOT NULL,
        site TEXT NOT NULL, fields TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_of ON events (campaign, id);
    """,
    "ALTER TABLE campaigns ADD COLUMN cancelled REAL",
)
"""What makes each version of the schema of the one before; the file's version is how many were applied."""


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite has rolled back by itself if the disk is full
            db.execute("ROLLBACK")
        raise


def migrate(db: sqlite3.Connection, path: Path, migrations: Iterable[str]) -> None:
    """Bring a journal's schema up to date, one version after the other: all of it, or nothing.

    Raises:
        JournalError: A newer onebasin wrote it.

    """
    steps = list(migrations)
    if _version(db) == len(steps):
        return
    with transaction(db):  # two processes may open a new journal at once
        version = _version(db)
        if version > len(steps):
            raise JournalError(
                f"the journal {path} has version {version}, and this onebasin knows {len(steps)}",
                "a newer onebasin wrote it: run that one",
            )
        for step in steps[version:]:
            for statement in step.split(";"):
                if statement.strip():
                    db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(steps)}")


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """Make sure that a journal which must not be brought up to date is of this version.

    Raises:
        JournalError: It isn't.

    """
    if (version := _version(db)) != len(MIGRATIONS):
        raise JournalError(
            f"the journal {path} has version {version}, and this onebasin knows {len(MIGRATIONS)}",
            "run the onebasin that wrote it, or have this one write to it: onebasin coordinator status",
        )


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def error_code(error: sqlite3.Error) -> int:
    """Return what went wrong, as SQLite numbers it."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest says where, not what


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours.

    Raises:
        JournalError: The journal is damaged, or somebody else has held it for too long.
        StorageError: It can't be written.

    """
    try:
        yield
    except sqlite3.Error as error:
        code = error_code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise JournalError(
                f"the journal {path} is locked: another program has been writing to it for a long time",
                "end whatever has it open, a backup for example, and try again",
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise StorageError(f"can't write {path}: No space left on device", "free some space") from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
            raise StorageError(
                f"can't write {path}: {error}", "check the disk, and permissions of the file and its folder"
            ) from error
        raise JournalError(
            f"the journal {path} is damaged: {error}",
            "restore it from a copy; or move it away with its -wal and -shm: what is merged is in the campaigns' "
            "folders, but deadlines count anew",
        ) from error
