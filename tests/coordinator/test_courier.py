"""The courier: each request ends in exactly one answer."""

from __future__ import annotations

import threading
import time
import weakref

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from client import correspondence
from coordinator import courier as module
from coordinator.courier import Courier, kind_of
from protos import letters
from protos import messages_pb2 as pb

HELLO = pb.Request(hello=pb.Hello(nonce=b"n" * 16))
SUBMIT = pb.Request(submit=pb.Submit(parameters=["w"]))
SITE = "fog"
REPLY = pb.Reply(progress=pb.Progress(state=pb.Progress.STATE_READY))


class Box:
    """A Grid that keeps what is sent and hands out what a test puts in, sealed by the site."""

    def __init__(self, site) -> None:
        self.site = site
        self.sent: dict[str, Message] = {}
        self.replies: dict[str, list[Message]] = {}
        self.ids = iter(range(1000))
        self.answer = lambda name: [name]

    def get_node_ids(self):
        return [1, 2, 2]

    def push_messages(self, messages):
        (message,) = messages
        name = f"m{next(self.ids)}"
        message.metadata.__dict__["_message_id"] = name
        self.sent[name] = message
        return self.answer(name)

    def pull_messages(self, names):
        (name,) = names
        return self.replies.pop(name, [])

    def reply(self, name: str, content: RecordDict | Error | pb.Reply) -> None:
        if isinstance(content, pb.Reply):
            content = correspondence.receive(self.site, self.sent[name].content).answered(content, {})
        self.replies.setdefault(name, []).append(Message(content, reply_to=self.sent[name]))


@pytest.fixture
def box(flower_task, world):
    return Box(world.sites[SITE])


@pytest.fixture
def courier(box, world):
    return Courier(box, letters.Coordinator(world.campaign, world.home.signing_key, world.home.agreement_key))


@pytest.fixture
def push(courier, world):
    def pushed(node=1, request=HELLO, ttl=60.0):
        asked = pb.Request(campaign_digest=world.campaign.digest)
        asked.MergeFrom(request)
        site = "" if request.HasField("hello") else SITE
        courier.push(iter([courier.message(node, asked, ttl, site=site)]))

    return pushed


def answers(courier):
    return [courier.answer(message) for message in courier.replies()]


def test_a_reply_is_matched_with_its_request(courier, box, push):
    push(1)
    push(2, SUBMIT)
    box.reply("m1", REPLY)
    (found,) = answers(courier)
    assert (found.node, found.request.submit, found.reply, found.problem) == (2, SUBMIT.submit, REPLY, "")
    assert found.site == SITE
    assert courier.under_way() == 1


def test_a_reply_answers_once(courier, box, push):
    push()
    box.reply("m0", REPLY)
    (message,) = list(courier.replies())
    assert courier.answer(message) is not None
    assert courier.answer(message) is None
    assert list(courier.replies()) == []


def test_requests_under_way_are_counted_by_kind_and_node(courier, push):
    for node, request in ((1, HELLO), (1, SUBMIT), (2, SUBMIT)):
        push(node, request)
    assert courier.under_way() == 3
    assert courier.under_way("submit") == 2
    assert courier.under_way("submit", 1) == 1
    assert courier.under_way(node=2) == 1
    assert courier.under_way("adapt") == 0


def test_an_error_of_flowers_is_a_problem_that_names_its_code(courier, box, push):
    push()
    box.reply("m0", Error(5, "node unavailable"))
    (found,) = answers(courier)
    assert found.reply is None
    assert found.problem == "node unavailable (Flower's error 5)"


@pytest.mark.parametrize("content", [RecordDict(), RecordDict({"message": ConfigRecord({"bytes": b"\xff"})})])
def test_a_reply_that_cannot_be_read_is_a_problem(courier, box, content, push):
    push()
    box.reply("m0", content)
    (found,) = answers(courier)
    assert found.reply is None
    assert found.void
    assert "node 1" in found.problem


def test_a_request_is_lost_when_its_time_and_some_silence_are_over(courier, monkeypatch, push):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    push(ttl=60.0)
    now[0] = 60 + module.SILENCE
    assert not list(courier.lost())
    now[0] += 0.1
    (found,) = courier.lost()
    assert (found.node, found.problem) == (1, "no answer came in time")
    assert courier.under_way() == 0
    assert not list(courier.lost())


def test_a_request_whose_upload_the_superlink_refuses_is_lost_and_the_run_goes_on(courier, box, push, caplog):
    def refused(name):
        raise ObjectPushError("76cf", 13, "2033")

    box.answer = refused
    push(2, SUBMIT)
    assert courier.under_way() == 0
    (found,) = courier.lost()
    assert (found.node, found.request.submit) == (2, SUBMIT.submit)
    assert "did not get through: Failed to push object with ID '76cf'" in caplog.text


