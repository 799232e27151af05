"""Receipts in the wrong hands: forged, swapped, cut, blown up, or about another model."""

from __future__ import annotations

import base64
import json
import random
from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import dsse, receipts, signing
from protos.errors import SignatureError, VerificationError
from protos.receipts import PAYLOAD, Input

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = signing.public_bytes(KEY)


def opened(text: str | bytes) -> receipts.Receipt:
    return receipts.opened(text if isinstance(text, bytes) else text.encode(), PUBLIC, "the receipt")


def resigned(receipt: receipts.Receipt, change) -> str:
    """Sign another statement with the right key: what a coordinator of another version might do."""
    statement = json.loads(receipt.payload)
    change(statement)
    return dsse.signed(PAYLOAD, dsse.canonical(statement), KEY)


def test_a_receipt_that_another_key_signed_is_refused(make_receipt):
    with pytest.raises(SignatureError):
        opened(make_receipt().signed(OTHER))


def test_the_signature_of_another_receipt_is_refused(make_receipt):
    one = json.loads(make_receipt().signed(KEY))
    other = json.loads(make_receipt(models=9).signed(KEY))
    with pytest.raises(SignatureError):
        opened(json.dumps(one | {"signatures": other["signatures"]}))
    with pytest.raises(SignatureError):
        opened(json.dumps(one | {"payload": other["payload"]}))


def test_a_signed_file_of_another_kind_is_no_receipt(make_receipt):
    receipt = make_receipt()
    with pytest.raises(SignatureError, match="another type"):
        opened(dsse.signed("application/vnd.onebasin.audit-head+json", receipt.payload, KEY))


def test_a_message_of_the_conversation_is_no_receipt(make_receipt):
    """What the coordinator's key signs as a message can't be relabelled as a receipt."""
    payload = make_receipt().payload
    signature = KEY.sign(signing.pae("onebasin/update/v1", payload))
    envelope = {
        "payloadType": PAYLOAD,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    with pytest.raises(SignatureError):
        opened(json.dumps(envelope))


def test_every_flipped_bit_and_every_cut_is_refused(make_receipt):
    text = make_receipt().signed(KEY).encode()
    rng = random.Random(3)
    for _ in range(400):
        position = rng.randrange(len(text))
        changed = bytearray(text)
        changed[position] ^= 1 << rng.randrange(8)
        with suppress(SignatureError, VerificationError):
            assert opened(bytes(changed)) == make_receipt()  # white space, or unused bits of Base64
        with pytest.raises((SignatureError, VerificationError)):
            opened(text[: position - 2])


ODD = {
    "a smuggled field": lambda s: s["predicate"].update(photo="x"),
    "a smuggled field outside": lambda s: s.update(photo="x"),
    "another root": lambda s: s["predicate"].update(inputs_root="0" * 64),
    "no root": lambda s: s["predicate"].pop("inputs_root"),
    "another type of statement": lambda s: s.update(_type="https://in-toto.io/Statement/v9"),
    "another predicate": lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"),
    "two subjects": lambda s: s["subject"].append(s["subject"][0]),
    "no subject": lambda s: s.update(subject=[]),
    "a subject without digest": lambda s: s["subject"][0].pop("digest"),
    "a number for a text": lambda s: s["predicate"].update(campaign=7),
    "a text for a number": lambda s: s["predicate"].update(models="3"),
    "a list for a table": lambda s: s.update(predicate=[]),
    "null": lambda s: s.update(predicate=None),
    "inputs out of order": lambda s: s["predicate"]["inputs"].reverse(),
    "an input twice": lambda s: s["predicate"]["inputs"].append(s["predicate"]["inputs"][-1]),
    "a digest that is none": lambda s: s["predicate"]["inputs"][0].update(digest="../../etc/passwd"),
    "a missing rule": lambda s: s["predicate"]["rules"].pop("evaluate"),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_even_signed_statements_are_refused_if_they_are_not_what_is_known(make_receipt, change):
    with pytest.raises(VerificationError, match="is signed, but"):
        opened(resigned(make_receipt(), change))


def test_a_payload_that_is_not_canonical_is_refused(make_receipt):
    payload = json.dumps(json.loads(make_receipt().payload), indent=1).encode()
    with pytest.raises(VerificationError):
        opened(dsse.signed(PAYLOAD, payload, KEY))


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 200_000, b'{"a":' * 5_000])
def test_signed_rubbish_is_refused(payload):
    with pytest.raises(VerificationError):
        opened(dsse.signed(PAYLOAD, payload, KEY))


def test_an_oversized_receipt_is_not_read(tmp_path, make_receipt):
    path = tmp_path / "receipt.json"
    with path.open("wb") as file:
        file.write(make_receipt().signed(KEY).encode())
        file.truncate(dsse.MOST + 1)
    with pytest.raises(VerificationError, match="so it is no receipt"):
        receipts.read(path, PUBLIC)


def test_a_receipt_with_very_many_signatures_costs_no_more_than_a_few(make_receipt, monkeypatch):
    envelope = json.loads(make_receipt().signed(OTHER))
    envelope["signatures"] *= 10_000
    asked = []
    holds = signing.holds
    monkeypatch.setattr(signing, "holds", lambda *args: (asked.append(1), holds(*args))[1])
    with pytest.raises(SignatureError):
        opened(json.dumps(envelope))
    assert len(asked) < 10


def test_the_proof_of_another_merge_proves_nothing(make_receipt):
    one, other = make_receipt(), make_receipt(("clear", "dust", "fog", "night"))
    for site in ("clear", "fog", "night"):
        assert not other.proof(site).proves(one.root)
        assert not one.proof(site).proves(other.root)
    assert not replace(one.proof("fog"), digest=other.proof("dust").digest).proves(one.root)


def test_a_root_is_no_update_of_a_merge_of_one(make_receipt):
    """An inner node of the tree must not pass for an update."""
    receipt = make_receipt()
    posing = make_receipt(("x",), inputs=(Input("x", receipt.root.hex()),))
    assert posing.root != receipt.root
