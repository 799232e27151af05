"""A whole campaign's conversation, with Flower's Grid replaced by one in memory."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import shutil
import sqlite3
import time
from contextlib import closing
from fractions import Fraction

import numpy as np
import pytest
from flwr.app import Error

from coordinator import collecting, courier, quorum, strategy
from coordinator.arrivals import Arrival
from coordinator.asking import PATIENCE
from coordinator.merge.state import MergeState
from coordinator.merging import MODEL, RECEIPT
from coordinator.pacing import RETRY
from coordinator.report.format import to_json
from coordinator.strategy import OneShotMerge
from protos import messages_pb2 as pb
from protos import receipts, signing, update_pb2
from protos.digest import file_digest
from protos.errors import QuorumError, StorageError
from protos.rules import Rules
from protos.tensorfile import TensorFile

pytestmark = pytest.mark.usefixtures("clock")

NODE_UNAVAILABLE, INVALID_BUNDLE, CRASHED = 5, 7, 8


@pytest.fixture(autouse=True)
def _plain_report(monkeypatch):
    """Leave the report's pictures out: they take longer than everything else."""

    def write(folder, report):
        (folder / "report.json").write_text(to_json(report))

    monkeypatch.setattr(strategy, "write_report", write)


def events(world) -> list[dict]:
    return [event for _, event in world.home.journal.events(world.folder.key)]


def said(world, event: str, site: str = "") -> list[dict]:
    return [e for e in events(world) if e["event"] == event and site in ("", e.get("site"))]


def merged(world) -> bytes:
    return (world.folder.merged / MODEL).read_bytes()


def receipt(world) -> receipts.Receipt:
    return receipts.read(world.folder.merged / RECEIPT, world.campaign.message.coordinator_key)


def small_parts(world, at_once: int = 3) -> None:
    """Let every parameter be a part of its own."""
    path = world.home.settings_path
    path.write_text(path.read_text().replace("part_mebibytes = 48", "part_mebibytes = 0"))
    path.write_text(re.sub(r"at_once = \d+", f"at_once = {at_once}", path.read_text()))
    world.home.__dict__.pop("settings", None)


def assert_merged(world, *sites: str) -> None:
    """Compare the merged model with exact arithmetic over the models of some sites."""
    models = [world.models[site] for site in sites]
    with TensorFile(world.folder.merged / MODEL) as file:
        assert file.metadata["campaign"] == world.campaign.digest.hex()
        for name in world.manifest.parameters:
            found = file.read(name).tolist()
            columns = zip(*(model[name].reshape(-1).tolist() for model in models), strict=True)
            for got, column in zip(found, columns, strict=True):
                exact = sum(map(Fraction, column)) / len(models)
                step = Fraction(float(np.spacing(np.float32(abs(float(exact))))))
                assert abs(Fraction(got) - exact) <= max(step, Fraction(1, 2**40))
        for layer, channels in world.manifest.layers.items():
            counts = [int(model[f"{layer}.num_batches_tracked"]) for model in models]
            means, variances = (
                [[Fraction(x) for x in model[f"{layer}.{part}"].tolist()] for model in models]
                for part in ("running_mean", "running_var")
            )
            n = sum(counts)
            assert int(file.tensor(f"{layer}.num_batches_tracked")) == n
            for c in range(channels):
                mean = sum(k * m[c] for k, m in zip(counts, means, strict=True)) / n
                var = sum(
                    k * (v[c] + (m[c] - mean) ** 2) for k, m, v in zip(counts, means, variances, strict=True)
                )
                assert file.tensor(f"{layer}.running_mean")[c] == pytest.approx(float(mean), rel=1e-6, abs=1e-12)
                assert file.tensor(f"{layer}.running_var")[c] == pytest.approx(float(var / n), rel=1e-6)


# --------------------------------------------------------------- all is well


def test_the_merged_model_is_the_midpoint_with_pooled_statistics(world, make_grid):
    OneShotMerge(world.folder).start(make_grid(world))
    assert_merged(world, "clear", "fog", "night")
    assert [e["site"] for e in said(world, "folded")] != []
    assert events(world)[-1]["event"] == "reported"


def test_what_it_took_and_what_was_sent_is_noted_for_each_site(world, make_grid):
    OneShotMerge(world.folder).start(make_grid(world))
    size = sum(spec.nbytes for spec in world.manifest.parameters.values())
    assert {e["site"]: e["bytes"] for e in said(world, "delivered")} == dict.fromkeys(world.sites, size)
    assert all(e["seconds"] >= 0 for e in said(world, "folded"))
    (found,) = said(world, "merged")
    assert found["seconds"] >= 0