@pytest.mark.parametrize("ids", [[], [None], [""]])
def test_a_request_that_flower_did_not_take_is_lost_at_once_and_once(courier, box, ids, push):
    box.answer = lambda name: ids
    push(2, SUBMIT)
    assert courier.under_way() == 0
    (found,) = courier.lost()
    assert (found.node, found.request.submit) == (2, SUBMIT.submit)
    assert "could not be sent" in found.problem
    assert not list(courier.lost())


@pytest.mark.parametrize(
    ("request_", "type_"),
    [
        (HELLO, "query"),
        (pb.Request(adapt=pb.Adapt()), "train"),
        (pb.Request(progress=pb.ProgressQuery()), "query"),
        (SUBMIT, "train"),
        (pb.Request(evaluate=pb.Evaluate()), "evaluate"),
    ],
)
def test_requests_travel_as_flowers_types_of_messages(courier, request_, type_):
    sets = {"set": b"raw"} if type_ == "evaluate" else None
    message = courier.message(9, request_, 60.0, sets, site="" if request_ is HELLO else SITE)
    assert message.metadata.message_type == type_
    assert message.metadata.dst_node_id == 9
    assert message.metadata.ttl == 60.0


def test_connected_nodes_are_a_set(courier):
    assert courier.nodes() == {1, 2}


def test_kinds_have_names():
    assert kind_of(HELLO) == "hello"
    assert kind_of(pb.Request()) == ""


def test_a_message_that_was_taken_in_is_gone_before_the_next_is_pulled(courier, box, push):
    for node in (1, 2):
        push(node)
        box.reply(f"m{node - 1}", REPLY)
    box.sent.clear()
    taken: list[weakref.ref] = []
    for message in courier.replies():
        assert all(reference() is None for reference in taken)
        taken.append(weakref.ref(message))
        courier.answer(message)
        del message
    assert len(taken) == 2


# ------------------------------------------------------------------ the slow


@pytest.fixture
def uploading(box, monkeypatch):
    """Let the reply to the first request be uploaded for as long as the test likes."""
    monkeypatch.setattr(module, "GLANCE", 0.05)
    done, pull = threading.Event(), box.pull_messages

    def pulled(names):
        (name,) = names
        if name == "m0":
            assert done.wait(20)
        return pull(names)

    box.pull_messages = pulled
    yield done
    done.set()


def test_a_reply_that_is_being_uploaded_does_not_hold_up_the_others(courier, box, push, uploading):
    push(1, SUBMIT)
    push(2, SUBMIT)
    box.reply("m0", REPLY)
    box.reply("m1", REPLY)
    assert [found.node for found in answers(courier)] == [2]
    assert answers(courier) == []
    uploading.set()
    deadline = time.monotonic() + 20
    found = []
    while not found and time.monotonic() < deadline:
        found = answers(courier)
    assert [one.node for one in found] == [1]


def test_a_reply_that_is_being_uploaded_is_not_lost(courier, box, push, uploading, monkeypatch):
    push(1, SUBMIT, ttl=60.0)
    assert answers(courier) == []
    late = time.monotonic() + 10_000
    monkeypatch.setattr(module.time, "monotonic", lambda: late)
    assert not list(courier.lost())
    assert courier.under_way() == 1


def test_what_goes_wrong_while_pulling_is_not_swallowed(courier, box, push, monkeypatch):
    def broken(names):
        raise ConnectionError("the SuperLink is gone")

    monkeypatch.setattr(box, "pull_messages", broken)
    push()
    with pytest.raises(ConnectionError, match="is gone"):
        answers(courier)


def test_there_is_room_for_so_many_parts_and_two_per_site(courier, push):
    assert courier.room("submit", 1, 3)
    push(1, SUBMIT)
    assert not courier.room("submit", 1, 3, per_site=1)
    push(1, SUBMIT)
    assert not courier.room("submit", 1, 3)
    assert courier.room("submit", 2, 3)
    assert courier.room("deliver", 1, 3)
    push(2, SUBMIT)
    assert not courier.room("submit", 3, 3)


def test_slow_parts_take_no_other_sites_turn_but_their_own(courier, push, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    push(1, SUBMIT, ttl=3600.0)
    push(2, SUBMIT, ttl=3600.0)
    assert not courier.room("submit", 3, 2)
    now[0] = module.SLOW + 1
    assert courier.room("submit", 3, 2)
    assert not courier.room("submit", 1, 2)
