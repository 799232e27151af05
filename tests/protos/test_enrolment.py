"""A site's request to take part, and the coordinator's answer."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from protos import dsse, signing
from protos import enrolment_pb2 as pb
from protos.enrolment import Request, Welcome, check_fingerprint, new_welcome
from protos.errors import ConfigurationError, OnebasinError, SignatureError

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(b"k" * 32), Ed25519PrivateKey.from_private_bytes(b"o" * 32)
AGREEMENT = X25519PrivateKey.from_private_bytes(b"a" * 32).public_key().public_bytes_raw()


def node_key(curve: ec.EllipticCurve = ec.SECP384R1()) -> str:  # noqa: B008
    return (
        ec.derive_private_key(7, curve).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    )


REQUEST = Request("fog", signing.public_bytes(KEY), AGREEMENT, node_key())


@pytest.fixture
def path(tmp_path):
    REQUEST.write(tmp_path / "request.json", KEY)
    return tmp_path / "request.json"


def test_a_request_survives_its_file(path):
    assert Request.read(path) == REQUEST


def test_the_file_holds_three_public_keys_and_a_name_and_nothing_else(path):
    content = json.loads(path.read_text())
    assert content.keys() == {"payloadType", "payload", "signatures"}
    found = pb.SiteRequest.FromString(base64.b64decode(content["payload"]))
    assert {field.name for field, _ in found.ListFields()} == {
        "wire_version",
        "site",
        "signing_key",
        "agreement_key",
        "node_key",
    }


def test_a_request_is_known_by_its_signing_key_and_that_key_signs_the_rest():
    """So one fingerprint vouches for all of it: whoever changes the rest needs the key."""
    changed = Request("night", REQUEST.signing_key, AGREEMENT, node_key())
    assert changed.fingerprint == REQUEST.fingerprint
    assert changed.digest != REQUEST.digest
    assert Request("fog", signing.public_bytes(OTHER), AGREEMENT, node_key()).fingerprint != REQUEST.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"signing_key": b"x"},
        {"agreement_key": b"x"},
        {"agreement_key": bytes(32)},  # of small order: every secret would be the same
        {"node_key": ""},
        {"node_key": "ssh-rsa AAAA"},
        {"node_key": "ecdsa-sha2-nistp384 AAAA"},
        {"node_key": node_key(ec.SECP256R1())},
        {"node_key": node_key() + " a comment"},
        {"node_key": node_key() + "\n" + node_key()},
        {"site": "../../etc"},
        {"wire_version": 2},
    ],
    ids=repr,
)
def test_a_signed_request_that_makes_no_sense_is_refused(tmp_path, changes):
    message = pb.SiteRequest.FromString(signing.encode(REQUEST.message))
    for name, value in changes.items():
        setattr(message, name, value)
    (tmp_path / "r").write_text(dsse.dump(signing.signed(signing.SITE_REQUEST, message, KEY)))
    with pytest.raises((ConfigurationError, SignatureError)):
        Request.read(tmp_path / "r")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"7", b"null", b"{}", b"\xff\xfe\x00", b'{"payload": 7}', b"[" * 100_000, b" " * (17 << 20)],
    ids=lambda content: repr(content[:12]),
)
@pytest.mark.parametrize("kind", [Request, Welcome])
def test_a_file_that_is_something_else_is_refused(tmp_path, content, kind):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ConfigurationError, match="is no"):
        kind.read(tmp_path / "file")


@pytest.mark.parametrize("kind", [Request, Welcome])
def test_a_missing_file_is_named(tmp_path, kind):
    with pytest.raises(ConfigurationError, match="can't read the"):
        kind.read(tmp_path / "file.json")


def test_an_envelope_with_more_in_it_is_refused(path):
    content = {**json.loads(path.read_text()), "note": "hello"}
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match="holds more than an envelope"):
        Request.read(path)


@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_a_request_and_none_break_it(content):
    for kind in (Request, Welcome):
        with pytest.raises(OnebasinError):
            kind.parse(content, "it")


# -------------------------------------------------------------------- welcomes


def welcome(world, **changes) -> Welcome:
    options = {
        "key": world.home.signing_key,
        "agreement_key": AGREEMENT,
        "ca_certificates": (world.home.keys / "ca.crt").read_bytes(),
        "addresses": ["localhost:9092"],
        "brings": [world.campaign],
        **changes,
    }
    return Welcome.parse(new_welcome(REQUEST, **options).encode(), "it")


def test_a_welcome_brings_keys_certificate_addresses_and_campaigns(world):
    found = welcome(world)
    assert found.campaigns == (world.campaign,)
    assert found.message.request_digest == REQUEST.digest
    assert found.message.ca_certificates == (world.home.keys / "ca.crt").read_bytes()
    assert found.fingerprint == world.home.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"ca_certificates": b""},
        {"ca_certificates": b"no certificate"},
        {"addresses": []},
        {"agreement_key": b"short"},
        {"key": OTHER},  # of another coordinator than the campaign in it
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_welcome_that_makes_no_sense_is_refused(world, changes):
    with pytest.raises(ConfigurationError):
        welcome(world, **changes)


def test_a_fingerprint_may_be_typed_as_people_type():
    shown = REQUEST.fingerprint
    for said in (shown, shown.lower(), shown.replace("-", ""), shown.replace("-", " "), f"  {shown}\n"):
        check_fingerprint(said, REQUEST.signing_key, "it")
    for said in ("", shown[:-1], shown + "A", signing.fingerprint(signing.public_bytes(OTHER))):
        with pytest.raises(SignatureError, match="the fingerprint of it is"):
            check_fingerprint(said, REQUEST.signing_key, "it")
