"""After the merge: sites measure statistics where the rules ask for it, and all of them get the model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import Error

from client import adopting, measuring
from coordinator import strategy
from coordinator.merge.pooling import pool
from coordinator.strategy import OneShotMerge
from coordinator.verifying import Evidence, verify
from coordinator.withdrawing import withdraw
from protos import boundary, receipts, signing
from protos import messages_pb2 as pb
from protos.boundary import BatchNorm
from protos.digest import file_digest
from protos.errors import DataError, QuorumError
from protos.manifest import COUNT, MEAN, VAR, join
from protos.merged import further_key
from protos.receipts import Receipt
from protos.rules import KEPT_AT_SITES, MEASURED, Rules
from protos.tensorfile import TensorFile

pytestmark = pytest.mark.usefixtures("clock")


def found_at(site: str, world) -> dict[str, BatchNorm]:
    """Return what a site measures: something else at each."""
    dice = np.random.default_rng(len(site) * 100 + ord(site[0]))
    return {
        layer: BatchNorm(
            dice.normal(size=channels).astype(np.float32), dice.gamma(2, size=channels).astype(np.float32), 10
        )
        for layer, channels in world.manifest.layers.items()
    }


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    """Leave the report's pictures out: they take longer than everything else."""
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)


@pytest.fixture
def looks(make_world, monkeypatch):
    """Return a function that makes a world whose sites measure without images, and how often each did."""

    def make(**rules):
        world, times = make_world(rules=Rules(evaluate=False, **rules)), {}

        def measure(joined, delivered, digest):
            delivered.open(digest).close()  # which checks that it arrived whole
            times[joined.site.name] = times.get(joined.site.name, 0) + 1
            return found_at(joined.site.name, world)

        monkeypatch.setattr(measuring, "_measure", measure)
        return world, times

    return make


@pytest.fixture
def run(make_grid):
    def ran(world, react=lambda *_: ..., **options):
        grid = make_grid(world, react=react, **options)
        OneShotMerge(world.folder).start(grid)
        return grid

    return ran


def told(world, event: str) -> dict[str, str]:
    lines = [event for _, event in world.home.journal.events(world.folder.key)]
    return {line["site"]: line.get("message", "") for line in lines if line["event"] == event}


def statistics(path, world, site: str = "") -> dict[str, BatchNorm]:
    def key(layer: str, part: str) -> str:
        return further_key(site, layer, part) if site else join(layer, part)

    with TensorFile(path) as file:
        return {
            layer: BatchNorm(
                file.read(key(layer, MEAN)), file.read(key(layer, VAR)), int(file.read(key(layer, COUNT))[0])
            )
            for layer in world.manifest.layers
        }


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(
        np.array_equal(a[n].mean, b[n].mean) and np.array_equal(a[n].var, b[n].var) and a[n].count == b[n].count
        for n in a
    )


def merged(world):
    return world.folder.merged / "merged.safetensors"


def at(world, site: str):
    return world.joined(site).folder / adopting.MODEL


def receipt(world) -> Receipt:
    return receipts.read(world.folder.merged / "receipt.json", world.campaign.message.coordinator_key)


@pytest.mark.parametrize("rule", sorted(MEASURED))
def test_what_sites_measured_ends_in_the_merged_model_and_every_site_gets_it(looks, run, rule):
    world, times = looks(buffers=rule)
    run(world)
    known = {site: found_at(site, world) for site in world.sites}
    pooled = {
        layer: pool([known[site][layer] for site in sorted(known)], layer) for layer in world.manifest.layers
    }
    if rule == "routed":
        assert all(same(statistics(merged(world), world, site), found) for site, found in known.items())
        with TensorFile(merged(world)) as file:
            assert json.loads(file.metadata["sets"]) == sorted(world.sites)
    else:
        assert same(statistics(merged(world), world), pooled)
    assert {
        site: at(world, site).read_bytes() == merged(world).read_bytes() for site in world.sites
    } == dict.fromkeys(world.sites, True)
    with TensorFile(merged(world)) as file:
        assert file_digest(file).hex() == receipt(world).merged.digest
    assert receipt(world).buffer_rule == {"routed": "routed"}.get(rule, "gaussian-pooled-recalibrated")
    assert all(len(entry.measured) == 64 for entry in receipt(world).inputs)
    assert times == dict.fromkeys(world.sites, 1)


