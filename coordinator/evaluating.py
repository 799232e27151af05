"""After the merge: each site judges the models on its own held-out labelled images.

Each site gets the mid-point once, with several sets of statistics (kilobytes each). Single sites' models travel
only if the campaign's rule `compare_single_models` says so.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Collection, Iterator, Mapping

from flwr.app import Message

from coordinator.arrivals import Arrival
from coordinator.courier import Answer, Courier
from coordinator.home import CampaignFolder, Events
from coordinator.members import Member, State, refusal
from coordinator.merge.midpoint import pooled_statistics
from coordinator.merge.state import MergeState
from coordinator.merge.statistics import averaged
from coordinator.merging import MODEL
from protos import boundary, files, flower, signing
from protos import messages_pb2 as pb
from protos.boundary import BatchNorm
from protos.errors import OnebasinError, UpdateRefusedError
from protos.tensorfile import TensorFile

log = logging.getLogger("onebasin.coordinator")

TRIES = 3
"""How often a site that does not answer is asked."""
PATIENCE = 120.0
"""Seconds that a site which is not connected is waited for: the merge is done, only its scores are missing."""
TIME = 3600.0
"""Seconds for one site's evaluation."""
MIDPOINT, POOLED, AVERAGED = "midpoint", "pooled", "averaged"
_BASE = pb.Candidate.Source(kind=pb.Candidate.KIND_BASE)
_OWN = pb.Candidate.Source(kind=pb.Candidate.KIND_OWN)

Score = tuple[list[list[int]], int]
"""A confusion matrix, and the number of images behind it."""


class Evaluating:
    """The conversation in which sites judge the models."""

    def __init__(self, folder: CampaignFolder, base: TensorFile, members: list[Member], courier: Courier) -> None:
        self._folder = folder
        self._base = base
        self._courier = courier
        self._events = Events(folder.events)
        self._merged = [member for member in members if member.state is State.MERGED]
        self._tries = {member.site: 0 for member in self._merged}
        self._open = set(self._tries)
        self._until = time.monotonic() + PATIENCE
        self._asked: dict[str, bytes] = {}
        self._statistics = self._sets()
        self.scores: dict[str, dict[str, Score]] = {}

    @property
    def done(self) -> bool:
        """Whether every site has answered or was given up."""
        return not self._open

    def messages(self, online: Collection[int]) -> Iterator[Message]:
        """Make the requests that are due, one site at a time: each carries whole models.

        Args:
            online: The nodes that are connected.

        """
        for member in self._merged:
            if member.site not in self._open or member.site in self._asked:
                continue
            if member.node not in online:
                if time.monotonic() > self._until:
                    self._give_up(member.site, f"site {member.site} is not connected")
            elif member.node is not None:
                self._tries[member.site] += 1
                nonce = self._asked[member.site] = secrets.token_bytes(16)
                candidates = list(self._candidates(member.site))
                request = pb.Request(
                    campaign_digest=self._folder.campaign.digest,
                    evaluate=pb.Evaluate(
                        nonce=nonce,
                        candidates=candidates,
                        buffer_sets=[
                            pb.BufferSet(
                                set=name,
                                batch_norms=[boundary.wire_batch_norm(*item) for item in found.items()],
                            )
                            for name, found in self._statistics.items()
                        ],
                    ),
                )
                self._events.note("evaluating", member.site, models=len(candidates))
                yield self._courier.message(member.node, request, TIME, self._carried(candidates))

    def take(self, answer: Answer) -> None:
        """Take in a site's scores, or why there are none."""
        member = next((m for m in self._merged if m.node == answer.node), None)
        if member is None or member.site not in self._open:
            return
        site = member.site
        nonce = self._asked.pop(site, b"")
        if answer.reply is None:
            if self._tries[site] >= TRIES:
                self._give_up(site, answer.problem)
            return
        if answer.reply.WhichOneof("what") == "refusal":
            self._give_up(site, refusal(site, answer.reply.refusal))
            return
        try:
            self.scores[site] = self._checked(site, answer.reply, nonce)
        except OnebasinError as error:
            self._give_up(site, error.what)
            return
        folder = files.make_folder(self._folder.path / "evaluations")
        files.write(folder / f"{site}.binpb", answer.reply.evaluation.SerializeToString(deterministic=True))
        self._events.note("evaluated", site, models=len(self.scores[site]))
        self._open.discard(site)

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

    def _give_up(self, site: str, message: str) -> None:
        self._open.discard(site)
        self._events.note("not-evaluated", site, message=message)

    def _sets(self) -> dict[str, Mapping[str, BatchNorm]]:
        """Return the sets of statistics that are compared, by name."""
        single = {m.site: boundary.statistics(m.header) for m in self._merged if m.header is not None}
        with MergeState(self._folder.state) as state:
            sets: dict[str, Mapping[str, BatchNorm]] = {
                POOLED: pooled_statistics([(1, state)], self._base.manifest),
                AVERAGED: {
                    layer: averaged([found[layer] for found in single.values()])
                    for layer in self._base.manifest.layers
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
            carried = _carried(f"site:{site}")
            yield pb.Candidate(
                key=f"single:{site}",
                parameters=_OWN if site == at else carried,
                buffers=_OWN if site == at else carried,
            )
        for name in self._statistics:
            yield pb.Candidate(key=f"midpoint:{name}", parameters=_carried(MIDPOINT), buffers=_carried(name))

    def _carried(self, candidates: list[pb.Candidate]) -> dict[str, bytes]:
        wanted = {c.parameters.set for c in candidates if c.parameters.kind == pb.Candidate.KIND_CARRIED}
        sets = {}
        for name in sorted(wanted):
            path = self._folder.merged / MODEL
            if name != MIDPOINT:
                path = Arrival.model_in(self._folder.path / "arrivals" / name.removeprefix("site:"))
            with TensorFile(path) as file:
                sets[name] = flower.joined(file, self._base.manifest.parameters)
        return sets


def _carried(name: str) -> pb.Candidate.Source:
    return pb.Candidate.Source(kind=pb.Candidate.KIND_CARRIED, set=name)
