"""``onebasin merge``, ``inspect``, ``diff``: what someone types who has model files and no campaign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from coordinator.offline.plan import Plan
    from coordinator.offline.write import Output

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CopyOption = Annotated[
    str | None,
    typer.Option(
        help="Which copy to take from checkpoints that hold several: student or ema.", show_default=False
    ),
]
_LARGE = 1 << 30
"""Bytes to write from which on a progress bar is shown."""


def merge(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Models adapted from one base: safetensors (also sharded), or torch checkpoints.",
            metavar="MODEL…",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Where to write: `.safetensors`, or `.pth` as mmsegmentation's tools load it; with --separate a "
            "folder.",
        ),
    ],
    copy: CopyOption = None,
    buffers: Annotated[
        str,
        typer.Option(
            help="BatchNorm statistics: `pooled` (Gaussians weighted by batches), `uniform` (plain averages), or "
            "`from:MODEL` (one model's)."
        ),
    ] = "pooled",
    weights: Annotated[
        str,
        typer.Option(
            help="What share each model has of the parameters, e.g. `0.3,0.7`; any numbers, their ratio counts. "
            "Buffers are not touched by it.",
            show_default="uniform",
        ),
    ] = "",
    separate: Annotated[
        list[str],
        typer.Option(
            help="Tensors that each model keeps for itself, e.g. `'decode_head.*'`: one output per model. Repeat "
            "for more."
        ),
    ] = [],  # noqa: B006  # typer wants a list, and nobody changes it
    take: Annotated[
        list[str],
        typer.Option(help="Other buffers that may differ; the first model's are taken. Repeat for more."),
    ] = [],  # noqa: B006
    align: Annotated[
        bool,
        typer.Option(
            "--align",
            help="For models that don't share a base: bring their channels into the first one's order first. See "
            "`onebasin basin`.",
        ),
    ] = False,
    allow_duplicates: Annotated[
        bool, typer.Option("--allow-duplicates", help="Merge even if one model is given twice.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done, and do nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over an output that is there.")] = False,
    threads: Annotated[
        int, typer.Option(min=0, help="Tensors worked on at a time; 0: as many as there are cores.")
    ] = 0,
    device: Annotated[
        str,
        typer.Option(help="Where to add up: `cpu`, or a GPU as PyTorch names it (`cuda`). The bits are the same."),
    ] = "cpu",
    digests: Annotated[
        bool,
        typer.Option(
            "--digests/--no-digests",
            help="Name the inputs in the receipt by SHA-256. Computing it is half of the work of a merge.",
        ),
    ] = True,
    json: JsonOption = False,
) -> None:
    """Merge models that were adapted from one base, without data and without training.

    Parameters become their mid-point; BatchNorm statistics are pooled as Gaussians. The sums are exact: the order
    of the models makes no difference to a single bit. Memory doesn't grow with their number or size.
    """
    from contextlib import ExitStack

    from coordinator.offline import inputs, show
    from coordinator.offline import plan as planning
    from coordinator.offline.write import check_free, write
    from protos import printing
    from protos.parallel import cores

    threads = threads or cores()
    options = planning.Options(
        buffers=buffers,
        weights=weights,
        separate=tuple(separate),
        take=tuple(take),
        align=align,
        allow_duplicates=allow_duplicates,
        threads=threads,
        device=device,
    )
    with ExitStack() as opened:
        found = inputs.open_inputs(models, copy, opened, threads, named_by_digest=digests)
        made = planning.make(found, options, output)
        if not plan:
            check_free(made, force=force)
        for warning in made.warnings:
            typer.echo(f"warning: {warning}", err=True)
        written = [] if plan else _with_progress(made, write)
        printing.show(show.as_json(made, written) if json else show.as_text(made, written, tensors=plan))


def _with_progress(made: Plan, write: Any) -> list[Output]:
    """Write, with a progress bar if it takes long and someone is looking."""
    import sys

    total = sum(spec.nbytes for spec in made.manifest.tensors.values()) * len(made.outputs)
    if total < _LARGE or not sys.stderr.isatty():
        return write(made)  # type: ignore[no-any-return]
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("merging", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("merge", total=total)
        return write(made, lambda count: bar.advance(task, count))  # type: ignore[no-any-return]


def inspect(
    file: Annotated[Path, typer.Argument(help="A model file, or the folder of a sharded one.", metavar="FILE")],
    copy: CopyOption = None,
    base: Annotated[
        Path | None, typer.Option(help="A model to measure the distance from.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what a model file holds: copies, parameters, BatchNorm layers and their counts, digest, NaN."""
    from coordinator.offline import inspecting
    from protos import printing
    from protos.parallel import cores

    found = inspecting.inspect(file, copy, base, cores())
    printing.show(found.as_json() if json else inspecting.as_text(found))


def diff(
    a: Annotated[Path, typer.Argument(help="A model.", metavar="A", show_default=False)],
    b: Annotated[Path, typer.Argument(help="Another of the same architecture.", metavar="B", show_default=False)],
    copy: CopyOption = None,
    layers: Annotated[int, typer.Option(min=1, help="How many layers to show.")] = 15,
    json: JsonOption = False,
) -> None:
    """Show how two models differ, layer by layer: parameters, and BatchNorm statistics; worst first."""
    from coordinator.offline import diffing
    from protos import printing
    from protos.parallel import cores

    found = diffing.diff((a, b), copy, cores())
    printing.show(found.as_json() if json else diffing.as_text(found, layers))
