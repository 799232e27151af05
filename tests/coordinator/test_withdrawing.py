"""Withdrawing: what remains is what a merge that never had the site would be, bit for bit, whatever happens."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import pytest

from coordinator import publishing, strategy, withdrawing
from coordinator.campaign_folder import CampaignFolder
from coordinator.merge.state import MergeState
from coordinator.merging import MODEL, last_receipt
from coordinator.report.format import to_json
from coordinator.strategy import OneShotMerge
from coordinator.withdrawing import withdraw
from protos import audit, files, merkle, signing
from protos import messages_pb2 as pb
from protos.errors import ConfigurationError, ModelFileError, QuorumError, StorageError, UpdateRefusedError
from protos.rules import Rules

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(autouse=True)
def _plain_report(monkeypatch):
    """Leave the report's pictures out: they take longer than everything else."""

    def write(folder, report):
        (folder / "report.json").write_text(to_json(report))

    monkeypatch.setattr(strategy, "write_report", write)
    monkeypatch.setattr(withdrawing, "write_report", write)


def run(world, make_grid, without: str = "") -> None:
    def react(node, site, request, before):
        if site == without:
            return pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_DATA, site=site))
        return ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))


@pytest.fixture
def merged(make_world, make_grid):
    """A campaign of three sites, of which two are enough, that is over."""
    world = make_world(rules=Rules(minimum_sites=2))
    run(world, make_grid)
    return world


@pytest.fixture
def exported(merged, tmp_path):
    """The update of one site in a file."""
    merged.outbox("fog").export(tmp_path / "fog.safetensors")
    return tmp_path / "fog.safetensors"


def never_had(world, make_grid, site: str) -> tuple[bytes, bytes]:
    """Merge the same campaign without a site, in a copy of its folder; return model and state."""
    path = world.folder.path.with_name("never")
    path.mkdir()
    for file in (world.folder.campaign_file, world.folder.base):
        shutil.copy(file, path)
    other = CampaignFolder(world.home, path)
    mine, world.folder = world.folder, other
    run(world, make_grid, without=site)
    world.folder = mine
    return (other.merged / MODEL).read_bytes(), other.state.read_bytes()


def test_what_remains_is_a_merge_that_never_had_the_site(merged, exported, make_grid):
    before = (merged.folder.merged / MODEL).read_bytes()
    withdraw(merged.folder, "fog", exported)
    found = (merged.folder.merged / MODEL).read_bytes(), merged.folder.state.read_bytes()
    assert found == never_had(merged, make_grid, "fog")
    assert found[0] != before


def test_the_new_receipt_supersedes_the_old_one(merged, exported):
    old = last_receipt(merged.folder)
    receipt = withdraw(merged.folder, "fog", exported)
    assert receipt == last_receipt(merged.folder)
    assert (receipt.supersedes, receipt.models) == (old.digest, 2)
    assert [entry.site for entry in receipt.inputs] == ["clear", "night"]
    assert receipt.withdrawn == tuple(entry for entry in old.inputs if entry.site == "fog")
    assert receipt.root == merkle.root([bytes.fromhex(entry.digest) for entry in receipt.inputs])
    kept = merged.folder.merged / "superseded" / f"{old.digest[:12]}.json"
    assert kept.exists()
    assert {path.stem for path in (merged.folder.merged / "proofs").iterdir()} == {"clear", "night"}


def test_the_report_is_of_the_new_model_and_names_no_old_scores(merged, exported):
    receipt = withdraw(merged.folder, "fog", exported)
    report = json.loads((merged.folder.merged / "report.json").read_text())
    assert report["merged"]["digest"] == receipt.merged.digest
    assert report["receipt_digest"] == receipt.digest
    assert {entry["site"]: entry["state"] for entry in report["sites"]} == {
        "clear": "merged",
        "fog": "withdrawn",
        "night": "merged",
    }
    assert report["rows"] == []


def test_all_of_it_is_in_the_audit_log(merged, exported):
    receipt = withdraw(merged.folder, "fog", exported)
    log = merged.home.audit.path
    events = {entry.event: entry for entry in audit.entries(log)}
    assert events["withdrawn"].fields["receipt"] == receipt.digest
    assert events["withdrawing"].fields["digest"] == merged.outbox("fog").digest().hex()
    assert receipt.audit.sha256 == events["withdrawing"].sha256
    audit.verify(log, signing.public_bytes(merged.home.signing_key), (receipt.audit,))


