"""``onebasin site evaluate`` and ``onebasin site predict``: what a model can do, in numbers and in pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.evaluation import Windows
    from client.judging import Evaluated

DATA_HELP = (
    "Where to judge: a domain of the procedural scenes, a folder with `images/` and `labels/`, or a data set as "
    "LAYOUT:FOLDER:SPLIT, e.g. `cityscapes:/data/cityscapes:val`. Repeat for more."
)
CopyOption = Annotated[
    str | None, typer.Option("--copy", help="Which copy to take: student or ema.", show_default=False)
]
ModelOption = Annotated[str, typer.Option("--model", help="Architecture.", show_default="what the file says")]
WindowsOption = Annotated[
    str,
    typer.Option(
        "--windows",
        help="Look at large images through windows, SIDE:STRIDE in pixels, e.g. 1024:768.",
        show_default="whole images",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, or cuda.")]


def evaluate(
    model_file: Annotated[Path, typer.Argument(help="The model.", metavar="MODEL", show_default=False)],
    data: Annotated[list[str], typer.Option(help=DATA_HELP, show_default=False)],
    convention: Annotated[
        str | None,
        typer.Option(
            help="Over which classes the mean goes: cityscapes-19, synthia-16 or idd-18.",
            show_default="all that the truth has",
        ),
    ] = None,
    missing_is_zero: Annotated[
        bool,
        typer.Option("--missing-is-zero", help="Let a class that the truth has none of count as 0 in the mean."),
    ] = False,
    windows: WindowsOption = "",
    copy: CopyOption = None,
    model: ModelOption = "",
    scenes: Annotated[int, typer.Option(min=1, help="Scenes to render per domain.")] = 120,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with confusion matrices.")] = False,
) -> None:
    """Judge a model on labelled images: IoU per class, mIoU, and the harmonic mean H over several sets."""
    from client import judging
    from protos import printing

    found = judging.evaluate(
        model_file,
        data,
        copy=copy,
        model=model,
        convention=convention,
        missing=0.0 if missing_is_zero else None,
        windows=_windows(windows),
        scenes=scenes,
        device=device,
        say=_say,
    )
    if as_json:
        printing.show(found.as_json())
    else:
        _show(found)


def predict(
    model_file: Annotated[Path, typer.Argument(help="The model.", metavar="MODEL", show_default=False)],
    images: Annotated[list[Path], typer.Argument(help="Images.", metavar="IMAGE…", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")] = Path("predictions"),
    windows: WindowsOption = "",
    copy: CopyOption = None,
    model: ModelOption = "",
    device: DeviceOption = "auto",
) -> None:
    """Write what a model sees in images: overlays to look at, and label maps of train ids."""
    from client import judging

    for path in judging.show(
        model_file, images, output, copy=copy, model=model, windows=_windows(windows), device=device
    ):
        typer.echo(str(path))


def _windows(text: str) -> Windows | None:
    if not text:
        return None
    from client.evaluation import Windows
    from protos.errors import ConfigurationError

    side, _, stride = text.partition(":")
    try:
        return Windows(int(side), int(stride or side))
    except ValueError:
        raise ConfigurationError(f"--windows {text!r} is no SIDE:STRIDE", "e.g. --windows 1024:768") from None


def _say(name: str, done: int, of: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == of else ""
        sys.stderr.write(f"\r{name}: {done:,} of {of:,} images{end}")
        sys.stderr.flush()


def _show(found: Evaluated) -> None:
    from rich.table import Table

    from client.judging import class_names
    from protos import printing

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.1f}"

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("IoU in %", no_wrap=True)
    for name in found.data:
        table.add_column(name, justify="right", no_wrap=True)
    sets = list(found.data.values())
    for at, name in enumerate(class_names(len(sets[0].iou))):
        table.add_row(name, *(cell(one.iou[at]) for one in sets))
    table.add_section()
    table.add_row("mIoU", *(f"[bold]{one.miou:.1f}[/bold]" for one in sets))
    table.add_row("images", *(f"{one.images:,}" for one in sets))
    printing.show([table, *([f"H, the harmonic mean over the sets: {found.h:.1f}"] if len(sets) > 1 else [])])
