"""The boundary: what may leave a site, and what a coordinator takes in.

`describe` makes an update's header by asking the base for names and the model for exactly those; nothing else
in the model is looked at. `check_header` and `check_parameter` are the same rules seen from the other side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from protos import dtypes, fixedpoint, messages_pb2
from protos import update_pb2 as pb
from protos.campaign import WIRE_VERSION, Campaign
from protos.digest import short
from protos.errors import BaseMismatchError, MergeRangeError, UpdateRefusedError
from protos.manifest import COUNT, MEAN, VAR, Manifest, TensorSpec, join
from protos.rules import COPIES

Array = npt.NDArray[np.generic]
_VERSIONS = ("onebasin", "flwr", "torch")


@dataclass(frozen=True)
class BatchNorm:
    """A BatchNorm layer's statistics: mean and var float32 of shape (channels,), count ≥ 1."""

    mean: npt.NDArray[np.float32]
    var: npt.NDArray[np.float32]
    count: int


Statistics = Mapping[str, BatchNorm]
"""A model's statistics by layer."""


def describe(state: Mapping[str, Array], base: Manifest, campaign: Campaign, site: str) -> pb.UpdateHeader:
    """Make the header of the update that `state` is.

    Args:
        state: A model's tensors, as NumPy stores their dtypes. What the base doesn't name is not looked at.
        base: The base's manifest: the list of what may leave.
        campaign: What the update is for.
        site: Whose it is.

    Raises:
        UpdateRefusedError: A tensor is missing or has another shape or dtype than in the base, a value is not
            finite, a variance is negative, or a count is not positive.

    """
    header = pb.UpdateHeader(
        wire_version=WIRE_VERSION,
        campaign_digest=campaign.digest,
        base_digest=campaign.message.base_digest,
        site=site,
        copy=campaign.message.rules.copy,
        versions=versions(),
    )
    for name, spec in base.parameters.items():
        raw = _taken(state, name, spec, site)
        fixedpoint.check_values(spec.dtype.widen(raw), site, name)
        header.parameters.append(
            pb.Parameter(
                name=name, dtype=spec.dtype.wire, shape=spec.shape, sha256=hashlib.sha256(raw.data).digest()
            )
        )
    for layer in base.layers:
        mean, var = (
            base.tensors[name].dtype.widen(_taken(state, name, base.tensors[name], site))
            for name in (join(layer, MEAN), join(layer, VAR))
        )
        count = join(layer, COUNT)
        found = BatchNorm(mean, var, int(_taken(state, count, base.tensors[count], site)))
        check_batch_norm(found, layer, site)
        header.batch_norms.append(wire_batch_norm(layer, found))
    return header


def check_header(header: pb.UpdateHeader, campaign: Campaign, base: Manifest, site: str) -> None:
    """Check an update's header against the campaign and the base. Its signature was checked before.

    Raises:
        UpdateRefusedError: It is for another campaign, from another site, or its tensors are not the base's.
        BaseMismatchError: It started from another base.

    """
    check_purpose(header, campaign, site)
    if header.layer_sums or header.HasField("region"):
        raise UpdateRefusedError(
            f"site {site}: the update is a region's, but the campaign lists a site",
            "have the region's request approved, and lay the campaign down anew",
            site=site,
        )
    check_parameters(header, base.parameters, site)
    check_batch_norms(header.batch_norms, base, site)


def check_parameters(header: pb.UpdateHeader, specs: Mapping[str, TensorSpec], site: str) -> None:
    """Check that an update has the parameters that are wanted, all of them, in order.

    Raises:
        UpdateRefusedError: It has not; the first one that is at fault is named.

    """
    check_names([p.name for p in header.parameters], list(specs), "parameter", site)
    for parameter in header.parameters:
        spec = specs[parameter.name]
        dtype = dtypes.by_wire(parameter.dtype)
        if dtype != spec.dtype or tuple(parameter.shape) != spec.shape:
            found = f"{dtype.name if dtype else 'unknown dtype'}{list(parameter.shape)}"
            raise UpdateRefusedError(
                f"site {site}: {parameter.name} is {found}, the base has {spec}",
                _SAME,
                site=site,
                tensor=parameter.name,
            )


