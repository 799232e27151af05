"""Receipts, withdrawal and audit logs, as someone types them."""

from __future__ import annotations

import json

import pytest

from coordinator import strategy
from coordinator.merging import last_receipt
from coordinator.strategy import OneShotMerge
from protos import signing
from protos.rules import Rules


@pytest.fixture
def merged(make_world, make_grid, clock, monkeypatch):
    """A campaign that is over."""
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)
    monkeypatch.setattr("coordinator.withdrawing.write_report", lambda *_: None)
    world = make_world(rules=Rules(minimum_sites=2, evaluate=False))
    OneShotMerge(world.folder).start(make_grid(world))
    return world


@pytest.fixture
def verify(merged, onebasin):
    folder = merged.folder.merged

    def ran(*more: object) -> tuple[int, str, str]:
        return onebasin("verify", folder / "merged.safetensors", folder / "receipt.json", *more)

    return ran


def test_a_merged_model_is_verified_with_campaign_updates_and_proof(merged, verify):
    outboxes = [merged.outbox(site).model for site in merged.sites]
    proof = merged.folder.merged / "proofs" / "fog.json"
    code, out, err = verify(
        *outboxes, "--campaign", merged.folder.campaign_file, "--base", merged.base, "--proof", proof
    )
    assert (code, err) == (0, "")
    assert "recomputed from 3 updates: the same bits" in out
    assert "✗" not in out


def test_the_key_alone_is_enough_and_json_says_it_all(merged, verify):
    key = merged.campaign.message.coordinator_key.hex()
    code, out, _ = verify("--key", key, "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (0, True)
    assert found["inputs"].keys() == set(merged.sites)
    assert found["receipt"] == last_receipt(merged.folder).digest
    assert {check["name"]: check["ok"] for check in found["checks"]}["recomputed"] is None


def test_a_wrong_key_ends_with_7(merged, verify):
    other = signing.public_bytes(merged.sites["fog"].signing_key).hex()
    code, out, err = verify("--key", other)
    assert (code, out) == (7, "")
    assert "not signed with the key" in err


@pytest.mark.parametrize("options", [[], ["--key", "xyz"], ["--key", "ab" * 31]])
def test_without_a_key_nothing_is_verified(verify, options):
    code, _, err = verify(*options)
    assert code == 3
    assert "key" in err


def test_another_model_ends_with_16_and_says_so_in_json_as_well(merged, onebasin):
    receipt = merged.folder.merged / "receipt.json"
    code, out, err = onebasin("verify", merged.base, receipt, "--campaign", merged.folder.campaign_file, "--json")
    assert code == 16
    assert json.loads(out)["ok"] is False
    assert "is not the receipt's" in err


def test_a_receipt_that_is_missing_or_cut_ends_with_16(merged, onebasin, tmp_path):
    model = merged.folder.merged / "merged.safetensors"
    (tmp_path / "cut.json").write_text((merged.folder.merged / "receipt.json").read_text()[:500])
    for path in (tmp_path / "none.json", tmp_path / "cut.json"):
        code, _, err = onebasin("verify", model, path, "--campaign", merged.folder.campaign_file)
        assert code == 16
        assert str(path) in err


def test_a_site_withdraws(merged, onebasin, verify, tmp_path):
    out = tmp_path / "fog.safetensors"
    code, said, _ = onebasin("site", "export", merged.sites["fog"].folder, "-o", out)
    assert code == 0
    assert merged.outbox("fog").digest().hex()[:12] in said
    command = ("coordinator", "withdraw", merged.home.folder, "one", "fog")
    code, _, err = onebasin(*command)
    assert code == 3
    assert "--update" in err
    code, said, _ = onebasin(*command, "--update", out, "--json")
    assert code == 0
    assert json.loads(said)["sites"] == ["clear", "night"]
    assert verify("--campaign", merged.folder.campaign_file)[0] == 0
    code, said, _ = onebasin("coordinator", "status", merged.home.folder, "one")
    assert "withdrawn" in said
    night = tmp_path / "night.safetensors"
    onebasin("site", "export", merged.sites["night"].folder, "-o", night)
    command = ("coordinator", "withdraw", merged.home.folder, "one", "night", "--update", night)
    assert onebasin(*command)[0] == 9
    code, said, _ = onebasin(*command, "--force")
    assert code == 0
    assert "merged now: clear" in said


def test_both_sides_logs_are_shown_and_verified(merged, onebasin):
    for folder, event in ((merged.home.folder, "merged"), (merged.sites["fog"].folder, "left")):
        code, out, _ = onebasin("audit", "show", folder)
        assert code == 0
        assert f" {event} " in out
        code, out, _ = onebasin("audit", "verify", folder)
        assert code == 0
        assert "all as they were written" in out
        code, out, _ = onebasin("audit", "show", folder / "audit.jsonl", "--event", event, "--last", 1, "--json")
        (line,) = json.loads(out)["lines"]
        assert (code, line["event"], len(line["sha256"])) == (0, event, 64)


def test_a_log_is_verified_with_a_receipt_and_elsewhere_with_a_key(merged, onebasin, tmp_path):
    receipt = merged.folder.merged / "receipt.json"
    code, out, _ = onebasin("audit", "verify", merged.home.folder, "--receipt", receipt, "--json")
    found = json.loads(out)
    assert (code, found["ok"], found["receipts"], found["unfinished"]) == (0, True, 1, False)
    for name in ("audit.jsonl", "audit.head.json"):
        (tmp_path / name).write_bytes((merged.home.folder / name).read_bytes())
    assert onebasin("audit", "verify", tmp_path)[0] == 3
    key = merged.campaign.message.coordinator_key.hex()
    assert onebasin("audit", "verify", tmp_path, "--key", key)[0] == 0
    other = signing.public_bytes(merged.sites["fog"].signing_key).hex()
    assert onebasin("audit", "verify", tmp_path, "--key", other)[0] == 7


def test_a_changed_log_ends_with_16_and_names_the_line(merged, onebasin):
    log = merged.home.folder / "audit.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], lines[1].replace(b"created", b"changed"), *lines[2:]]))
    for command in ("verify", "show"):
        code, _, err = onebasin("audit", command, merged.home.folder)
        assert code == 16
        assert "line 2 of" in err
    assert onebasin("audit", "verify", log.with_name("none"))[0] in (3, 16)


def test_a_run_on_a_changed_log_does_not_start(merged, make_grid):
    from protos.errors import VerificationError

    log = merged.home.folder / "audit.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    (merged.home.folder / "audit.head.json").unlink()
    with pytest.raises(VerificationError, match="is missing"):
        OneShotMerge(merged.folder).start(make_grid(merged))
