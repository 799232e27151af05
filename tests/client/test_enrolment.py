"""A site takes in its coordinator's welcome, and knows the coordinator from then on."""

from __future__ import annotations

import pytest

from client import enrolment
from client.site import Site
from coordinator import roster
from protos import enrolment as wire
from protos.errors import ConfigurationError


@pytest.fixture
def north(tmp_path):
    return Site.init(tmp_path / "north", "north", domain="night")


@pytest.fixture
def welcome(world, north):
    """Approve the site and return where its welcome is."""
    roster.approve(world.home, north.request_path, north.request().fingerprint)
    return world.home.folder / "sites" / "north" / "welcome.json"


def test_a_welcome_tells_the_site_who_and_where_its_coordinator_is(world, north, welcome):
    assert north.coordinator() is None
    with pytest.raises(ConfigurationError, match="doesn't know its coordinator"):
        _ = north.address
    enrolment.take(north, welcome, world.home.fingerprint)
    assert north.coordinator().fingerprint == world.home.fingerprint
    assert north.address == "localhost:9092"
    assert (north.keys / "ca.crt").read_bytes() == (world.home.keys / "ca.crt").read_bytes()


def test_an_address_in_the_settings_comes_first(world, tmp_path):
    site = Site.init(tmp_path / "south", "south", address="elsewhere:1", domain="night")
    roster.approve(world.home, site.request_path, site.request().fingerprint)
    enrolment.take(site, world.home.folder / "sites" / "south" / "welcome.json", world.home.fingerprint)
    assert site.address == "elsewhere:1"


def test_the_first_welcome_needs_the_fingerprint_and_later_ones_do_not(world, north, welcome):
    with pytest.raises(ConfigurationError, match="has the fingerprint") as caught:
        enrolment.take(north, welcome)
    assert "--fingerprint" in caught.value.fix
    assert north.coordinator() is None
    enrolment.take(north, welcome, world.home.fingerprint)
    enrolment.take(north, welcome)


def test_a_welcome_older_than_the_one_that_is_here_is_refused(world, north, welcome, monkeypatch):
    enrolment.take(north, welcome, world.home.fingerprint)
    monkeypatch.setattr(wire.time, "time", lambda: 1.0)
    roster.write_welcome(world.home, north.request())
    with pytest.raises(ConfigurationError, match="is older than the welcome"):
        enrolment.take(north, welcome)


def test_a_campaign_of_another_coordinator_is_refused(world, make_world):
    site, other = world.sites["fog"], make_world(("rain",)).folder
    roster.approve(world.home, site.request_path, site.request().fingerprint)
    enrolment.take(site, world.home.folder / "sites" / "fog" / "welcome.json", world.home.fingerprint)
    with pytest.raises(ConfigurationError, match="is of the coordinator"):
        site.join(other.campaign_file, world.base)
