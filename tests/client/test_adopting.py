"""What a site refuses to take for the merged model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client import measuring
from client.adopting import MODEL, adopt
from client.answers import answer
from client.delivered import Delivered, ForbiddenError, NotDeliveredError
from coordinator import strategy
from coordinator.strategy import OneShotMerge
from protos import boundary, receipts
from protos import messages_pb2 as pb
from protos.digest import parameters_digest
from protos.errors import OnebasinError, SignatureError, UpdateRefusedError
from protos.receipts import Receipt
from protos.rules import Rules
from protos.tensorfile import TensorFile

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def offered(make_world, make_grid, monkeypatch):
    """Return a function that runs a campaign up to the last request; gives the world and what fog is asked."""

    def make(**rules):
        world = make_world(rules=Rules(evaluate=False, **rules))
        monkeypatch.setattr(strategy, "write_report", lambda *_: None)
        monkeypatch.setattr(
            measuring, "_measure", lambda joined, *_: boundary.statistics(world.outbox(joined.site.name).header())
        )
        asked = {}

        def react(node, site, request, before):
            if request.WhichOneof("what") != "adopt":
                return ...
            asked[site] = pb.Adopt.FromString(request.adopt.SerializeToString())
            return pb.Reply(adopted=pb.Adopted())

        OneShotMerge(world.folder).start(make_grid(world, react=react))
        return world, asked["fog"]

    return make


def take(world, request: pb.Adopt) -> None:
    joined = world.joined("fog")
    with TensorFile(joined.base) as base:
        adopt(joined, base, request, Delivered(joined, base.manifest))


def kept(world) -> bool:
    return any(path.name.endswith(MODEL) for path in world.joined("fog").folder.iterdir())


def signed(world, change, key=None) -> bytes:
    """Return the receipt with a change, signed by the coordinator or somebody else."""
    receipt = receipts.read(world.folder.merged / "receipt.json", world.campaign.message.coordinator_key)
    return change(receipt).signed(key or world.home.signing_key).encode()


def without(receipt: Receipt, site: str) -> Receipt:
    return replace(receipt, inputs=tuple(entry for entry in receipt.inputs if entry.site != site))


def of_another_update(receipt: Receipt) -> Receipt:
    inputs = (replace(entry, digest="ab" * 32) if entry.site == "fog" else entry for entry in receipt.inputs)
    return replace(receipt, inputs=tuple(inputs))


def test_a_site_takes_what_it_was_offered(offered):
    world, request = offered()
    take(world, request)
    assert kept(world)


RECEIPTS = {
    "another campaign's": lambda r: replace(r, campaign_digest="ab" * 32),
    "one without this site": lambda r: without(r, "fog"),
    "one of another update": of_another_update,
    "one of another model": lambda r: replace(r, merged=replace(r.merged, digest="ab" * 32)),
}


@pytest.mark.parametrize("change", RECEIPTS.values(), ids=RECEIPTS)
def test_a_receipt_that_does_not_fit_is_refused_and_nothing_kept(offered, change):
    world, request = offered()
    request.receipt = signed(world, change)
    with pytest.raises(UpdateRefusedError, match="site fog"):
        take(world, request)
    assert not kept(world)


def test_a_receipt_that_a_site_signed_is_refused(offered):
    world, request = offered()
    request.receipt = signed(world, lambda receipt: receipt, world.sites["night"].signing_key)
    with pytest.raises(SignatureError):
        take(world, request)
    assert not kept(world)


@pytest.mark.parametrize("content", [b"", b"\x00\x01", bytes(5000)])
def test_a_receipt_that_is_none_is_refused(offered, content):
    world, request = offered()
    request.receipt = content
    with pytest.raises(OnebasinError):
        take(world, request)
    assert not kept(world)


STATISTICS = {
    "others than the receipt's": lambda r: r.buffer_sets[0].batch_norms[0].mean.__setitem__(0, 77.0),
    "none for images like no site's": lambda r: setattr(r.buffer_sets[0], "set", "fog"),
    "a stranger's": lambda r: r.buffer_sets.append(
        pb.BufferSet(set="stranger", batch_norms=r.buffer_sets[0].batch_norms)
    ),
    "a negative variance": lambda r: r.buffer_sets[0].batch_norms[0].var.__setitem__(0, -1.0),
    "a layer too few": lambda r: r.buffer_sets[0].batch_norms.pop(),
}


@pytest.mark.parametrize("rule", ["pooled", "routed"])
@pytest.mark.parametrize("change", STATISTICS.values(), ids=STATISTICS)
def test_statistics_that_do_not_fit_are_refused_and_nothing_kept(offered, change, rule):
    world, request = offered(buffers=rule)
    change(request)
    with pytest.raises(UpdateRefusedError):
        take(world, request)
    assert not kept(world)


@pytest.mark.parametrize("rule", ["own", "recalibrated"])
def test_a_model_with_statistics_of_ones_own_is_the_receipts_in_all_else(offered, rule):
    """The coordinator can't hand a site other parameters than those that it signed for."""
    world, request = offered(buffers=rule)
    take(world, request)
    assert kept(world)
    world, request = offered(buffers=rule)
    joined = world.joined("fog")
    with TensorFile(joined.base) as base:
        other = {name: base.tensor(name) for name in base.manifest.parameters}
        digest = parameters_digest(base)
        pieces = [pb.Piece(digest=digest, parameters=list(other))]
        Delivered(joined, base.manifest).take(pieces, b"".join(other[name].tobytes() for name in other))
    request.digest = digest
    with pytest.raises(UpdateRefusedError, match="is not the one that the receipt names"):
        take(world, request)
    assert not kept(world)


def test_sites_sets_are_no_part_of_a_model_with_pooled_statistics(offered):
    world, request = offered()
    request.buffer_sets.append(pb.BufferSet(set="fog", batch_norms=request.buffer_sets[0].batch_norms))
    with pytest.raises(UpdateRefusedError, match="the rule pooled doesn't know"):
        take(world, request)


def test_a_model_that_was_not_delivered_is_asked_for(offered):
    world, request = offered()
    request.digest = b"z" * 32
    with pytest.raises(NotDeliveredError):
        take(world, request)


def test_a_model_that_the_rules_do_not_deliver_is_refused(make_world):
    world = make_world(rules=Rules(deliver=False))
    with pytest.raises(ForbiddenError, match="sites don't get the merged model"):
        take(world, pb.Adopt(digest=b"z" * 32))


@pytest.mark.parametrize("rule", ["pooled", "own", "recalibrated"])
def test_no_measured_statistics_leave_where_the_rules_keep_them(make_world, rule):
    world = make_world(rules=Rules(buffers=rule))
    request = pb.Request(campaign_digest=world.campaign.digest, measure=pb.Measure(nonce=bytes(16)))
    reply, _ = answer(world.sites["fog"], request, 7, lambda _: b"")
    assert reply.refusal.reason == pb.Refusal.REASON_RULES