def test_the_parameters_are_those_of_a_campaign_with_pooled_statistics(looks, run):
    one, other = (looks(buffers=rule)[0] for rule in ("pooled", "routed"))
    run(one)
    run(other)
    with TensorFile(merged(one)) as a, TensorFile(merged(other)) as b:
        assert all(a.tensor(n).tobytes() == b.tensor(n).tobytes() for n in one.manifest.parameters)
    assert same(statistics(merged(one), one), statistics(merged(other), other))


@pytest.mark.parametrize("rule", sorted(KEPT_AT_SITES))
def test_what_is_kept_at_sites_is_not_asked_for(looks, run, rule):
    world, _ = looks(buffers=rule)
    grid = run(world)
    assert not grid.asked("measure")
    for site in world.sites:
        own = {b.layer: boundary.batch_norm(b) for b in world.outbox(site).header().batch_norms}
        assert same(statistics(at(world, site), world), own if rule == "own" else found_at(site, world))
    (sets,) = {len(request.adopt.buffer_sets) for request in grid.asked("adopt")}
    assert sets == 1  # those of the model that the receipt names, to check it by


def test_sites_get_the_model_with_pooled_statistics_and_its_receipt(looks, run):
    world, times = looks()
    run(world)
    for site in world.sites:
        assert at(world, site).read_bytes() == merged(world).read_bytes()
        assert (at(world, site).parent / adopting.RECEIPT).read_bytes() == (
            world.folder.merged / "receipt.json"
        ).read_bytes()
        assert not list((world.joined(site).folder / "delivered").glob("*"))
    assert not times
    assert told(world, "adopted").keys() == set(world.sites)


def test_without_the_rule_no_site_gets_the_model(looks, run):
    world, _ = looks(deliver=False)
    grid = run(world)
    assert not grid.asked("deliver")
    assert all(not asked.adopt.digest and not asked.adopt.buffer_sets for asked in grid.asked("adopt"))
    assert len(grid.asked("adopt")) == len(world.sites)  # for the receipt alone
    assert not any(at(world, site).exists() for site in world.sites)


def test_a_site_that_can_not_take_the_model_does_not_end_the_campaign(looks, run):
    world, _ = looks()

    def react(node, site, request, before):
        return Error(8, "crashed") if site == "fog" and request.WhichOneof("what") == "adopt" else ...

    run(world, react)
    assert told(world, "not-adopted") == {"fog": "crashed (Flower's error 8)"}
    assert told(world, "adopted").keys() == set(world.sites) - {"fog"}


def without(site: str, monkeypatch) -> None:
    before = measuring._measure

    def measure(joined, delivered, digest):
        if joined.site.name == site:
            raise DataError(f"site {site} has no images")
        return before(joined, delivered, digest)

    monkeypatch.setattr(measuring, "_measure", measure)


def test_without_a_site_that_is_needed_the_model_keeps_its_pooled_statistics(looks, run, monkeypatch):
    world, _ = looks(buffers="routed")
    without("fog", monkeypatch)
    with pytest.raises(QuorumError, match=r"2 of 3 sites measured .* site fog has no images"):
        run(world)
    assert receipt(world).buffer_rule == "gaussian-pooled"
    with TensorFile(merged(world)) as file:
        assert file_digest(file).hex() == receipt(world).merged.digest


def test_a_site_that_is_not_needed_is_left_out(looks, run, monkeypatch):
    world, _ = looks(buffers="routed", minimum_sites=2)
    without("fog", monkeypatch)
    run(world)
    assert [i.site for i in receipt(world).inputs if i.measured] == ["clear", "night"]
    with TensorFile(merged(world)) as file:
        assert json.loads(file.metadata["sets"]) == ["clear", "night"]
    assert at(world, "fog").read_bytes() == merged(world).read_bytes()