def check_purpose(header: pb.UpdateHeader, campaign: Campaign, site: str) -> None:
    """Check whose update a header is of, and what for.

    Raises:
        UpdateRefusedError: It is for another campaign, from another site, or of the other copy.
        BaseMismatchError: It started from another base.

    """
    if header.wire_version != WIRE_VERSION:
        raise UpdateRefusedError(
            f"site {site}: the update has wire version {header.wire_version}, this is {WIRE_VERSION}",
            "run the same version of onebasin on both sides",
            site=site,
        )
    if header.campaign_digest != campaign.digest:
        raise UpdateRefusedError(
            f"site {site}: the update is for campaign {short(header.campaign_digest)}, "
            f"this is {short(campaign.digest)}",
            "join the site to this campaign: onebasin site join",
            site=site,
        )
    if header.base_digest != campaign.message.base_digest:
        raise BaseMismatchError(
            f"site {site}: the update started from base {short(header.base_digest)}, "
            f"the campaign's is {short(campaign.message.base_digest)}",
            "give the site the campaign's base and adapt again",
        )
    if header.site != site:
        raise UpdateRefusedError(f"site {site}: the update says that it is site {header.site}'s", site=site)
    if header.copy != campaign.message.rules.copy:
        names = {value: name for name, value in COPIES.items()}
        raise UpdateRefusedError(
            f"site {site}: the update is of the {names.get(header.copy, 'unknown copy')}, "
            f"the campaign wants the {campaign.rules.copy}",
            site=site,
        )


def check_batch_norms(found: Sequence[pb.BatchNorm], base: Manifest, site: str) -> None:
    """Check that statistics are those of the base's layers, all of them, in order, and make sense.

    Raises:
        UpdateRefusedError: They are not; the layer is named.

    """
    check_names([entry.layer for entry in found], list(base.layers), "BatchNorm layer", site)
    for entry in found:
        channels = base.layers[entry.layer]
        if len(entry.mean) != channels or len(entry.var) != channels:
            raise UpdateRefusedError(
                f"site {site}: {entry.layer} has {len(entry.mean)} means and {len(entry.var)} variances "
                f"for {channels} channels",
                "a layer's mean, variance and count only make sense together",
                site=site,
                tensor=entry.layer,
            )
        check_batch_norm(batch_norm(entry), entry.layer, site)


def check_names(found: list[str], wanted: list[str], kind: str, site: str) -> None:
    """Check that an update has the tensors or layers of the base, all of them, in order.

    Raises:
        UpdateRefusedError: It hasn't; one that is at fault is named.

    """
    if found == wanted:
        return
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    name = (missing or extra or found)[0]
    said = "is missing" if missing else "is not in the base" if extra else "stands twice or out of order"
    more = len(missing) + len(extra) - 1
    raise UpdateRefusedError(
        f"site {site}: {kind} {name} {said}" + (f" (and {more} more differ)" if more > 0 else ""),
        _SAME,
        site=site,
        tensor=name,
    )


