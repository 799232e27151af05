"""Flower without processes: its Grid in memory, and time that passes only when someone sleeps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from worlds import World

from client import correspondence
from client.answers import answer
from client.site import Site
from coordinator import roster
from protos import files, flower, signing, update_pb2
from protos import messages_pb2 as pb
from protos.errors import OnebasinError


@pytest.fixture
def flower_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Flower's messages be made outside of a task of Flower's."""
    for name, value in (("_task_id", 1), ("_run_id", 7), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


Reaction = pb.Reply | tuple[pb.Reply, Mapping[str, bytes]] | Error | None


def answered(site: Site, request: pb.Request, node: int, sets: Callable[[str], memoryview]) -> Reaction:
    """Answer as the site would, but without data to evaluate on: that would load PyTorch."""
    if request.WhichOneof("what") == "evaluate":
        return pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_DATA, site=site.name))
    return answer(site, request, node, sets)


@dataclass
class Parcel:
    """A request on its way, and the reply to it."""

    node: int
    request: pb.Request
    reply: Message | None
    wait: int


@dataclass
class FakeGrid(Grid):
    """Flower's Grid, in memory: each node is a site's folder, asked when its reply is pulled.

    Attributes:
        nodes: Sites by node.
        react: Gets the node, the site's name, the request and how often that kind was asked of it before; returns
            a reply, which the site signs and seals, a record, which stays as it is, an error of Flower's, None
            (the reply is lost), or ``...`` for what the site itself says.
        wait: How many times a reply is asked for before it is there; drawn anew for each.
        log: All that was asked: node and request.
        most: The most parts of models that were under way at once.

    """

    nodes: dict[int, Site]
    react: Callable[[int, str, pb.Request, int], object] = lambda *_: ...
    wait: Callable[[], int] = lambda: 0
    online: set[int] = field(default_factory=set)
    log: list[tuple[str, pb.Request]] = field(default_factory=list)
    most: int = 0
    refuse_push: Callable[[str, pb.Request], bool] = lambda *_: False
    parcels: dict[str, Parcel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.online = self.online or set(self.nodes)
        self._ids = itertools.count()
        self._asked: dict[tuple[int, str], int] = {}

    def set_run(self, run: object) -> None: ...

    run = create_message = send_and_receive = None

    def get_node_ids(self) -> Iterable[int]:
        return list(self.online)

    def asked(self, kind: str, site: str = "") -> list[pb.Request]:
        return [r for s, r in self.log if r.WhichOneof("what") == kind and site in ("", s)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str | None]:
        ids: list[str | None] = []
        for message in messages:
            node = message.metadata.dst_node_id
            site = self.nodes[node]
            request, received = self._received(site, message)
            self.log.append((site.name, request))
            if self.refuse_push(site.name, request):
                ids.append(None)
                continue
            message.metadata.__dict__["_message_id"] = name = f"message-{next(self._ids)}"
            self.parcels[name] = Parcel(
                node, request, self._replied(node, site, request, received, message), self.wait()
            )
            parts = [p for p in self.parcels.values() if p.request.WhichOneof("what") in ("submit", "deliver")]
            self.most = max(self.most, len(parts))
            ids.append(name)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for name in message_ids:
            parcel = self.parcels.get(name)
            if parcel is None or parcel.reply is None:
                continue
            if parcel.wait > 0:
                parcel.wait -= 1
                continue
            del self.parcels[name]
            yield parcel.reply

    def _received(self, site: Site, message: Message) -> tuple[pb.Request, correspondence.Received | None]:
        """Open a request as the site does; a site that can't is only ever greeted."""
        try:
            received = correspondence.receive(site, message.content)
        except OnebasinError:
            envelope = flower.message_of(message.content, update_pb2.Signed, "it")
            return pb.Request(hello=signing.decode(envelope.payload, pb.Letter, "it").hello), None
        return received.opened.message, received

    def _replied(
        self,
        node: int,
        site: Site,
        request: pb.Request,
        received: correspondence.Received | None,
        message: Message,
    ) -> Message | None:
        kind = request.WhichOneof("what")
        before = self._asked.get((node, kind), 0)
        self._asked[node, kind] = before + 1
        found = self.react(node, site.name, request, before)
        if isinstance(found, Error):
            return Message(found, reply_to=message)
        if received is None:
            return Message(correspondence.reply(site, message.content, node), reply_to=message)
        if found is ...:
            found = answered(site, request, node, received.parameters)
        if found is None:
            return None
        if isinstance(found, RecordDict):  # as it is, whoever made it
            return Message(found, reply_to=message)
        reply, sets = (found, {}) if isinstance(found, pb.Reply) else found
        return Message(received.answered(reply, dict(sets)), reply_to=message)


class Clock:
    """Time that passes only when someone sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        time.sleep(0.0005)  # lets the folding thread run

    def time(self) -> float:
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the time of the coordinator's conversation."""
    found = Clock()
    monkeypatch.setattr("coordinator.strategy.TICK", 2.0)
    for module in ("strategy", "collecting", "quorum", "greeting", "courier", "asking", "summing", "cancelling"):
        monkeypatch.setattr(f"coordinator.{module}.time", found)
    return found


@pytest.fixture
def make_grid(flower_task: None) -> Callable[..., FakeGrid]:
    """Return a function that makes a Grid whose nodes are a world's sites."""

    def make(world: World, **options: object) -> FakeGrid:
        nodes = {100 + i: site for i, site in enumerate(world.sites.values())}
        for node, site in nodes.items():  # Flower knows a node by the key that was registered for its site
            files.write(files.make_folder(roster.folder_of(world.home, site.name)) / "node-id", str(node))
        return FakeGrid(nodes, **options)

    return make
