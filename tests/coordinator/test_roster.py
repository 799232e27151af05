"""Who may take part: approving, revoking, renewing, and nobody else's files are touched."""

from __future__ import annotations

import os
import shutil

import pytest

from client.site import Site
from coordinator import roster
from protos.enrolment import Welcome
from protos.errors import ConfigurationError, SignatureError


@pytest.fixture
def made(tmp_path):
    return {name: Site.init(tmp_path / name, name, domain="night") for name in ("north", "south")}


def approve(world, site, **options):
    return roster.approve(world.home, site.request_path, site.request().fingerprint, **options)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_approved_site_is_found_and_listed(world, made):
    for site in made.values():
        approve(world, site)
    assert roster.find(world.home, "north") == made["north"].request()
    assert [request.site for request in roster.approved(world.home)] == ["north", "south"]


def test_requests_wait_until_they_are_approved_and_others_are_named(world, made, tmp_path):
    assert list(roster.waiting(world.home)) == []
    folder = roster.requests_of(world.home)
    folder.mkdir()
    path = folder / "a.json"
    path.write_bytes(made["north"].request_path.read_bytes())
    (folder / "b.json").write_text("{}")
    (folder / "c.txt").write_text("nothing to us")
    twin = Site.init(tmp_path / "twin", "south", domain="night")
    (folder / "d.json").write_bytes(twin.request_path.read_bytes())
    approve(world, made["south"])
    first, second, third = roster.waiting(world.home)
    assert (first.path, first.request, first.known) == (path, made["north"].request(), "")
    assert (second.request, "is no site's request" in second.problem) == (None, True)
    assert third.known == made["south"].request().fingerprint
    with pytest.raises(SignatureError):
        roster.approve(world.home, path, third.known)
    assert path.exists()
    roster.approve(world.home, path, made["north"].request().fingerprint)
    assert not path.exists()
    assert made["north"].request_path.exists()  # a file elsewhere is left where it is
    assert roster.revoked(world.home) == []
    roster.revoke(world.home, "north")
    assert roster.revoked(world.home) == ["north"]


def test_what_is_no_plain_file_in_the_folder_of_requests_holds_nobody_up(world, made):
    folder = roster.requests_of(world.home)
    folder.mkdir()
    os.mkfifo(folder / "a.json")
    (folder / "b.json").mkdir()
    (folder / "c.json").symlink_to("/dev/zero")
    (folder / "d.json").symlink_to("nowhere")
    (folder / os.fsdecode(b"\xff.json")).write_bytes(made["north"].request_path.read_bytes())
    found = list(roster.waiting(world.home))
    assert [one.request for one in found] == [None] * 5
    assert [one.problem for one in found[:4]] == ["it is no file"] * 4
    assert "no text" in found[4].problem


def test_approving_twice_is_fine(world, made):
    approve(world, made["north"])
    approve(world, made["north"])


def test_adding_revoking_and_renewing_a_site_changes_no_other_sites_files(world, made, tmp_path):
    approve(world, made["south"])
    others = (world.home.folder / "sites" / "south", made["south"].folder, world.sites["fog"].folder)
    before = [files(folder) for folder in others]
    approve(world, made["north"])
    shutil.rmtree(made["north"].folder)
    approve(world, Site.init(tmp_path / "north", "north", domain="night"), renew=True)
    roster.revoke(world.home, "north")
    assert [files(folder) for folder in others] == before


def test_another_site_of_the_same_name_needs_to_be_meant(world, made, tmp_path):
    approve(world, made["north"])
    twin = Site.init(tmp_path / "twin", "north", domain="night")
    with pytest.raises(ConfigurationError, match="there is a site north already") as caught:
        approve(world, twin)
    assert "--renew" in caught.value.fix
    assert roster.find(world.home, "north") == made["north"].request()
    approve(world, twin, renew=True)
    assert roster.find(world.home, "north") == twin.request()


def test_a_revoked_site_is_found_no_more_until_it_is_approved_again(world, made):
    approve(world, made["north"])
    roster.revoke(world.home, "north")
    roster.revoke(world.home, "north")
    with pytest.raises(ConfigurationError, match="site north was revoked"):
        roster.find(world.home, "north")
    assert not list(roster.approved(world.home))
    assert not (world.home.folder / "sites" / "north" / "welcome.json").exists()
    approve(world, made["north"])
    assert roster.find(world.home, "north") == made["north"].request()


@pytest.mark.parametrize("what", [roster.find, roster.revoke])
def test_a_site_that_there_is_not_is_named(world, what):
    with pytest.raises(ConfigurationError, match="no site west was approved"):
        what(world.home, "west")


def test_a_welcome_brings_the_campaigns_that_wait_for_the_site_and_no_others(world):
    site = world.sites["fog"]
    approve(world, site)
    path = world.home.folder / "sites" / "fog" / "welcome.json"
    assert [c.digest for c in Welcome.read(path).campaigns] == [world.campaign.digest]
    world.folder.end(ok=False, exit_code=9, what="too few", fix="")
    roster.write_welcome(world.home, site.request())
    assert len(Welcome.read(path).campaigns) == 1
    world.folder.end(ok=True, exit_code=0)
    roster.write_welcome(world.home, site.request())
    assert not Welcome.read(path).campaigns


def test_a_campaign_that_lists_other_keys_for_the_name_is_not_brought(world, tmp_path):
    twin = Site.init(tmp_path / "twin", "fog", domain="night")
    approve(world, twin)
    assert not Welcome.read(world.home.folder / "sites" / "fog" / "welcome.json").campaigns


def test_nothing_is_kept_of_a_request_whose_fingerprint_is_wrong(world, made):
    with pytest.raises(SignatureError):
        roster.approve(world.home, made["north"].request_path, made["south"].request().fingerprint)
    assert not (world.home.folder / "sites").exists()