def check_parameter(parameter: pb.Parameter, raw: memoryview, site: str, models: int = 1) -> None:
    """Check an arrived parameter's bytes against the header, which was checked before.

    Args:
        parameter: What the header says of it.
        raw: Its bytes.
        site: Whose update it is.
        models: How many sites' models are in it, if it is a region's sum.

    Raises:
        UpdateRefusedError: The bytes are not the ones that the site signed for, or hold NaN or infinity.
        MergeRangeError: A value is out of range.

    """
    dtype = dtypes.by_wire(parameter.dtype)
    assert dtype is not None
    if hashlib.sha256(raw).digest() != parameter.sha256:
        raise UpdateRefusedError(
            f"site {site}: the bytes of {parameter.name} are not the ones that the site signed for",
            "they changed on the way: run the campaign again",
            site=site,
            tensor=parameter.name,
        )
    values = np.frombuffer(raw, dtype.storage)
    if parameter.dtype == pb.DTYPE_SUM:
        if not fixedpoint.is_sum(values.view(np.int64), models):
            raise MergeRangeError(
                f"site {site}: {parameter.name} can't be the sum of {models} models: it is out of range",
                "the region's merge state is damaged, or is of another version of onebasin",
                tensor=parameter.name,
                site=site,
            )
        return
    fixedpoint.check_values(dtype.widen(values), site, parameter.name)


def check_batch_norm(found: BatchNorm, layer: str, site: str) -> None:
    """Check a layer's statistics.

    Raises:
        UpdateRefusedError: A value is not finite, a variance is negative, or the count is not positive.

    """
    for part, values in ((MEAN, found.mean), (VAR, found.var)):
        if not np.isfinite(values).all():
            raise UpdateRefusedError(
                f"site {site}: {join(layer, part)} has values that are NaN or infinite",
                "adapt again from an earlier checkpoint or with a smaller learning rate",
                site=site,
                tensor=join(layer, part),
            )
    if (found.var < 0).any():
        raise UpdateRefusedError(
            f"site {site}: {join(layer, VAR)} has a negative variance, {float(found.var.min()):g}",
            "no training produces one: the file is damaged or was edited",
            site=site,
            tensor=join(layer, VAR),
        )
    if found.count <= 0:
        raise UpdateRefusedError(
            f"site {site}: {join(layer, COUNT)} is {found.count}, so its statistics have no weight",
            "adapt with BatchNorm layers in training mode",
            site=site,
            tensor=join(layer, COUNT),
        )


def batch_norm(entry: pb.BatchNorm) -> BatchNorm:
    """Read a layer's statistics from the wire."""
    return BatchNorm(np.array(entry.mean, np.float32), np.array(entry.var, np.float32), entry.count)


def wire_batch_norm(layer: str, found: BatchNorm) -> pb.BatchNorm:
    """Write a layer's statistics for the wire."""
    return pb.BatchNorm(layer=layer, mean=found.mean.tolist(), var=found.var.tolist(), count=found.count)


def wire_set(name: str, found: Statistics) -> messages_pb2.BufferSet:
    """Write a set of statistics for the wire."""
    layers = [wire_batch_norm(*item) for item in sorted(found.items())]
    return messages_pb2.BufferSet(set=name, batch_norms=layers)


def statistics(header: pb.UpdateHeader) -> dict[str, BatchNorm]:
    """Read all of a header's statistics by layer."""
    return {entry.layer: batch_norm(entry) for entry in header.batch_norms}


def versions() -> list[pb.Version]:
    """Return the versions of what runs here."""
    return [pb.Version(name=name, version=found) for name, found in _installed()]


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    # A region's coordinator, which sends sums, may have no PyTorch.
    return tuple((name, version(name)) for name in _VERSIONS if find_spec(name) is not None)


_SAME = "the site must adapt the campaign's base without changing its architecture"


def _taken(state: Mapping[str, Array], name: str, spec: TensorSpec, site: str) -> Array:
    raw = state.get(name)
    if raw is None:
        raise UpdateRefusedError(f"site {site}: the model has no {name}", _SAME, site=site, tensor=name)
    if raw.dtype != spec.dtype.storage or raw.shape != spec.shape:
        raise UpdateRefusedError(
            f"site {site}: {name} is {raw.dtype}{list(raw.shape)}, the base has {spec}",
            _SAME,
            site=site,
            tensor=name,
        )
    return np.ascontiguousarray(raw).reshape(spec.shape)
