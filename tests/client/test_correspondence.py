"""From what Flower brings to a request, and from the reply to what Flower takes away."""

from __future__ import annotations

import logging
import secrets
import time

import pytest
from flwr.app import RecordDict

from client import correspondence
from client.outbox import Outbox
from client.site import Site
from protos import flower, letters
from protos import messages_pb2 as pb
from protos.errors import UpdateRefusedError
from protos.flower import PARAMETERS

NODE = 77


@pytest.fixture
def desk(world):
    return letters.Coordinator(world.campaign, world.home.signing_key, world.home.agreement_key)


@pytest.fixture
def ask(world, desk):
    """Ask fog for something; return the reply, its sets, and the record that came back."""

    def asked(**what):
        request = pb.Request(campaign_digest=world.campaign.digest, **what)
        letter, _, question = desk.ask(request, "fog", secrets.token_bytes(16), time.time() + 60)
        content = correspondence.reply(world.sites["fog"], flower.packed(letter), NODE)
        opened = desk.read(flower.message_of(content, pb.Returned, "it").letter, question)
        return opened, content

    return asked


def refusal(content: RecordDict) -> str:
    found = flower.message_of(content, pb.Returned, "it").refusal
    return f"{pb.Refusal.Reason.Name(found.reason)} {found.site}"


def test_an_update_goes_out_with_its_parameters(ask, world):
    opened, content = ask(submit=pb.Submit(header=True, parameters=["head.bias", "scale"]))
    assert opened.message.header == world.outbox("fog").envelope()
    raw = opened.parameters(PARAMETERS, flower.taken(content, PARAMETERS, "it"))
    assert bytes(raw) == world.outbox("fog").parameters(["head.bias", "scale"])
    assert set(content) == {"message"}


def test_what_a_site_refuses_is_signed_and_sealed_too(ask):
    opened, content = ask(submit=pb.Submit(parameters=["nothing"]))
    assert opened.message.refusal.reason == pb.Refusal.REASON_UPDATE
    assert opened.site == "fog"
    assert set(content) == {"message"}


def test_an_unexpected_error_is_refused_under_seal(ask, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(Outbox, "envelope", fail)
    opened, _ = ask(submit=pb.Submit(header=True))
    assert opened.message.refusal.reason == pb.Refusal.REASON_INTERNAL
    assert "in the middle" in caplog.text


def test_a_site_that_has_not_joined_says_so_in_the_clear(world, desk, tmp_path):
    stranger = Site.init(tmp_path / "rain", "rain", address="x:1", domain="night")
    letter, _, _ = desk.ask(pb.Request(hello=pb.Hello(nonce=bytes(16))), "", bytes(16), time.time() + 60)
    content = correspondence.reply(stranger, flower.packed(letter), NODE)
    assert refusal(content) == "REASON_CAMPAIGN rain"


def test_a_site_whose_key_is_gone_says_that_it_is_not_configured(world, desk):
    fog = world.sites["fog"]
    (fog.keys / "agreement.pem").unlink()
    letter, _, _ = desk.ask(pb.Request(hello=pb.Hello(nonce=bytes(16))), "", bytes(16), time.time() + 60)
    content = correspondence.reply(Site.open(fog.folder), flower.packed(letter), NODE)
    assert refusal(content) == "REASON_CONFIGURATION fog"


def test_what_was_refused_stands_in_the_log(world, caplog):
    with caplog.at_level(logging.ERROR, "onebasin.site"):
        correspondence.reply(world.sites["fog"], RecordDict(), NODE)
    assert "there is no message in what arrived" in caplog.text


def test_parameters_that_did_not_come_are_missed(world, desk):
    request = pb.Request(campaign_digest=world.campaign.digest, deliver=pb.Deliver())
    letter, _, _ = desk.ask(request, "fog", bytes(16), time.time() + 60)
    received = correspondence.receive(world.sites["fog"], flower.packed(letter))
    with pytest.raises(UpdateRefusedError, match="are not in what arrived"):
        received.parameters(PARAMETERS)
