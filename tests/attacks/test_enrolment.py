"""Somebody between a site and its coordinator, who exchanges and edits the files that they send each other."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client import acceptance, enrolment, unlocking
from client.site import Site
from coordinator import roster
from coordinator.strategy import OneShotMerge
from protos import dsse, signing
from protos import enrolment_pb2 as pb
from protos.enrolment import Welcome
from protos.errors import ConfigurationError, OnebasinError, PolicyError, QuorumError, SignatureError

EVE = Ed25519PrivateKey.from_private_bytes(b"e" * 32)


@pytest.fixture
def north(tmp_path):
    return Site.init(tmp_path / "north", "north", domain="night")


@pytest.fixture
def welcome(world, north):
    roster.approve(world.home, north.request_path, north.request().fingerprint)
    return world.home.folder / "sites" / "north" / "welcome.json"


def payload(path) -> bytes:
    return base64.b64decode(json.loads(path.read_text())["payload"])


def forged(path, kind, key, change):
    """Change a signed file and sign it again with a key of one's own."""
    envelope = dsse.load_bare(path.read_bytes())
    message = kind.FromString(envelope.payload)
    change(message)
    path.write_text(dsse.dump(signing.signed(envelope.purpose, message, key)))


def test_a_request_that_was_swapped_for_another_is_refused(world, north, tmp_path):
    read_out = north.request().fingerprint
    eve = Site.init(tmp_path / "eve", "north", domain="night")
    north.request_path.write_bytes(eve.request_path.read_bytes())
    with pytest.raises(SignatureError, match="the fingerprint of the request"):
        roster.approve(world.home, north.request_path, read_out)


def test_no_byte_of_a_request_can_be_edited(world, north):
    """Flip one bit of each byte of what is signed, and of the signature."""
    shown = north.request().fingerprint
    original = json.loads(north.request_path.read_text())
    for field in ("payload", "sig"):
        encoded = original["payload"] if field == "payload" else original["signatures"][0]["sig"]
        raw = base64.b64decode(encoded)
        for place in range(len(raw)):
            edited = bytearray(raw)
            edited[place] ^= 1
            text = base64.b64encode(edited).decode()
            content = json.loads(json.dumps(original))
            if field == "payload":
                content["payload"] = text
            else:
                content["signatures"][0]["sig"] = text
            north.request_path.write_text(json.dumps(content))
            with pytest.raises(OnebasinError):
                roster.approve(world.home, north.request_path, shown)
    assert not (world.home.folder / "sites").exists()


def test_a_request_signed_by_another_key_than_it_names_is_refused(world, north):
    shown = north.request().fingerprint
    forged(north.request_path, pb.SiteRequest, EVE, lambda m: None)
    with pytest.raises(SignatureError, match="was changed after it was signed"):
        roster.approve(world.home, north.request_path, shown)


def test_a_welcome_forged_by_another_coordinator_is_refused(world, north, welcome, make_world):
    other = make_world(("rain",)).home
    forged(
        welcome,
        pb.Welcome,
        other.signing_key,
        lambda m: setattr(m, "coordinator_key", signing.public_bytes(other.signing_key)),
    )
    with pytest.raises(SignatureError, match="the fingerprint of the coordinator is"):
        enrolment.take(north, welcome, world.home.fingerprint)
    assert not (north.keys / "ca.crt").exists()


def test_a_welcome_with_another_authority_is_refused(world, north, welcome, make_world):
    other = (make_world(("rain",)).home.keys / "ca.crt").read_bytes()
    for key in (EVE, make_world(("dust",)).home.signing_key):
        forged(welcome, pb.Welcome, key, lambda m: setattr(m, "ca_certificates", other))
        with pytest.raises(SignatureError, match="was changed after it was signed"):
            enrolment.take(north, welcome, world.home.fingerprint)


def test_a_known_coordinator_is_not_replaced_behind_the_operators_back(world, north, welcome, make_world):
    enrolment.take(north, welcome, world.home.fingerprint)
    before = (north.keys / "ca.crt").read_bytes()
    other = make_world(("rain",)).home
    roster.approve(other, north.request_path, north.request().fingerprint)
    theirs = other.folder / "sites" / "north" / "welcome.json"
    with pytest.raises(SignatureError, match="but the coordinator of site north is"):
        enrolment.take(north, theirs)
    assert (north.keys / "ca.crt").read_bytes() == before


def test_another_sites_welcome_is_refused(world, north, welcome, tmp_path):
    twin = Site.init(tmp_path / "twin", "north", domain="night")
    south = Site.init(tmp_path / "south", "south", domain="night")
    for site in (twin, south):
        with pytest.raises(ConfigurationError, match="answers the request of another site"):
            enrolment.take(site, welcome, world.home.fingerprint)


def test_a_request_is_no_welcome_and_a_welcome_no_request(world, north, welcome):
    with pytest.raises(ConfigurationError, match="is no welcome"):
        Welcome.read(north.request_path)
    with pytest.raises(ConfigurationError, match="is no site's request"):
        roster.approve(world.home, welcome, world.home.fingerprint)


@pytest.mark.parametrize("name", ["signing.pem", "agreement.pem", "node"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_not_used(north, name, mode):
    (north.keys / name).chmod(mode)
    with pytest.raises(ConfigurationError, match="can be read by others") as caught:
        if name == "node":
            with unlocking.node_key(north):
                pass
        else:
            _ = north.signing_key if name == "signing.pem" else north.agreement_key
    assert f"chmod 600 {north.keys / name}" in caught.value.fix


def test_the_coordinator_says_who_has_not_accepted(world, make_grid, clock):
    (world.joined("fog").folder / "accepted.json").unlink()
    with pytest.raises(QuorumError, match="site fog has not accepted the campaign"):
        OneShotMerge(world.folder).start(make_grid(world))
    assert not world.folder.merged.exists()


def test_a_campaign_with_an_unknown_member_cannot_be_accepted(world):
    site = world.sites["fog"]
    text = site.settings_path.read_text().replace("members = []", 'members = ["clear"]')
    site.settings_path.write_text(text)
    joined = Site.open(site.folder).joined()
    with pytest.raises(PolicyError, match="has a member night") as caught:
        acceptance.accept(joined, world.campaign.digest.hex())
    assert "members = ['clear']" in caught.value.what
