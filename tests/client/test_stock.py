"""What a site's operator sees of the outboxes, and what may be removed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from client import adapting, adopting, stock
from client.answers import answer
from coordinator import strategy
from coordinator.strategy import OneShotMerge
from protos import audit
from protos import messages_pb2 as pb
from protos.errors import AdaptationError, StorageError
from protos.rules import Rules

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)


@pytest.fixture(params=[True, False], ids=["delivering", "receipt alone"])
def merged(request, make_world, make_grid):
    """A world whose campaign is merged."""
    world = make_world(rules=Rules(evaluate=False, deliver=request.param))
    OneShotMerge(world.folder).start(make_grid(world))
    return world


def entry(world, site="fog"):
    (found,) = stock.stock(world.sites[site])
    return found


def asked(world, **what):
    request = pb.Request(campaign_digest=world.campaign.digest, **what)
    return answer(world.sites["fog"], request, 7, lambda name: b"")


def test_an_update_is_pending_until_the_receipt_for_it_is_here(world):
    found = entry(world)
    outbox = world.outbox("fog")
    assert (found.state, found.receipt, found.update) == ("pending", "", outbox.digest().hex())
    assert found.bytes == outbox.model.stat().st_size + outbox._header.stat().st_size
    assert 0 <= found.age < 300
    assert (found.campaign, found.campaign_digest) == ("one", world.campaign.digest.hex())


def test_the_receipt_arrives_whether_or_not_the_model_is_delivered(merged):
    for site in merged.sites:
        found = entry(merged, site)
        assert found.state == "receipted"
        assert len(found.receipt) == 64
        assert (merged.joined(site).folder / adopting.MODEL).exists() == merged.campaign.rules.deliver


def test_a_receipted_update_stays_until_the_operator_clears_it(merged):
    outbox = merged.outbox("fog")
    before = entry(merged)
    assert asked(merged, submit=pb.Submit(header=True))[0].header == outbox.envelope()
    assert [replace(gone, age=before.age) for gone in stock.clear(merged.sites["fog"])] == [before]
    assert not outbox.model.exists()
    assert (entry(merged).state, entry(merged).receipt) == ("cleared", before.receipt)
    assert entry(merged).bytes < before.bytes
    assert stock.clear(merged.sites["fog"]) == []
    lines = audit.entries(merged.sites["fog"].folder / audit.LOG)
    (line,) = [line for line in lines if line.event == "cleared"]
    assert (line.fields["digest"], line.fields["receipt"]) == (before.update, before.receipt)


def test_a_pending_update_is_never_cleared(world):
    assert stock.clear(world.sites["fog"]) == []
    assert world.outbox("fog").ready


def damaged(content: bytes) -> bytes:
    return content[:40] + bytes([content[40] ^ 1]) + content[41:]


@pytest.mark.parametrize("change", [damaged, lambda _: b"", lambda _: b"{}"], ids=["damaged", "empty", "none"])
def test_a_receipt_that_does_not_hold_is_none(merged, change):
    path = merged.joined("fog").folder / adopting.RECEIPT
    path.write_bytes(change(path.read_bytes()))
    assert entry(merged).state == "pending"
    assert stock.clear(merged.sites["fog"]) == []
    assert merged.outbox("fog").ready


def test_another_sites_receipted_update_is_not_this_ones(merged, make_world):
    other = make_world(rules=Rules(evaluate=False))
    theirs = merged.joined("fog").folder / adopting.RECEIPT
    (other.joined("fog").folder / adopting.RECEIPT).write_bytes(theirs.read_bytes())
    assert entry(other).state == "pending"


@pytest.mark.parametrize(
    "what",
    [{"adapt": pb.Adapt()}, {"progress": pb.ProgressQuery()}, {"submit": pb.Submit(header=True)}],
    ids=["adapt", "progress", "submit"],
)
def test_a_site_that_cleared_its_update_says_so_and_does_not_adapt_again(merged, monkeypatch, what):
    stock.clear(merged.sites["fog"])
    monkeypatch.setattr(adapting.subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    reply, sets = asked(merged, **what)
    assert reply.refusal.reason == pb.Refusal.REASON_CLEARED
    assert not sets
    assert not adapting.start(merged.joined("fog"))
    assert adapting.status(merged.joined("fog")).state == "cleared"
    with pytest.raises(AdaptationError, match="is merged, and was cleared"):
        adapting.run(merged.joined("fog"))


def test_a_crash_while_clearing_leaves_no_doubt(merged, monkeypatch):
    outbox = merged.outbox("fog")

    def fail(*_, **__):
        raise OSError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(type(outbox.model), "unlink", fail)
        with pytest.raises(StorageError, match="Permission denied"):
            stock.clear(merged.sites["fog"])
    assert entry(merged).state == "cleared"
    assert outbox.model.exists()
    assert len(stock.clear(merged.sites["fog"])) == 1
    assert not outbox.model.exists()


def test_a_late_joiner_has_the_merged_sites_receipts_renewed(make_world, make_grid):
    world = make_world(rules=Rules(evaluate=False, deliver=False, minimum_sites=2, patience_seconds=600))
    grid = make_grid(world)
    grid.online.discard(101)
    OneShotMerge(world.folder).start(grid)
    first = entry(world, "clear").receipt
    assert entry(world, "fog").state == "pending"
    OneShotMerge(world.folder).start(make_grid(world))
    second = entry(world, "clear").receipt
    assert first != second == entry(world, "fog").receipt


def test_the_operator_sees_and_clears_it_from_the_command_line(merged, capsys, monkeypatch):
    import sys

    from onebasin import cli

    def ran(*arguments):
        monkeypatch.setattr(
            sys, "argv", ["onebasin", "site", "outbox", str(merged.sites["fog"].folder), *arguments]
        )
        try:
            cli.main()
        except SystemExit as error:
            assert not error.code
        return capsys.readouterr()

    assert "receipted" in ran().out
    found = ran("--clear", "--json")
    assert "cleared update" in found.err
    (update,) = json.loads(found.out)["updates"]
    assert update["state"] == "cleared"
    assert "cleared" in ran().out
