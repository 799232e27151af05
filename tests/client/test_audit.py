"""The site's audit log: nothing leaves that is not in it."""

from __future__ import annotations

import hashlib

import pytest

from client.answers import answer
from coordinator.merging import MODEL
from coordinator.strategy import OneShotMerge
from protos import flower, signing
from protos import messages_pb2 as pb
from protos.audit import HEAD, Entry, entries, verify

NONCE = bytes(range(16))


@pytest.fixture
def ask(world):
    def asked(**what: object) -> tuple[pb.Reply, dict[str, bytes]]:
        request = pb.Request(campaign_digest=world.campaign.digest, **what)
        return answer(world.sites["fog"], request, 77, lambda name: b"")

    return asked


def lines(world, site: str = "fog") -> list[Entry]:
    found = list(entries(world.sites[site].audit.path))
    assert verify(world.sites[site].audit.path, signing.public_bytes(world.sites[site].signing_key)).lines == len(
        found
    )
    return found


def test_making_joining_and_adapting_are_in_it(world):
    assert [entry.event for entry in lines(world)] == ["made", "joined", "accepted", "adapted"]
    _, joined, _, adapted = lines(world)
    assert joined.fields["campaign"] == world.campaign.digest.hex()
    assert joined.fields["base"] == world.campaign.message.base_digest.hex()
    assert adapted.fields["digest"] == world.outbox("fog").digest().hex()


def test_what_is_sent_is_in_it_with_sizes_and_digests(world, ask):
    names = ["head.bias", "scale"]
    reply, content = ask(submit=pb.Submit(header=True, parameters=names))
    raw = signing.encode(reply)
    last = lines(world)[-1]
    assert last.event == "left"
    assert last.fields == {
        "campaign": world.campaign.digest.hex(),
        "request": "submit",
        "reply": "header",
        "bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "update": world.outbox("fog").digest().hex(),
        "parameters": 2,
        "parameters_bytes": 24,
        "parameters_sha256": hashlib.sha256(content[flower.PARAMETERS]).hexdigest(),
    }


def test_a_refusal_is_in_it_with_its_reason(world, ask):
    ask(hello=pb.Hello(nonce=b""))
    last = lines(world)[-1]
    assert (last.event, last.fields["reason"], last.fields["request"]) == ("refused", "request", "hello")


def test_what_cannot_be_noted_does_not_leave(world, ask):
    head = world.sites["fog"].audit.path.with_name(HEAD)
    head.write_text(head.read_text().replace("A", "B"))
    for what in (
        {"hello": pb.Hello(nonce=NONCE)},
        {"submit": pb.Submit(header=True, parameters=["scale"])},
        {"progress": pb.ProgressQuery()},
    ):
        reply, content = ask(**what)
        assert reply.WhichOneof("what") == "refusal"
        assert reply.refusal == pb.Refusal(reason=pb.Refusal.REASON_STORAGE, site="fog")
        assert content == {}


def test_a_request_that_is_far_too_long_to_note_is_refused(world):
    request = pb.Request(campaign_digest=b"x" * (1 << 20), hello=pb.Hello(nonce=NONCE))
    reply, _ = answer(world.sites["fog"], request, 77, lambda name: b"")
    assert reply.WhichOneof("what") == "refusal"
    assert len(lines(world)) == 4


@pytest.mark.usefixtures("clock")
def test_both_sides_tell_the_same_story(world, make_grid, monkeypatch):
    monkeypatch.setattr("coordinator.strategy.write_report", lambda *_: None)
    OneShotMerge(world.folder).start(make_grid(world))
    found = list(entries(world.home.audit.path))
    verify(world.home.audit.path, signing.public_bytes(world.home.signing_key))
    events = [entry.event for entry in found]
    assert events[:2] == ["made", "created"]
    for event in ("connected", "arrived", "folded", "not-evaluated"):
        assert {entry.fields["site"] for entry in found if entry.event == event} == set(world.sites)
    assert events.index("folded") < events.index("merging") < events.index("merged") < events.index("forgotten")
    merged = next(entry for entry in found if entry.event == "merged")
    assert merged.fields["campaign"] == world.folder.path.name
    assert (world.folder.merged / MODEL).exists()
    for site in world.sites:
        left = {entry.fields.get("update") for entry in lines(world, site) if entry.event == "left"}
        arrived = next(e.fields["digest"] for e in found if e.event == "arrived" and e.fields["site"] == site)
        assert arrived in left
        sent = sum(entry.fields.get("parameters_bytes", 0) for entry in lines(world, site))
        assert sent == next(e.fields["bytes"] for e in found if e.event == "arrived" and e.fields["site"] == site)


def test_the_coordinator_notes_what_it_refuses(world, make_grid, monkeypatch):
    from protos.errors import QuorumError

    refusal = pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_UPDATE, site="fog", tensor="scale"))

    def react(node, site, request, before):
        return refusal if site == "fog" and request.WhichOneof("what") == "submit" else ...

    with pytest.raises(QuorumError):
        OneShotMerge(world.folder).start(make_grid(world, react=react))
    refused = [entry for entry in entries(world.home.audit.path) if entry.event == "refused"]
    assert [(entry.fields["site"], "scale" in entry.fields["message"]) for entry in refused] == [("fog", True)]