def test_all_but_one_can_be_withdrawn_one_after_the_other(merged, exported, make_grid, tmp_path):
    withdraw(merged.folder, "fog", exported)
    merged.outbox("clear").export(tmp_path / "clear.safetensors")
    with pytest.raises(QuorumError, match="needs 2 sites, and without clear it would have 1") as caught:
        withdraw(merged.folder, "clear", tmp_path / "clear.safetensors")
    assert "--force" in caught.value.fix
    receipt = withdraw(merged.folder, "clear", tmp_path / "clear.safetensors", force=True)
    assert [entry.site for entry in receipt.withdrawn] == ["clear", "fog"]
    merged.outbox("night").export(tmp_path / "night.safetensors")
    with pytest.raises(QuorumError, match="without it nothing is left"):
        withdraw(merged.folder, "night", tmp_path / "night.safetensors", force=True)


def test_an_update_that_is_kept_needs_not_be_presented(make_world, make_grid):
    world = make_world(rules=Rules(minimum_sites=2))
    path = world.home.settings_path
    path.write_text(path.read_text().replace("keep_updates = false", "keep_updates = true"))
    world.home.__dict__.pop("settings", None)
    run(world, make_grid)
    withdraw(world.folder, "fog")
    assert not (world.folder.arrivals / "fog").exists()
    assert (world.folder.arrivals / "night").exists()
    assert (world.folder.merged / MODEL).read_bytes() == never_had(world, make_grid, "fog")[0]


def test_a_later_run_does_not_ask_a_site_that_withdrew(merged, exported, make_grid):
    receipt = withdraw(merged.folder, "fog", exported)
    grid = make_grid(merged)
    OneShotMerge(merged.folder).start(grid)
    assert not grid.asked("submit", "fog")
    assert last_receipt(merged.folder) == receipt
    report = json.loads((merged.folder.merged / "report.json").read_text())
    assert {entry["site"]: entry["state"] for entry in report["sites"]}["fog"] == "withdrawn"


def test_a_run_after_a_forced_withdrawal_still_has_its_quorum(world, make_grid, tmp_path):
    run(world, make_grid)
    world.outbox("fog").export(tmp_path / "fog.safetensors")
    with pytest.raises(QuorumError):
        withdraw(world.folder, "fog", tmp_path / "fog.safetensors")
    receipt = withdraw(world.folder, "fog", tmp_path / "fog.safetensors", force=True)
    run(world, make_grid)
    assert last_receipt(world.folder) == receipt


# ---------------------------------------------------------------- what is refused


def unchanged(world) -> dict[str, bytes]:
    return {
        str(path.relative_to(world.folder.path)): path.read_bytes()
        for path in sorted(world.folder.path.rglob("*"))
        if path.is_file() and path.name != "run.lock"
    }


