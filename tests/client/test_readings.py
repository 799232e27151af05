"""A site's metrics: read from its folders and its audit log, and whatever is wrong with them."""

from __future__ import annotations

import json

import pytest
from scraping import Scraper

from client.answers import PARAMETERS, answer
from client.readings import Readings
from protos import messages_pb2 as pb


@pytest.fixture
def site(world):
    return world.sites["fog"]


@pytest.fixture
def scrape(site):
    return Scraper(Readings(site))


@pytest.fixture
def ask(world, site):
    def asked(came: bytes = b"", **what) -> None:
        answer(site, pb.Request(campaign_digest=world.campaign.digest, **what), 7, lambda name: came)

    return asked


def test_a_site_that_joined_nothing_has_metrics_too(tmp_path):
    from client.site import Site

    found = Scraper(Readings(Site.init(tmp_path / "new", "new")))()
    assert found["up",] == 1
    assert found["site_audit_lines_total",] == 1
    assert not [key for key in found if key[0] == "site_state"]


def test_how_far_adapting_is_comes_from_its_own_file(world, scrape):
    folder = world.joined("fog").folder
    (folder / "outbox" / "header.binpb").unlink(missing_ok=True)
    for path in (folder / "outbox").iterdir():
        path.unlink()
    progress = {
        "phase": "adapt",
        "step": 3,
        "steps": 9,
        "eta": 6.5,
        "loss": 0.5,
        "note": "x",
        "pid": 1,
        "time": 1.0,
    }
    (folder / "progress.json").write_text(json.dumps(progress))
    found = scrape()
    assert (found["site_state", "one", "stopped"], found["site_state", "one", "adapting"]) == (1, 0)
    assert [found["site_phase", "one", phase] for phase in ("data", "adapt", "update")] == [0, 1, 0]
    shown = [found[f"site_{what}", "one"] for what in ("step", "steps", "left_seconds", "loss")]
    assert shown == [3, 9, 6.5, 0.5]
    assert found["site_progress_timestamp_seconds", "one"] == (folder / "progress.json").stat().st_mtime
    assert found["site_outbox_updates", "pending"] == 0


def test_an_update_that_waits_is_counted(world, scrape):
    found = scrape()
    assert found["site_state", "one", "ready"] == 1
    assert [found["site_outbox_updates", state] for state in ("pending", "receipted", "cleared")] == [1, 0, 0]
    assert found["site_outbox_bytes",] == world.outbox("fog").nbytes


def test_what_went_and_came_is_added_up_from_the_audit_log(scrape, site, ask):
    assert scrape()["site_sent_bytes_total", "one"] == 0
    ask(progress=pb.ProgressQuery())
    ask(measure=pb.Measure())  # the rules know of no such thing
    found = scrape()
    entries = [json.loads(line) for line in site.audit.path.read_text().splitlines()]
    said = [entry for entry in entries if entry["event"] in ("left", "refused")]
    assert found["site_sent_bytes_total", "one"] == sum(entry["bytes"] for entry in said) > 0
    assert found["site_replies_total", "one", "progress"] == 1
    assert found["site_refusals_total", "one", said[1]["reason"]] == 1
    assert found["site_audit_lines_total",] == len(entries)
    again = Scraper(Readings(site))()  # one that was started just now
    assert {key: value for key, value in again.items() if key[0].endswith("_total")} == {
        key: value for key, value in found.items() if key[0].endswith("_total")
    }


def test_models_that_came_are_in_the_audit_log_with_their_size(scrape, site, ask, world):
    names = list(world.manifest.parameters)[:1]
    size = world.manifest.parameters[names[0]].nbytes
    digest = bytes(32)
    ask(b"\0" * size, deliver=pb.Deliver(pieces=[pb.Piece(digest=digest, parameters=names)]))
    entry = json.loads(site.audit.path.read_text().splitlines()[-1])
    assert entry["received_bytes"] == size
    found = scrape()
    assert found["site_received_bytes_total", "one"] == size
    assert found["site_sent_bytes_total", "one"] == entry["bytes"]
    assert PARAMETERS not in json.dumps(entry)


def test_an_audit_log_that_was_edited_is_seen(scrape, site, ask):
    ask(progress=pb.ProgressQuery())
    assert scrape()["up",] == 1
    before = scrape()["site_audit_lines_total",]
    with site.audit.path.open("a") as log:
        log.write('{"seq":99,"time":1.0,"event":"left","prev":"x"}\n')
    found = scrape()
    assert (found["up",], found["part_up", "audit"], found["part_up", "disk"]) == (0, 0, 1)
    assert found["site_audit_lines_total",] == before
    assert found["site_replies_total", "one", "progress"] == 1  # what came before holds
    assert "lines were reordered, put in or cut out" in scrape.said[0]


def test_a_new_audit_log_is_read_from_its_beginning(scrape, site, ask):
    ask(progress=pb.ProgressQuery())
    assert scrape()["site_replies_total", "one", "progress"] == 1
    for name in ("audit.jsonl", "audit.head.json"):
        (site.folder / name).rename(site.folder / f"{name}.old")
    site.audit.note("made", site="fog")
    found = scrape()
    assert found["site_audit_lines_total",] == 1
    assert ("site_replies_total", "one", "progress") not in found


def test_hostile_strings_in_files_stay_inside_their_labels(world, scrape, site):
    hostile = 'x"} 1\nonebasin_up 1\n\\'
    folder = world.joined("fog").folder
    (folder / "progress.json").write_text(
        json.dumps({"phase": hostile, "step": "many", "steps": None, "eta": True})
    )
    site.audit.note("left", campaign=world.campaign.digest.hex(), reply=hostile, bytes="many")
    site.audit.note("refused", campaign=world.campaign.digest.hex(), reason=[hostile], bytes=1)
    found = scrape()
    assert found["up",] == 1
    assert found["site_replies_total", "one", "other"] == found["site_refusals_total", "one", "other"] == 1
    assert not [key for key in found if any("onebasin_up" in part for part in key)]


def test_what_is_damaged_is_named_and_the_rest_is_there(world, scrape):
    (world.joined("fog").folder / "campaign.binpb").write_bytes(b"\xff" * 9)
    found = scrape()
    assert (found["up",], found["part_up", "campaigns"], found["part_up", "certificates"]) == (0, 0, 1)


def test_two_campaigns_of_one_name_are_told_apart(make_world, tmp_path):
    world, other = make_world(), make_world()
    site = world.sites["fog"]
    source = other.joined("fog").folder
    (site.folder / "campaigns" / source.name).symlink_to(source, target_is_directory=True)
    names = {key[1] for key in Scraper(Readings(site))() if key[0] == "site_state"}
    assert names == {f"one {one.campaign.digest.hex()[:12]}" for one in (world, other)}