def test_the_receipt_is_signed_and_says_what_went_in_and_what_came_out(world, make_grid):
    OneShotMerge(world.folder).start(make_grid(world))
    found = receipt(world)
    assert {entry.site: entry.digest for entry in found.inputs} == {
        site: world.outbox(site).digest().hex() for site in world.sites
    }
    assert [entry.site for entry in found.inputs] == sorted(world.sites)
    with TensorFile(world.folder.merged / MODEL) as file:
        assert found.merged.digest == file_digest(file).hex()
    assert found.merged.sha256 == hashlib.sha256(merged(world)).hexdigest()
    assert (found.models, found.campaign_digest) == (3, world.campaign.digest.hex())
    assert (found.rules, found.supersedes) == (world.campaign.rules, "")


def test_the_order_in_which_parts_arrive_does_not_change_a_bit(world, make_grid, make_world, monkeypatch):
    OneShotMerge(world.folder).start(make_grid(world))
    state = world.folder.state.read_bytes()
    small_parts(world)
    for seed in range(5):
        for path in (world.folder.state, world.folder.merged / MODEL):
            path.unlink(missing_ok=True)
        rng = random.Random(seed)
        grid = make_grid(world, wait=lambda rng=rng: rng.randrange(40))
        OneShotMerge(world.folder).start(grid)
        assert len(grid.asked("submit", "fog")) == len(world.manifest.parameters)  # none was asked for twice
        assert world.folder.state.read_bytes() == state
        assert_merged(world, "clear", "fog", "night")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_smaller_dtypes_are_merged_too(make_world, make_grid, dtype):
    world = make_world(dtype=dtype)
    OneShotMerge(world.folder).start(make_grid(world))
    with TensorFile(world.folder.merged / MODEL) as file:
        assert {spec.dtype.name for spec in file.manifest.parameters.values()} == {dtype}
        assert receipt(world).merged.digest == file_digest(file).hex()


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_parts_are_under_way_than_the_settings_allow(world, make_grid, at_once):
    small_parts(world, at_once)
    rng = random.Random(4)
    grid = make_grid(world, wait=lambda: rng.randrange(20))
    OneShotMerge(world.folder).start(grid)
    assert grid.most == at_once
    assert_merged(world, *world.sites)


def test_one_update_never_has_more_than_two_parts_under_way(make_world, make_grid):
    world = make_world(("fog",))
    small_parts(world, 9)
    grid = make_grid(world, wait=lambda: 5)
    OneShotMerge(world.folder).start(grid)
    assert grid.most == courier.PER_SITE == 2


def test_a_site_that_connects_late_is_waited_for(world, make_grid, clock):
    grid = make_grid(world)
    late = max(grid.nodes)
    grid.online.discard(late)
    sleep = clock.sleep

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        if clock.now > 1500:
            grid.online.add(late)

    clock.sleep = sleeping
    OneShotMerge(world.folder).start(grid)
    assert_merged(world, *world.sites)


def test_progress_is_asked_for_until_the_update_is_ready(world, make_grid, clock):
    def react(node, site, request, before):
        kind = request.WhichOneof("what")
        if site == "fog" and (kind == "adapt" or (kind == "progress" and before < 4)):
            return pb.Reply(
                progress=pb.Progress(state=pb.Progress.STATE_ADAPTING, step=before, steps=9, eta_seconds=60)
            )
        return ...

    grid = make_grid(world, react=react)
    OneShotMerge(world.folder).start(grid)
    assert len(grid.asked("progress", "fog")) == 5
    assert len(grid.asked("adapt", "fog")) == 1
    assert_merged(world, *world.sites)


# ------------------------------------------------------- what goes wrong once


@pytest.mark.parametrize("code", [NODE_UNAVAILABLE, CRASHED])
@pytest.mark.parametrize("kind", ["hello", "adapt", "submit"])
def test_a_node_that_fails_is_asked_again(world, make_grid, kind, code):
    def react(node, site, request, before):
        if site == "fog" and request.WhichOneof("what") == kind and before < 3:
            return Error(code, "lost")
        return ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert_merged(world, *world.sites)
    if kind != "hello":
        assert f"Flower's error {code}" in said(world, "no-answer", "fog")[0]["message"]


