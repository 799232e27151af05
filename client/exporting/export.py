"""Exporting a model: which one, to what, and what is said of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from client.exporting.source import POOLED, Source, opened
from client.exporting.state_dict import SAFETENSORS, TORCH, WRAP
from protos.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import nn

    from client.exporting.onnx_file import Tried

ONNX: Final = ".onnx"


@dataclass(frozen=True)
class Options:
    """How a model is exported.

    Attributes:
        copy: Which copy to take where a checkpoint holds several.
        model: The architecture; by default what the file says.
        statistics: Which statistics to take where a file holds several sets.
        wrap: How a ``.pth`` is wrapped: `WRAP`, or nothing.
        size: Height and width of images, for ONNX.
        fixed: Whether ONNX takes one image of this size and nothing else.
        force: Whether to write over what is there.

    """

    copy: str | None = None
    model: str = ""
    statistics: str = ""
    wrap: str = ""
    size: tuple[int, int] | None = None
    fixed: bool = False
    force: bool = False


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        file: Where.
        model: The architecture.
        classes: How many classes it tells apart.
        digest: The digest of the model that was read, as its receipt names it, hexadecimal.
        statistics: Which BatchNorm statistics it has: ``its own``, a set's name, `POOLED`, or ``routed``.
        bytes: The file's size.
        opset: The version of ONNX's operators; None for a state dict.
        tried: What ONNX Runtime was compared with PyTorch on.
        note: What has to be known of its statistics, if anything.

    """

    file: Path
    model: str
    classes: int
    digest: str
    statistics: str
    bytes: int
    opset: int | None = None
    tried: list[Tried] = field(default_factory=list)
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON's types."""
        return {**asdict(self), "file": str(self.file)}

    def as_text(self) -> list[str]:
        """Return it as sentences."""
        said = [
            f"wrote {self.file}: {self.model}, {self.classes} classes, statistics: {self.statistics}, "
            f"{self.bytes:,} bytes",
            f"of the model {self.digest}",
        ]
        if self.opset is not None:
            shapes = ", ".join(
                f"{n} of {height} × {width}" for n, height, width in (one.shape for one in self.tried)
            )
            worst = max(self.tried, key=lambda one: one.difference / one.allowed)
            said += [
                f"ONNX opset {self.opset}; ONNX Runtime and PyTorch agree on {shapes} pixels: logits of up to "
                f"{worst.largest:.3g} differ by at most {worst.difference:.1e}"
            ]
        return [*said, f"note: {self.note}"] if self.note else said


def export(merged: Path, output: Path, options: Options) -> Exported:
    """Write a model in another format.

    Args:
        merged: A model file, or a folder with the result of a merge.
        output: Where to; ``.onnx``, ``.pth``, ``.pt`` or ``.safetensors``.
        options: How.

    Raises:
        ConfigurationError: Options contradict each other or the model, packages are missing, or the output exists.
        ModelFileError: The model can't be read or exported, or what was exported says something else.
        StorageError: The disk is full.

    """
    from client.exporting import state_dict
    from client.models import build
    from client.models.opening import architecture, check

    _check(output, options)
    with opened(merged, copy=options.copy, statistics=options.statistics) as source:
        if source.file.path.resolve() == output.resolve():
            raise ConfigurationError(f"{output} is the model itself", "write to another file")
        name, classes = architecture(source.file, source.file.path.name, options.model)
        network = build(name, classes)
        check(network, source.file, source.tensors.keys())
        opset, tried = None, list["Tried"]()
        if output.suffix == ONNX:
            opset, tried = _as_onnx(source, network, output, name, classes, options)
        else:
            state_dict.write(source, output, classes=classes, wrap=options.wrap)
        digest, statistics, note = source.digest.hex(), _statistics(source), source.note()
    return Exported(output, name, classes, digest, statistics, output.stat().st_size, opset, tried, note)


def _as_onnx(
    source: Source, network: nn.Module, output: Path, name: str, classes: int, options: Options
) -> tuple[int, list[Tried]]:
    """Write ONNX; return its opset and what was compared."""
    from client.exporting import onnx_file
    from client.exporting.described import meaning, properties
    from client.models import norms
    from client.models.opening import fill
    from client.models.routed_file import routed

    if source.routes:
        network = routed(source.file)
    else:
        fill(network, source.file, source.tensors.keys())
        if (chosen := source.statistics()) is not None:
            norms.load(network, chosen)
    metadata = source.file.metadata
    said = {
        **properties(meaning(source.file, classes)),
        "model": name,
        "digest": source.digest.hex(),
        "statistics": _statistics(source),
        **({"sets": json.dumps([POOLED, *source.names])} if source.routes else {}),
        **{key: metadata[key] for key in ("base", "campaign") if key in metadata},
        "exported_by": f"onebasin {version('onebasin')}",
    }
    return onnx_file.OPSET, onnx_file.write(network.eval(), output, said, size=options.size, fixed=options.fixed)


def _statistics(source: Source) -> str:
    """Name the statistics that are exported."""
    return "routed" if source.routes else source.chosen or "its own"


def size_of(text: str) -> tuple[int, int] | None:
    """Read ``HEIGHTxWIDTH``; None from nothing.

    Raises:
        ConfigurationError: It is none, or below 64 pixels.

    """
    if not text:
        return None
    matched = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if matched is None or min(int(side) for side in matched.groups()) < _SMALLEST:
        raise ConfigurationError(
            f"{text!r} is no size of images", f"give height and width, {_SMALLEST} pixels or more: --size 512x1024"
        )
    return int(matched[1]), int(matched[2])


_SMALLEST = 64
"""Pixels; a MiT encoder below HRDA's halving needs as many."""


def _check(output: Path, options: Options) -> None:
    """Refuse options that contradict each other, before anything is read."""
    suffix = output.suffix
    if suffix not in (ONNX, SAFETENSORS, *TORCH):
        raise ConfigurationError(
            f"{output.name} says no format", f"end it in {ONNX}, {', '.join(TORCH)} or {SAFETENSORS}"
        )
    if suffix != ONNX and (options.size or options.fixed):
        raise ConfigurationError("a state dict takes images of any size", "leave --size and --fixed out")
    if options.wrap not in ("", WRAP):
        raise ConfigurationError(f"there is no wrapping {options.wrap!r}", f"known: {WRAP}")
    if options.wrap and suffix not in TORCH:
        raise ConfigurationError(
            f"a {suffix} file has nothing to be wrapped in", "leave --wrap out, or write a .pth"
        )
    if options.fixed and not options.size:
        raise ConfigurationError("--fixed fixes a size, and none is named", "name it: --size 512x1024")
    if output.exists() and not options.force:
        raise ConfigurationError(f"{output} is there already", "choose another name, or write over it: --force")
