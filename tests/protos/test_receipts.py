"""Receipts and proofs: what is written is read back, and any other tool can read it as well."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protos import receipts, signing
from protos.errors import ConfigurationError, VerificationError
from protos.receipts import Input, Proof

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = signing.public_bytes(KEY)


def test_a_receipt_is_read_back(make_receipt):
    receipt = make_receipt()
    assert receipts.opened(receipt.signed(KEY).encode(), PUBLIC, "it") == receipt


def test_a_receipt_is_an_in_toto_statement_in_an_envelope(make_receipt):
    receipt = make_receipt()
    envelope = json.loads(receipt.signed(KEY))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    assert hashlib.sha256(payload).hexdigest() == receipt.digest
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [
        {"name": "merged.safetensors", "digest": {"sha256": "e" * 64, "onebasin_model_v1": "d" * 64}}
    ]
    assert statement["predicateType"] == "urn:onebasin:merge:v1"
    predicate = statement["predicate"]
    assert [entry["site"] for entry in predicate["inputs"]] == ["clear", "fog", "night"]
    assert predicate["inputs_root"] == receipt.root.hex()
    assert predicate["rules"]["minimum_sites"] == 0
    assert predicate["audit"] == {"seq": 3, "sha256": "a" * 64}


def test_each_difference_is_another_receipt(make_receipt):
    one = make_receipt()
    others = [
        replace(one, supersedes="1" * 64),
        replace(one, withdrawn=(Input("dust", "2" * 64),)),
        replace(one, inputs=one.inputs[:-1]),
        replace(one, created_unix=1),
        replace(one, models=4),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 6
    for other in others:
        assert receipts.opened(other.signed(KEY).encode(), PUBLIC, "it") == other


@given(st.sets(st.text("abcdefghij-0123456789", min_size=1, max_size=12), min_size=1, max_size=24), st.data())
def test_every_site_has_a_proof_and_no_other_one_is_any_good(make_receipt, sites, data):
    receipt = make_receipt(sorted(sites))
    for site in sites:
        assert receipt.proof(site).proves(receipt.root)
    site = data.draw(st.sampled_from(sorted(sites)))
    proof = receipt.proof(site)
    assert not replace(proof, digest="0" * 64).proves(receipt.root)
    assert not replace(proof, index=proof.index + 1).proves(receipt.root)
    assert not replace(proof, inputs=proof.index).proves(receipt.root)
    if proof.path:
        assert not replace(proof, path=proof.path[:-1]).proves(receipt.root)


def test_a_proof_is_written_and_read(make_receipt, tmp_path):
    proof = make_receipt().proof("fog")
    proof.write(tmp_path / "fog.json")
    assert Proof.read(tmp_path / "fog.json") == proof
    with pytest.raises(KeyError):
        make_receipt().proof("dust")


@pytest.mark.parametrize(
    "changes",
    [
        {"campaign_digest": "x"},
        {"base_digest": "E" * 64},
        {"supersedes": "0" * 63},
        {"inputs": (Input("b", "0" * 64), Input("a", "1" * 64))},
        {"inputs": (Input("a", "0" * 64), Input("a", "1" * 64))},
    ],
)
def test_what_makes_no_sense_is_no_receipt(make_receipt, changes):
    with pytest.raises(ConfigurationError):
        make_receipt(**changes)


def test_a_proof_that_is_none_is_refused(tmp_path, make_receipt):
    good = json.loads(json.dumps(vars(make_receipt().proof("fog"))))
    for content in (
        "",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps(good | {"format": "onebasin-proof/2"}),
        json.dumps(good | {"more": 1}),
        json.dumps(good | {"path": ["xyz"]}),
        json.dumps(good | {"index": "0"}),
        json.dumps({key: value for key, value in good.items() if key != "digest"}),
    ):
        (tmp_path / "proof.json").write_text(content)
        with pytest.raises(VerificationError, match="is damaged or no proof"):
            Proof.read(tmp_path / "proof.json")
