"""The Flower ClientApp: whatever comes in, what goes out is one of our replies."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client import client_app
from protos import flower
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
    def handled(content: RecordDict, folder: object = None) -> pb.Reply:
        message = Message(content, NODE, "query")
        config = {client_app.SITE_FOLDER: str(folder or world.sites["fog"].folder)}
        context = SimpleNamespace(node_id=NODE, node_config={} if folder == "" else config)
        reply = client_app.handle(message, context)
        assert not reply.has_error()
        return flower.message_of(reply.content, pb.Reply, "the site")

    return handled


def request(world, **what) -> RecordDict:
    return flower.packed(pb.Request(campaign_digest=world.campaign.digest, **what))


def test_a_request_is_answered(handle, world):
    assert handle(request(world, progress=pb.ProgressQuery())).progress.state == pb.Progress.STATE_READY


def test_what_happened_stands_in_the_sites_log(handle, world):
    handle(request(world, submit=pb.Submit(parameters=["nothing"])))
    assert "nothing is no parameter" in (world.sites["fog"].folder / "site.log").read_text()


CONFIGURATION = pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_CONFIGURATION))


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"message": ConfigRecord({"bytes": b"\xff\xff"})}),
        RecordDict({"message": ConfigRecord({"bytes": pb.Request().SerializeToString() + b"\xfa\x01\x01x"})}),
    ],
)
def test_what_is_no_request_is_refused(handle, content):
    assert handle(content) == CONFIGURATION


@pytest.mark.parametrize("folder", ["", "/nowhere"])
def test_a_node_without_a_site_refuses(handle, world, folder):
    assert handle(request(world, progress=pb.ProgressQuery()), folder) == CONFIGURATION


def test_an_unexpected_error_is_not_left_to_flower_which_would_send_its_text(handle, world, monkeypatch):
    def fail(_: object) -> None:
        raise PermissionError(13, "Permission denied", "/home/me/site.log")

    monkeypatch.setattr(client_app, "_log_to", fail)
    assert handle(request(world, progress=pb.ProgressQuery())) == CONFIGURATION