def test_a_site_that_refuses_the_code_is_named_by_the_node_that_was_registered_for_it(world, make_grid):
    def react(node, site, request, before):
        return Error(INVALID_BUNDLE, "The FAB could not be verified.") if site == "fog" else ...

    with pytest.raises(QuorumError, match="site fog refuses to run the campaign's code"):
        OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert not said(world, "refused", "night")


def test_an_unknown_node_that_refuses_the_code_is_noted_as_a_stranger(make_world, make_grid):
    world = make_world(rules=Rules(minimum_sites=2, patience_seconds=600))

    def react(node, site, request, before):
        return Error(INVALID_BUNDLE, "The FAB could not be verified.") if site == "fog" else ...

    grid = make_grid(world, react=react)
    (world.home.folder / "sites" / "fog" / "node-id").unlink()
    OneShotMerge(world.folder).start(grid)
    assert_merged(world, "clear", "night")
    assert "refuses to run the campaign's code" in said(world, "stranger")[0]["message"]


def test_parts_that_fail_again_and_again_are_asked_for_until_they_come(world, make_grid):
    small_parts(world)
    rng = random.Random(1)

    def react(node, site, request, before):
        if request.WhichOneof("what") == "submit" and request.submit.parameters and rng.random() < 0.5:
            return Error(NODE_UNAVAILABLE, "lost")
        return ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert_merged(world, *world.sites)


@pytest.mark.parametrize("kind", ["hello", "adapt", "submit"])
def test_a_reply_that_never_comes_is_given_up_and_asked_for_again(make_world, make_grid, kind):
    world = make_world(rules=Rules(deadline_seconds=100_000, patience_seconds=50_000))

    def react(node, site, request, before):
        lost = site == "fog" and request.WhichOneof("what") == kind and not before
        return None if lost else ...

    # A lost reply is noticed when its message's time to live is over.
    OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert_merged(world, *world.sites)
    assert not said(world, "missing")


def test_a_header_that_got_lost_is_asked_for_again_with_all_parts(make_world, make_grid):
    world = make_world(("fog",))
    small_parts(world)

    def react(node, site, request, before):
        return Error(NODE_UNAVAILABLE, "lost") if request.submit.header and before < 3 else ...

    for wait in (0, 1, 4):
        world.folder.state.unlink(missing_ok=True)
        waits = iter([wait, 0, 0, wait])
        grid = make_grid(world, react=react, wait=lambda waits=waits: next(waits, 0))
        OneShotMerge(world.folder).start(grid)
        assert_merged(world, "fog")


def test_a_node_that_fails_is_not_asked_without_a_pause(world, make_grid, clock):
    asked = []

    def react(node, site, request, before):
        kind = request.WhichOneof("what")
        if site == "fog" and kind == "submit" and len(asked) < 4:
            asked.append(clock.now)
            return Error(NODE_UNAVAILABLE, "lost")
        return ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert all(later - earlier >= RETRY for earlier, later in itertools.pairwise(asked))


def test_a_request_that_could_not_be_sent_is_sent_again(world, make_grid):
    small_parts(world)
    failed = []

    def refuse(site: str, request: pb.Request) -> bool:
        key = (site, request.WhichOneof("what"), tuple(request.submit.parameters))
        failed.append(key)
        return failed.count(key) == 1 and site == "fog"

    grid = make_grid(world, refuse_push=refuse)
    OneShotMerge(world.folder).start(grid)
    assert_merged(world, *world.sites)
    assert {e["to"] for e in said(world, "no-answer", "fog")} == {"adapt", "submit"}
    assert said(world, "not-evaluated", "fog")


def test_a_site_that_reconnects_under_another_node_is_asked_for_what_is_missing(world, make_grid):
    small_parts(world)
    grid = make_grid(world, wait=lambda: 3)
    old, new = 101, 201
    grid.nodes[new] = grid.nodes[old]
    assert grid.nodes[old].name == "fog"

    def react(node, site, request, before):
        if node == old and request.submit.parameters and before >= 3:
            grid.online.discard(old)
            grid.online.add(new)
            return None
        return ...

    grid.react = react
    OneShotMerge(world.folder).start(grid)
    assert [e["node"] for e in said(world, "connected", "fog")] == [old, new]
    assert_merged(world, *world.sites)


def test_an_adapting_process_that_died_is_started_again_a_few_times(world, make_grid):
    states = [pb.Progress.STATE_ADAPTING, pb.Progress.STATE_STOPPED]

    def react(node, site, request, before):
        kind = request.WhichOneof("what")
        if site == "fog" and kind in ("adapt", "progress"):
            return pb.Reply(progress=pb.Progress(state=states[kind == "progress"]))
        return ...

    grid = make_grid(world, react=react)
    with pytest.raises(QuorumError, match="site fog: its adapting process died 4 times"):
        OneShotMerge(world.folder).start(grid)
    assert len(grid.asked("adapt", "fog")) == collecting.MAX_RESTARTS + 1


