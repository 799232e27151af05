"""``onebasin sweep``, as someone types it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.judging_commands import DATA_HELP


def sweep(
    a: Annotated[Path, typer.Argument(help="The model at λ = 0.", metavar="A", show_default=False)],
    b: Annotated[Path, typer.Argument(help="The model at λ = 1.", metavar="B", show_default=False)],
    data: Annotated[
        list[str],
        typer.Option(help=DATA_HELP, show_default=False),
    ],
    steps: Annotated[int, typer.Option(min=2, help="Points on the line, with both ends.")] = 11,
    buffers: Annotated[
        str, typer.Option(help="All points' BatchNorm statistics: `pooled`, `uniform`, or `from:MODEL`.")
    ] = "pooled",
    copy: Annotated[
        str | None, typer.Option(help="Which copy to take: student or ema.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Architecture.", show_default="what the files say")] = "",
    images: Annotated[int, typer.Option(min=1, help="Scenes to render per domain.")] = 120,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curve into this file (.png, .svg or .pdf).", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Walk the straight line from one model to another and show how well the models on it do.

    A line without a dip means that both lie in one basin, so their mid-point can be trusted.
    """
    from rich.table import Table

    from onebasin import sweep as work
    from protos import printing
    from protos.parallel import cores

    found = work.sweep(
        (a, b),
        data,
        steps=steps,
        copy=copy,
        rule=buffers,
        model=model,
        images=images,
        threads=cores(),
        say=lambda step: typer.echo(f"λ = {step.share:.2f}  H {step.h:.1f}", err=True),
    )
    if plot is not None:
        work.plot(found, plot)
    if json:
        printing.show(found.as_json())
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("λ", *found.steps[0].miou, "H"):
        table.add_column(title, justify="right", no_wrap=True)
    for step in found.steps:
        table.add_row(f"{step.share:.2f}", *(f"{value:.1f}" for value in step.miou.values()), f"{step.h:.1f}")
    said = f"error barrier: {found.barrier:.1f}; best at λ = {found.best.share:.2f} (H {found.best.h:.1f})"
    printing.show([table, said, *([f"plot in {plot}"] if plot is not None else [])])
