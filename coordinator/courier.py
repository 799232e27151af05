"""The courier: carries requests to nodes and replies back, one at a time.

Flower's queue may drop a parcel, so nothing here counts on a reply: each request ends in exactly one `Answer`,
which says what came or why nothing will, and whoever asked asks again if it still wants to know.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from protos import flower
from protos import messages_pb2 as pb
from protos.errors import UpdateRefusedError

SILENCE = 30.0
"""Seconds past a message's time to live after which it counts as lost, whatever Flower says."""
PER_SITE = 2
"""Parts of one model that may be under way to or from a site: one is read while the other is on the wire."""

_TYPES = {"adapt": "train", "submit": "train", "evaluate": "evaluate"}


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        node: Flower's id of the node that was asked.
        request: What was asked.
        reply: What the site says, or None.
        content: The record that the reply came in, with its parameters.
        problem: Why there is no reply.
        refused_code: Whether the node refused to run the campaign's code.

    """

    node: int
    request: pb.Request
    reply: pb.Reply | None = None
    content: RecordDict | None = None
    problem: str = ""
    refused_code: bool = False


@dataclass(frozen=True)
class _Pending:
    node: int
    request: pb.Request
    until: float


def kind_of(request: pb.Request) -> str:
    """Name what a request asks for."""
    return request.WhichOneof("what") or ""


class Courier:
    """The requests that are under way over one Grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._pending: dict[str, _Pending] = {}
        self._unsent: list[_Pending] = []

    def under_way(self, kind: str = "", node: int | None = None) -> int:
        """Count requests under way, of a kind and to a node if given."""
        return sum(
            (not kind or kind_of(p.request) == kind) and (node is None or p.node == node)
            for p in self._pending.values()
        )

    def nodes(self) -> set[int]:
        """Return the nodes that are connected."""
        return set(self._grid.get_node_ids())

    def message(
        self, node: int, request: pb.Request, ttl: float, sets: Mapping[str, bytes] | None = None
    ) -> Message:
        """Wrap a request into a Flower message that is given up after `ttl` seconds."""
        return Message(flower.packed(request, sets), node, _TYPES.get(kind_of(request), "query"), ttl=ttl)

    def push(self, messages: Iterable[Message]) -> None:
        """Send messages; each is made, sent and dropped before the next is made."""
        for message in messages:
            request = flower.message_of(message.content, pb.Request, "the coordinator")
            pending = _Pending(
                message.metadata.dst_node_id, request, time.monotonic() + message.metadata.ttl + SILENCE
            )
            sent = [message_id for message_id in self._grid.push_messages([message]) if message_id]
            self._pending.update((message_id, pending) for message_id in sent)
            if not sent:  # Flower logs why and goes on
                self._unsent.append(pending)
            del message

    def replies(self) -> Iterator[Message]:
        """Pull what has arrived, one message at a time; the caller drops each before it takes the next."""
        for message_id in list(self._pending):
            for message in self._grid.pull_messages([message_id]):
                yield message
                del message  # or it would stay in memory while the next one is pulled

    def answer(self, message: Message) -> Answer | None:
        """Find out what a reply answers; None if nobody waits for it any more."""
        # The source is no help: Flower's own error replies come from the SuperLink.
        pending = self._pending.pop(message.metadata.reply_to_message_id, None)
        if pending is None:
            return None
        if message.has_error():
            problem = f"{message.error.reason} (Flower's error {message.error.code})"
            refused = message.error.code == ErrorCode.INVALID_FAB
            return Answer(pending.node, pending.request, problem=problem, refused_code=refused)
        try:
            reply = flower.message_of(message.content, pb.Reply, f"node {pending.node}")
        except UpdateRefusedError as error:
            return Answer(pending.node, pending.request, problem=error.what)
        return Answer(pending.node, pending.request, reply, message.content)

    def lost(self) -> Iterator[Answer]:
        """Give up what could not be sent, and what is long overdue."""
        unsent, self._unsent = self._unsent, []
        for pending in unsent:
            yield Answer(pending.node, pending.request, problem="the request could not be sent")
        now = time.monotonic()
        for message_id, pending in list(self._pending.items()):
            if now > pending.until:
                del self._pending[message_id]
                yield Answer(pending.node, pending.request, problem="no answer came in time")
