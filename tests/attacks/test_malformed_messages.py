"""Thousands of broken messages: each is refused as such, none is taken, nothing else is raised.

pytest tests/attacks/test_malformed_messages.py --mutations 100000
"""

from __future__ import annotations

import pytest
from flwr.app import ConfigRecord, RecordDict

from client.answers import answer
from coordinator.arrivals import Arrival
from protos import boundary, campaign, flower, signing, update_pb2
from protos import messages_pb2 as pb
from protos.errors import ConfigurationError, OnebasinError, UpdateRefusedError

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture
def rounds(request):
    return request.config.getoption("--mutations") * 5 // 8


def test_a_damaged_header_is_never_taken_even_when_it_is_signed(world, tmp_path, rounds, mutations):
    """The site itself signs each mutation, so only the rules stand in the way."""
    key = world.sites["fog"].signing_key
    header = world.outbox("fog").header()
    taken, harmless = [], 0
    for payload in mutations(signing.encode(header), rounds, 1):
        envelope = signing.sign(signing.UPDATE, payload, key)
        try:
            arrival = Arrival(tmp_path / "arrival", world.campaign, world.manifest, "fog", envelope)
        except OnebasinError:
            continue
        # What is taken differs in values that the site is free to choose: sums, statistics, versions.
        assert same_shape(arrival.header, header)
        boundary.check_header(arrival.header, world.campaign, world.manifest, "fog")
        harmless += 1
        if arrival.header == header:
            taken.append(payload)
    assert not taken
    assert harmless < rounds // 2


def same_shape(found: update_pb2.UpdateHeader, wanted: update_pb2.UpdateHeader) -> bool:
    def shape(header):
        return (
            [(p.name, p.dtype, tuple(p.shape)) for p in header.parameters],
            [(b.layer, len(b.mean), len(b.var), b.count > 0) for b in header.batch_norms],
            (header.wire_version, header.campaign_digest, header.base_digest, header.site, header.copy),
        )

    return shape(found) == shape(wanted)


def test_a_damaged_envelope_is_never_taken(world, tmp_path, rounds, mutations):
    whole = world.outbox("fog").envelope()
    for content in mutations(whole.SerializeToString(), rounds, 2):
        record = RecordDict({"message": ConfigRecord({"bytes": content})})
        try:
            envelope = flower.message_of(record, update_pb2.Signed, "site fog")
            Arrival(tmp_path / "arrival", world.campaign, world.manifest, "fog", envelope)
        except UpdateRefusedError:
            continue
        raise AssertionError(f"taken: {content!r}")
    assert not (tmp_path / "arrival").exists()


def test_a_damaged_reply_is_read_as_a_reply_or_refused(world, rounds, mutations):
    update = world.outbox("fog").envelope()
    replies = [
        pb.Reply(header=update),
        pb.Reply(progress=pb.Progress(state=2, phase=2, step=3, steps=9, eta_seconds=4.5, tensor="head.bias")),
        pb.Reply(refusal=pb.Refusal(reason=9, site="fog", tensor="head.bias")),
    ]
    for seed, reply in enumerate(replies):
        for content in mutations(reply.SerializeToString(), rounds // 5, seed):
            record = RecordDict({"message": ConfigRecord({"bytes": content})})
            try:
                found = flower.message_of(record, pb.Reply, "node 7")
            except UpdateRefusedError:
                continue
            assert signing.encode(found) == content  # canonical, so no second meaning


def test_a_damaged_campaign_is_never_read_as_the_same_one(world, rounds, mutations):
    whole = world.campaign.payload
    for content in mutations(whole, rounds * 2 // 5, 3):
        try:
            found = campaign.parse(content, "the file")
        except ConfigurationError:
            continue
        assert found.digest != world.campaign.digest


def test_a_site_answers_damaged_requests_with_one_of_its_replies(world, monkeypatch, rounds, mutations):
    from client import adapting, judge

    monkeypatch.setattr(adapting.subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    monkeypatch.setattr(judge, "judge", lambda *_: [])
    digest = world.campaign.digest
    requests = [
        pb.Request(campaign_digest=digest, hello=pb.Hello(nonce=b"n" * 16)),
        pb.Request(campaign_digest=digest, submit=pb.Submit(parameters=["head.bias", "scale"])),
        pb.Request(
            campaign_digest=digest,
            evaluate=pb.Evaluate(nonce=b"n" * 16, candidates=[pb.Candidate(key="base", parameters={"kind": 1})]),
        ),
        pb.Request(
            campaign_digest=digest,
            deliver=pb.Deliver(pieces=[pb.Piece(digest=b"d" * 32, parameters=["scale"])]),
        ),
    ]
    for seed, request in enumerate(requests):
        for content in mutations(request.SerializeToString(), rounds * 3 // 25, seed):
            record = RecordDict({"message": ConfigRecord({"bytes": content})})
            try:
                found = flower.message_of(record, pb.Request, "the coordinator")
            except UpdateRefusedError:
                continue
            reply, sets = answer(world.sites["fog"], found, 7, lambda name: b"")
            assert reply.WhichOneof("what")
            if found.campaign_digest != digest:
                assert reply.refusal.reason == pb.Refusal.REASON_CAMPAIGN
                assert not sets


def test_deep_nesting_is_refused(world):
    content = b""
    for _ in range(200):
        content = b"\x0b" + content + b"\x0c"  # groups in groups
    with pytest.raises(UpdateRefusedError):
        signing.decode(content, pb.Reply, "node 7")


def test_a_length_that_promises_more_than_there_is_is_refused():
    with pytest.raises(UpdateRefusedError):
        signing.decode(b"\x1a\xff\xff\xff\xff\x07" + b"x" * 10, pb.Reply, "node 7")
