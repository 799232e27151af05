"""Verifying a merged model: what is so, what is not, and what can't be told."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator import strategy
from coordinator.merging import MODEL, RECEIPT, last_receipt
from coordinator.strategy import OneShotMerge
from coordinator.verifying import Evidence, Verdict, verify
from coordinator.withdrawing import withdraw
from protos import signing
from protos.errors import SignatureError, VerificationError
from protos.receipts import Proof
from protos.rules import Rules

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def merged(make_world, make_grid, monkeypatch):
    """A campaign that is over."""
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)
    world = make_world(rules=Rules(minimum_sites=2, evaluate=False))
    OneShotMerge(world.folder).start(make_grid(world))
    return world


@pytest.fixture
def verified(merged) -> Callable[..., Verdict]:
    def made(**evidence: object) -> Verdict:
        key = merged.campaign.message.coordinator_key
        folder = merged.folder.merged
        return verify(folder / MODEL, folder / RECEIPT, key, Evidence(**evidence))

    return made


def answers(verdict: Verdict) -> dict[str, bool | None]:
    return {check.name: check.ok for check in verdict.checks}


def said(verdict: Verdict, name: str) -> str:
    return next(check.said for check in verdict.checks if check.name == name)


def outboxes(world) -> list:
    return [world.outbox(site).model for site in world.sites]


def test_a_model_and_its_receipt_belong_together(verified, merged):
    verdict = verified(campaign=merged.campaign)
    assert answers(verdict) == {
        "signature": True,
        "campaign": True,
        "model": True,
        "file": True,
        "recomputed": None,
    }
    verdict.require()
    assert said(verdict, "recomputed") == "not recomputed: the updates of clear, fog, night were not given"
    assert json.loads(json.dumps(verdict.as_json()))["ok"] is True


def test_with_all_updates_in_any_order_the_merge_is_recomputed_bit_for_bit(verified, merged):
    for order in itertools.permutations(outboxes(merged)):
        verdict = verified(updates=order, base=merged.base)
        assert answers(verdict)["recomputed"] is True
        assert said(verdict, "recomputed") == "recomputed from 3 updates: the same bits"
    verdict = verified(updates=outboxes(merged))
    assert "1 buffers that are not merged were not compared" in said(verdict, "recomputed")


def test_exported_updates_serve_as_well_as_outboxes(verified, merged, tmp_path):
    paths = []
    for site in merged.sites:
        merged.outbox(site).export(tmp_path / f"{site}.safetensors")
        paths.append(tmp_path / f"{site}.safetensors")
    assert answers(verified(updates=paths, campaign=merged.campaign))["recomputed"] is True


def test_one_update_is_found_in_the_merge_without_the_others(verified, merged):
    verdict = verified(updates=[merged.outbox("fog").model])
    assert answers(verdict)["update:fog"] is True
    assert said(verdict, "recomputed") == "not recomputed: the updates of clear, night were not given"


def test_each_sites_proof_is_good_and_none_of_another_merge(verified, merged, make_receipt, tmp_path):
    paths = [merged.folder.merged / "proofs" / f"{site}.json" for site in merged.sites]
    verdict = verified(proofs=paths)
    assert all(answers(verdict)[f"proof:{site}"] for site in merged.sites)
    receipt = last_receipt(merged.folder)
    for proof in (
        make_receipt().proof("fog"),
        replace(make_receipt().proof("fog"), receipt=receipt.digest),
        replace(receipt.proof("fog"), digest=receipt.proof("night").digest),
        replace(receipt.proof("fog"), index=0),
        replace(receipt.proof("fog"), inputs=4),
    ):
        proof.write(tmp_path / "proof.json")
        verdict = verified(proofs=[tmp_path / "proof.json"])
        assert answers(verdict)["proof:fog"] is False
        with pytest.raises(VerificationError, match="is not proved to be in this merge"):
            verdict.require()
    assert Proof.read(paths[0]).inputs == 3


def test_another_key_is_refused_before_anything_is_read(merged):
    folder = merged.folder.merged
    with pytest.raises(SignatureError):
        verify(
            folder / "none", folder / RECEIPT, signing.public_bytes(merged.sites["fog"].signing_key), Evidence()
        )


def test_a_changed_model_is_found(verified, merged):
    path = merged.folder.merged / MODEL
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    verdict = verified(updates=outboxes(merged))
    assert (answers(verdict)["model"], answers(verdict)["file"]) == (False, False)
    assert "recomputed" not in answers(verdict)
    with pytest.raises(VerificationError, match="is not the receipt's"):
        verdict.require()


def test_the_same_model_in_another_file_is_told_apart(verified, merged, saved):
    from protos.tensorfile import TensorFile, write_tensors

    path = merged.folder.merged / MODEL
    with TensorFile(path) as file:
        write_tensors(path.with_name("copy"), file.manifest.tensors, file.chunks, {"classes": "99"})
    path.with_name("copy").replace(path)
    assert (answers(verified())["model"], answers(verified())["file"]) == (True, False)


def test_a_receipt_of_another_model_or_campaign_is_found(verified, merged, make_world, make_grid):
    key = merged.campaign.message.coordinator_key
    folder = merged.folder.merged
    verdict = verify(merged.base, folder / RECEIPT, key, Evidence())
    assert (answers(verdict)["model"], answers(verdict)["file"]) == (False, False)
    other = make_world(models=merged.models)
    assert answers(verified(campaign=other.campaign))["campaign"] is False


@pytest.mark.parametrize(
    "changes",
    [
        {"base_digest": "0" * 64},
        {"rules": Rules(minimum_sites=1)},
        {"inputs": ()},
    ],
)
def test_a_signed_receipt_that_breaks_the_campaigns_rules_is_found(verified, merged, changes):
    receipt = replace(last_receipt(merged.folder), **changes)
    (merged.folder.merged / RECEIPT).write_text(receipt.signed(merged.home.signing_key))
    assert answers(verified(campaign=merged.campaign))["campaign"] is False


def test_an_update_that_is_not_inside_or_was_changed_is_found(verified, merged):
    outbox = merged.outbox("fog")
    content = bytearray(outbox.model.read_bytes())
    with_table = content.copy()
    header = int.from_bytes(content[:8], "little")
    content[8 + header] ^= 1  # the first byte of head.bias
    outbox.model.write_bytes(content)
    verdict = verified(updates=outboxes(merged))
    assert answers(verdict)["update:fog"] is False
    assert "head.bias" in said(verdict, "update:fog")
    outbox.model.write_bytes(with_table)
    outbox.store(merged.models["night"])
    verdict = verified(updates=outboxes(merged))
    assert answers(verdict)["update:model.safetensors"] is False
    assert "is not in this merge" in said(verdict, "update:model.safetensors")


def test_a_coordinator_that_signs_another_sum_is_caught(verified, merged, tmp_path):
    """Everything is signed and fits, but the model is not what the updates add up to."""
    from protos.digest import file_digest, stream_digest
    from protos.tensorfile import TensorFile, write_tensors

    path = merged.folder.merged / MODEL
    with TensorFile(path) as file:

        def content(name: str):
            for chunk in file.chunks(name):
                yield bytes([chunk[0] ^ 1]) + bytes(chunk[1:]) if name == "stem.weight" else chunk

        write_tensors(tmp_path / "forged", file.manifest.tensors, content, file.metadata)
    (tmp_path / "forged").replace(path)
    before = last_receipt(merged.folder)
    with TensorFile(path) as file:
        forged = replace(before.merged, sha256=stream_digest(path), digest=file_digest(file).hex())
    receipt = replace(before, merged=forged)
    (merged.folder.merged / RECEIPT).write_text(receipt.signed(merged.home.signing_key))
    assert verified(campaign=merged.campaign).ok
    verdict = verified(campaign=merged.campaign, updates=outboxes(merged))
    assert answers(verdict)["recomputed"] is False
    with pytest.raises(VerificationError, match=r"stem\.weight is not what the updates add up to"):
        verdict.require()


def test_a_base_that_is_another_is_found(verified, merged):
    assert answers(verified(base=merged.base))["base"] is True
    assert answers(verified(base=merged.outbox("fog").model))["base"] is False


def test_after_a_withdrawal_the_new_receipt_holds_and_the_old_one_does_not(
    verified, merged, tmp_path, monkeypatch
):
    monkeypatch.setattr("coordinator.withdrawing.write_report", lambda *_: None)
    old = last_receipt(merged.folder)
    merged.outbox("fog").export(tmp_path / "fog.safetensors")
    withdraw(merged.folder, "fog", tmp_path / "fog.safetensors")
    rest = [merged.outbox(site).model for site in ("clear", "night")]
    verdict = verified(campaign=merged.campaign, updates=rest, base=merged.base)
    assert all(answers(verdict).values())
    assert verdict.as_json()["withdrawn"] == {"fog": merged.outbox("fog").digest().hex()}
    folder = merged.folder.merged
    earlier = folder / "superseded" / f"{old.digest[:12]}.json"
    verdict = verify(folder / MODEL, earlier, merged.campaign.message.coordinator_key, Evidence())
    assert not verdict.ok


def test_a_secure_sum_is_recomputed_when_all_sites_show_their_updates(make_world, make_grid, monkeypatch):
    """Its receipt names what sites sent under masks, so a single update can't be found in it."""
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)
    world = make_world(rules=Rules(privacy="secure-sum", evaluate=False))
    OneShotMerge(world.folder).start(make_grid(world))
    folder, key = world.folder.merged, world.campaign.message.coordinator_key

    def of(sites) -> Verdict:
        updates = [world.outbox(site).model for site in sites]
        evidence = Evidence(campaign=world.campaign, updates=updates, base=world.base)
        return verify(folder / MODEL, folder / RECEIPT, key, evidence)

    whole, single = of(world.sites), of(["fog"])
    assert whole.ok and single.ok
    assert answers(whole)["recomputed"] is True
    assert answers(single)["recomputed"] is None
    assert answers(single)["update:fog"] is None
    world.outbox("fog").store({**world.models["fog"], "scale": world.models["clear"]["scale"]})
    assert answers(of(world.sites))["recomputed"] is False
