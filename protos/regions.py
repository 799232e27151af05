"""Regions: what leaves one, and how it is checked. A coordinator's sums are sent on, as one update for k sites.

An update's parameters are sums then, in the integers of `protos.fixedpoint`, and its statistics the exact sums of
`protos.statistics`. So whoever adds them up gets the bits that the single updates would have given. The region's
coordinator vouches for them in a statement inside the header: how many sites' models are in the sums, and the
digest of its own receipt, which stays in the region. The statement has a fixed length, and so has all that crosses
the border, however many sites there are inside.

A site is told from others by a token, a digest of its public key: nothing of it can be read from that, but whoever
knows a key can tell whether its token is there. That is what it is for: no site counts twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import boundary, dtypes, signing
from protos import update_pb2 as pb
from protos.boundary import Statistics
from protos.campaign import WIRE_VERSION, Campaign
from protos.errors import MergeRangeError, SignatureError, UpdateRefusedError
from protos.manifest import Manifest, TensorSpec
from protos.rules import FEWEST_IN_REGION
from protos.statistics import StatisticSums

TOKEN = 32
"""Bytes of a site's token."""
_DOMAIN = b"onebasin site in a sum v1\n"


@dataclass(frozen=True)
class Standing:
    """What an update stands for.

    Attributes:
        models: How many sites' models it is the sum of; 1 for a site's own.
        sites: The sites' tokens, hexadecimal; none if they can't be told.
        receipt: Of a region, the digest of its own receipt, 32 bytes.

    """

    models: int
    sites: frozenset[str]
    receipt: bytes = b""


def token(base_digest: bytes, key: bytes) -> str:
    """Return a site's token, hexadecimal: the same in all campaigns of a base, wherever the site is.

    Args:
        base_digest: The base's.
        key: The site's Ed25519 public key, 32 bytes.

    """
    return hashlib.sha256(_DOMAIN + base_digest + key).hexdigest()


def tokens(campaign: Campaign, sites: Iterable[str]) -> frozenset[str]:
    """Return the tokens of members that are sites."""
    return frozenset(token(campaign.message.base_digest, campaign.keys[site]) for site in sites)


def specs(campaign: Campaign, base: Manifest, site: str) -> Mapping[str, TensorSpec]:
    """Return what a member's parameters travel as: a site's as the base has them, a region's as sums."""
    return sum_specs(base) if site in campaign.regions else base.parameters


def sum_specs(base: Manifest) -> dict[str, TensorSpec]:
    """Return what a region's parameters travel as."""
    return {name: TensorSpec(dtypes.INT64, spec.shape) for name, spec in base.parameters.items()}


def describe(
    standing: Standing,
    digests: Mapping[str, bytes],
    sums: Mapping[str, StatisticSums],
    base: Manifest,
    *,
    campaign: Campaign,
    region: str,
    key: Ed25519PrivateKey,
) -> pb.UpdateHeader:
    """Make the header of a region's update.

    Args:
        standing: What it stands for.
        digests: The SHA-256 of each parameter's sums.
        sums: Each layer's.
        base: The base's manifest.
        campaign: The campaign above, which it is for.
        region: The region's name there.
        key: The signing key of the region's coordinator.

    Raises:
        UpdateRefusedError: It stands for too few sites or too many, or is no sum of updates.
        SignatureError: The campaign lists another coordinator for the region.

    """
    rules = campaign.message.rules
    header = pb.UpdateHeader(
        wire_version=WIRE_VERSION,
        campaign_digest=campaign.digest,
        base_digest=campaign.message.base_digest,
        site=region,
        copy=rules.copy,
        versions=boundary.versions(),
        parameters=[
            pb.Parameter(name=name, dtype=pb.DTYPE_SUM, shape=spec.shape, sha256=digests[name])
            for name, spec in base.parameters.items()
        ],
        layer_sums=[
            pb.LayerSums(
                layer=layer, **{part: packed.tobytes() for part, packed in sums[layer].to_bytes().items()}
            )
            for layer in base.layers
        ],
    )
    statement = pb.RegionSum(
        campaign_digest=campaign.digest,
        region=region,
        models=standing.models,
        receipt=standing.receipt,
        content=_content(header),
        sites=b"".join(bytes.fromhex(one) for one in sorted(standing.sites)).ljust(
            rules.most_sites * TOKEN, b"\0"
        ),
    )
    header.region.CopyFrom(signing.signed(signing.REGION, statement, key))
    check_header(header, campaign, base, region)
    return header


