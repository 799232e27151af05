"""Nothing runs at a site before its operator said yes to that very campaign."""

from __future__ import annotations

import json

import pytest

from client import acceptance, adapting
from client.answers import answer
from client.site import Site
from protos import messages_pb2 as pb
from protos.errors import ConfigurationError, PolicyError

REQUESTS = [
    {"hello": pb.Hello(nonce=bytes(16))},
    {"adapt": pb.Adapt()},
    {"progress": pb.ProgressQuery()},
    {"submit": pb.Submit(header=True)},
    {"evaluate": pb.Evaluate()},
    {"deliver": pb.Deliver()},
]


def reason(world, what) -> str:
    request = pb.Request(campaign_digest=world.campaign.digest, **what)
    reply, sets = answer(Site.open(world.sites["fog"].folder), request, 7, lambda name: b"")
    assert not sets
    assert reply.WhichOneof("what") == "refusal"
    return pb.Refusal.Reason.Name(reply.refusal.reason)


def set_policy(world, line: str) -> None:
    path = world.sites["fog"].settings_path
    key = line.partition(" ")[0]
    lines = [line if found.startswith(key) else found for found in path.read_text().splitlines()]
    path.write_text("\n".join(lines))


@pytest.mark.parametrize("what", REQUESTS, ids=lambda what: next(iter(what)))
def test_a_campaign_that_was_not_accepted_is_answered_nothing_else(world, what):
    (world.joined("fog").folder / "accepted.json").unlink()
    assert reason(world, what) == "REASON_NOT_ACCEPTED"


@pytest.mark.parametrize("what", REQUESTS, ids=lambda what: next(iter(what)))
def test_the_policy_of_today_counts_at_every_request(world, what):
    set_policy(world, "fewest_sites = 9")
    assert reason(world, what) == "REASON_NOT_ACCEPTED"


def test_nothing_is_adapted_by_hand_either(world):
    (world.joined("fog").folder / "accepted.json").unlink()
    with pytest.raises(PolicyError, match="site fog has not accepted campaign one"):
        adapting.run(world.joined("fog"))


def test_a_yes_to_another_campaign_is_none_to_this(world, make_world):
    joined = world.joined("fog")
    (joined.folder / "accepted.json").write_text(json.dumps({"digest": make_world().campaign.digest.hex()}))
    assert not acceptance.accepted(joined)
    for content in ("", "{}", "[]", "7", "null"):
        (joined.folder / "accepted.json").write_text(content)
        assert not acceptance.accepted(joined)


def test_a_campaign_that_breaks_the_policy_cannot_be_accepted(make_world):
    world = make_world()
    (world.joined("fog").folder / "accepted.json").unlink()
    set_policy(world, 'weakest_privacy = "secure-sum"')
    joined = Site.open(world.sites["fog"].folder).joined()
    with pytest.raises(PolicyError, match=r"weakest_privacy = 'secure-sum'"):
        acceptance.accept(joined, world.campaign.digest.hex())
    assert not acceptance.accepted(joined)


@pytest.mark.parametrize(
    "change", [lambda d: d[:19], lambda d: "0" * 64, lambda d: "", lambda d: d[1:], lambda d: d + "0"]
)
def test_a_digest_that_is_not_the_campaigns_is_refused(world, change):
    joined = world.joined("fog")
    with pytest.raises(ConfigurationError, match="campaign one has the digest"):
        acceptance.accept(joined, change(world.campaign.digest.hex()))


@pytest.mark.parametrize("change", [str, str.upper, lambda d: d[:20], lambda d: f"{d[:10]} {d[10:20]}"])
def test_a_digest_may_be_typed_as_people_type(world, change):
    joined = world.joined("fog")
    (joined.folder / "accepted.json").unlink()
    acceptance.accept(joined, change(world.campaign.digest.hex()))
    assert acceptance.accepted(joined)
