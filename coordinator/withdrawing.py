"""Withdrawing: a site's update is taken out of the merge state, as if it had never been there.

The site presents the update once more. It must be the very one that the state holds, by digest; then subtracting
it is exact, and the new merged model has the bits of a merge without it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from coordinator import publishing
from coordinator.arrivals import Arrival, clear
from coordinator.campaign_folder import CampaignFolder
from coordinator.members import Member, State
from coordinator.merge.region import update_term
from coordinator.merge.state import MergeState, write_sum
from coordinator.merging import Content, last_receipt, write
from coordinator.report.write import write_report
from coordinator.results import report
from protos.digest import short
from protos.errors import ConfigurationError, QuorumError, UpdateRefusedError
from protos.receipts import Input, Receipt
from protos.rules import SECURE_SUM
from protos.tensorfile import TensorFile
from protos.updatefile import UpdateFile


def withdraw(folder: CampaignFolder, site: str, presented: Path | None = None, *, force: bool = False) -> Receipt:
    """Take a site's update out of a campaign's merge, and write the merged model and its receipt anew.

    Args:
        folder: The campaign.
        site: Whose update.
        presented: The update's file; None if the coordinator has kept it.
        force: Whether fewer sites may remain than the campaign's rules ask for.

    Returns:
        The new receipt, which names the one that it supersedes.

    Raises:
        ConfigurationError: Nothing was merged yet, the site is not in it, or the update is not at hand.
        QuorumError: Too few sites would remain.
        UpdateRefusedError: The update is not the one that was merged.
        StorageError: The disk is full; everything is as it was.

    """
    with folder.alone(), ExitStack() as opened:
        before = last_receipt(folder)
        entry, remaining = _without(folder, before, site, force=force)
        assert before is not None
        base = opened.enter_context(TensorFile(folder.base))
        update = opened.enter_context(_presented(folder, site, presented))
        update.check_for(folder.campaign, base.manifest, site)
        if update.digest.hex() != entry.digest:
            raise UpdateRefusedError(
                f"site {site}: {update.path} is update {short(update.digest)}, but {entry.digest[:12]} was merged",
                "present the one that was sent: the site's outbox holds it, if it didn't adapt again",
                site=site,
            )
        audit = folder.home.audit.note(
            "withdrawing", campaign=folder.path.name, site=site, digest=entry.digest, receipt=before.digest
        )
        # What sites measured was measured for a model that is no more: the new one has pooled statistics.
        remaining = tuple(replace(one, measured="") for one in remaining)
        withdrawn = tuple(sorted([*before.withdrawn, entry], key=lambda one: one.site))
        with publishing.result(folder.path) as making, MergeState(folder.state) as state:
            state.check()
            term = update_term(update.file, update.header, update.digest, folder.campaign.keys[site])
            target = making / publishing.STATE
            write_sum(target, base.manifest, folder.campaign.message.base_digest, [(1, state), (-1, term)])
            with MergeState(target) as left:
                merged = making / publishing.MERGED
                receipt = write(merged, folder, base, left, Content(remaining, withdrawn, audit))
        gone = Member(site, 0.0, State.WITHDRAWN, digest=update.digest, reason=f"site {site} withdrew its update")
        folder.log().place(gone)
        clear(folder.arrivals / site)
        folder.log().note("withdrawn", site, digest=entry.digest, receipt=receipt.digest)
        found = report(folder, base, list(_members(folder, receipt)), receipt, {}, {})
        write_report(folder.merged, found)
        return receipt


def _without(
    folder: CampaignFolder, before: Receipt | None, site: str, *, force: bool
) -> tuple[Input, tuple[Input, ...]]:
    """Return a site's input and those that remain without it."""
    if before is None:
        raise ConfigurationError(
            f"campaign {folder.path.name} has no merged model", "run it first: onebasin coordinator run"
        )
    if folder.campaign.rules.privacy == SECURE_SUM:
        raise ConfigurationError(
            f"campaign {folder.path.name} is a secure sum, from which no single update can be taken out",
            "create a new campaign without the site",
        )
    if folder.campaign.rules.weighing == "members" and folder.campaign.regions:
        raise ConfigurationError(
            f"campaign {folder.path.name} counts each member once, so its sums depend on who is in them",
            "create a new campaign without the site",
        )
    entry = next((one for one in before.inputs if one.site == site), None)
    if entry is None:
        gone = any(one.site == site for one in before.withdrawn)
        raise ConfigurationError(
            f"site {site} was withdrawn already"
            if gone
            else f"site {site} is not in the merge of campaign {folder.path.name}",
            f"those that are: {', '.join(one.site for one in before.inputs)}",
        )
    remaining = tuple(one for one in before.inputs if one.site != site)
    needed = folder.campaign.rules.minimum_sites
    if not remaining:
        raise QuorumError(
            f"site {site} is the last one in the merge: without it nothing is left",
            f"remove the folder of the campaign: {folder.path}",
        )
    if len(remaining) < needed and not force:
        raise QuorumError(
            f"campaign {folder.path.name} needs {needed} sites, and without {site} it would have {len(remaining)}",
            "withdraw it nevertheless: --force",
        )
    if site in folder.campaign.rules.required and not force:
        raise QuorumError(
            f"by the rules of campaign {folder.path.name} nothing is merged without site {site}",
            "withdraw it nevertheless: --force",
        )
    return entry, remaining


def _presented(folder: CampaignFolder, site: str, presented: Path | None) -> UpdateFile:
    path = presented or Arrival.model_in(folder.arrivals / site)
    if presented is None and not path.exists():
        raise ConfigurationError(
            f"the update of site {site} is not here any more",
            f"let the site export it (onebasin site export) and give its file: --update {site}.safetensors",
        )
    return UpdateFile(path)


def _members(folder: CampaignFolder, receipt: Receipt) -> list[Member]:
    merged = {entry.site: entry.digest for entry in receipt.inputs}
    withdrawn = {entry.site for entry in receipt.withdrawn}
    found = []
    for site in folder.campaign.sites:
        if site in merged:
            found.append(Member(site, 0.0, State.MERGED, digest=bytes.fromhex(merged[site])))
        elif site in withdrawn:
            found.append(Member(site, 0.0, State.WITHDRAWN, reason=f"site {site} withdrew its update"))
        else:
            found.append(Member(site, 0.0, State.MISSING, reason=f"site {site} sent no update"))
    return found
