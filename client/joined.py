"""A campaign that a site joined, and the base that it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protos.campaign import Campaign
from protos.digest import file_digest, short
from protos.errors import BaseMismatchError, ModelFileError
from protos.tensorfile import TensorFile

if TYPE_CHECKING:
    from client.site import Site


@dataclass(frozen=True)
class Joined:
    """A campaign that a site joined, with what the site keeps for it.

    ::

        campaign.binpb  base.safetensors
        accepted.json   the operator's yes, see `client.acceptance`
        progress.json  adapt.log  adapt.lock  checkpoint.pt  failure.json     of the adapting process
        tensorboard/    its training logs, unless the settings forbid them
        outbox/         the finished update, until it is merged
        delivered/      models to be judged, until they are judged
        pictures/       held-out images with predictions, for people at the site
    """

    site: Site
    campaign: Campaign

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.site.folder / "campaigns" / short(self.campaign.digest)

    @property
    def is_region(self) -> bool:
        """Whether it is a region that joined: a coordinator, with sums of its sites and no images of its own."""
        return self.site.name in self.campaign.regions

    @property
    def base(self) -> Path:
        """The site's copy of the base."""
        return self.folder / "base.safetensors"


def check_base(path: Path, campaign: Campaign) -> None:
    """Check that a file holds the base that a campaign names.

    Raises:
        BaseMismatchError: It is missing, damaged, or another model.

    """
    fix = "copy the base again from where the campaign came from"
    try:
        with TensorFile(path) as file:
            digest = file_digest(file)
    except ModelFileError as error:
        raise BaseMismatchError(f"the base can't be read: {error.what}", fix) from error
    if digest != campaign.message.base_digest:
        raise BaseMismatchError(
            f"{path} is model {short(digest)}, but campaign {campaign.name} starts from base "
            f"{short(campaign.message.base_digest)}",
            fix,
        )
