"""The end of a campaign for its sites: each gets the receipt, and if the rules say so the merged model with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coordinator.asking import Asking, Held
from coordinator.campaign_folder import CampaignFolder
from coordinator.courier import Courier
from coordinator.members import Member
from coordinator.merging import RECEIPT
from protos import boundary, files
from protos import messages_pb2 as pb
from protos.boundary import Statistics
from protos.errors import UpdateRefusedError
from protos.manifest import Manifest


class Adopting(Asking):
    """The conversation in which sites take the merged model over; arguments as those of :class:`Asking`.

    Args:
        sets: The statistics that go with it, by name, in the order in which the model knows them.

    """

    kind, given_up = "adopt", "not-adopted"

    def __init__(
        self,
        folder: CampaignFolder,
        base: Manifest,
        members: list[Member],
        courier: Courier,
        held: Held,
        sets: Mapping[str, Statistics],
    ) -> None:
        self._sets = [boundary.wire_set(name, found) for name, found in sets.items()]
        self._receipt = files.read(folder.merged / RECEIPT)
        super().__init__(folder, base, members, courier, held)

    def question(self, member: Member, nonce: bytes) -> pb.Request:
        """Tell a site to keep the model."""
        adopt = pb.Adopt(digest=self.midpoint, buffer_sets=self._sets, receipt=self._receipt)
        return pb.Request(adopt=adopt)

    def answered(self, site: str, reply: pb.Reply, nonce: bytes) -> None:
        """Note that a site has the model.

        Raises:
            UpdateRefusedError: It answers something else.

        """
        if reply.WhichOneof("what") != "adopted":
            raise UpdateRefusedError(f"site {site}: answered {reply.WhichOneof('what')} to adopt", site=site)
        self.events.note("adopted", site)


class Acknowledging(Asking):
    """The conversation in which sites get the receipt alone: what they sent is merged; see :class:`Asking`."""

    kind, given_up = "adopt", "not-receipted"

    def __init__(
        self, folder: CampaignFolder, base: Manifest, members: list[Member], courier: Courier, held: Held
    ) -> None:
        self._receipt = files.read(folder.merged / RECEIPT)
        super().__init__(folder, base, members, courier, held, _PATIENCE)

    def models(self, member: Member) -> Mapping[bytes, Path]:
        """Name none."""
        return {}

    def question(self, member: Member, nonce: bytes) -> pb.Request:
        """Give a site the receipt."""
        return pb.Request(adopt=pb.Adopt(receipt=self._receipt))

    def answered(self, site: str, reply: pb.Reply, nonce: bytes) -> None:
        """Note that a site has the receipt.

        Raises:
            UpdateRefusedError: It answers something else.

        """
        if reply.WhichOneof("what") != "adopted":
            raise UpdateRefusedError(f"site {site}: answered {reply.WhichOneof('what')} to adopt", site=site)
        self.events.note("receipted", site)


_PATIENCE = 30.0
"""Seconds that a site which is not connected is waited for: it gets the receipt with the next run, too."""
