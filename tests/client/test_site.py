"""A site's folder: its keys, and what it joins."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from client.joined import check_base
from client.site import Site
from protos import signing
from protos.enrolment import Request
from protos.errors import BaseMismatchError, ConfigurationError
from protos.rules import Rules


@pytest.fixture
def fog(tmp_path):
    return Site.init(tmp_path / "fog", "fog", address="here:9092", domain="night")


def test_a_new_site_has_settings_keys_and_a_request(fog):
    assert Site.open(fog.folder).settings.superlink.address == "here:9092"
    assert Request.read(fog.request_path) == fog.request()
    assert fog.request().signing_key == signing.public_bytes(fog.signing_key)
    assert fog.request().agreement_key == signing.public_bytes(fog.agreement_key)
    load_ssh_private_key(fog.node_key.read_bytes(), None)


def test_private_keys_are_readable_by_their_owner_only(fog):
    for name in ("signing.pem", "agreement.pem", "node"):
        assert (fog.keys / name).stat().st_mode & 0o777 == 0o600
    assert fog.keys.stat().st_mode & 0o777 == 0o700


def test_the_request_holds_no_private_key(fog):
    text = fog.request_path.read_bytes()
    for path in (fog.keys / "signing.pem", fog.keys / "agreement.pem", fog.node_key):
        for line in path.read_bytes().splitlines()[1:-1]:
            assert line not in text


def test_a_site_is_not_made_twice(fog):
    before = fog.settings_path.read_bytes(), (fog.keys / "signing.pem").read_bytes()
    with pytest.raises(ConfigurationError, match="there is a site in"):
        Site.init(fog.folder, "fog", address="x:1", domain="night")
    assert (fog.settings_path.read_bytes(), (fog.keys / "signing.pem").read_bytes()) == before


@pytest.mark.parametrize("name", ["Fog", "", "fog/..", "fog fog", "ü", "-fog", "f" * 41])
def test_a_name_that_is_none_is_refused_before_anything_is_made(tmp_path, name):
    with pytest.raises(ConfigurationError, match="can't be the name of a site"):
        Site.init(tmp_path / "site", name, address="x:1", domain="night")
    assert not (tmp_path / "site").exists()


def test_a_folder_without_a_site_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no site in") as caught:
        Site.open(tmp_path)
    assert "onebasin site init" in caught.value.fix


def test_a_name_that_was_changed_to_a_path_is_refused(fog):
    fog.settings_path.write_text(fog.settings_path.read_text().replace('"fog"', '"../fog"'))
    with pytest.raises(ConfigurationError, match="can't be the name of a site"):
        Site.open(fog.folder)


def test_a_misspelt_setting_is_refused_with_a_suggestion(fog):
    fog.settings_path.write_text(fog.settings_path.read_text().replace("device", "devcie"))
    with pytest.raises(ConfigurationError, match="resources: unknown key devcie") as caught:
        Site.open(fog.folder)
    assert "device" in caught.value.fix


# ------------------------------------------------------------------- joining


def test_a_joined_campaign_is_found_by_its_digest_or_as_the_last_one(world):
    site = world.sites["fog"]
    assert site.joined(world.campaign.digest).campaign == world.campaign
    assert site.joined().campaign == world.campaign
    assert site.joined().base.read_bytes() == world.base.read_bytes()
    assert (site.keys / "ca.crt").read_bytes() == (world.home.keys / "ca.crt").read_bytes()


def test_the_campaign_joined_last_is_the_current_one(world):
    members = {name: site.request().keys for name, site in world.sites.items()}
    second = world.home.create("two", world.base, members=members, rules=Rules())
    site = world.sites["fog"]
    site.join(second.campaign_file, world.base)
    assert site.joined().campaign.name == "two"
    assert site.joined(world.campaign.digest).campaign.name == "one"


def test_a_campaign_that_does_not_list_the_site_is_refused(make_world, world):
    stranger = make_world(("rain",)).sites["rain"]
    with pytest.raises(ConfigurationError, match="has no site rain, its members are clear, fog, night"):
        stranger.join(world.folder.campaign_file, world.base)


def test_a_campaign_that_lists_another_key_is_refused_with_both_fingerprints(make_world, world):
    impostor = make_world(("fog",)).sites["fog"]
    with pytest.raises(ConfigurationError) as caught:
        impostor.join(world.folder.campaign_file, world.base)
    for key in (world.campaign.keys["fog"], signing.public_bytes(impostor.signing_key)):
        assert signing.fingerprint(key) in caught.value.what


def test_another_base_is_refused(make_world, world, model, saved):
    world = make_world(store=False)
    other = saved(world.base.with_name("other.safetensors"), model(99))
    with pytest.raises(BaseMismatchError, match="but campaign one starts from base"):
        world.sites["fog"].join(world.folder.campaign_file, other)


def test_a_damaged_or_missing_base_is_refused(world, tmp_path):
    (tmp_path / "cut").write_bytes(world.base.read_bytes()[:-3])
    for path in (tmp_path / "cut", tmp_path / "gone"):
        with pytest.raises(BaseMismatchError, match="the base can't be read"):
            check_base(path, world.campaign)


def test_joining_again_with_the_sites_own_copies_loses_nothing(world):
    site = world.sites["fog"]
    joined = site.joined()
    site.join(joined.folder / "campaign.binpb", joined.base, site.keys / "ca.crt")
    check_base(joined.base, world.campaign)
    assert world.outbox("fog").ready


def test_a_campaign_that_was_not_joined_is_not_found(world):
    with pytest.raises(ConfigurationError, match="site fog has not joined campaign 010101010101"):
        world.sites["fog"].joined(b"\1" * 32)


@pytest.mark.parametrize("digest", [b"", b"\1"])
def test_a_digest_that_is_none_finds_nothing(world, digest):
    with pytest.raises(ConfigurationError):
        world.sites["fog"].joined(digest)


def test_a_shortened_digest_is_not_enough(world):
    with pytest.raises(ConfigurationError, match="holds another campaign"):
        world.sites["fog"].joined(world.campaign.digest[:6])


@pytest.mark.parametrize("content", [None, "not hexadecimal"])
def test_a_site_without_a_current_campaign_says_so(world, content):
    current = world.sites["fog"].folder / "campaigns" / "current"
    current.unlink() if content is None else current.write_text(content)
    with pytest.raises(ConfigurationError, match="has joined no campaign"):
        world.sites["fog"].joined()


def test_a_campaign_file_that_was_exchanged_at_the_site_is_noticed(world, make_world):
    path = world.joined("fog").folder / "campaign.binpb"
    path.write_bytes(make_world().folder.campaign_file.read_bytes())
    with pytest.raises(ConfigurationError, match="holds another campaign"):
        world.sites["fog"].joined(world.campaign.digest)


def test_a_campaign_that_lists_another_agreement_key_cannot_be_joined(world):
    members = {name: site.request().keys for name, site in world.sites.items()}
    members["fog"] = replace(members["fog"], agreement=b"x" * 32)
    made = world.home.create("two", world.base, members=members, rules=Rules())
    with pytest.raises(ConfigurationError, match="lists another key agreement key for site fog"):
        world.sites["fog"].join(made.campaign_file, world.base)
