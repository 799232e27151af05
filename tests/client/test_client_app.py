"""The Flower ClientApp: whatever comes in, what goes out is one of our replies."""

from __future__ import annotations

import logging
import secrets
import time
from types import SimpleNamespace

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client import client_app
from protos import flower, letters
from protos import messages_pb2 as pb

NODE = 12


@pytest.fixture(autouse=True)
def _closed_logs():
    yield
    logger = logging.getLogger("onebasin.site")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture
def handle(world, flower_task):
    """Hand a request to the app, as the coordinator writes it, or content as it is; read the reply."""
    desk = letters.Coordinator(world.campaign, world.home.signing_key, world.home.agreement_key)

    def handled(content: RecordDict | pb.Request, folder: object = None) -> pb.Reply | pb.Returned:
        question = None
        if isinstance(content, pb.Request):
            letter, _, question = desk.ask(content, "fog", secrets.token_bytes(16), time.time() + 60)
            content = flower.packed(letter)
        message = Message(content, NODE, "query")
        config = {client_app.SITE_FOLDER: str(folder or world.sites["fog"].folder)}
        context = SimpleNamespace(node_id=NODE, node_config={} if folder == "" else config)
        reply = client_app.handle(message, context)
        assert not reply.has_error()
        returned = flower.message_of(reply.content, pb.Returned, "the site")
        return desk.read(returned.letter, question).message if returned.HasField("letter") else returned

    return handled


def request(world, **what) -> pb.Request:
    return pb.Request(campaign_digest=world.campaign.digest, **what)


def test_a_request_is_answered(handle, world):
    assert handle(request(world, progress=pb.ProgressQuery())).progress.state == pb.Progress.STATE_READY


def test_what_happened_stands_in_the_sites_log(handle, world):
    handle(request(world, submit=pb.Submit(parameters=["nothing"])))
    assert "nothing is no parameter" in (world.sites["fog"].folder / "site.log").read_text()


CONFIGURATION = pb.Returned(refusal=pb.Refusal(reason=pb.Refusal.REASON_CONFIGURATION))
UNKNOWN = pb.Returned(refusal=pb.Refusal(reason=pb.Refusal.REASON_REQUEST, site="fog"))


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"message": ConfigRecord({"bytes": b"\xff\xff"})}),
        RecordDict({"message": ConfigRecord({"bytes": pb.Request().SerializeToString() + b"\xfa\x01\x01x"})}),
    ],
)
def test_what_is_no_request_is_refused(handle, content):
    assert handle(content) == UNKNOWN


@pytest.mark.parametrize("folder", ["", "/nowhere"])
def test_a_node_without_a_site_refuses(handle, world, folder):
    assert handle(request(world, progress=pb.ProgressQuery()), folder) == CONFIGURATION


def test_an_unexpected_error_is_not_left_to_flower_which_would_send_its_text(handle, world, monkeypatch):
    def fail(_: object) -> None:
        raise PermissionError(13, "Permission denied", "/home/me/site.log")

    monkeypatch.setattr(client_app, "_log_to", fail)
    assert handle(request(world, progress=pb.ProgressQuery())) == CONFIGURATION