def test_another_run_gives_the_same_bits_and_measures_nothing_again(looks, run):
    world, times = looks(buffers="pooled-recalibrated")
    run(world)
    before = merged(world).read_bytes()
    run(world)
    assert merged(world).read_bytes() == before
    assert times == dict.fromkeys(world.sites, 1)


WRONG = {
    "another campaign": lambda m: setattr(m, "campaign_digest", b"x" * 32),
    "an old nonce": lambda m: setattr(m, "nonce", b"0" * 16),
    "another site": lambda m: setattr(m, "site", "night"),
    "another model": lambda m: setattr(m, "digest", b"y" * 32),
    "a layer too few": lambda m: m.batch_norms.pop(),
    "a layer twice": lambda m: m.batch_norms.append(m.batch_norms[0]),
    "a negative variance": lambda m: m.batch_norms[0].var.__setitem__(0, -1.0),
    "no number": lambda m: m.batch_norms[0].mean.__setitem__(0, float("nan")),
    "no batches": lambda m: setattr(m.batch_norms[0], "count", 0),
    "a channel too many": lambda m: m.batch_norms[0].mean.append(0.0),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_statistics_that_are_not_what_was_asked_for_are_refused(looks, run, change):
    world, _ = looks(buffers="routed", minimum_sites=2)

    def react(node, site, request, before):
        if request.WhichOneof("what") != "measure" or site != "fog":
            return ...
        reply = pb.Measured(
            campaign_digest=world.campaign.digest,
            nonce=request.measure.nonce,
            site=site,
            digest=request.measure.digest,
            batch_norms=[boundary.wire_batch_norm(*item) for item in sorted(found_at(site, world).items())],
        )
        change(reply)
        return pb.Reply(measured=signing.signed(signing.MEASURED, reply, world.sites[site].signing_key))

    run(world, react)
    assert "site fog" in told(world, "not-measured")["fog"]
    assert [i.site for i in receipt(world).inputs if i.measured] == ["clear", "night"]


def test_statistics_that_another_site_signed_are_refused(looks, run):
    world, _ = looks(buffers="routed", minimum_sites=2)

    def react(node, site, request, before):
        if request.WhichOneof("what") != "measure" or site != "fog":
            return ...
        envelope = signing.signed(signing.MEASURED, pb.Measured(site="fog"), world.sites["night"].signing_key)
        return pb.Reply(measured=envelope)

    run(world, react)
    assert "signature" in told(world, "not-measured")["fog"]


def verdict(world, **evidence):
    folder, key = world.folder.merged, world.campaign.message.coordinator_key
    updates = [world.outbox(site).model for site in world.sites]
    evidence = Evidence(campaign=world.campaign, updates=updates, **evidence)
    found = verify(folder / "merged.safetensors", folder / "receipt.json", key, evidence)
    return {check.name: check.ok for check in found.checks}["recomputed"]


@pytest.mark.parametrize("rule", sorted(MEASURED))
def test_what_the_updates_add_up_to_can_be_recomputed(looks, run, rule):
    world, _ = looks(buffers=rule)
    run(world)
    assert verdict(world, base=world.folder.base) is True
    assert verdict(world) is None  # without the base it can't tell what is what


def test_after_a_withdrawal_the_model_has_pooled_statistics(looks, run):
    world, _ = looks(buffers="routed", minimum_sites=2)
    run(world)
    withdraw(world.folder, "fog", world.outbox("fog").model)
    found = receipt(world)
    assert (found.buffer_rule, [entry.measured for entry in found.inputs]) == ("gaussian-pooled", ["", ""])
    with TensorFile(merged(world)) as file:
        assert "sets" not in file.metadata
        assert not [name for name in file.manifest.tensors if name.startswith("sets.")]
