"""After the merge, each merged site is asked one thing about models that it needs for the answer.

The models are delivered first, a few parts at a time under the limits of updates. A site that is away is waited
for, one that comes back as another node is asked anew, and one that keeps failing is given up.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from flwr.app import Message

from coordinator.campaign_folder import CampaignFolder
from coordinator.courier import Answer, Courier, kind_of
from coordinator.members import Member, State, refusal
from coordinator.merging import MODEL, midpoint_digest
from coordinator.pacing import pause
from protos import flower
from protos import messages_pb2 as pb
from protos.assembly import parts
from protos.errors import OnebasinError
from protos.flower import PARAMETERS
from protos.manifest import Manifest
from protos.tensorfile import TensorFile

TRIES = 3
"""How often a site may fail to answer until it is given up."""
PATIENCE = 120.0
"""Seconds that a site which is not connected is waited for where the merge doesn't depend on it."""
TIME = 3600.0
"""Seconds for one site's answer."""

Held = set[tuple[int, bytes]]
"""Which models are at which nodes: the node, and the digest of the model's parameters."""


@dataclass
class _Session:
    """What one site is asked.

    Attributes:
        member: Who is asked.
        models: What is delivered for it: the parameters' digest and the file that they are in.
        until: How long it may be away (monotonic seconds), counted from when it was last connected.
        node: The node that is asked; another if the site came back as another.
        failures: How often a request of it came to nothing.
        due: When to go on asking it (monotonic seconds).
        parts: What is still to be delivered.
        nonce: Of the question; empty while it is not under way.
        sent: Bytes that were sent to it, and are not in the journal yet.

    """

    member: Member
    models: Mapping[bytes, Path]
    until: float
    node: int | None = None
    failures: int = 0
    due: float = 0.0
    parts: list[pb.Deliver] = field(default_factory=list)
    nonce: bytes = b""
    sent: int = 0


