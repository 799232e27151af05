"""Fold and forget: after a run the coordinator has sums, digests and receipts, and nothing of a single update."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from coordinator import strategy
from coordinator.merging import MODEL, last_receipt
from coordinator.report.format import to_json
from coordinator.strategy import OneShotMerge
from protos import messages_pb2 as pb
from protos import signing
from protos.errors import ModelFileError, QuorumError, StorageError
from protos.rules import Rules

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(autouse=True)
def _plain_report(monkeypatch):
    """Leave the report's pictures out: they take longer than everything else."""
    monkeypatch.setattr(
        strategy, "write_report", lambda to, found: (to / "report.json").write_text(to_json(found))
    )


def keep(world) -> None:
    path = world.home.settings_path
    path.write_text(path.read_text().replace("keep_updates = false", "keep_updates = true"))
    world.home.__dict__.pop("settings", None)


def left_of(world, site: str) -> set[tuple[str, str]]:
    """Search all of the coordinator's files for the bytes of a site's tensors; return tensor and file."""
    files = {path: path.read_bytes() for path in world.home.folder.rglob("*") if path.is_file()}
    return {
        (name, path.name)
        for name, tensor in world.models[site].items()
        for path, content in files.items()
        if tensor.nbytes > 8 and name != "table" and tensor.tobytes() in content
    }


def judging(world):
    """Let sites judge every model well."""

    def react(node, site, request, before):
        if request.WhichOneof("what") != "evaluate":
            return ...
        confusion = [9 * (i % 6 == 0) for i in range(25)]
        scores = [
            pb.Score(key=c.key, classes=5, confusion=confusion, images=3) for c in request.evaluate.candidates
        ]
        found = pb.Evaluation(
            campaign_digest=world.campaign.digest, nonce=request.evaluate.nonce, site=site, scores=scores
        )
        return pb.Reply(evaluation=signing.signed(signing.EVALUATION, found, world.sites[site].signing_key))

    return react


@pytest.mark.parametrize("compare", [False, True])
def test_nothing_of_a_single_update_is_left(make_world, make_grid, compare):
    world = make_world(rules=Rules(compare_single_models=compare))
    OneShotMerge(world.folder).start(make_grid(world, react=judging(world)))
    assert not world.folder.arrivals.exists()
    for site in world.sites:
        assert not left_of(world, site)
    report = json.loads((world.folder.merged / "report.json").read_text())
    assert len(report["divergence"]["pairs"]) == 3  # computed before
    assert all((entry["distance_from_base"] is not None) == compare for entry in report["sites"])
    assert all(entry["batches"] for entry in report["sites"])


def test_the_search_finds_what_is_left(world, make_grid):
    keep(world)
    OneShotMerge(world.folder).start(make_grid(world))
    for site in world.sites:
        found = {name for name, _ in left_of(world, site)}
        tensors = {name for name, tensor in world.models[site].items() if tensor.nbytes > 8 and name != "table"}
        assert found == tensors
        kept = {path.name for path in (world.folder.arrivals / site).iterdir()}
        assert kept == {"update.binpb", "parameters.safetensors"}


def test_what_is_forgotten_is_noted(world, make_grid):
    OneShotMerge(world.folder).start(make_grid(world))
    events = [event for _, event in world.home.journal.events(world.folder.key)]
    assert [event["updates"] for event in events if event["event"] == "forgotten"] == [3]


def test_while_the_run_lasts_parameters_go_as_soon_as_they_are_folded(world, make_grid):
    seen = []

    def react(node, site, request, before):
        if request.WhichOneof("what") == "deliver":
            seen.append({path.name for path in world.folder.arrivals.rglob("*.*")})
        return ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert seen == [{"update.binpb"}] * len(seen) != []


def test_of_a_run_that_crashed_nothing_is_left_once_a_site_is_given_up(make_world, make_grid):
    world = make_world(rules=Rules(patience_seconds=500))
    left = world.folder.arrivals / "fog" / "parameters.safetensors"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of an earlier run")
    grid = make_grid(world)
    grid.online.discard(101)
    with pytest.raises(QuorumError):
        OneShotMerge(world.folder).start(grid)
    assert not left.exists()


def test_after_a_run_that_failed_no_parameters_are_left(make_world, make_grid):
    world = make_world(rules=Rules(patience_seconds=500))
    path = world.home.settings_path
    path.write_text(path.read_text().replace("part_mebibytes = 48", "part_mebibytes = 0"))
    world.home.__dict__.pop("settings", None)

    def react(node, site, request, before):  # one site goes silent in the middle of its update
        return None if site == "fog" and request.WhichOneof("what") == "submit" and before > 2 else ...

    with pytest.raises(QuorumError):
        OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert not list(world.folder.arrivals.rglob("*.safetensors"))
    assert not (world.folder.arrivals / "fog").exists()


def test_a_second_run_knows_from_the_receipt_what_is_inside_and_comes_out_the_same(make_world, make_grid):
    world = make_world(rules=Rules(compare_single_models=True))
    OneShotMerge(world.folder).start(make_grid(world, react=judging(world)))
    merged, receipt = (world.folder.merged / MODEL).read_bytes(), last_receipt(world.folder)
    grid = make_grid(world, react=judging(world))
    OneShotMerge(world.folder).start(grid)
    assert not grid.asked("submit")
    assert (world.folder.merged / MODEL).read_bytes() == merged
    assert last_receipt(world.folder) == receipt
    report = json.loads((world.folder.merged / "report.json").read_text())
    kinds = {row["kind"] for row in report["rows"]}
    assert kinds == {"base", "single", "pooled-buffers"}  # what needs single updates can't be judged again
    assert {entry["state"] for entry in report["sites"]} == {"merged"}


def test_a_site_that_comes_later_is_added_to_what_is_there(make_world, make_grid):
    world = make_world(rules=Rules(minimum_sites=2, patience_seconds=500))
    grid = make_grid(world)
    grid.online.discard(101)
    OneShotMerge(world.folder).start(grid)
    first = last_receipt(world.folder)
    OneShotMerge(world.folder).start(make_grid(world))
    second = last_receipt(world.folder)
    assert [entry.site for entry in second.inputs] == ["clear", "fog", "night"]
    assert second.supersedes == first.digest
    kept = world.folder.merged / "superseded" / f"{first.digest[:12]}.json"
    assert json.loads(kept.read_text())["payloadType"] == "application/vnd.in-toto+json"
    other = make_world(models=world.models)
    assert other.campaign.digest != world.campaign.digest
    OneShotMerge(other.folder).start(make_grid(other))
    assert last_receipt(other.folder).merged.digest == second.merged.digest


def test_a_state_whose_receipt_is_gone_is_not_merged(world, make_grid, monkeypatch):
    OneShotMerge(world.folder).start(make_grid(world))
    (world.folder.merged / "receipt.json").unlink()
    react = {"fog": pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_DATA, site="fog"))}
    with pytest.raises((ModelFileError, QuorumError)):
        OneShotMerge(world.folder).start(
            make_grid(world, react=lambda node, site, request, before: react.get(site, ...))
        )


def test_an_update_that_cannot_be_removed_is_an_error(world, make_grid, monkeypatch):
    rmtree = shutil.rmtree

    def fail(path: Path, **options: object) -> None:
        if path == world.folder.arrivals:
            raise OSError(13, "Permission denied")
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(StorageError, match="can't remove"):
        OneShotMerge(world.folder).start(make_grid(world))
