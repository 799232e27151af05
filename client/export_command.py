"""``onebasin export``, as someone types it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    merged: Annotated[
        Path,
        typer.Argument(
            help="A model file, or a folder with the result of a merge.", metavar="MERGED", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            help="Where to write; `.onnx`, `.pth` (or `.pt`), or `.safetensors`.",
            metavar="OUTPUT",
            show_default=False,
        ),
    ],
    statistics: Annotated[
        str,
        typer.Option(
            help="Which BatchNorm statistics to take from a routed model: `pooled`, or a site's by its name. A "
            "state dict has room for one set.",
            show_default="all of them, in ONNX",
        ),
    ] = "",
    size: Annotated[
        str,
        typer.Option(
            help="For ONNX: height and width of an image in pixels, e.g. `512x1024`. The graph takes any number "
            "of images of any size; HRDA's takes this size alone.",
            show_default="256x512",
        ),
    ] = "",
    fixed: Annotated[
        bool, typer.Option("--fixed", help="For ONNX: take one image of that size at a time and nothing else.")
    ] = False,
    wrap: Annotated[
        str,
        typer.Option(
            help="For `.pth`: `state_dict` puts the state dict under that key, beside the classes' names and "
            "colours, as mmsegmentation's checkpoints have it.",
            show_default="a plain state dict",
        ),
    ] = "",
    copy: Annotated[
        str | None, typer.Option(help="Which copy to take: student or ema.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Architecture.", show_default="what the file says")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over an output that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a merged model for others: as ONNX, or as a plain state dict.

    ONNX is run with ONNX Runtime and compared with PyTorch before it is written; it takes the extra `export`
    (`pip install 'onebasin[export]'`). A state dict has mmsegmentation's names and is opened by
    `torch.load(…, weights_only=True)`.
    """
    from client.exporting.export import Options, size_of
    from client.exporting.export import export as write
    from protos import printing

    options = Options(copy, model, statistics, wrap, size_of(size), fixed, force)
    found = write(merged, output, options)
    printing.show(found.as_json() if as_json else found.as_text())
