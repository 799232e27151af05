"""A coordinator's metrics: read from its journal and folders, while runs write, and whatever is wrong there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from scraping import Scraper

from coordinator import events as events_module
from coordinator import readings
from coordinator.journal import Journal
from coordinator.members import WORDS, Member, State, error_word, refusal_word
from coordinator.readings import Readings
from coordinator.tally import HEARD, READ
from protos import messages_pb2 as pb
from protos.errors import BaseMismatchError, MergeRangeError, SignatureError, StorageError, UpdateRefusedError
from protos.rules import Rules

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scrape(world):
    return Scraper(Readings(world.home))


def state_of(found, campaign="one") -> str:
    (state,) = [key[2] for key, value in found.items() if key[:2] == ("campaign_state", campaign) and value]
    return state


def test_a_campaign_that_was_never_run_is_new_and_no_journal_is_made(world, scrape):
    (world.home.folder / "journal.db").unlink(missing_ok=True)
    found = scrape()
    assert state_of(found) == "new"
    assert found["campaign_members", "one", "absent"] == 3
    assert found["up",] == 1
    assert not (world.home.folder / "journal.db").exists()


def test_a_run_is_seen_as_it_goes(world, scrape):
    events = world.folder.log()
    with world.folder.alone():
        world.folder.begin()
        events.note("started")
        for site in ("fog", "clear"):
            events.note("connected", site, node=1)
        events.place(Member("fog", 0.0, State.ADAPTING))
        events.note("progress", "fog", state="adapting", phase="adapt", step=3, steps=9, eta=61.5)
        found = scrape()
        assert state_of(found) == "running"
        assert found["campaign_sites_connected", "one"] == 2
        assert [found["member_connected", "one", site] for site in ("clear", "fog", "night")] == [1, 1, 0]
        assert found["member_state", "one", "fog", "adapting"] == 1
        assert found["member_phase", "one", "adapt", "fog"] == 1  # labels in the order of their names
        assert [found[f"member_{what}", "one", "fog"] for what in ("step", "steps", "left_seconds")] == [
            3,
            9,
            61.5,
        ]
        assert (
            found["member_heard_timestamp_seconds", "one", "fog"]
            <= found["campaign_last_event_timestamp_seconds", "one"]
        )
        assert found["campaign_minimum_sites", "one"] == 3
        events.note("disconnected", "clear")
        events.place(Member("fog", 0.0, State.FOLDING))
        events.note("arrived", "fog", digest="ab", bytes=1000)
        events.note("folded", "fog", digest="ab", seconds=0.25)
        events.note("refused", "night", message="site night: head.bias is NaN", reason="update")
        events.note("merged", models=1, digest="cd", receipt="ef", seconds=1.5)
        events.note("delivered", "fog", bytes=500)
        events.note("delivered", "fog", bytes=500)
        found = scrape()
    assert found["campaign_sites_connected", "one"] == 1
    assert (
        found["member_received_bytes_total", "one", "fog"]
        == found["member_sent_bytes_total", "one", "fog"]
        == 1000
    )
    assert (found["fold_seconds_count", "one"], found["fold_seconds_sum", "one"]) == (1, 0.25)
    assert (found["merge_seconds_count", "one"], found["merge_seconds_sum", "one"]) == (1, 1.5)
    assert found["campaign_refused_updates_total", "one", "update"] == 1
    assert found["campaign_events_total", "one", "delivered"] == 2
    assert not scrape.said


def test_when_no_run_is_on_nobody_is_said_to_be_connected(world, scrape):
    world.folder.begin()
    world.folder.log().note("connected", "fog", node=1)
    found = scrape()
    assert state_of(found) == "stopped"
    assert not [key for key in found if key[0] in ("campaign_sites_connected", "member_connected")]


def test_counters_go_on_over_restarts_and_count_each_event_once(world, scrape):
    events = world.folder.log()
    for i in range(3):
        events.note("arrived", "fog", digest="ab", bytes=100)
        again = Scraper(Readings(world.home))()  # an exporter that was started just now
        assert again["member_received_bytes_total", "one", "fog"] == 100 * (i + 1)
        assert scrape()["member_received_bytes_total", "one", "fog"] == 100 * (i + 1)
        assert scrape()["campaign_events_total", "one", "arrived"] == i + 1


def test_events_of_an_older_onebasin_count_as_far_as_they_go(world, scrape):
    events = world.folder.log()
    events.note("folded", "fog", digest="ab")
    events.note("refused", "night", message="site night: no")
    found = scrape()
    assert (found["fold_seconds_count", "one"], found["fold_seconds_sum", "one"]) == (1, 0)
    assert found["campaign_refused_updates_total", "one", "other"] == 1


def test_a_journal_that_took_another_ones_place_is_read_from_its_beginning(world, scrape, tmp_path):
    events = world.folder.log()
    events.note("arrived", "fog", digest="ab", bytes=100)
    with closing(sqlite3.connect(world.home.journal.path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(world.home.journal.path, tmp_path / "copy.db")
    events.note("arrived", "fog", digest="ab", bytes=100)
    assert scrape()["member_received_bytes_total", "one", "fog"] == 200
    world.home.journal._opened.close()
    for path in world.home.folder.glob("journal.db*"):
        path.unlink()
    shutil.copy(tmp_path / "copy.db", world.home.journal.path)
    assert scrape()["member_received_bytes_total", "one", "fog"] == 100


def test_of_campaigns_that_are_over_the_last_few_are_shown(world, scrape, monkeypatch):
    monkeypatch.setattr(readings, "ENDED", 2)
    members = {name: site.request().keys for name, site in world.sites.items()}
    made = {
        name: world.home.create(name, world.base, members=members, rules=world.campaign.rules)
        for name in ("a", "b", "c", "d", "e")
    }
    for i, name in enumerate("abcd"):
        made[name].begin()
        world.home.journal.end(made[name].key, name, {"ok": i % 2 == 0, "what": "x", "time": 100.0 - i})
    found = scrape()
    shown = {key[1] for key in found if key[0] == "campaign_state"}
    assert shown == {"one", "e", "a", "b"}  # two that were never run, and the two that ended last
    assert {key[1] for key in found if key[0] == "member_state"} == shown


def test_a_campaign_that_was_laid_down_anew_is_another_one(world, scrape):
    world.folder.log().note("started")
    assert scrape()["campaign_events_total", "one", "started"] == 1
    shutil.rmtree(world.folder.path)
    members = {name: site.request().keys for name, site in world.sites.items()}
    world.home.create("one", world.base, members=members, rules=Rules(minimum_sites=2))
    found = scrape()
    assert found["campaign_minimum_sites", "one"] == 2
    assert ("campaign_events_total", "one", "started") not in found


# ------------------------------------------------------------- what goes wrong


def test_a_damaged_journal_is_named_and_the_rest_is_there(world, scrape):
    path = world.home.folder / "journal.db"
    path.write_bytes(b"no database at all, however long it is" * 200)
    found = scrape()
    assert (found["up",], found["part_up", "campaigns"], found["part_up", "disk"]) == (0, 0, 1)
    assert found["certificate_expiry_timestamp_seconds", "server.pem"] > 0
    (said,) = scrape.said
    assert "journal.db is damaged" in said


def test_a_journal_that_is_held_does_not_keep_a_scrape(world, scrape):
    """In WAL mode readers don't wait for a writer; somebody may hold all of it nevertheless."""
    world.folder.log().note("started")
    assert scrape()["up",] == 1
    with closing(sqlite3.connect(world.home.journal.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM events")
        assert scrape()["campaign_events_total", "one", "started"] == 1
        db.execute("ROLLBACK")


def test_a_journal_of_another_version_is_not_touched(world, scrape):
    world.folder.log().note("started")
    with closing(sqlite3.connect(world.home.journal.path)) as db:
        db.execute("PRAGMA user_version = 1")
    assert scrape()["part_up", "campaigns"] == 0
    assert "has version 1, and this onebasin knows" in scrape.said[0]
    with closing(sqlite3.connect(world.home.journal.path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_journal_that_is_only_read_can_not_be_written(world):
    world.folder.log().note("started")
    with pytest.raises(StorageError, match="can't write"):
        Journal(world.home.journal.path, reading=True).note("ab", "merged", "", {}, lasting=False)


def test_a_campaign_that_is_damaged_does_not_hide_the_others(world, scrape):
    folder = world.home.folder / "campaigns" / "bad"
    folder.mkdir()
    (folder / "campaign.binpb").write_bytes(b"\xff" * 50)
    found = scrape()
    assert (found["up",], found["part_up", "campaigns"]) == (0, 0)
    assert state_of(found) == "new"
    assert len(scrape.said) == 1


def test_a_folder_that_is_gone_is_no_crash(world, scrape):
    assert scrape()["up",] == 1
    shutil.rmtree(world.home.folder)
    found = scrape()
    assert found["up",] == 0
    assert found["part_up", "disk"] == found["part_up", "certificates"] == 0


def test_hostile_strings_in_a_journal_stay_inside_their_labels(world, scrape):
    world.folder.begin()
    hostile = 'fog"} 1\nonebasin_up 1\n# \\'
    journal = world.home.journal
    journal.place(world.folder.key, "fog", hostile, "", "", "", lasting=False)
    journal.note(
        world.folder.key, "progress", "fog", {"phase": hostile, "step": hostile, "eta": None}, lasting=False
    )
    journal.note(world.folder.key, hostile, hostile, {}, lasting=False)
    journal.note(world.folder.key, "refused", hostile, {"reason": hostile}, lasting=False)
    found = scrape()
    assert found["member_state", "one", "fog", "other"] == 1
    assert found["member_phase", "one", "other", "fog"] == 1
    assert ("member_step", "one", "fog") not in found
    assert found["campaign_refused_updates_total", "one", "other"] == 1
    assert found["campaign_events_total", "one", hostile] == 1
    assert {key[2] for key in found if key[0] == "member_state"} == set(world.sites)


WRITER = """
import sys
from coordinator.journal import Journal
journal = Journal(__import__("pathlib").Path(sys.argv[1]))
print("begun", flush=True)
for i in range(400):
    journal.note(sys.argv[2], "arrived", "fog", {"bytes": 10, "digest": "ab"}, lasting=i % 50 == 0)
"""


def test_a_scrape_while_another_process_writes_sees_what_is_written_and_disturbs_nobody(world, scrape):
    world.folder.begin()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, str(world.home.journal.path), world.folder.key]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, cwd=ROOT) as writer:
        assert writer.stdout.readline() == b"begun\n"
        seen = []
        while writer.poll() is None:
            found = scrape()
            assert found["up",] == 1
            seen.append(found["member_received_bytes_total", "one", "fog"])
    assert writer.returncode == 0
    assert seen == sorted(seen)
    assert scrape()["member_received_bytes_total", "one", "fog"] == 4000
    assert not scrape.said


# ----------------------------------------------------------- words and events


def test_events_that_are_read_are_noted_somewhere():
    noted = "".join(path.read_text() for path in Path(events_module.__file__).parent.glob("*.py"))
    for event in {*HEARD, *READ} - {"delivered"}:
        assert f'note(\n            "{event}"' in noted or f'note("{event}"' in noted or f'"{event}",' in noted


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (SignatureError("x"), "signature"),
        (MergeRangeError("x"), "range"),
        (UpdateRefusedError("x"), "update"),
        (BaseMismatchError("x"), "base"),
        (StorageError("x"), "other"),
    ],
)
def test_there_is_a_word_for_each_refusal(error, word):
    assert error_word(error) == word
    assert word in WORDS
    for reason in pb.Refusal.Reason.values():
        assert refusal_word(pb.Refusal(reason=reason)) in WORDS
