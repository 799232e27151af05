"""What the page does to campaigns: the functions behind ``cancel``, ``withdraw`` and ``verify``, as jobs."""

from __future__ import annotations

from pathlib import Path

from coordinator.campaign_folder import CampaignFolder
from coordinator.page.jobs import Job, Jobs, Say
from coordinator.receipted import MODEL, PROOFS, RECEIPT
from protos.errors import ConfigurationError

_MARKS = {True: "✓", False: "✗", None: "–"}


def cancel(jobs: Jobs, folder: CampaignFolder) -> Job:
    """Begin to cancel a campaign; raises as `Jobs.start`."""

    def work(say: Say) -> str:
        from coordinator import watching

        watching.cancel(folder, lambda event: say(watching.sentence(event)))
        return f"campaign {folder.campaign.name} is cancelled"

    return jobs.start(folder.path.name, "cancelling", work)


def withdraw(jobs: Jobs, folder: CampaignFolder, site: str, update: str = "", *, force: bool = False) -> Job:
    """Begin to take a site's update out of a merge.

    Args:
        jobs: What is being done.
        folder: The campaign.
        site: Whose update.
        update: The name of a file in `presented`; empty if the coordinator has kept the update.
        force: Whether fewer sites may remain than the rules ask for.

    Raises:
        ConfigurationError: There is no such file, or something is being done with this campaign.

    """
    found = {path.name: path for path in presented(folder)}
    if update and update not in found:
        raise ConfigurationError(f"there is no file {update} in {_presented(folder)}", "put it there")

    def work(say: Say) -> str:
        from coordinator import withdrawing

        receipt = withdrawing.withdraw(folder, site, found.get(update), force=force)
        return f"withdrew site {site}; merged now: {', '.join(entry.site for entry in receipt.inputs)}"

    return jobs.start(folder.path.name, f"withdrawing site {site}", work)


def verify(jobs: Jobs, folder: CampaignFolder) -> Job:
    """Begin to verify the merged model by its receipt; raises as `Jobs.start`."""

    def work(say: Say) -> str:
        from coordinator.verifying import Evidence
        from coordinator.verifying import verify as check

        proofs = sorted((folder.merged / PROOFS).glob("*.json"))
        evidence = Evidence(folder.campaign, (), folder.base, proofs)
        key = folder.home.public_key
        verdict = check(folder.merged / MODEL, folder.merged / RECEIPT, key, evidence)
        for one in verdict.checks:
            say(f"{_MARKS[one.ok]} {one.said}")
        verdict.require()
        return "the merged model is the receipt's"

    return jobs.start(folder.path.name, "verifying the merged model", work)


def presented(folder: CampaignFolder) -> list[Path]:
    """List the updates' files that were put into the campaign's folder ``presented`` to be withdrawn."""
    return sorted(_presented(folder).glob("*.safetensors"))


def _presented(folder: CampaignFolder) -> Path:
    return folder.path / "presented"
