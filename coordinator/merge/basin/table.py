"""The table that says which axis of which tensor carries which channels.

A network computes the same function after the channels between two of its layers are put in another order, if
every tensor that writes or reads them follows. So channels come in *groups*, each with one permutation, and the
table names for each axis of each tensor the groups along it:

- a convolution's weight (O, I, kH, kW): the group it writes on axis 0, the group it reads on axis 1, none on the
  kernel's axes;
- a norm's weight, bias, running mean and running variance (C,): the group that it normalises;
- after a concatenation the read axis carries several groups in a row;
- a residual stream is one group, written by all that add to it;
- the image's colours and the classes mean something by themselves, so their axes carry no group.

Architectures are written down with `Draft`, in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from protos.manifest import MEAN, VAR, TensorSpec, join

Channels = tuple[str, ...]
"""Names of the groups along an axis, in sequence; empty where the axis stays as it is."""

Axes = tuple[Channels, ...]
"""The groups along each axis of a tensor."""

KEPT: Channels = ()
"""An axis whose order has a meaning: colours, classes, a kernel's rows and columns."""


@dataclass(frozen=True)
class Group:
    """Channels that one permutation puts in order.

    Attributes:
        size: How many channels.
        heads: Attention computes in so many heads: channels may change places within their head, and heads as a
            whole with each other, but no channel alone with one of another head.
        tied: Groups of the same non-empty mark share how their heads change places: a head's queries and keys, and
            its values.
        fixed: Why it keeps its order; empty if it may change.

    """

    size: int
    heads: int = 1
    tied: str = ""
    fixed: str = ""


@dataclass(frozen=True)
class Use:
    """A place where a group occurs.

    Attributes:
        tensor: The tensor's name.
        axis: Along which axis.
        start: The first index that belongs to the group.

    """

    tensor: str
    axis: int
    start: int


@dataclass(frozen=True)
class Table:
    """A model's groups, and where they are.

    Attributes:
        groups: Each group by name, which is that of the layer that writes it.
        axes: Each tensor's groups by its name; every tensor of the model is there.
        unknown: Parts of the model that no architecture here describes. What they read is fixed.

    """

    groups: Mapping[str, Group]
    axes: Mapping[str, Axes]
    unknown: tuple[str, ...] = ()

    @cached_property
    def uses(self) -> Mapping[str, tuple[Use, ...]]:
        """Where each group occurs."""
        found: dict[str, list[Use]] = {group: [] for group in self.groups}
        for tensor, axes in self.axes.items():
            for axis, channels in enumerate(axes):
                start = 0
                for group in channels:
                    found[group].append(Use(tensor, axis, start))
                    start += self.groups[group].size
        return {group: tuple(uses) for group, uses in found.items()}

    @cached_property
    def families(self) -> tuple[tuple[str, ...], ...]:
        """The groups that may change, those that are tied together; in the order in which layers come."""
        found: dict[str, list[str]] = {}
        for name, group in self.groups.items():
            if not group.fixed:
                found.setdefault(group.tied or name, []).append(name)
        return tuple(map(tuple, found.values()))

    def of(self, tensor: str) -> Iterator[str]:
        """Yield the groups of a tensor."""
        return (group for channels in self.axes[tensor] for group in channels)


class UnknownLayerError(Exception):
    """A tensor is missing, or has another shape than the architecture gives it.

    Args:
        tensor: Its name.

    """

    def __init__(self, tensor: str) -> None:
        super().__init__(tensor)
        self.tensor = tensor


