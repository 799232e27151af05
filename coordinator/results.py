"""From a finished campaign to its report: the rows, the sites, the distances."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import combinations

from coordinator.arrivals import Arrival
from coordinator.campaign_folder import CampaignFolder
from coordinator.evaluating import AVERAGED, Score
from coordinator.members import Member, State
from coordinator.merge.distance import relative_distance, symmetric_kl
from coordinator.merging import MODEL
from coordinator.report.model import CampaignSummary, Divergence, Merged, PairDivergence, Report, Row, SiteSummary
from coordinator.report.model import Score as ReportedScore
from coordinator.report.palette import CITYSCAPES, KIND_NAMES
from coordinator.report.verdict import conclude
from protos import regions
from protos.receipts import Receipt
from protos.rules import BUFFERS, SECURE_SUM
from protos.tensorfile import TensorFile


def report(
    folder: CampaignFolder,
    base: TensorFile,
    members: list[Member],
    receipt: Receipt,
    scores: Mapping[str, Mapping[str, Score]],
    timings: Mapping[str, float],
) -> Report:
    """Put a campaign's report together.

    Args:
        folder: The campaign.
        base: Its base, open.
        members: Its members, all in a final state.
        receipt: What was merged.
        scores: By site, then by candidate's key.
        timings: Seconds by step of the run.

    """
    campaign = folder.campaign
    merged = folder.merged / MODEL
    parameters = base.manifest.parameters
    return conclude(
        Report(
            campaign=CampaignSummary(
                name=campaign.name,
                digest=campaign.digest.hex(),
                base_digest=campaign.message.base_digest.hex(),
                rules={
                    name: ", ".join(value) if isinstance(value, tuple) else value
                    for name, value in asdict(campaign.rules).items()
                },
            ),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            classes=class_names(campaign.message.classes),
            receipt_digest=receipt.digest,
            rows=list(rows(scores, campaign.sites, campaign.rules.buffers)),
            sites=[_site(folder, base, member) for member in members],
            merged=Merged(
                digest=receipt.merged.digest,
                file=MODEL,
                parameters=sum(spec.size for spec in parameters.values()),
                batch_norm_layers=len(base.manifest.layers),
                bytes=merged.stat().st_size,
            ),
            divergence=divergence(members),
            timings={name: round(seconds, 3) for name, seconds in timings.items()},
            versions=dict(receipt.versions),
        )
    )


def rows(scores: Mapping[str, Mapping[str, Score]], sites: tuple[str, ...], rule: str) -> Iterator[Row]:
    """Yield one row per model that was judged, in the order in which reports show them.

    Args:
        scores: By site, then by candidate's key.
        sites: The campaign's members.
        rule: Which buffers the merged model has, a key of `protos.rules.BUFFERS`.

    """
    yield from _row(scores, "base", "base", "base", None)
    for site in sites:
        yield from _row(scores, f"single:{site}", f"adapted at {site}", "single", site)
    for site in sites:
        yield from _row(scores, f"midpoint:site:{site}", f"mid-point, buffers of {site}", "one-site-buffers", site)
    for name in (AVERAGED, *BUFFERS):
        kind = f"{name}-buffers"
        title = KIND_NAMES[kind]  # type: ignore[index]  # a test holds kinds and rules together
        yield from _row(scores, f"midpoint:{name}", f"merged: {title}" if name == rule else title, kind, None)


def class_names(classes: int) -> list[str]:
    """Name the classes: those of Cityscapes if there are as many, else numbers."""
    return list(CITYSCAPES) if classes == len(CITYSCAPES) else [f"class {i}" for i in range(classes)]


def divergence(members: list[Member]) -> Divergence | None:
    """Return how far apart the sites' statistics lie, layer by layer; None with fewer than two sites."""
    found = {
        m.site: regions.statistics(m.header) for m in members if m.header is not None and m.state is State.MERGED
    }
    if len(found) < 2:
        return None
    layers = sorted(next(iter(found.values())))
    return Divergence(
        layers=layers,
        pairs=[
            PairDivergence(a, b, [symmetric_kl(found[a][layer], found[b][layer]) for layer in layers])
            for a, b in combinations(sorted(found), 2)
        ],
    )


def _row(
    scores: Mapping[str, Mapping[str, Score]], key: str, title: str, kind: str, site: str | None
) -> Iterator[Row]:
    found = {at: ReportedScore(*judged[key]) for at, judged in scores.items() if key in judged}
    if found:
        yield Row(key=key, title=title, kind=kind, site=site, scores=found)  # type: ignore[arg-type]


def _site(folder: CampaignFolder, base: TensorFile, member: Member) -> SiteSummary:
    if member.state is not State.MERGED:
        return SiteSummary(site=member.site, state=member.state.value, message=member.reason)
    if member.header is None:
        summed = folder.campaign.rules.privacy == SECURE_SUM
        why = "it was added up under masks" if summed else "its update was dropped after an earlier run"
        digest = member.digest.hex()
        return SiteSummary(site=member.site, state=member.state.value, update_digest=digest, message=why)
    kept = Arrival.model_in(folder.arrivals / member.site)
    distance = None
    region = member.site in folder.campaign.regions
    if kept.exists() and not region:  # only where the rules let the coordinator keep it
        with TensorFile(kept) as model:
            distance = relative_distance(model, base)
    statistics = regions.statistics(member.header)
    sent = sum(spec.nbytes for spec in regions.specs(folder.campaign, base.manifest, member.site).values())
    return SiteSummary(
        site=member.site,
        state=member.state.value,
        update_digest=member.digest.hex(),
        bytes=sent + len(member.header.SerializeToString()),
        batches=max((found.count for found in statistics.values()), default=0),
        distance_from_base=distance,
        seconds=member.seconds,
        message=f"a region of {member.models} sites" if region else "",
    )
