"""Signed files: nothing is read from one before its signature was checked."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protos import dsse, signing
from protos.errors import SignatureError, VerificationError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = signing.public_bytes(KEY)
KIND = "application/x+json"


def opened(text, kind=KIND, key=PUBLIC) -> bytes:
    return dsse.opened(text if isinstance(text, bytes) else text.encode(), kind, key, "the file")


def test_what_was_signed_comes_back():
    assert opened(dsse.signed(KIND, b"payload", KEY)) == b"payload"


def test_the_envelope_is_what_the_specification_says():
    # Checked by hand from the protocol's text: PAE is "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body.
    found = json.loads(dsse.signed("http://example.com/HelloWorld", b"hello world", KEY))
    assert (found["payloadType"], found["payload"]) == ("http://example.com/HelloWorld", "aGVsbG8gd29ybGQ=")
    signature = base64.b64decode(found["signatures"][0]["sig"])
    pae = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(signature, pae)


def test_one_good_signature_of_several_is_enough():
    envelope = json.loads(dsse.signed(KIND, b"x", KEY))
    other = json.loads(dsse.signed(KIND, b"x", Ed25519PrivateKey.generate()))
    envelope["signatures"].insert(0, other["signatures"][0])
    assert opened(json.dumps(envelope)) == b"x"


def test_another_key_type_or_payload_is_refused():
    text = dsse.signed(KIND, b"payload", KEY)
    with pytest.raises(SignatureError, match="not signed with the key that was given"):
        opened(text, key=signing.public_bytes(Ed25519PrivateKey.generate()))
    with pytest.raises(SignatureError, match="another type"):
        opened(text, kind="application/y+json")
    relabelled = json.loads(text) | {"payloadType": "application/y+json"}
    with pytest.raises(SignatureError, match="not signed"):
        opened(json.dumps(relabelled), kind="application/y+json")
    changed = json.loads(text) | {"payload": base64.b64encode(b"Payload").decode()}
    with pytest.raises(SignatureError, match="not signed"):
        opened(json.dumps(changed))


GOOD = json.loads(dsse.signed(KIND, b"payload", KEY))
BROKEN = {
    "nothing": "",
    "no JSON": "{",
    "a list": "[]",
    "bytes that are no text": b"\xff\xfe",
    "deep nesting": "[" * 100_000,
    "no payload": json.dumps({k: v for k, v in GOOD.items() if k != "payload"}),
    "a payload that is no Base64": json.dumps(GOOD | {"payload": "%%%"}),
    "a payload that is a number": json.dumps(GOOD | {"payload": 3}),
    "signatures that are a number": json.dumps(GOOD | {"signatures": 3}),
    "signatures that are text": json.dumps(GOOD | {"signatures": "abc"}),
    "a signature that is no Base64": json.dumps(GOOD | {"signatures": [{"sig": "%"}]}),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_is_no_envelope_is_refused(text):
    with pytest.raises(VerificationError, match="the file is damaged or no signed file"):
        opened(text)


@pytest.mark.parametrize("signatures", [[], [{"sig": ""}], [{"sig": "AAAA"}]])
def test_without_a_signature_nothing_is_believed(signatures):
    with pytest.raises(SignatureError):
        opened(json.dumps(GOOD | {"signatures": signatures}))


def test_every_cut_of_an_envelope_is_refused():
    text = dsse.signed(KIND, b"payload", KEY).rstrip().encode()
    for length in range(len(text)):
        with pytest.raises((VerificationError, SignatureError)):
            opened(text[:length])


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path, monkeypatch):
    with pytest.raises(VerificationError, match="can't read the receipt"):
        dsse.read(tmp_path / "none", "receipt")
    monkeypatch.setattr(dsse, "MOST", 10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(VerificationError, match="so it is no receipt"):
        dsse.read(tmp_path / "large", "receipt")


@pytest.mark.parametrize(
    "payload", [b"[]", b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1,"a":1}', b"{", b"", b'{"a":NaN}', b"[" * 100_000]
)
def test_a_payload_that_is_not_in_canonical_form_is_refused(payload):
    with pytest.raises(VerificationError, match="was signed, but"):
        dsse.parsed(payload, "the file")
    assert dsse.parsed(b'{"a":[1,"x"],"b":2}', "the file") == {"a": [1, "x"], "b": 2}
