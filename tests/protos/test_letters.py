"""Letters: what one side writes, the other reads."""

from __future__ import annotations

from io import BytesIO

import pytest

from protos import letters, signing
from protos import messages_pb2 as pb
from protos.errors import SignatureError

NONCE = bytes(range(16))


@pytest.fixture
def coordinator(world):
    return letters.Coordinator(world.campaign, world.home.signing_key, world.home.agreement_key)


@pytest.fixture
def site(world):
    fog = world.sites["fog"]
    return letters.Site(world.campaign, "fog", fog.signing_key, fog.agreement_key)


def request(world, **what) -> pb.Request:
    return pb.Request(campaign_digest=world.campaign.digest, **what)


def test_a_request_and_its_reply_come_out_as_they_went_in(world, coordinator, site):
    asked = request(world, submit=pb.Submit(header=True, parameters=["scale"]))
    letter, sealed, question = coordinator.ask(asked, "fog", NONCE, 1234.9)
    assert sealed == {}
    arrived = site.read(letter)
    assert (arrived.message, arrived.site, arrived.expires, arrived.question) == (asked, "fog", 1234, question)
    reply = pb.Reply(header=world.outbox("fog").envelope())
    sets = {"a": b"one", "b": b""}
    letter, sealed = site.answer(arrived.question, reply, sets)
    assert not sets
    found = coordinator.read(letter, question)
    assert (found.message, found.site, found.question) == (reply, "fog", question)
    assert {name: bytes(found.parameters(name, BytesIO(raw))) for name, raw in sealed.items()} == {
        "a": b"one",
        "b": b"",
    }


def test_sets_that_go_with_a_request_come_out_as_they_went_in(world, coordinator, site):
    sets = {"parameters": b"raw"}
    letter, sealed, _ = coordinator.ask(request(world, deliver=pb.Deliver()), "fog", NONCE, 0, sets)
    assert not sets
    assert sealed["parameters"] != b"raw"
    assert bytes(site.read(letter).parameters("parameters", BytesIO(sealed["parameters"]))) == b"raw"


def test_a_set_opens_under_its_name_only(world, coordinator, site):
    letter, sealed, _ = coordinator.ask(request(world), "fog", NONCE, 0, {"a": b"one", "b": b"two"})
    arrived = site.read(letter)
    with pytest.raises(SignatureError):
        arrived.parameters("b", BytesIO(sealed["a"]))


def test_a_greeting_asks_any_member_and_its_answer_is_sealed(world, coordinator, site):
    asked = request(world, hello=pb.Hello(nonce=NONCE))
    letter, sealed, question = coordinator.ask(asked, "", NONCE, 60)
    assert pb.Letter.FromString(letter.payload).hello.nonce == NONCE
    arrived = site.read(letter)
    assert (arrived.message, arrived.site) == (asked, "")
    with pytest.raises(SignatureError, match="parameters came with a greeting"):
        arrived.parameters("a", BytesIO(bytes(16)))
    reply = pb.Reply(refusal=pb.Refusal(site="fog"))
    letter, _ = site.answer(arrived.question, reply)
    found = coordinator.read(letter, question)
    assert (found.message, found.site) == (reply, "fog")
    assert not sealed


def test_a_letter_names_what_it_is_for_and_is_signed_for_it(world, coordinator, site):
    letter, _, question = coordinator.ask(request(world), "fog", NONCE, 99)
    signing.opened(letter, signing.REQUEST, world.campaign.message.coordinator_key, pb.Letter, "it")
    head = pb.Letter.FromString(letter.payload)
    assert (head.campaign_digest, head.site, head.nonce, head.expires) == (world.campaign.digest, "fog", NONCE, 99)
    answer, _ = site.answer(question, pb.Reply())
    head = signing.opened(answer, signing.REPLY, world.campaign.keys["fog"], pb.Letter, "fog")
    assert (head.campaign_digest, head.site, head.nonce, head.expires) == (world.campaign.digest, "fog", NONCE, 0)
