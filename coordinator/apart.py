"""No site counts twice: a site that is in a region's sum is no member itself, and in no other sum."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from coordinator.members import Member
from coordinator.merge.region import check_room
from coordinator.merge.state import MergeState
from protos import regions
from protos.campaign import Campaign
from protos.errors import UpdateRefusedError
from protos.regions import Standing


def check_apart(
    campaign: Campaign, state: Path, member: Member, standing: Standing, members: Collection[Member]
) -> None:
    """Make sure that no site counts twice, and that the sum has room for all that is there.

    Args:
        campaign: The campaign.
        state: Its merge state, if there is one.
        member: Whose update comes.
        standing: What that stands for.
        members: All members.

    Raises:
        UpdateRefusedError: A site in the update is a member itself, or in another's update.
        MergeRangeError: There is no room.

    """
    if not campaign.regions:
        return
    others = [other for other in members if other is not member and other.models]
    inside = {other.site: regions.standing(other.header).sites for other in others if other.header}
    for site in campaign.sites:
        if site not in campaign.regions and site != member.site:
            inside[site] = regions.tokens(campaign, [site])
    twice = next((site for site, found in inside.items() if found & standing.sites), "")
    if not twice and state.exists():  # of an earlier run's headers nothing may be left
        with MergeState(state) as opened:
            twice = "the merge" if opened.sites & standing.sites else ""
    if twice:
        raise UpdateRefusedError(
            f"{_whose(campaign, member.site)}: a site in its update is in {_whose(campaign, twice)} as well",
            "each site counts once: leave it out on one side",
            site=member.site,
        )
    check_room([standing.models, *(other.models for other in others)], campaign.rules.weighing)


def _whose(campaign: Campaign, name: str) -> str:
    kind = "region " if name in campaign.regions else "site " if name in campaign.sites else ""
    return f"{kind}{name}"