# --------------------------------------------------------- refused and missing


def refusing(site: str, kind: str, reply: pb.Reply):
    def react(node, name, request, before):
        return reply if name == site and request.WhichOneof("what") == kind else ...

    return react


def refusal(reason: str, **fields) -> pb.Reply:
    return pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.Reason.Value(f"REASON_{reason}"), **fields))


FAILURES = {
    "another campaign": ("hello", refusal("CAMPAIGN", site="fog"), "site fog has joined another campaign"),
    "no base": ("hello", refusal("BASE", site="fog"), "site fog has not the campaign's base"),
    "no images": ("adapt", refusal("DATA", site="fog"), "site fog has no images"),
    "a full disk": ("submit", refusal("STORAGE", site="fog"), "site fog can't write to its disk"),
    "a bad model": (
        "submit",
        refusal("UPDATE", site="fog", tensor="head.bias"),
        "site fog holds a model that may not leave or can't be merged (tensor head.bias)",
    ),
    "an unknown reason": ("submit", pb.Reply(refusal=pb.Refusal(reason=99)), "refused for an unknown reason"),
    "a failed training": (
        "progress",
        pb.Reply(progress=pb.Progress(state=pb.Progress.STATE_FAILED, step=3, steps=9)),
        "site fog: adapting failed at step 3 of 9",
    ),
    "a state that is none": (
        "adapt",
        pb.Reply(progress=pb.Progress(state=99)),
        "its progress is none that is known",
    ),
    "a phase that is none": (
        "adapt",
        pb.Reply(progress=pb.Progress(state=pb.Progress.STATE_READY, phase=99)),
        "its progress is none that is known",
    ),
    "an unsigned header": ("submit", pb.Reply(header=update_pb2.Signed(payload=b"x")), "the signature is missing"),
    "a header without parameters": (
        "submit",
        (pb.Reply(parameters=pb.Parameters()), {"parameters": b""}),
        "answered parameters to submit",
    ),
    "parameters nobody asked for": ("adapt", pb.Reply(parameters=pb.Parameters()), "answered parameters to adapt"),
    "an answer to another question": (
        "submit",
        pb.Reply(progress=pb.Progress(state=pb.Progress.STATE_READY)),
        "answered progress to submit",
    ),
    "an empty reply": ("adapt", pb.Reply(), "answered None to adapt"),
}


@pytest.mark.parametrize(("kind", "reply", "why"), FAILURES.values(), ids=FAILURES)
def test_without_a_site_that_is_needed_nothing_is_merged(make_world, make_grid, kind, reply, why):
    world = make_world()
    react = refusing("fog", kind, reply)
    if kind == "progress":

        def react(node, name, request, before):
            asked = request.WhichOneof("what")
            if name != "fog" or asked not in ("adapt", "progress"):
                return ...
            return (
                reply if asked == "progress" else pb.Reply(progress=pb.Progress(state=pb.Progress.STATE_ADAPTING))
            )

    with pytest.raises(QuorumError) as caught:
        OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert caught.value.exit_code == 9
    assert why in caught.value.what
    assert "fog" in caught.value.what
    assert "3 of 3 sites are needed, at most 2 can deliver" in caught.value.what
    assert not world.folder.merged.exists()
    assert said(world, "refused", "fog")


@pytest.mark.parametrize(
    ("kind", "reply", "why"),
    [found for found in FAILURES.values() if found[0] != "progress"],
    ids=[name for name, found in FAILURES.items() if found[0] != "progress"],
)
def test_without_a_site_that_is_not_needed_the_others_are_merged(make_world, make_grid, kind, reply, why):
    world = make_world(rules=Rules(minimum_sites=2))
    OneShotMerge(world.folder).start(make_grid(world, react=refusing("fog", kind, reply)))
    assert_merged(world, "clear", "night")
    assert [entry.site for entry in receipt(world).inputs] == ["clear", "night"]
    report = json.loads((world.folder.merged / "report.json").read_text())
    assert why in next(entry["message"] for entry in report["sites"] if entry["site"] == "fog")