def test_only_the_very_update_that_was_merged_is_taken_out(merged, exported, tmp_path):
    before = unchanged(merged)
    merged.outbox("night").export(tmp_path / "night.safetensors")
    with pytest.raises(UpdateRefusedError, match="site fog"):
        withdraw(merged.folder, "fog", tmp_path / "night.safetensors")
    content = bytearray(exported.read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(content)
    with pytest.raises(UpdateRefusedError, match=r"site fog: .* is not what the site signed for"):
        withdraw(merged.folder, "fog", tmp_path / "changed.safetensors")
    outbox = merged.outbox("fog")
    outbox.store({**merged.models["fog"], "scale": merged.models["night"]["scale"]})  # adapted once more
    with pytest.raises(UpdateRefusedError, match=r"but .* was merged"):
        withdraw(merged.folder, "fog", outbox.model)
    assert unchanged(merged) == before


def test_a_file_that_is_no_update_is_refused(merged, tmp_path):
    for path, content in ((tmp_path / "none", None), (tmp_path / "x", b"x"), (tmp_path / "base", None)):
        if content is not None:
            path.write_bytes(content)
        if path.name == "base":
            shutil.copy(merged.base, path)
        with pytest.raises(ModelFileError):
            withdraw(merged.folder, "fog", path)


def test_a_site_that_is_not_in_the_merge_is_refused(merged, exported):
    with pytest.raises(ConfigurationError, match="site dust is not in the merge"):
        withdraw(merged.folder, "dust", exported)
    withdraw(merged.folder, "fog", exported)
    with pytest.raises(ConfigurationError, match="was withdrawn already"):
        withdraw(merged.folder, "fog", exported)


def test_before_the_merge_there_is_nothing_to_withdraw(world):
    with pytest.raises(ConfigurationError, match="has no merged model"):
        withdraw(world.folder, "fog")


def test_an_update_that_was_dropped_must_be_presented(merged):
    with pytest.raises(ConfigurationError, match="is not here any more") as caught:
        withdraw(merged.folder, "fog")
    assert "onebasin site export" in caught.value.fix


def test_from_a_secure_sum_nothing_can_be_taken_out(make_world, make_grid, tmp_path):
    world = make_world(rules=Rules(privacy="secure-sum", minimum_sites=2))
    run(world, make_grid)
    world.outbox("fog").export(tmp_path / "fog.safetensors")
    with pytest.raises(ConfigurationError, match="is a secure sum, from which no single update can be taken out"):
        withdraw(world.folder, "fog", tmp_path / "fog.safetensors")


def test_not_while_the_campaign_runs(merged, exported):
    with merged.folder.alone(), pytest.raises(ConfigurationError, match="is running already"):
        withdraw(merged.folder, "fog", exported)


# ----------------------------------------------------------------- crashes


class Crash(BaseException):
    """The machine stops."""


def whole(world) -> str:
    """Say which result is there, and fail if it is neither the old nor the new one as a whole."""
    with world.folder.alone():
        receipt = last_receipt(world.folder)
    model = (world.folder.merged / MODEL).read_bytes()
    assert hashlib.sha256(model).hexdigest() == receipt.merged.sha256
    with MergeState(world.folder.state) as state:
        state.check()
        assert state.digests == {entry.digest for entry in receipt.inputs}
    assert {path.stem for path in (world.folder.merged / "proofs").iterdir()} == {e.site for e in receipt.inputs}
    assert not {path.name for path in world.folder.path.iterdir()} & {".making", ".ready", ".old"}
    return "new" if receipt.withdrawn else "old"


def test_a_crash_at_any_moment_leaves_the_old_or_the_new_result_whole(merged, exported, monkeypatch, tmp_path):
    """Stop at the first, second, third … time that something is renamed, removed, or brought to the disk."""
    saved = tmp_path / "saved"
    shutil.copytree(merged.home.folder, saved)
    seen = []
    for moment in itertools.count():
        shutil.rmtree(merged.home.folder)
        shutil.copytree(saved, merged.home.folder)
        steps = iter(range(moment + 1))

        def stopping(call, steps=steps):
            def stopped(*args, **options):
                if next(steps, None) is None:
                    raise Crash
                return call(*args, **options)

            return stopped

        with monkeypatch.context() as patched:
            for owner, name in (
                (Path, "rename"),
                (Path, "replace"),
                (publishing.shutil, "rmtree"),
                (files, "sync_folder"),
            ):
                patched.setattr(owner, name, stopping(getattr(owner, name)))
            try:
                withdraw(merged.folder, "fog", exported)
            except Crash:
                pass
            else:
                break
        seen.append(whole(merged))
    assert seen == sorted(seen, reverse=True)  # old, …, old, new, …, new
    assert set(seen) == {"old", "new"}
    assert len(seen) > 10
    assert whole(merged) == "new"


def test_after_a_crash_the_next_command_finishes_it_and_says_so(merged, exported, monkeypatch):
    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(
            Path, "replace", lambda self, to: crash() if self.parent.name == ".ready" else self.rename(to)
        )
        with pytest.raises(Crash):
            withdraw(merged.folder, "fog", exported)
    assert whole(merged) == "new"
    assert [entry.event for entry in audit.entries(merged.home.audit.path)][-1] == "completed"
    with pytest.raises(ConfigurationError, match="was withdrawn already"):
        withdraw(merged.folder, "fog", exported)


def test_a_full_disk_leaves_everything_as_it_was(merged, exported, monkeypatch):
    before = unchanged(merged)

    def full(*_: object) -> None:
        raise StorageError("No space left on device")

    monkeypatch.setattr(withdrawing, "write_sum", full)
    with pytest.raises(StorageError):
        withdraw(merged.folder, "fog", exported)
    assert unchanged(merged) == before


def test_a_required_site_is_withdrawn_only_by_force(make_world, make_grid, tmp_path):
    world = make_world(rules=Rules(minimum_sites=1, required=("fog",)))
    run(world, make_grid)
    world.outbox("fog").export(tmp_path / "fog.safetensors")
    with pytest.raises(QuorumError, match="nothing is merged without site fog") as caught:
        withdraw(world.folder, "fog", tmp_path / "fog.safetensors")
    assert "--force" in caught.value.fix
    receipt = withdraw(world.folder, "fog", tmp_path / "fog.safetensors", force=True)
    assert [entry.site for entry in receipt.inputs] == ["clear", "night"]
    assert world.home.journal.standings(world.folder.key)["fog"].state == "withdrawn"
    run(world, make_grid)
    assert last_receipt(world.folder) == receipt
