"""Signatures: who says it, what for, and nothing smuggled in."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protos import messages_pb2, signing
from protos import update_pb2 as pb
from protos.errors import ConfigurationError, SignatureError, UpdateRefusedError

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
HEADER = pb.UpdateHeader(
    wire_version=1,
    site="fog",
    parameters=[pb.Parameter(name="w", dtype=pb.DTYPE_FLOAT32, shape=[2, 3], sha256=b"\1" * 32)],
    batch_norms=[pb.BatchNorm(layer="bn", mean=[0.5, -1], var=[1, 2], count=9)],
)


def opened(envelope: pb.Signed, purpose: str = signing.UPDATE) -> pb.UpdateHeader:
    return signing.opened(envelope, purpose, signing.public_bytes(KEY), pb.UpdateHeader, "fog")


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_what_was_signed_comes_out():
    assert opened(signing.signed(signing.UPDATE, HEADER, KEY)) == HEADER


def test_the_signed_bytes_are_those_of_dsse():
    envelope = signing.signed(signing.UPDATE, HEADER, KEY)
    payload = HEADER.SerializeToString(deterministic=True)
    text = b"DSSEv1 18 onebasin/update/v1 %d %b" % (len(payload), payload)
    KEY.public_key().verify(envelope.signature, text)
    assert signing.digest(envelope) == hashlib.sha256(text).digest()


def test_the_digest_depends_on_purpose_and_payload_but_not_on_the_signature():
    envelope = signing.signed(signing.UPDATE, HEADER, KEY)
    assert signing.digest(signing.signed(signing.UPDATE, HEADER, OTHER)) == signing.digest(envelope)
    assert signing.digest(signing.signed(signing.HELLO, HEADER, KEY)) != signing.digest(envelope)
    assert signing.digest(signing.signed(signing.UPDATE, pb.UpdateHeader(), KEY)) != signing.digest(envelope)


def test_another_key_is_refused():
    with pytest.raises(SignatureError, match="not that of the key which the campaign lists") as caught:
        opened(signing.signed(signing.UPDATE, HEADER, OTHER))
    assert caught.value.site == "fog"


@pytest.mark.parametrize("purpose", [signing.HELLO, signing.EVALUATION, signing.RECEIPT, "", "onebasin/update/v2"])
def test_another_purpose_is_refused(purpose):
    with pytest.raises(SignatureError, match="another purpose"):
        opened(signing.signed(purpose, HEADER, KEY))


@pytest.mark.parametrize("purpose", [signing.HELLO, signing.EVALUATION, signing.RECEIPT])
def test_relabelling_a_message_for_another_purpose_breaks_its_signature(purpose):
    envelope = signing.signed(signing.UPDATE, HEADER, KEY)
    envelope.purpose = purpose
    with pytest.raises(SignatureError, match="not that of the key"):
        opened(envelope, purpose)


@pytest.mark.parametrize("envelope", [pb.Signed(), pb.Signed(purpose=signing.UPDATE, payload=b"x")])
def test_a_missing_signature_is_refused(envelope):
    with pytest.raises(SignatureError, match="signature is missing"):
        opened(envelope)


@pytest.mark.parametrize("signature", [b"\0" * 64, b"short", b"\0" * 65, b"\xff" * 64])
def test_a_signature_that_is_none_is_refused(signature):
    envelope = signing.signed(signing.UPDATE, HEADER, KEY)
    envelope.signature = signature
    with pytest.raises(SignatureError):
        opened(envelope)


def test_any_flipped_bit_of_the_payload_or_signature_is_refused():
    envelope = signing.signed(signing.UPDATE, HEADER, KEY)
    for part in ("payload", "signature"):
        content = getattr(envelope, part)
        for position in range(len(content)):
            changed = bytearray(content)
            changed[position] ^= 1 << (position % 8)
            forged = pb.Signed()
            forged.CopyFrom(envelope)
            setattr(forged, part, bytes(changed))
            with pytest.raises(SignatureError):
                opened(forged)


# -------------------------------------------- fields that nobody knows here

CANONICAL = HEADER.SerializeToString(deterministic=True)
NESTED = field(6, HEADER.parameters[0].SerializeToString(deterministic=True) + field(99, b"an image"))
SMUGGLED = {
    "at the end": CANONICAL + field(99, b"an image"),
    "at the beginning": field(99, b"an image") + CANONICAL,
    "as a number": CANONICAL + varint(99 << 3) + varint(7),
    "as a group": CANONICAL + varint(99 << 3 | 3) + varint(99 << 3 | 4),
    "in a parameter": NESTED,
    "in a BatchNorm layer": field(7, field(1, b"bn") + field(15, b"an image")),
    "in a version": field(8, field(1, b"torch") + field(3, b"an image")),
}


@pytest.mark.parametrize("payload", SMUGGLED.values(), ids=SMUGGLED)
def test_a_smuggled_field_is_refused_even_with_a_good_signature(payload):
    text = b"DSSEv1 18 onebasin/update/v1 %d %b" % (len(payload), payload)
    envelope = pb.Signed(purpose=signing.UPDATE, payload=payload, signature=KEY.sign(text))
    with pytest.raises(
        UpdateRefusedError, match="not in canonical form, or has fields that are not known"
    ) as caught:
        opened(envelope)
    assert not isinstance(caught.value, SignatureError)


OTHER_ENCODINGS = {
    "a default written out": CANONICAL + varint(5 << 3) + varint(0),
    "a number in too many bytes": b"\x08\x81\x00" + CANONICAL[2:],
    "fields out of order": CANONICAL[2:] + CANONICAL[:2],
    "a field twice": CANONICAL[:2] + CANONICAL,
    "a list that is not packed": field(
        7, field(1, b"bn") + b"".join(varint(2 << 3 | 5) + b"\0\0\0\x3f" for _ in range(2))
    ),
}


@pytest.mark.parametrize("payload", OTHER_ENCODINGS.values(), ids=OTHER_ENCODINGS)
def test_another_encoding_of_the_same_message_is_refused(payload):
    pb.UpdateHeader.FromString(payload)  # protobuf alone would take it
    with pytest.raises(UpdateRefusedError, match="canonical"):
        signing.decode(payload, pb.UpdateHeader, "site fog")


@pytest.mark.parametrize("payload", [b"\x08", b"\xff" * 30, CANONICAL[:-1], field(4, b"\xff\xfe")])
def test_bytes_that_are_no_message_are_refused(payload):
    with pytest.raises(UpdateRefusedError, match="site fog: the UpdateHeader can't be parsed"):
        signing.decode(payload, pb.UpdateHeader, "site fog")


def test_a_message_of_another_kind_is_refused():
    reply = messages_pb2.HelloReply(campaign_digest=b"c" * 32, nonce=b"n" * 16, node_id=7, site="fog")
    with pytest.raises(UpdateRefusedError):
        signing.decode(signing.encode(reply), pb.UpdateHeader, "site fog")


# --------------------------------------------------------------------- keys


KINDS = pytest.mark.parametrize(
    ("made", "load"),
    [(signing.new_key, signing.load_key), (signing.new_agreement_key, signing.load_agreement_key)],
    ids=["Ed25519", "X25519"],
)


@KINDS
def test_a_new_key_is_readable_by_its_owner_only_and_loads(tmp_path, made, load):
    before = os.umask(0)
    try:
        key = made(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    loaded = load(tmp_path / "key.pem")
    assert signing.public_bytes(loaded) == signing.public_bytes(key)
    assert len(signing.public_bytes(key)) == 32


@KINDS
def test_two_new_keys_differ(tmp_path, made, load):
    keys = [signing.public_bytes(made(tmp_path / name)) for name in "ab"]
    assert keys[0] != keys[1]


@KINDS
def test_a_key_is_never_overwritten(tmp_path, made, load):
    made(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(ConfigurationError, match="there is a key already"):
        made(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before


@KINDS
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644, 0o777])
def test_a_key_that_others_can_reach_is_refused(tmp_path, made, load, mode):
    made(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(ConfigurationError, match="can be read by others") as caught:
        load(tmp_path / "key.pem")
    assert "chmod 600" in caught.value.fix


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_that_is_no_key_is_refused(tmp_path, content):
    (tmp_path / "key.pem").write_bytes(content)
    (tmp_path / "key.pem").chmod(0o600)
    with pytest.raises(ConfigurationError, match="is no private key"):
        signing.load_key(tmp_path / "key.pem")


def test_a_key_of_another_kind_is_refused(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="not an Ed25519 key"):
        signing.load_key(path)
    with pytest.raises(ConfigurationError, match="not an X25519 key"):
        signing.load_agreement_key(path)
    signing.new_key(tmp_path / "signing.pem")
    with pytest.raises(ConfigurationError, match="not an X25519 key"):
        signing.load_agreement_key(tmp_path / "signing.pem")


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"can't read the key .*gone\.pem"):
        signing.load_key(tmp_path / "gone.pem")


def test_a_fingerprint_is_twenty_digits_in_fives():
    public = signing.public_bytes(KEY)
    shown = signing.fingerprint(public)
    assert [len(part) for part in shown.split("-")] == [5, 5, 5, 5]
    assert hashlib.sha256(public).hexdigest().startswith(shown.replace("-", ""))
    assert signing.fingerprint(signing.public_bytes(OTHER)) != shown
    Ed25519PublicKey.from_public_bytes(public)