def test_an_update_that_breaks_a_rule_is_refused_by_site_and_tensor(world, make_grid, saved):
    outbox = world.outbox("fog")
    header = outbox.header()
    header.batch_norms[0].count = 0
    key = world.sites["fog"].signing_key
    outbox._header.write_bytes(signing.signed(signing.UPDATE, header, key).SerializeToString())
    with pytest.raises(QuorumError, match=r"site fog: norm\.num_batches_tracked is 0"):
        OneShotMerge(world.folder).start(make_grid(world))
    assert [event["reason"] for event in said(world, "refused", "fog")] == ["update"]
    assert not (world.folder.path / "arrivals" / "fog").exists()


def test_parameters_that_are_not_what_was_signed_are_refused_and_dropped(world, make_grid):
    def react(node, site, request, before):
        if site == "fog" and request.submit.parameters:
            raw = bytearray(world.outbox("fog").parameters(request.submit.parameters))
            raw[0] ^= 1
            return pb.Reply(header=world.outbox("fog").envelope()), {"parameters": bytes(raw)}
        return ...

    with pytest.raises(QuorumError, match=r"site fog: the bytes of head\.bias are not the ones"):
        OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert not (world.folder.path / "arrivals" / "fog").exists()


def test_a_site_that_never_connects_is_missed_after_its_patience(make_world, make_grid):
    world = make_world(rules=Rules(minimum_sites=2, patience_seconds=1000))
    grid = make_grid(world)
    grid.online.discard(101)
    OneShotMerge(world.folder).start(grid)
    assert_merged(world, "clear", "night")
    assert said(world, "missing")[0]["message"] == "site fog never connected (waited 1000 s)"


def test_a_site_that_falls_silent_is_missed_after_its_patience(make_world, make_grid):
    world = make_world(rules=Rules(patience_seconds=1000))
    with pytest.raises(QuorumError, match=r"site fog stopped answering \(waited 1000 s\)"):
        OneShotMerge(world.folder).start(make_grid(world, react=refusing("fog", "submit", None)))


def test_a_site_that_is_not_done_by_the_deadline_is_missed(make_world, make_grid):
    world = make_world(rules=Rules(deadline_seconds=500, patience_seconds=300))
    adapting = pb.Reply(progress=pb.Progress(state=pb.Progress.STATE_ADAPTING, eta_seconds=1e9))

    def react(node, site, request, before):
        return adapting if site == "fog" and request.WhichOneof("what") in ("adapt", "progress") else ...

    with pytest.raises(QuorumError, match="site fog was adapting when the deadline passed"):
        OneShotMerge(world.folder).start(make_grid(world, react=react))


def test_a_failure_that_makes_the_quorum_impossible_ends_the_run_at_once(make_world, make_grid, clock):
    world = make_world()
    grid = make_grid(world, react=refusing("fog", "hello", refusal("CAMPAIGN", site="fog")))
    grid.online.discard(102)  # night would be waited for for a day
    with pytest.raises(QuorumError):
        OneShotMerge(world.folder).start(grid)
    assert clock.now < 1100


# ------------------------------------------------------------------ resuming


def test_a_second_run_does_not_ask_again_for_what_was_folded(make_world, make_grid):
    world = make_world(rules=Rules(deadline_seconds=600, patience_seconds=100_000))
    with pytest.raises(QuorumError, match=r"site night was (ready|submitting) when the deadline passed"):
        OneShotMerge(world.folder).start(make_grid(world, react=refusing("night", "submit", None)))
    with MergeState(world.folder.state) as state:
        assert state.models == 2
    again = make_grid(world)
    OneShotMerge(world.folder).start(again)
    assert not again.asked("submit", "clear")
    assert not again.asked("submit", "fog")
    assert again.asked("submit", "night")
    assert {e["site"] for e in said(world, "already-folded")} == {"clear", "fog"}
    resumed = world.folder.state.read_bytes()
    world.folder.state.unlink()
    OneShotMerge(world.folder).start(make_grid(world))
    assert world.folder.state.read_bytes() == resumed
    assert_merged(world, *world.sites)


def test_a_run_after_a_finished_one_merges_the_same_again_without_any_upload(world, make_grid):
    OneShotMerge(world.folder).start(make_grid(world))
    before = merged(world)
    grid = make_grid(world)
    OneShotMerge(world.folder).start(grid)
    assert not grid.asked("submit")
    assert merged(world) == before


def parts_asked(grid, site: str) -> list[str]:
    return [name for request in grid.asked("submit", site) for name in request.submit.parameters]