class Asking(ABC):
    """A conversation in which each merged site gets models and answers one question.

    Args:
        folder: The campaign's folder.
        base: What models consist of.
        members: The campaign's members, all in a final state.
        courier: Who carries the requests.
        held: Which models sites have already; what is delivered is added.
        patience: Seconds that a site is waited for which is not connected, or no longer.

    Attributes:
        midpoint: The digest of the merged model's parameters.
        problems: Why sites were given up, by site.

    """

    kind: str
    """The question, as :func:`coordinator.courier.kind_of` names it."""
    given_up: str
    """The event that says that a site doesn't answer."""

    def __init__(
        self,
        folder: CampaignFolder,
        base: Manifest,
        members: list[Member],
        courier: Courier,
        held: Held,
        patience: float = PATIENCE,
    ) -> None:
        self.folder = folder
        self.base = base
        self.events = folder.log()
        self.merged = [member for member in members if member.state is State.MERGED]
        self.midpoint = midpoint_digest(folder)
        self.problems: dict[str, str] = {}
        self._courier = courier
        self._held = held
        self._submit = folder.home.settings.submit
        self._patience = patience
        until = time.monotonic() + patience
        self._open = {member.site: _Session(member, self.models(member), until) for member in self.merged}

    def models(self, member: Member) -> Mapping[bytes, Path]:
        """Return what a site needs, the merged model: by the parameters' digest, the file that they are in."""
        return {self.midpoint: self.folder.merged / MODEL}

    @abstractmethod
    def question(self, member: Member, nonce: bytes) -> pb.Request:
        """Return what a site is asked once it has the models."""

    @abstractmethod
    def answered(self, site: str, reply: pb.Reply, nonce: bytes) -> None:
        """Take in a site's answer.

        Raises:
            OnebasinError: It is none that counts; the site is given up.

        """

    @property
    def done(self) -> bool:
        """Whether every site has answered or was given up."""
        return not self._open

    def messages(self, online: Collection[int]) -> Iterator[Message]:
        """Make the requests that are due: models are delivered a few parts at a time, then the question is asked.

        Args:
            online: The nodes that are connected.

        """
        for session in list(self._open.values()):
            node = session.member.node
            if node is None or node not in online:
                if time.monotonic() > session.until:
                    self._give_up(session.member.site, f"site {session.member.site} is not connected")
                continue
            session.until = time.monotonic() + self._patience
            if node != session.node:
                session.node, session.nonce = node, b""
                session.parts = self._parts(
                    {digest: path for digest, path in session.models.items() if (node, digest) not in self._held}
                )
            if time.monotonic() < session.due:
                continue
            while session.parts and self._courier.room("deliver", node, self._submit.at_once):
                deliver = session.parts.pop(0)
                request = pb.Request(campaign_digest=self.folder.campaign.digest, deliver=deliver)
                names = (name for piece in deliver.pieces for name in piece.parameters)
                session.sent += sum(self.base.parameters[name].nbytes for name in names)
                yield self._courier.message(
                    node, request, TIME, {PARAMETERS: _content(deliver, session.models)}, site=session.member.site
                )
            if not session.parts and not session.nonce and not self._courier.under_way("deliver", node):
                self._held.update((node, digest) for digest in session.models)
                self._note_sent(session)
                session.nonce = secrets.token_bytes(16)
                request = self.question(session.member, session.nonce)
                request.campaign_digest = self.folder.campaign.digest
                yield self._courier.message(node, request, TIME, site=session.member.site)

    def take(self, answer: Answer) -> None:
        """Take in what came of a request."""
        session = next((s for s in self._open.values() if s.node == answer.node), None)
        if session is None:
            return
        site, reply, nonce = session.member.site, answer.reply, session.nonce
        asked = kind_of(answer.request) == self.kind
        if asked:
            session.nonce = b""
        if reply is None:
            if kind_of(answer.request) == "deliver":
                session.parts.append(answer.request.deliver)
            self._failed(session, answer.problem)
        elif reply.WhichOneof("what") == "refusal":
            if reply.refusal.reason == pb.Refusal.REASON_NOT_DELIVERED:
                self._held.difference_update([(answer.node, digest) for digest in session.models])
                session.parts = self._parts(session.models)
                self._failed(session, refusal(site, reply.refusal))
            else:
                self._give_up(site, refusal(site, reply.refusal))
        elif asked:
            try:
                self.answered(site, reply, nonce)
            except OnebasinError as error:
                self._give_up(site, error.what)
            else:
                del self._open[site]
        elif reply.WhichOneof("what") != "delivered":
            self._give_up(site, f"site {site}: answered {reply.WhichOneof('what')} to deliver")

    def _parts(self, models: Mapping[bytes, Path]) -> list[pb.Deliver]:
        """Cut models into requests of the size of an update's parts; small models share one."""
        specs = {(digest, name): spec for digest in models for name, spec in self.base.parameters.items()}
        found = []
        for part in parts(specs, self._submit.part_mebibytes << 20):
            pieces = [
                pb.Piece(digest=digest, parameters=[name for _, name in names])
                for digest, names in groupby(part, key=itemgetter(0))
            ]
            found.append(pb.Deliver(pieces=pieces))
        return found

    def _failed(self, session: _Session, problem: str) -> None:
        session.failures += 1
        session.due = time.monotonic() + pause(session.failures)
        if session.failures >= TRIES:
            self._give_up(session.member.site, problem)

    def _note_sent(self, session: _Session) -> None:
        """Note what was sent to a site, counting twice what was sent twice."""
        if session.sent:
            self.events.note("delivered", session.member.site, bytes=session.sent)
            session.sent = 0

    def _give_up(self, site: str, message: str) -> None:
        self._note_sent(self._open.pop(site))
        self.problems[site] = message
        self.events.note(self.given_up, site, message=message)


def _content(deliver: pb.Deliver, models: Mapping[bytes, Path]) -> bytes:
    with ExitStack() as opened:
        return flower.joined(
            (opened.enter_context(TensorFile(models[piece.digest])), piece.parameters) for piece in deliver.pieces
        )
