"""After the merge: each site judges the models on its own held-out labelled images.

Each site gets the mid-point once, in parts as updates come in, and with the question several sets of statistics
(kilobytes each). Single sites' models travel only if the campaign's rule `compare_single_models` says so.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from flwr.app import Message

from coordinator.arrivals import Arrival
from coordinator.courier import PER_SITE, Answer, Courier, kind_of
from coordinator.home import CampaignFolder, Events
from coordinator.members import Member, State, refusal
from coordinator.merge.midpoint import pooled_statistics
from coordinator.merge.state import MergeState
from coordinator.merge.statistics import uniform
from coordinator.merging import MODEL
from protos import boundary, files, flower, signing
from protos import messages_pb2 as pb
from protos.assembly import parts
from protos.boundary import BatchNorm
from protos.digest import model_digest, parameters_digest
from protos.errors import OnebasinError, UpdateRefusedError
from protos.flower import PARAMETERS
from protos.tensorfile import TensorFile

TRIES = 3
"""How often a site may fail to answer until it is given up."""
PATIENCE = 120.0
"""Seconds that a site which is not connected is waited for: the merge is done, only its scores are missing."""
TIME = 3600.0
"""Seconds for one site's evaluation."""
POOLED, AVERAGED, RECALIBRATED = "pooled", "averaged", "recalibrated"
_BASE = pb.Candidate.Source(kind=pb.Candidate.KIND_BASE)
_OWN = pb.Candidate.Source(kind=pb.Candidate.KIND_OWN)
_MEASURED = pb.Candidate.Source(kind=pb.Candidate.KIND_RECALIBRATED)

Score = tuple[list[list[int]], int]
"""A confusion matrix, and the number of images behind it."""


@dataclass
class _Session:
    """One site's evaluation.

    Attributes:
        member: Who judges.
        models: What is delivered for it: the parameters' digest and the file that they are in.
        node: The node that is asked; another if the site came back as another.
        failures: How often a request of it came to nothing.
        parts: What is still to be delivered.
        nonce: Of the request for scores; empty while there is none under way.

    """

    member: Member
    models: Mapping[bytes, Path]
    node: int | None = None
    failures: int = 0
    parts: list[pb.Deliver] = field(default_factory=list)
    nonce: bytes = b""