def zeros(world, site: str) -> set[str]:
    """Name the parameters that are as the holes of a file: they are there as soon as anything is."""
    return {name for name in world.manifest.parameters if not np.any(world.models[site][name])}


@pytest.mark.parametrize("crash", [1, 4, 7, 12])
def test_after_a_crash_only_what_had_not_arrived_is_asked_for(world, make_grid, monkeypatch, crash):
    small_parts(world, at_once=1)
    took, order = Arrival.take, []

    class CrashError(Exception):
        """The coordinator's process ends."""

    def take(arrival, raw, wanted):
        took(arrival, raw, wanted)
        order.append((arrival.site, *wanted))
        if len(order) == crash:
            raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(Arrival, "take", take)
        with pytest.raises(CrashError):
            OneShotMerge(world.folder).start(make_grid(world))
    again = make_grid(world)
    OneShotMerge(world.folder).start(again)
    for site in world.sites:
        there = {name for owner, name in order if owner == site}
        there |= zeros(world, site) if there else set()
        assert sorted(parts_asked(again, site)) == sorted(world.manifest.parameters.keys() - there)
    assert_merged(world, *world.sites)


def test_an_arrival_that_was_cut_off_by_a_crash_is_asked_for_whole(world, make_grid):
    OneShotMerge(world.folder).start(make_grid(world))
    before = merged(world)
    world.folder.state.unlink()  # as if nothing had been folded
    part = world.folder.path / "arrivals" / "fog" / "parameters.safetensors"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\xaa" * 5000)
    OneShotMerge(world.folder).start(make_grid(world))
    assert_merged(world, *world.sites)
    assert merged(world) == before


def test_a_disk_that_is_full_while_folding_ends_the_run_and_the_next_one_succeeds(world, make_grid, monkeypatch):
    import coordinator.folding as folding

    def full(*_: object) -> None:
        raise StorageError("can't write state.safetensors: No space left on device", "free some space")

    with monkeypatch.context() as patched:
        patched.setattr(folding, "write_sum", full)
        with pytest.raises(StorageError, match="No space left"):
            OneShotMerge(world.folder).start(make_grid(world))
    assert not world.folder.state.exists()
    OneShotMerge(world.folder).start(make_grid(world))
    assert_merged(world, *world.sites)


def test_a_run_of_another_campaign_in_the_same_home_starts_from_nothing(world, make_grid):
    OneShotMerge(world.folder).start(make_grid(world))
    members = {name: site.request().keys for name, site in world.sites.items()}
    second = world.home.create("two", world.base, members=members, rules=Rules())
    with pytest.raises(QuorumError, match="has joined another campaign, or none"):
        OneShotMerge(second).start(make_grid(world))
    assert not second.state.exists()


def test_a_site_that_has_not_joined_this_campaign_is_named(world, make_grid, make_world):
    other = make_world(campaign="other")
    grid = make_grid(world)
    grid.nodes[101] = other.sites["fog"]
    with pytest.raises(QuorumError, match="site fog has joined another campaign, or none"):
        OneShotMerge(world.folder).start(grid)


def test_a_stranger_is_noted_and_ignored(world, make_grid, make_world):
    grid = make_grid(world)
    grid.nodes[500] = make_world(("rain",)).sites["rain"]
    grid.online.add(500)
    OneShotMerge(world.folder).start(grid)
    assert_merged(world, *world.sites)
    assert said(world, "stranger")[0]["node"] == 500


# ------------------------------------------------------- deadlines and quorums


def pass_deadline(world, seconds: float = 1000.0) -> None:
    """Put the deadline into the past, as if the coordinator had been away for that long."""
    with closing(sqlite3.connect(world.home.journal.path)) as db, db:
        db.execute("UPDATE campaigns SET deadline = ?", (time.time() - seconds,))


def adapting(site: str):
    """Let a site adapt without end."""

    def react(node, name, request, before):
        busy = name == site and request.WhichOneof("what") in ("adapt", "progress")
        return pb.Reply(progress=pb.Progress(state=pb.Progress.STATE_ADAPTING, eta_seconds=1e9)) if busy else ...

    return react


def standing(world) -> dict[str, str]:
    return {site: found.state for site, found in world.home.journal.standings(world.folder.key).items()}


def test_the_deadline_survives_the_coordinator(make_world, make_grid, clock):
    world = make_world(rules=Rules(minimum_sites=2, deadline_seconds=9000, patience_seconds=9000))
    world.folder.begin()
    with closing(sqlite3.connect(world.home.journal.path)) as db, db:
        db.execute("UPDATE campaigns SET deadline = deadline - 8000")
    OneShotMerge(world.folder).start(make_grid(world, react=adapting("fog")))
    assert 2000 <= clock.now < 2200  # it began at 1000
    assert_merged(world, "clear", "night")
    assert said(world, "missing", "fog")[0]["message"] == "site fog was adapting when the deadline passed"