def check_header(header: pb.UpdateHeader, campaign: Campaign, base: Manifest, site: str) -> None:
    """Check an update's header, a site's or a region's; see `boundary.check_header`.

    Raises:
        SignatureError: The region's coordinator didn't sign what the header says of the sums.
        UpdateRefusedError: It is for another campaign, its tensors are not the base's, or no sums of updates.
        BaseMismatchError: It started from another base.

    """
    if site not in campaign.regions:
        boundary.check_header(header, campaign, base, site)
        return
    boundary.check_purpose(header, campaign, site)
    if not header.HasField("region") or header.batch_norms:
        raise UpdateRefusedError(
            f"region {site}: the update is a single site's, but the campaign lists a region",
            "put the sum of a campaign into its outbox: onebasin region sum",
            site=site,
        )
    boundary.check_parameters(header, sum_specs(base), site)
    boundary.check_names([entry.layer for entry in header.layer_sums], list(base.layers), "BatchNorm layer", site)
    statement = _statement(header, campaign, site)
    for entry in header.layer_sums:
        _check_layer(entry, base.layers[entry.layer], statement.models, site)


def standing(header: pb.UpdateHeader, key: bytes = b"") -> Standing:
    """Tell what an update stands for, by its header, which was checked.

    Args:
        header: The update's.
        key: The site's Ed25519 public key; without it there is no token of a site.

    """
    if not header.HasField("region"):
        return Standing(1, frozenset([token(header.base_digest, key)] if key else []))
    statement = signing.decode(header.region.payload, pb.RegionSum, f"region {header.site}")
    listed = statement.sites[: statement.models * TOKEN].hex()
    return Standing(
        statement.models,
        frozenset(listed[i : i + 2 * TOKEN] for i in range(0, len(listed), 2 * TOKEN)),
        statement.receipt,
    )


def layer_sums(header: pb.UpdateHeader) -> dict[str, StatisticSums]:
    """Read a region's statistics: each layer's sums."""
    return {entry.layer: _sums(entry) for entry in header.layer_sums}


def statistics(header: pb.UpdateHeader) -> Statistics:
    """Read an update's statistics by layer: a site's as it sent them, a region's pooled."""
    if not header.HasField("region"):
        return boundary.statistics(header)
    return {layer: found.pooled(layer) for layer, found in layer_sums(header).items()}


def _statement(header: pb.UpdateHeader, campaign: Campaign, site: str) -> pb.RegionSum:
    """Check what the region's coordinator vouches for, and return it."""
    key, most = campaign.regions[site], campaign.message.rules.most_sites
    found = signing.opened(
        header.region,
        signing.REGION,
        key,
        pb.RegionSum,
        site,
        whose=f"the coordinator of region {site}",
        fix="make the sum with the coordinator that the region's request names: onebasin region sum",
    )
    listed, rest = found.sites[: found.models * TOKEN], found.sites[found.models * TOKEN :]
    each = [listed[i : i + TOKEN] for i in range(0, len(listed), TOKEN)]
    if found.content != _content(header):
        raise SignatureError(
            f"region {site}: the sums are not the ones that its coordinator vouches for",
            "make them anew: onebasin region sum",
            site=site,
        )
    wrong = (
        "are for another campaign or region"
        if (found.campaign_digest, found.region) != (campaign.digest, site)
        else f"are of {found.models} sites, by the campaign a region has {FEWEST_IN_REGION} to {most}"
        if not FEWEST_IN_REGION <= found.models <= most
        else "name no receipt"
        if len(found.receipt) != 32
        else f"don't name {found.models} sites, each once"
        if len(found.sites) != most * TOKEN or each != sorted(set(each)) or any(rest) or bytes(TOKEN) in each
        else ""
    )
    if wrong:
        raise UpdateRefusedError(f"region {site}: its sums {wrong}", _AGAIN, site=site)
    return found


def _check_layer(entry: pb.LayerSums, channels: int, models: int, site: str) -> None:
    wanted = {part: rows * width for part, (rows, width) in StatisticSums.widths(channels).items()}
    if any(len(getattr(entry, part)) != nbytes for part, nbytes in wanted.items()):
        raise UpdateRefusedError(
            f"region {site}: the sums of {entry.layer} are not those of {channels} channels",
            _AGAIN,
            site=site,
            tensor=entry.layer,
        )
    sums = _sums(entry)
    if not sums.is_sum(models):
        raise UpdateRefusedError(
            f"region {site}: what it sent for {entry.layer} is no sum of {models} sites' statistics: a variance "
            "would be negative, or it counts fewer batches than sites",
            _AGAIN,
            site=site,
            tensor=entry.layer,
        )
    try:
        sums.pooled(entry.layer)
    except MergeRangeError as error:
        raise MergeRangeError(f"region {site}: {error.what}", error.fix, site=site, tensor=entry.layer) from None


def _sums(entry: pb.LayerSums) -> StatisticSums:
    return StatisticSums.from_packed(entry.count, entry.mean, entry.square)


def _content(header: pb.UpdateHeader) -> bytes:
    """Return the digest of what was summed up: the parameters' digests, and the layers' sums; 32 bytes."""
    bare = pb.UpdateHeader(parameters=header.parameters, layer_sums=header.layer_sums)
    return hashlib.sha256(signing.encode(bare)).digest()


_AGAIN = "make the sum anew with the same version of onebasin: onebasin region sum"
