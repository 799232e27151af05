"""How two models differ, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from coordinator.merge.distance import Products, products, symmetric_kl
from coordinator.offline.inputs import check_alike, open_inputs
from coordinator.report.text import plain
from protos import parallel
from protos.digest import short


@dataclass(frozen=True)
class LayerDiff:
    """How a layer's parameters differ.

    Attributes:
        layer: The layer: its tensors' name without the last part.
        relative: ‖a − b‖ / ‖b‖.
        cosine: Of the angle between a and b; NaN if one is all zeros.
        kl: Symmetric Kullback-Leibler divergence between its BatchNorm Gaussians, in nats, averaged over
            channels; None if it is no BatchNorm layer.

    """

    layer: str
    relative: float
    cosine: float
    kl: float | None


@dataclass(frozen=True)
class Diff:
    """How two models differ.

    Attributes:
        a: The first model's name.
        b: The second's: what distances are relative to.
        digests: Both models' digests.
        relative: ‖a − b‖ / ‖b‖ over all parameters.
        cosine: Over all parameters.
        layers: Layer by layer, those that differ most first.

    """

    a: str
    b: str
    digests: tuple[str, str]
    relative: float
    cosine: float
    layers: list[LayerDiff]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON's types; what is no number is null."""
        found = asdict(self)
        for entry in (found, *found["layers"]):
            for key in ("relative", "cosine"):
                entry[key] = entry[key] if abs(entry[key]) < float("inf") else None
        return found


def diff(paths: tuple[Path, Path], copy: str | None, threads: int) -> Diff:
    """Compare two models.

    Args:
        paths: Their files.
        copy: Which copy to take where a file holds several.
        threads: How many tensors are read at a time.

    Raises:
        ModelFileError: One can't be read, or they are not of one architecture.

    """
    with ExitStack() as opened:
        a, b = found = open_inputs(paths, copy, opened, threads)
        check_alike(found, lambda _: False)
        manifest = b.file.manifest
        by_tensor = parallel.each(manifest.parameters, lambda name: products(a.reader, b.reader, name), threads)
        by_layer: dict[str, Products] = {}
        for name, one in by_tensor.items():
            layer = name.rpartition(".")[0] or name
            by_layer[layer] = by_layer.get(layer, Products()) + one
        divergence = {layer: symmetric_kl(a.statistics(layer), b.statistics(layer)) for layer in manifest.layers}
        for layer in divergence:
            by_layer.setdefault(layer, Products())  # a BatchNorm layer without weight and bias
        layers = [
            LayerDiff(layer, one.relative, one.cosine, divergence.get(layer)) for layer, one in by_layer.items()
        ]
        total = sum(by_layer.values(), Products())
        return Diff(
            a=a.name,
            b=b.name,
            digests=(a.digest.hex(), b.digest.hex()),
            relative=total.relative,
            cosine=total.cosine,
            layers=sorted(layers, key=lambda one: (-one.relative, one.layer)),
        )


def as_text(found: Diff, most: int) -> Iterator[Table | Text]:
    """Yield what a person wants to read.

    Args:
        found: The comparison.
        most: How many layers to show.

    """
    if found.digests[0] == found.digests[1]:
        yield Text(
            f"{plain(found.a)} and {plain(found.b)} hold the same model, {short(bytes.fromhex(found.digests[0]))}"
        )
        return
    yield Text(
        f"all parameters: relative distance {found.relative:.4f}, cosine {found.cosine:.4f}; "
        "the layers that differ most:"
    )
    yield _table(found.layers[:most])
    norms = sorted((one for one in found.layers if one.kl is not None), key=lambda one: -(one.kl or 0.0))
    if norms:
        yield Text("")
        yield Text("the BatchNorm layers whose statistics differ most:")
        yield _table(norms[:most])


def _table(layers: list[LayerDiff]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("layer", no_wrap=True)
    for column in ("relative distance", "cosine", "KL (nats)"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in layers:
        kl = "" if one.kl is None else f"{one.kl:.3f}"
        table.add_row(Text(plain(one.layer)), f"{one.relative:.4f}", f"{one.cosine:.4f}", kl)
    return table