def test_a_campaign_that_fails_at_its_deadline_merges_nothing_then(make_world, make_grid):
    rules = Rules(minimum_sites=2, deadline_seconds=500, patience_seconds=9000, at_deadline="fail")
    world = make_world(rules=rules)
    with pytest.raises(QuorumError, match="the deadline has passed and site fog was adapting") as caught:
        OneShotMerge(world.folder).start(make_grid(world, react=adapting("fog")))
    assert "onebasin coordinator create" in caught.value.fix
    assert not world.folder.merged.exists()
    pass_deadline(world)
    with pytest.raises(QuorumError, match="by its rules nothing is merged"):
        OneShotMerge(world.folder).start(make_grid(world))


def test_a_campaign_that_fails_at_its_deadline_is_merged_if_all_were_heard_before(make_world, make_grid):
    world = make_world(rules=Rules(minimum_sites=2, at_deadline="fail"))
    OneShotMerge(world.folder).start(make_grid(world, react=refusing("fog", "submit", refusal("STORAGE"))))
    assert_merged(world, "clear", "night")


def test_a_campaign_that_waits_at_its_deadline_merges_as_soon_as_there_are_enough(make_world, make_grid, clock):
    rules = Rules(minimum_sites=2, deadline_seconds=500, patience_seconds=90_000, at_deadline="wait")
    world = make_world(rules=rules)
    ready = 3000.0

    def react(node, name, request, before):
        late = name == "night" and clock.now < ready
        return adapting("night" if late else "fog")(node, name, request, before)

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert_merged(world, "clear", "night")
    assert ready < clock.now < ready + 300
    assert standing(world) == {"clear": "merged", "fog": "missing", "night": "merged"}


def test_in_a_run_after_the_deadline_what_is_ready_is_taken_and_nothing_else_waited_for(
    make_world, make_grid, clock
):
    world = make_world(rules=Rules(minimum_sites=2, deadline_seconds=500, patience_seconds=90_000))
    world.folder.begin()
    pass_deadline(world)
    OneShotMerge(world.folder).start(make_grid(world, react=adapting("fog")))
    assert_merged(world, "clear", "night")
    assert clock.now < 1100


def test_in_a_run_after_the_deadline_an_absent_site_is_waited_for_a_little(make_world, make_grid, clock):
    world = make_world(rules=Rules(minimum_sites=2, deadline_seconds=500, patience_seconds=90_000))
    world.folder.begin()
    pass_deadline(world)
    grid = make_grid(world)
    grid.online.discard(101)
    OneShotMerge(world.folder).start(grid)
    assert_merged(world, "clear", "night")
    assert quorum.LATE <= clock.now - 1000 < 2 * quorum.LATE + PATIENCE


@pytest.mark.parametrize("way", ["refuses", "never connects"])
def test_without_a_required_site_nothing_is_merged(make_world, make_grid, way):
    world = make_world(rules=Rules(minimum_sites=1, required=("fog",), patience_seconds=600))
    grid = make_grid(world)
    if way == "refuses":
        grid.react = refusing("fog", "adapt", refusal("DATA"))
    else:
        grid.online.discard(101)
    with pytest.raises(QuorumError, match=r"fog can't deliver, without which nothing is merged\. site fog"):
        OneShotMerge(world.folder).start(grid)
    assert not world.folder.merged.exists()


def test_with_its_required_sites_a_campaign_goes_on_without_others(make_world, make_grid):
    world = make_world(rules=Rules(minimum_sites=2, required=("fog",)))
    OneShotMerge(world.folder).start(make_grid(world, react=refusing("night", "adapt", refusal("DATA"))))
    assert_merged(world, "clear", "fog")


def test_at_the_deadline_a_required_site_is_waited_for_where_the_rules_say_so(make_world, make_grid, clock):
    rules = Rules(
        minimum_sites=1, deadline_seconds=500, patience_seconds=90_000, at_deadline="wait", required=("night",)
    )
    world = make_world(rules=rules)

    def react(node, name, request, before):
        return adapting("night")(node, name, request, before) if clock.now < 4000 else ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert_merged(world, *world.sites)


