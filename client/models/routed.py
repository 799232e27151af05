"""One model with several sites' BatchNorm statistics, of which it picks a set for each image by itself.

A merged model's parameters serve all domains, but a domain's statistics are its own, and they are kilobytes. So
one file can carry all of them, and the pooled ones for images like no site's. Whoever only reads a network's own
keys loads the plain model with the pooled statistics from the same file.

**The choice.** What the first BatchNorm layer is given depends on no statistic yet: it is the same whatever is
chosen. Its mean m and variance v over one image, per channel, are compared with each set's μ and σ² there, as
Gaussians, by the symmetric Kullback-Leibler divergence J = KL(p‖q) + KL(q‖p), averaged over channels:

    J = ½ ((v + (m − μ)²) / σ² + (σ² + (m − μ)²) / v) − 1

The nearest set wins, if it is nearer than the pooled one and J is below a limit; else the pooled one does. J has
no unit and doesn't depend on how an activation is scaled, so the limit needs no data: at equal variances J is the
squared shift in standard deviations, and ``LIMIT`` = ¼ allows for half of one, or for a variance that is twice as
large. Each half of the rule catches what the other can't: an image between the domains is nearest to the pooled
Gaussian, which is wide; one beyond them is far from every set. A limit relative to the distances between the sets
fails at both ends: two sites of one domain would reject their own images, two opposite ones would claim all.

Sets have to describe target images only (a teacher's, or recalibrated ones): a student's know the source too and
lie so close together that images go astray. In memory there is one row of a table for each set.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Final, Self

import torch
from torch import Tensor, nn

from client.models import norms
from protos.boundary import BatchNorm, Statistics
from protos.campaign import check_name
from protos.errors import ConfigurationError
from protos.merged import LIMIT

POOLED: Final = 0
"""The number of the pooled set; the sites' follow."""