class Draft:
    """A table that is being written, layer by layer.

    A group is made by the first layer that writes it, and is as large as that layer has outputs.

    Args:
        specs: All tensors of the model.

    """

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self.specs = specs
        self.groups: dict[str, Group] = {}
        # A single number has no axis to permute, e.g. the count of batches.
        self.axes: dict[str, Axes] = {name: () for name, spec in specs.items() if not spec.shape}

    def copy(self) -> Draft:
        """Return a draft to try something on."""
        made = Draft(self.specs)
        made.groups, made.axes = dict(self.groups), dict(self.axes)
        return made

    def has(self, layer: str) -> bool:
        """Tell whether there is a tensor below a name."""
        return any(name.startswith(f"{layer}.") for name in self.specs)

    def numbered(self, layer: str) -> list[str]:
        """Return a layer's numbered children, in order: ``layer.0``, ``layer.1`` and so on."""
        skip = len(layer) + 1
        found = {name[skip:].partition(".")[0] for name in self.specs if name.startswith(f"{layer}.")}
        return [f"{layer}.{number}" for number in sorted(int(part) for part in found if part.isdecimal())]

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return a tensor's shape.

        Raises:
            UnknownLayerError: There is none.

        """
        if tensor not in self.specs:
            raise UnknownLayerError(tensor)
        return self.specs[tensor].shape

    def width(self, channels: Channels) -> int:
        """Count channels."""
        return sum(self.groups[group].size for group in channels)

    def weight(self, layer: str, into: Channels, out: Channels) -> Channels:
        """Write down a convolution or a linear layer, with or without a bias.

        Args:
            layer: Its name.
            into: What it reads.
            out: What it writes; one new group is made.

        Returns:
            `out`.

        Raises:
            UnknownLayerError: It isn't there, or doesn't fit.

        """
        name = f"{layer}.weight"
        shape = self.shape(name)
        if len(shape) < 2:
            raise UnknownLayerError(name)
        if len(out) == 1:
            self.groups.setdefault(out[0], Group(shape[0]))
        for channels, size in ((out, shape[0]), (into, shape[1])):
            if channels and self.width(channels) != size:
                raise UnknownLayerError(name)
        self.axes[name] = (out, into, *[KEPT] * (len(shape) - 2))
        self._vector(f"{layer}.bias", out, shape[0])
        return out

    def depthwise(self, layer: str, channels: Channels) -> None:
        """Write down a convolution with one filter for each channel.

        Raises:
            UnknownLayerError: It isn't there, or doesn't fit.

        """
        name = f"{layer}.weight"
        shape = self.shape(name)
        if len(shape) != 4 or shape[:2] != (self.width(channels), 1):
            raise UnknownLayerError(name)
        self.axes[name] = (channels, KEPT, KEPT, KEPT)
        self._vector(f"{layer}.bias", channels, shape[0])

    def norm(self, layer: str, channels: Channels) -> None:
        """Write down a BatchNorm or LayerNorm, statistics included.

        Raises:
            UnknownLayerError: It doesn't fit, or there is nothing of it.

        """
        if not self.has(layer):
            raise UnknownLayerError(f"{layer}.weight")
        for part in ("weight", "bias", MEAN, VAR):
            self._vector(join(layer, part), channels, self.width(channels))

    def module(self, layer: str, into: Channels, out: Channels | None = None) -> Channels:
        """Write down a convolution ``.conv`` with a BatchNorm ``.bn`` after it, if there is one.

        Returns:
            What it writes: `out`, or a new group named after it.

        Raises:
            UnknownLayerError: It isn't there, or doesn't fit.

        """
        written = self.weight(f"{layer}.conv", into, (layer,) if out is None else out)
        if self.has(f"{layer}.bn"):
            self.norm(f"{layer}.bn", written)
        return written

    def keep(self, tensor: str) -> None:
        """Write down a tensor that stays as it is."""
        self.axes[tensor] = (KEPT,) * len(self.shape(tensor))

    def fix(self, channels: Channels, why: str) -> None:
        """Let groups keep their order."""
        for group in channels:
            if not self.groups[group].fixed:
                self.groups[group] = replace(self.groups[group], fixed=why)

    def table(self, unknown: tuple[str, ...]) -> Table:
        """Return the finished table."""
        return Table(dict(self.groups), dict(self.axes), unknown)

    def _vector(self, name: str, channels: Channels, size: int) -> None:
        """Write down a value per channel, if it is there."""
        spec = self.specs.get(name)
        if spec is None:
            return
        if spec.shape != (size,):
            raise UnknownLayerError(name)
        self.axes[name] = (channels,)
