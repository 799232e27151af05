"""Before the end of some campaigns: each site measures the merged model's statistics on its own unlabelled images.

Forward passes only, nothing is learned. What comes back is checked like an update's statistics.
"""

from __future__ import annotations

from coordinator.asking import Asking, Held
from coordinator.campaign_folder import CampaignFolder
from coordinator.courier import Courier
from coordinator.members import Member
from coordinator.merging import Measured
from protos import boundary, signing
from protos import messages_pb2 as pb
from protos.boundary import Statistics
from protos.errors import QuorumError, UpdateRefusedError
from protos.manifest import Manifest


class Measuring(Asking):
    """The conversation in which sites measure statistics; see :class:`Asking`."""

    kind, given_up = "measure", "not-measured"

    def __init__(
        self, folder: CampaignFolder, base: Manifest, members: list[Member], courier: Courier, held: Held
    ) -> None:
        self._found: dict[str, Statistics] = {}
        self._digests: dict[str, bytes] = {}
        super().__init__(folder, base, members, courier, held, folder.campaign.rules.patience_seconds)

    def question(self, member: Member, nonce: bytes) -> pb.Request:
        """Ask for the statistics of the mid-point."""
        self.events.note("measuring", member.site)
        return pb.Request(measure=pb.Measure(nonce=nonce, digest=self.midpoint))

    def answered(self, site: str, reply: pb.Reply, nonce: bytes) -> None:
        """Check and keep what a site measured.

        Raises:
            UpdateRefusedError: It isn't what was asked for, or makes no sense.
            SignatureError: The site didn't sign it.

        """
        campaign = self.folder.campaign
        found = signing.opened(reply.measured, signing.MEASURED, campaign.keys[site], pb.Measured, site)
        wanted = (campaign.digest, nonce, site, self.midpoint)
        if (found.campaign_digest, found.nonce, found.site, found.digest) != wanted:
            raise UpdateRefusedError(
                f"site {site}: the statistics were measured for another campaign, site, model or time", site=site
            )
        boundary.check_batch_norms(found.batch_norms, self.base, site)
        self._found[site] = {entry.layer: boundary.batch_norm(entry) for entry in found.batch_norms}
        self._digests[site] = signing.digest(reply.measured)
        self.events.note("measured", site)

    def measured(self) -> Measured:
        """Return what sites measured, in ascending order of site.

        Raises:
            QuorumError: Fewer did than the rules want updates; says which, and why.

        """
        wanted = self.folder.campaign.rules.minimum_sites
        if len(self._found) < wanted:
            told = "; ".join(self.problems.values())
            raise QuorumError(
                f"{len(self._found)} of {wanted} sites measured the merged model's statistics: {told}",
                "the merged model has the pooled statistics; run the campaign again when these sites are back",
            )
        return Measured(dict(sorted(self._found.items())), self._digests)
