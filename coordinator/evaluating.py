"""After the merge: each site judges the models on its own held-out labelled images.

Each site gets the mid-point once, in parts as updates come in, and with the question several sets of statistics
(kilobytes each). Single sites' models travel only if the campaign's rule `compare_single_models` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from coordinator.arrivals import Arrival
from coordinator.asking import Asking, Held
from coordinator.campaign_folder import CampaignFolder
from coordinator.courier import Courier
from coordinator.members import Member, State
from coordinator.merge.midpoint import pooled_statistics
from coordinator.merge.state import MergeState
from coordinator.merging import Measured, pooled_measured
from protos import boundary, files, signing
from protos import messages_pb2 as pb
from protos.boundary import BatchNorm, Statistics
from protos.digest import model_digest
from protos.errors import UpdateRefusedError
from protos.manifest import Manifest
from protos.statistics import uniform

POOLED, AVERAGED, OWN, RECALIBRATED = "pooled", "averaged", "own", "recalibrated"
POOLED_RECALIBRATED, ROUTED = "pooled-recalibrated", "routed"
_BASE = pb.Candidate.Source(kind=pb.Candidate.KIND_BASE)
_OWN = pb.Candidate.Source(kind=pb.Candidate.KIND_OWN)
_MEASURED = pb.Candidate.Source(kind=pb.Candidate.KIND_RECALIBRATED)

Score = tuple[list[list[int]], int]
"""A confusion matrix, and the number of images behind it."""


class Evaluating(Asking):
    """The conversation in which sites judge the models; arguments as those of :class:`Asking`.

    Args:
        measured: The statistics that sites measured for the merged model, if the rules ask for them.

    """

    kind, given_up = "evaluate", "not-evaluated"

    def __init__(
        self,
        folder: CampaignFolder,
        base: Manifest,
        members: list[Member],
        courier: Courier,
        held: Held,
        measured: Measured,
    ) -> None:
        self._rules = folder.campaign.rules
        members = [
            member for member in members if member.site not in folder.campaign.regions
        ]  # they have no images
        self._regions = bool(folder.campaign.regions)
        self._singles = [member for member in members if member.state is State.MERGED]
        kept = all(Arrival.model_in(folder.arrivals / member.site).exists() for member in self._singles)
        self._comparing = self._rules.compare_single_models and kept  # not again, once they are dropped
        self._digests = {member.site: _digest(member, base) for member in self._singles if self._comparing}
        self._measured = measured
        self._statistics = self._sets(folder, base)
        self.scores: dict[str, dict[str, Score]] = {}
        super().__init__(folder, base, members, courier, held)

    def models(self, member: Member) -> Mapping[bytes, Path]:
        """Name the mid-point and, if the rules let them travel, the other sites' models."""
        found = dict(super().models(member))
        if self._comparing:
            arrivals = self.folder.arrivals
            others = [other.site for other in self._singles if other is not member]
            found.update({self._digests[site]: Arrival.model_in(arrivals / site) for site in others})
        return found

    def question(self, member: Member, nonce: bytes) -> pb.Request:
        """Name what a site is to judge, with the statistics that it has not itself."""
        candidates = list(self._candidates(member.site))
        delivered = [digest.hex() for digest in self.models(member)]
        self.events.note("evaluating", member.site, models=len(candidates), delivered=delivered)
        sets = [boundary.wire_set(name, found) for name, found in self._statistics.items()]
        return pb.Request(evaluate=pb.Evaluate(nonce=nonce, candidates=candidates, buffer_sets=sets))

    def answered(self, site: str, reply: pb.Reply, nonce: bytes) -> None:
        """Check and keep a site's scores.

        Raises:
            UpdateRefusedError: They aren't what was asked for.
            SignatureError: The site didn't sign them.

        """
        self.scores[site] = self._checked(site, reply, nonce)
        folder = files.make_folder(self.folder.path / "evaluations")
        files.write(folder / f"{site}.binpb", reply.evaluation.SerializeToString(deterministic=True))
        self.events.note("evaluated", site, models=len(self.scores[site]))

    def _checked(self, site: str, reply: pb.Reply, nonce: bytes) -> dict[str, Score]:
        campaign = self.folder.campaign
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

    def _sets(self, folder: CampaignFolder, base: Manifest) -> dict[str, Mapping[str, BatchNorm]]:
        """Return the sets of statistics that are compared, by name."""
        single = {m.site: boundary.statistics(m.header) for m in self._singles if m.header is not None}
        with MergeState(folder.state) as state:
            sets: dict[str, Statistics] = {POOLED: pooled_statistics([(1, state)], base)}
        if len(single) == len(self._singles) and not self._regions:  # else they were dropped after an earlier run
            sets[AVERAGED] = {layer: uniform([found[layer] for found in single.values()]) for layer in base.layers}
        if self._comparing:
            sets.update({f"site:{site}": found for site, found in single.items()})
        if self._measured.found:
            sets[POOLED_RECALIBRATED] = pooled_measured(self._measured)
        if self._rules.buffers == ROUTED:
            sets.update({f"measured:{site}": found for site, found in self._measured.found.items()})
        return sets

    def _candidates(self, at: str) -> Iterator[pb.Candidate]:
        """Name what a site is to judge."""
        yield pb.Candidate(key="base", parameters=_BASE, buffers=_BASE)
        for site in [m.site for m in self._singles] if self._comparing else [at]:
            if site == at:
                yield pb.Candidate(key=f"single:{site}", parameters=_OWN, buffers=_OWN)
            else:
                buffers = _statistics(f"site:{site}")
                yield pb.Candidate(
                    key=f"single:{site}", parameters=_delivered(self._digests[site]), buffers=buffers
                )
        midpoint = _delivered(self.midpoint)
        for name in self._statistics:
            if not name.startswith("measured:"):
                yield pb.Candidate(key=f"midpoint:{name}", parameters=midpoint, buffers=_statistics(name))
        if self._rules.buffers == OWN:
            yield pb.Candidate(key=f"midpoint:{OWN}", parameters=midpoint, buffers=_OWN)
        if self._rules.buffers == RECALIBRATED or self._measured.found:
            yield pb.Candidate(key=f"midpoint:{RECALIBRATED}", parameters=midpoint, buffers=_MEASURED)
        if self._rules.buffers == ROUTED:
            names = [POOLED, *(f"measured:{site}" for site in self._measured.found)]
            buffers = pb.Candidate.Source(kind=pb.Candidate.KIND_ROUTED, sets=names)
            yield pb.Candidate(key=f"midpoint:{ROUTED}", parameters=midpoint, buffers=buffers)


def _digest(member: Member, base: Manifest) -> bytes:
    listed = {parameter.name: parameter.sha256 for parameter in member.header.parameters} if member.header else {}
    return model_digest(base.parameters, listed)


def _delivered(digest: bytes) -> pb.Candidate.Source:
    return pb.Candidate.Source(kind=pb.Candidate.KIND_CARRIED, digest=digest)


def _statistics(name: str) -> pb.Candidate.Source:
    return pb.Candidate.Source(kind=pb.Candidate.KIND_CARRIED, set=name)
