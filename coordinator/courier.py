"""The courier: carries requests to nodes and replies back, one at a time, in letters.

Flower's queue may drop a parcel, so nothing here counts on a reply: each request ends in exactly one `Answer`,
which says what came or why nothing will, and whoever asked asks again if it still wants to know. What comes but is
no letter of the site's that answers this very request counts as nothing: anybody in between could have made it.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from coordinator.members import refusal
from protos import faults, flower, letters, signing, update_pb2
from protos import messages_pb2 as pb
from protos.errors import UpdateRefusedError
from protos.flower import PARAMETERS

log = logging.getLogger("onebasin.coordinator")

SILENCE = 30.0
"""Seconds past a message's time to live after which it counts as lost, whatever Flower says."""
SLOW = 60.0
"""Seconds after which a part that is under way is slow: it takes no other site's turn any more."""
GLANCE = 0.5
"""Seconds that a reply may take to be pulled until the others are looked at meanwhile."""
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
        problem: Why there is no reply.
        refused_code: Whether the node refused to run the campaign's code.
        site: Who signed the reply.
        void: Whether something came all the same, but nothing that the site can be held to.
        refusal: A refusal that nobody signed, if that is what came.

    """

    node: int
    request: pb.Request
    reply: pb.Reply | None = None
    problem: str = ""
    site: str = ""
    void: bool = False
    refused_code: bool = False
    refusal: pb.Refusal | None = None
    _opened: letters.Opened[pb.Reply] | None = None
    _content: RecordDict | None = None

    def parameters(self, whose: str) -> memoryview:
        """Open the parameters that came with the reply; only once, for they are opened where they lie.

        Raises:
            UpdateRefusedError: There are none.
            SignatureError: They didn't come with this reply, or changed on the way.

        """
        if self._opened is None or self._content is None:
            raise UpdateRefusedError(f"{whose}: no parameters came")
        return self._opened.parameters(PARAMETERS, flower.taken(self._content, PARAMETERS, whose))


@dataclass(frozen=True)
class _Pending:
    node: int
    request: pb.Request
    question: letters.Question
    sent: float = 0.0
    until: float = 0.0


def kind_of(request: pb.Request) -> str:
    """Name what a request asks for."""
    return request.WhichOneof("what") or ""


class _Pull(threading.Thread):
    """A reply being pulled. Flower's Grid doesn't return before all of it is uploaded, which may take hours.

    The coordinator doesn't wait for it at its end.
    """

    def __init__(self, grid: Grid, message_id: str) -> None:
        super().__init__(name=f"pull {message_id[:12]}", daemon=True)
        self._grid = grid
        self._message_id = message_id
        self._found: list[Message] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._found = list(self._grid.pull_messages([self._message_id]))
        except BaseException as error:
            self._error = error

    def found(self) -> Iterator[Message]:
        """Give away what came; raises what Flower raised."""
        if self._error is not None:
            raise self._error
        while self._found:
            yield self._found.pop(0)


class Courier:
    """The requests that are under way over one Grid.

    Args:
        grid: Flower's.
        desk: Who writes and reads the letters.

    """

    def __init__(self, grid: Grid, desk: letters.Coordinator) -> None:
        self._grid = grid
        self._desk = desk
        self._written: dict[bytes, _Pending] = {}  # by nonce, until they are sent
        self._pending: dict[str, _Pending] = {}
        self._pulls: dict[str, _Pull] = {}  # those that take long
        self._unsent: list[_Pending] = []

    def under_way(self, kind: str = "", node: int | None = None) -> int:
        """Count requests under way, of a kind and to a node if given."""
        return sum(
            (not kind or kind_of(p.request) == kind) and (node is None or p.node == node)
            for p in self._pending.values()
        )

    def room(self, kind: str, node: int, at_once: int, per_site: int = PER_SITE) -> bool:
        """Tell whether another part of a model may go to or come from a node.

        Those that are slow don't count, or a few stalled sites would hold up all others; but a site that has one
        under way gets no other.

        Args:
            kind: What the part is asked for with.
            node: The node.
            at_once: How many may be under way at once.
            per_site: How many of them to or from one node.

        """
        slow = time.monotonic() - SLOW
        parts = [pending for pending in self._pending.values() if kind_of(pending.request) == kind]
        mine = [pending for pending in parts if pending.node == node]
        swift = sum(pending.sent > slow for pending in parts)
        return swift < at_once and len(mine) < per_site and all(pending.sent > slow for pending in mine)

    def nodes(self) -> set[int]:
        """Return the nodes that are connected."""
        return set(self._grid.get_node_ids())

    def message(
        self, node: int, request: pb.Request, ttl: float, sets: letters.Sets | None = None, *, site: str = ""
    ) -> Message:
        """Wrap a request into a Flower message that is given up, and answered by no site, after `ttl` seconds.

        Args:
            node: Who gets it.
            request: What is asked.
            ttl: Seconds.
            sets: Parameters that go with it; sealed where they lie, and taken out.
            site: Which site the node is; only a greeting asks a node that may be any.

        """
        nonce = secrets.token_bytes(letters.NONCE)
        letter, sealed, question = self._desk.ask(request, site, nonce, time.time() + ttl, sets)
        self._written[nonce] = _Pending(node, request, question)
        return Message(flower.packed(letter, sealed), node, _TYPES.get(kind_of(request), "query"), ttl=ttl)

    def push(self, messages: Iterable[Message]) -> None:
        """Send messages; each is made, sent and dropped before the next is made."""
        for message in messages:
            letter = flower.message_of(message.content, update_pb2.Signed, "the coordinator")
            written = self._written.pop(signing.decode(letter.payload, pb.Letter, "the coordinator").nonce)
            now = time.monotonic()
            pending = replace(written, sent=now, until=now + message.metadata.ttl + SILENCE)
            faults.point("request-sending")
            sent = self._send(message)
            faults.point("request-sent")
            self._pending.update((message_id, pending) for message_id in sent)
            if not sent:
                self._unsent.append(pending)
            del message

    def _send(self, message: Message) -> list[str]:
        """Send a message, and return its id; none if it did not get through, and then the log says why."""
        try:
            return [message_id for message_id in self._grid.push_messages([message]) if message_id]
        except ObjectPushError as error:  # its store refused a piece
            log.warning("a request to node %s did not get through: %s", message.metadata.dst_node_id, error)
            return []

    def replies(self) -> Iterator[Message]:
        """Pull what has arrived, one message at a time; the caller drops each before it takes the next."""
        for message_id in list(self._pending):
            pull = self._pulls.pop(message_id, None)
            if pull is None:
                pull = _Pull(self._grid, message_id)
                pull.start()
                pull.join(GLANCE)
            if pull.is_alive():
                self._pulls[message_id] = pull
                continue
            for message in pull.found():
                faults.point("reply-pulled")
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
            returned = flower.message_of(message.content, pb.Returned, f"node {pending.node}")
            if returned.WhichOneof("what") != "letter":
                said = refusal(returned.refusal.site, returned.refusal)
                return Answer(pending.node, pending.request, problem=said, void=True, refusal=returned.refusal)
            opened = self._desk.read(returned.letter, pending.question)
        except UpdateRefusedError as error:
            return Answer(pending.node, pending.request, problem=error.what, void=True)
        node, request, content = pending.node, pending.request, message.content
        if opened.message.refusal.reason == pb.Refusal.REASON_STALE:
            # Whoever holds a request back, or delivers it twice, can bring this about.
            return Answer(node, request, problem=refusal(opened.site, opened.message.refusal), void=True)
        return Answer(node, request, opened.message, site=opened.site, _opened=opened, _content=content)

    def lost(self) -> Iterator[Answer]:
        """Give up what could not be sent, and what is long overdue."""
        unsent, self._unsent = self._unsent, []
        for pending in unsent:
            yield Answer(pending.node, pending.request, problem="the request could not be sent")
        now = time.monotonic()
        for message_id, pending in list(self._pending.items()):
            if now > pending.until and message_id not in self._pulls:
                del self._pending[message_id]
                yield Answer(pending.node, pending.request, problem="no answer came in time")
