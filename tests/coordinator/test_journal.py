"""The journal: what it keeps, how its schema grows, and what it says when it can't be used."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest

from coordinator import journal as module
from coordinator.journal import Course, Journal
from coordinator.schema import MIGRATIONS, migrate
from protos.errors import JournalError, StorageError

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path):
    return Journal(path)


def place(journal, site, state="adapting", owner="site", reason="", digest="", *, campaign=ONE):
    journal.place(campaign, site, state, owner, reason, digest, lasting=True)


def at(monkeypatch, now):
    monkeypatch.setattr(module.time, "time", lambda: now)


def test_nothing_is_known_of_a_campaign_that_was_never_run(journal):
    assert journal.course(ONE) == Course()
    assert journal.standings(ONE) == {}
    assert journal.events(ONE) == []
    assert journal.last(ONE) == 0


def test_the_deadline_counts_from_the_first_run_however_often_it_is_run(path, monkeypatch):
    at(monkeypatch, 1000.0)
    assert Journal(path).begin(ONE, "one", 600) == Course(1000.0, 1600.0)
    at(monkeypatch, 1500.0)
    assert Journal(path).begin(ONE, "one", 600) == Course(1000.0, 1600.0)
    assert Journal(path).begin(TWO, "two", 600).deadline == 2100.0


def test_an_outcome_is_kept_until_the_next_run_and_is_no_start(journal):
    journal.end(ONE, "one", {"ok": False, "what": "too few"})
    assert journal.course(ONE) == Course(outcome={"ok": False, "what": "too few"})
    journal.end(ONE, "one", None)
    assert journal.course(ONE) == Course()


def test_a_members_state_keeps_the_time_since_which_it_is_so(journal, monkeypatch):
    at(monkeypatch, 1.0)
    place(journal, "fog")
    at(monkeypatch, 2.0)
    place(journal, "fog")
    assert journal.standings(ONE)["fog"].since == 1.0
    place(journal, "fog", "refused", "operator of the site", "no images")
    found = journal.standings(ONE)["fog"]
    assert (found.state, found.owner, found.reason, found.since) == (
        "refused",
        "operator of the site",
        "no images",
        2.0,
    )
    assert not journal.standings(TWO)


def test_progress_is_part_of_where_a_member_stands(journal):
    place(journal, "fog")
    journal.note(ONE, "progress", "fog", {"step": 3, "steps": 9}, lasting=False)
    journal.note(ONE, "progress", "night", {"step": 4}, lasting=False)  # nothing is known of it
    assert {site: found.progress for site, found in journal.standings(ONE).items()} == {
        "fog": {"step": 3, "steps": 9}
    }


def test_events_come_in_order_and_from_a_number_on(journal):
    journal.note(ONE, "connected", "fog", {"node": 7}, lasting=True)
    journal.note(TWO, "connected", "night", {}, lasting=False)
    journal.note(ONE, "merging", "", {"text": "line\nbreak"}, lasting=False)
    (first, connected), (second, merging) = journal.events(ONE)
    assert (connected["event"], connected["site"], connected["node"]) == ("connected", "fog", 7)
    assert (merging["text"], "site" in merging) == ("line\nbreak", False)
    assert connected["time"] <= merging["time"]
    assert [number for number, _ in journal.events(ONE, first)] == [second] == [journal.last(ONE)]
    assert journal.last(ONE, "connected") == first


def test_what_is_written_is_there_for_whoever_reads_at_the_same_time(path):
    writer, reader = Journal(path), Journal(path)
    assert reader.events(ONE) == []
    writer.note(ONE, "merging", "", {}, lasting=True)
    assert [event["event"] for _, event in reader.events(ONE)] == ["merging"]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_writers_wait_for_each_other_and_nothing_is_lost(path):
    def write(site):
        journal = Journal(path)
        for i in range(25):
            journal.note(ONE, "progress", site, {"step": i}, lasting=False)

    writers = [threading.Thread(target=write, args=(f"site-{i}",)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    events = [event for _, event in Journal(path).events(ONE)]
    assert len(events) == 8 * 25
    for i in range(8):
        assert [event["step"] for event in events if event["site"] == f"site-{i}"] == list(range(25))


@pytest.mark.parametrize("lasting", [True, False])
def test_what_must_last_is_synced(journal, path, lasting):
    journal.note(ONE, "merged", "", {}, lasting=lasting)
    (level,) = journal._opened.execute("PRAGMA synchronous").fetchone()
    assert level == (2 if lasting else 1)


# -------------------------------------------------------------- the schema


def schema(path):
    with closing(sqlite3.connect(path)) as db:
        return sorted(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_journal_of_any_older_version_is_brought_up_to_date_with_all_that_it_holds(path, tmp_path, version):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate(db, path, MIGRATIONS[:version])
        db.execute("INSERT INTO campaigns (digest, name, started, deadline) VALUES (?, 'one', 1.0, 601.0)", (ONE,))
        db.execute(
            "INSERT INTO events (campaign, time, event, site, fields) VALUES (?, 1.0, 'merging', '', '{}')", (ONE,)
        )
    old = Journal(path)
    assert old.begin(ONE, "one", 5) == Course(1.0, 601.0)
    assert [event["event"] for _, event in old.events(ONE)] == ["merging"]
    Journal(tmp_path / "new.db").course(ONE)
    assert schema(path) == schema(tmp_path / "new.db")


def test_a_migration_that_fails_leaves_the_journal_as_it_was(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate(db, path, MIGRATIONS)
        before = schema(path)
        with pytest.raises(sqlite3.OperationalError):
            migrate(db, path, (*MIGRATIONS, "CREATE TABLE good (a); CREATE NONSENSE"))
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert schema(path) == before


def test_a_journal_of_a_newer_onebasin_is_refused(path):
    Journal(path).course(ONE)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(
        JournalError, match=f"has version {len(MIGRATIONS) + 1}, and this onebasin knows"
    ) as caught:
        Journal(path).course(ONE)
    assert "newer onebasin" in caught.value.fix


# ------------------------------------------------------------ what goes wrong


def test_a_damaged_journal_is_named(path):
    path.write_bytes(b"no database at all, however long it is" * 200)
    with pytest.raises(JournalError, match=r"journal\.db is damaged") as caught:
        Journal(path).course(ONE)
    assert "restore it from a copy" in caught.value.fix


def test_a_journal_with_damaged_pages_is_named(path):
    first = Journal(path)
    for i in range(200):
        first.note(ONE, "merging", "", {"i": i, "text": "x" * 200}, lasting=False)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(JournalError, match="is damaged"):
        Journal(path).events(ONE)


def test_a_journal_that_somebody_else_holds_is_given_up_after_a_while(path):
    Journal(path).course(ONE)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="is locked: another program"):
            Journal(path, wait=0.05).note(ONE, "merging", "", {}, lasting=True)
        db.execute("ROLLBACK")
    Journal(path, wait=0.05).note(ONE, "merging", "", {}, lasting=True)


def test_a_full_disk_is_named_and_what_was_there_stays(journal):
    journal.note(ONE, "merging", "", {}, lasting=True)
    (pages,) = journal._opened.execute("PRAGMA page_count").fetchone()
    journal._opened.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="No space left on device"):
        journal.note(ONE, "merged", "", {"text": "x" * 100_000}, lasting=True)
    assert [event["event"] for _, event in journal.events(ONE)] == ["merging"]
    journal._opened.execute("PRAGMA max_page_count = 1000000")
    journal.note(ONE, "merged", "", {}, lasting=True)


def test_a_journal_that_may_not_be_written_is_named(journal):
    journal.course(ONE)
    journal._opened.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match=r"can't write .*journal\.db"):
        journal.note(ONE, "merging", "", {}, lasting=True)


def test_a_folder_that_there_is_not_is_named(tmp_path):
    with pytest.raises(StorageError, match="can't write"):
        Journal(tmp_path / "none" / "journal.db").note(ONE, "merging", "", {}, lasting=True)