def divergence(mean: Tensor, var: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Return J of each image and each set, float32 (N, sets), ≥ 0 up to rounding.

    Args:
        mean: The images' means, float32 (N, channels).
        var: Their variances, > 0, likewise.
        means: The sets' means, float32 (sets, channels).
        variances: Their variances, > 0, likewise.

    """
    mean, var = mean[:, None], var[:, None]
    shift = (mean - means).square()
    return (((var + shift) / variances + (variances + shift) / var) / 2 - 1).mean(-1)


def route(mean: Tensor, var: Tensor, means: Tensor, variances: Tensor, limit: float = LIMIT) -> Tensor:
    """Choose a set for each image. No data-dependent control flow, so it can be exported.

    Args:
        mean: The images' means, float32 (N, channels).
        var: Their variances, > 0, likewise.
        means: The sets' means, float32 (1 + sites, channels); the pooled set comes first.
        variances: Their variances, > 0, likewise.
        limit: J from which on no site's set is near enough.

    Returns:
        int64 (N,): 0 for the pooled set, else 1 + the site's place.

    """
    found = divergence(mean, var, means, variances)
    # As if the pooled set were never farther away than the limit; of equally near ones the first wins.
    found[:, POOLED].clamp_(max=limit)
    return found.argmin(1)


class Choice:
    """What was chosen for the images that are being looked at: one object that all layers of a model share.

    All layers' scales and shifts are one table, (1 + sites, values), of which an image's row is taken at once: a
    look-up in every layer would cost small networks a tenth of their time.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._table: Tensor | None = None
        self._widths: list[int] = []
        self._chosen: Tensor | None = None
        self._rows: tuple[Tensor, ...] = ()

    @property
    def made(self) -> Tensor:
        """The set of each image, int64 (N,), once a layer has asked."""
        assert self._chosen is not None
        return self._chosen

    def begin(self, table: Tensor, widths: list[int]) -> None:
        """Make ready for images: the table, and how many columns each layer's scale and shift have in it."""
        self._table, self._widths = table, widths

    def end(self) -> None:
        """Let go of the images."""
        self._table, self._chosen, self._rows = None, None, ()

    def of(self, features: Tensor, layer: RoutedBatchNorm2d) -> tuple[Tensor, Tensor]:
        """Return a layer's scale and shift for what it is given, (N, C, 1, 1) both; the first to ask decides."""
        if self._chosen is None:
            mean, var = _moments(features, layer.means[POOLED])
            self._chosen = route(mean, var + layer.eps, layer.means, layer.variances, self.limit)
        if not self._rows or self._rows[0].shape[0] != features.shape[0]:
            assert self._table is not None
            # HRDA shows all windows of all images at once, window by window: they are one image's.
            times = features.shape[0] // self._chosen.shape[0]
            rows = self._table[self._chosen.repeat(times)][:, :, None, None]
            self._rows = torch.split(rows, self._widths, 1)
        return self._rows[2 * layer.number], self._rows[2 * layer.number + 1]


class RoutedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm in evaluation mode with several sets of statistics: y = x · scale[i] + shift[i] for set i.

    It has the keys of the layer that it replaces, with the pooled set's statistics. Nothing else is in its state
    dict, and what is loaded into it later isn't seen: make a new one. Works as a part of a :class:`RoutedModel`.

    Args:
        layer: Weight, bias and eps; not changed, but its parameters are shared.
        sets: The pooled statistics, then each site's.
        choice: Shared by all layers of a model.
        number: The layer's place among them.

    Attributes:
        means: float32 (sets, channels).
        variances: With eps, likewise.

    """

    means: Tensor
    variances: Tensor

    def __init__(self, layer: nn.BatchNorm2d, sets: Sequence[BatchNorm], choice: Choice, number: int) -> None:
        super().__init__(layer.num_features, layer.eps, affine=layer.affine, device="cpu")
        self.weight, self.bias, self.choice, self.number = layer.weight, layer.bias, choice, number
        means, variances = (
            torch.stack([torch.from_numpy(part) for part in parts])
            for parts in ([one.mean for one in sets], [one.var for one in sets])
        )
        self.register_buffer("means", means, persistent=False)
        self.register_buffer("variances", variances + layer.eps, persistent=False)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.running_mean.copy_(means[POOLED])
        self.running_var.copy_(variances[POOLED])
        self.num_batches_tracked.fill_(sets[POOLED].count)

    def table(self, sets: Sequence[BatchNorm]) -> tuple[Tensor, Tensor]:
        """Return scale and shift of each set, float32 (sets, channels), rounded once."""
        means, variances = (
            torch.stack([torch.from_numpy(part).double() for part in parts])
            for parts in ([one.mean for one in sets], [one.var for one in sets])
        )
        scale = 1 / (variances + self.eps).sqrt()
        shift = -means * scale
        if self.affine:
            weight, bias = self.weight.detach().cpu().double(), self.bias.detach().cpu().double()
            scale, shift = scale * weight, shift * weight + bias
        return scale.float(), shift.float()

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape and dtype."""
        scale, shift = self.choice.of(input, self)
        # One pass over memory, which takes less time than PyTorch's own BatchNorm where channels come last.
        return torch.addcmul(shift, input, scale).to(input.dtype)


class RoutedModel(nn.Module):
    """A network that picks a set of statistics for each image; called like any of ``client.models``.

    Always in evaluation mode. One call at a time: layers tell each other what was chosen. Where HRDA covers large
    images with windows, the first window decides for the image.

    Args:
        network: Not changed; a copy is kept.
        pooled: The statistics for images like no site's.
        sets: Each site's statistics by name, in the order of their numbers.
        limit: See :data:`LIMIT`.

    Raises:
        ConfigurationError: There are no sets, a name or the limit makes no sense, or the network has no BatchNorm
            layer or one that can't be routed.
        ModelFileError: A set doesn't fit the network; set and layer are named.

    """

    table: Tensor

    def __init__(
        self, network: nn.Module, pooled: Statistics, sets: Mapping[str, Statistics], *, limit: float = LIMIT
    ) -> None:
        super().__init__()
        if not sets:
            raise ConfigurationError(
                "There are no sets of statistics to choose from.", "Give at least one site's."
            )
        if not limit > 0:
            raise ConfigurationError(
                f"The limit {limit} sends every image to the pooled set.", "Give more than 0."
            )
        layers = norms.batch_norms(network)
        norms.check(layers, pooled, "the pooled statistics")
        for name, found in sets.items():
            check_name(name, "set of statistics")
            norms.check(layers, found, f"{name}'s statistics")
        self.network = copy.deepcopy(network)
        self.sets = {name: dict(found) for name, found in sets.items()}
        self._choice = Choice(limit)
        columns: list[Tensor] = []
        for number, (name, layer) in enumerate(norms.batch_norms(self.network).items()):
            if not isinstance(layer, nn.BatchNorm2d):
                raise ConfigurationError(
                    f"{name} is a {type(layer).__name__}, and only BatchNorm2d can be routed.",
                    "Use the plain model with the pooled statistics.",
                )
            rows = [pooled[name], *(found[name] for found in sets.values())]
            routed = RoutedBatchNorm2d(layer, rows, self._choice, number)
            columns.extend(routed.table(rows))
            assert layer.running_mean is not None
            device = layer.running_mean.device
            parent, _, last = name.rpartition(".")
            setattr(self.network.get_submodule(parent), last, routed.to(device))
        self._widths = [part.shape[1] for part in columns]
        self.register_buffer("table", torch.cat(columns, 1).to(device), persistent=False)
        self.eval()

    @classmethod
    def from_sets(
        cls, network: nn.Module, pooled: Statistics, sets: Mapping[str, Statistics], *, limit: float = LIMIT
    ) -> Self:
        """Return the network with these sets; see the class."""
        return cls(network, pooled, sets, limit=limit)

    @property
    def names(self) -> tuple[str, ...]:
        """The sites' sets; number 1 is the first."""
        return tuple(self.sets)

    @property
    def limit(self) -> float:
        """J from which on an image is no site's."""
        return self._choice.limit

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float32 (N, 3, H, W) → logits (N, classes, H, W)."""
        return self.explained(images)[0]

    def explained(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits, and the number of the set that each image got: int64 (N,), 0 is the pooled one."""
        self._choice.begin(self.table, self._widths)
        try:
            # Channels last is how `normalise` lays images out; the routed layers are slower otherwise.
            logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
            return logits, self._choice.made
        finally:
            self._choice.end()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: statistics that are chosen can't be trained."""
        return super().train(False)


def _moments(features: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance over each image's pixels, float32 (N, C).

    Taken about a value near the mean, E[x²] − E[x]² loses few digits; a second pass would cost time.
    """
    centred = features.float() - about[:, None, None]
    mean = centred.mean((2, 3))
    var = centred.square_().mean((2, 3)) - mean.square()
    return mean + about, var.clamp(min=0)