@pytest.mark.parametrize("rule", ["merge", "fail", "wait"])
def test_a_late_joiner_is_folded_into_a_new_version_of_the_merged_model(make_world, make_grid, rule):
    world = make_world(rules=Rules(minimum_sites=2, deadline_seconds=5000, patience_seconds=600, at_deadline=rule))
    grid = make_grid(world)
    grid.online.discard(101)
    OneShotMerge(world.folder).start(grid)
    before = receipt(world)
    assert [entry.site for entry in before.inputs] == ["clear", "night"]
    pass_deadline(world)
    grid = make_grid(world)
    OneShotMerge(world.folder).start(grid)
    after = receipt(world)
    assert [entry.site for entry in after.inputs] == ["clear", "fog", "night"]
    assert after.supersedes == before.digest
    assert not grid.asked("submit", "clear")
    assert_merged(world, *world.sites)
    state = world.folder.state.read_bytes()
    world.folder.state.unlink()
    shutil.rmtree(world.folder.merged)
    with closing(sqlite3.connect(world.home.journal.path)) as db, db:
        db.execute("UPDATE campaigns SET deadline = deadline + 10000")
    OneShotMerge(world.folder).start(make_grid(world))
    assert world.folder.state.read_bytes() == state


# --------------------------------------------------- the journal, and the slow


def test_the_journal_says_where_each_member_stands(make_world, make_grid):
    world = make_world(rules=Rules(minimum_sites=1, patience_seconds=600))
    grid = make_grid(world, react=refusing("fog", "adapt", refusal("DATA")))
    grid.online.discard(102)
    OneShotMerge(world.folder).start(grid)
    found = world.home.journal.standings(world.folder.key)
    assert {site: (one.state, one.owner) for site, one in found.items()} == {
        "clear": ("merged", ""),
        "fog": ("refused", "operator of the site"),
        "night": ("missing", "operator of the site"),
    }
    assert found["clear"].digest == world.outbox("clear").digest().hex()
    assert "no images" in found["fog"].reason
    assert found["night"].reason == "site night never connected (waited 600 s)"


def test_where_journal_and_merge_state_differ_the_journal_is_corrected(world, make_grid):
    OneShotMerge(world.folder).start(make_grid(world))
    world.folder.state.unlink()
    shutil.rmtree(world.folder.merged)
    OneShotMerge(world.folder).start(make_grid(world))
    found = said(world, "corrected")
    assert {(event["site"], event["said"], event["state"]) for event in found} == {
        (site, "merged", "absent") for site in world.sites
    }
    assert standing(world) == dict.fromkeys(world.sites, "merged")
    log = (world.home.folder / "audit.jsonl").read_text()
    assert log.count('"corrected"') == 3


def test_a_final_state_is_in_the_journal_before_anything_is_removed(world, make_grid, monkeypatch):
    seen = {}
    clear = collecting.clear

    def looked(folder):
        seen[folder.name] = standing(world).get(folder.name)
        clear(folder)

    monkeypatch.setattr(collecting, "clear", looked)

    def react(node, site, request, before):
        if site == "fog" and request.submit.parameters and not request.submit.header:
            return refusal("UPDATE")
        return ...

    small_parts(world)
    with pytest.raises(QuorumError):
        OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert seen == {"fog": "refused"}


def test_stalled_sites_do_not_hold_up_the_others(make_world, make_grid, clock):
    names = ("clear", "fog", "night", "rain", "snow")
    world = make_world(names, rules=Rules(minimum_sites=2, deadline_seconds=90_000, patience_seconds=3000))
    small_parts(world)
    merged_at = {}

    def react(node, site, request, before):
        # Three sites swallow every part, which is more than may be under way at once.
        return None if site in ("clear", "fog", "night") and request.WhichOneof("what") == "submit" else ...

    sleep = clock.sleep

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        for site, state in standing(world).items():
            if state == "merged":
                merged_at.setdefault(site, clock.now - 1000)

    clock.sleep = sleeping
    OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert_merged(world, "rain", "snow")
    assert max(merged_at.values()) < 3 * courier.SLOW


def test_pauses_grow_with_each_failure_and_end_with_an_answer(world, make_grid, clock):
    asked = []

    def react(node, site, request, before):
        if site == "fog" and request.WhichOneof("what") == "adapt" and len(asked) < 6:
            asked.append(clock.now)
            return Error(NODE_UNAVAILABLE, "lost")
        return ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    waits = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert [round(wait / RETRY) for wait in waits] == [1, 2, 4, 8, 16]
    assert_merged(world, *world.sites)
