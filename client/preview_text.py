"""A preview for people: what else leaves in sentences, the header's fields, and two tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from client.preview import Preview


def as_text(found: Preview) -> Iterator[Any]:
    """Return a preview's parts, for `protos.printing.show`."""
    from rich.markup import escape
    from rich.table import Table

    yield f"update {found.digest}"
    for sentence in found.sentences:
        yield f"  {escape(sentence)}"
    yield ""
    header = Table("field of the header", "value", box=None, header_style="bold")
    for name, value in found.fields.items():
        header.add_row(name, escape(value))
    yield header
    yield ""
    kind = "masked vector" if found.masked else "parameter"
    parameters = Table(kind, "dtype", "shape", "bytes", "sha256", box=None, header_style="bold")
    for tensor in found.parameters:
        shape = " × ".join(map(str, tensor.shape)) or "one value"
        parameters.add_row(escape(tensor.name), tensor.dtype, shape, f"{tensor.nbytes:,}", tensor.sha256)
    yield parameters
    yield ""
    values = found.nbytes - found.header_bytes
    if found.masked:
        yield (
            f"{len(found.parameters)} vectors of masked words with {values:,} bytes, and {found.header_bytes:,} "
            f"bytes that are signed for them: {found.nbytes:,} bytes leave"
        )
        return
    layers = Table("BatchNorm layer", "means and variances", "count", box=None, header_style="bold")
    for layer in found.layers:
        layers.add_row(escape(layer.name) or "(top)", f"{layer.channels} each, float32", f"{layer.count:,}")
    yield layers
    yield ""
    yield (
        f"{len(found.parameters)} parameters with {values:,} bytes, and a header of {found.header_bytes:,} bytes "
        f"with the statistics of {len(found.layers)} BatchNorm layers: {found.nbytes:,} bytes leave"
    )