class Evaluating:
    """The conversation in which sites judge the models.

    Args:
        folder: The campaign's folder.
        base: The base, open.
        members: The campaign's members, all in a final state.
        courier: Who carries the requests.

    """

    def __init__(self, folder: CampaignFolder, base: TensorFile, members: list[Member], courier: Courier) -> None:
        self._folder = folder
        self._base = base.manifest
        self._courier = courier
        self._submit = folder.home.settings.submit
        self._events = Events(folder.events)
        self._merged = [member for member in members if member.state is State.MERGED]
        self._until = time.monotonic() + PATIENCE
        self._statistics = self._sets()
        self._digests = {member.site: self._digest(member) for member in self._merged}
        with TensorFile(folder.merged / MODEL) as model:
            self._midpoint = parameters_digest(model)
        self._open = {member.site: self._session(member) for member in self._merged}
        self.scores: dict[str, dict[str, Score]] = {}

    @property
    def done(self) -> bool:
        """Whether every site has answered or was given up."""
        return not self._open

    def messages(self, online: Collection[int]) -> Iterator[Message]:
        """Make the requests that are due: models are delivered a few parts at a time, then their scores asked for.

        Args:
            online: The nodes that are connected.

        """
        for session in list(self._open.values()):
            node = session.member.node
            if node is None or node not in online:
                if time.monotonic() > self._until:
                    self._give_up(session.member.site, f"site {session.member.site} is not connected")
                continue
            if node != session.node:
                session.node, session.nonce, session.parts = node, b"", self._parts(session.models)
            while session.parts and self._room(node):
                deliver = session.parts.pop(0)
                request = pb.Request(campaign_digest=self._folder.campaign.digest, deliver=deliver)
                sets = {PARAMETERS: _content(deliver, session.models)}
                yield self._courier.message(node, request, TIME, sets, site=session.member.site)
            if not session.parts and not session.nonce and not self._courier.under_way("deliver", node):
                yield self._courier.message(node, self._question(session), TIME, site=session.member.site)

    def take(self, answer: Answer) -> None:
        """Take in what came of a request."""
        session = next((s for s in self._open.values() if s.node == answer.node), None)
        if session is None:
            return
        site, reply = session.member.site, answer.reply
        nonce = session.nonce
        if kind_of(answer.request) == "evaluate":
            session.nonce = b""
        if reply is None:
            if kind_of(answer.request) == "deliver":
                session.parts.append(answer.request.deliver)
            self._failed(session, answer.problem)
        elif reply.WhichOneof("what") == "refusal":
            if reply.refusal.reason == pb.Refusal.REASON_NOT_DELIVERED:
                session.parts = self._parts(session.models)
                self._failed(session, refusal(site, reply.refusal))
            else:
                self._give_up(site, refusal(site, reply.refusal))
        elif kind_of(answer.request) == "evaluate":
            self._take_scores(site, reply, nonce)
        elif reply.WhichOneof("what") != "delivered":
            self._give_up(site, f"site {site}: answered {reply.WhichOneof('what')} to deliver")

    def _take_scores(self, site: str, reply: pb.Reply, nonce: bytes) -> None:
        try:
            self.scores[site] = self._checked(site, reply, nonce)
        except OnebasinError as error:
            self._give_up(site, error.what)
            return
        folder = files.make_folder(self._folder.path / "evaluations")
        files.write(folder / f"{site}.binpb", reply.evaluation.SerializeToString(deterministic=True))
        self._events.note("evaluated", site, models=len(self.scores[site]))
        del self._open[site]

    def _session(self, member: Member) -> _Session:
        models = {self._midpoint: self._folder.merged / MODEL}
        if self._comparing:
            arrivals = self._folder.path / "arrivals"
            others = [other.site for other in self._merged if other is not member]
            models.update({self._digests[site]: Arrival.model_in(arrivals / site) for site in others})
        return _Session(member, models)

    def _parts(self, models: Mapping[bytes, Path]) -> list[pb.Deliver]:
        """Cut models into requests of the size of an update's parts; small models share one."""
        specs = {(digest, name): spec for digest in models for name, spec in self._base.parameters.items()}
        found = []
        for part in parts(specs, self._submit.part_mebibytes << 20):
            pieces = [
                pb.Piece(digest=digest, parameters=[name for _, name in names])
                for digest, names in groupby(part, key=itemgetter(0))
            ]
            found.append(pb.Deliver(pieces=pieces))
        return found

    def _room(self, node: int) -> bool:
        under_way = self._courier.under_way
        return under_way("deliver") < self._submit.at_once and under_way("deliver", node) < PER_SITE

    def _question(self, session: _Session) -> pb.Request:
        site = session.member.site
        candidates = list(self._candidates(site))
        session.nonce = secrets.token_bytes(16)
        self._events.note("evaluating", site, models=len(candidates))
        sets = [
            pb.BufferSet(set=name, batch_norms=[boundary.wire_batch_norm(*item) for item in found.items()])
            for name, found in self._statistics.items()
        ]
        return pb.Request(
            campaign_digest=self._folder.campaign.digest,
            evaluate=pb.Evaluate(nonce=session.nonce, candidates=candidates, buffer_sets=sets),
        )

    def _checked(self, site: str, reply: pb.Reply, nonce: bytes) -> dict[str, Score]:
        campaign = self._folder.campaign
        found = signing.opened(reply.evaluation, signing.EVALUATION, campaign.keys[site], pb.Evaluation, site)
        if (found.campaign_digest, found.nonce, found.site) != (campaign.digest, nonce, site):
            raise UpdateRefusedError(f"site {site}: the scores are for another campaign, site or time", site=site)
        classes = campaign.message.classes
        scores = {}
        for score in found.scores:
            if score.classes != classes or len(score.confusion) != classes * classes:
                raise UpdateRefusedError(
                    f"site {site}: a confusion matrix is not {classes} × {classes}", site=site
                )
            rows = [list(score.confusion[i : i + classes]) for i in range(0, classes * classes, classes)]
            scores[score.key] = (rows, score.images)
        return scores

    def _failed(self, session: _Session, problem: str) -> None:
        session.failures += 1
        if session.failures >= TRIES:
            self._give_up(session.member.site, problem)

    def _give_up(self, site: str, message: str) -> None:
        del self._open[site]
        self._events.note("not-evaluated", site, message=message)

    def _sets(self) -> dict[str, Mapping[str, BatchNorm]]:
        """Return the sets of statistics that are compared, by name."""
        single = {m.site: boundary.statistics(m.header) for m in self._merged if m.header is not None}
        with MergeState(self._folder.state) as state:
            sets: dict[str, Mapping[str, BatchNorm]] = {
                POOLED: pooled_statistics([(1, state)], self._base),
                AVERAGED: {
                    layer: uniform([found[layer] for found in single.values()]) for layer in self._base.layers
                },
            }
        if self._comparing:
            sets.update({f"site:{site}": found for site, found in single.items()})
        return sets

    @property
    def _comparing(self) -> bool:
        return self._folder.campaign.rules.compare_single_models

    def _candidates(self, at: str) -> Iterator[pb.Candidate]:
        """Name what a site is to judge."""
        yield pb.Candidate(key="base", parameters=_BASE, buffers=_BASE)
        for site in [member.site for member in self._merged] if self._comparing else [at]:
            if site == at:
                yield pb.Candidate(key=f"single:{site}", parameters=_OWN, buffers=_OWN)
            else:
                buffers = _statistics(f"site:{site}")
                yield pb.Candidate(
                    key=f"single:{site}", parameters=_delivered(self._digests[site]), buffers=buffers
                )
        for name in self._statistics:
            parameters = _delivered(self._midpoint)
            yield pb.Candidate(key=f"midpoint:{name}", parameters=parameters, buffers=_statistics(name))
        if self._folder.campaign.rules.recalibrate:
            yield pb.Candidate(
                key=f"midpoint:{RECALIBRATED}", parameters=_delivered(self._midpoint), buffers=_MEASURED
            )

    def _digest(self, member: Member) -> bytes:
        listed = (
            {parameter.name: parameter.sha256 for parameter in member.header.parameters} if member.header else {}
        )
        return model_digest(self._base.parameters, listed)


def _delivered(digest: bytes) -> pb.Candidate.Source:
    return pb.Candidate.Source(kind=pb.Candidate.KIND_CARRIED, digest=digest)


def _statistics(name: str) -> pb.Candidate.Source:
    return pb.Candidate.Source(kind=pb.Candidate.KIND_CARRIED, set=name)


def _content(deliver: pb.Deliver, models: Mapping[bytes, Path]) -> bytes:
    with ExitStack() as opened:
        return flower.joined(
            (opened.enter_context(TensorFile(models[piece.digest])), piece.parameters) for piece in deliver.pieces
        )
