"""``onebasin site check-data``: look at a site's images before hours are spent on them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.data.checking import Say

_QUIET = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def check_data(
    site: Annotated[
        Path | None, typer.Argument(help="The site's folder.", metavar="FOLDER", show_default=False)
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="Without a site: gta, synthia, cityscapes, idd, acdc, dark_zurich or folder.", show_default=False
        ),
    ] = "",
    folder: Annotated[
        Path | None, typer.Option(help="Without a site: the data set's folder.", show_default=False)
    ] = None,
    split: Annotated[
        str, typer.Option(help="Without a site: train, val, or a subfolder's name.", show_default=False)
    ] = "",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Without a site: images only; nothing looks for labels.")
    ] = False,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(help="Draw a dozen images with their labels into this file.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read all of a site's images and labels, and say what must be fixed before training.

    Damaged files, images without labels, label ids that no class has, sizes, and how often each class occurs. Ends
    with exit code 12 if something must be fixed. On the way it counts the classes for rare-class sampling, which
    training would do otherwise.

    Or look at one data set, without a site: `--layout gta --folder /data/gta`.
    """
    from client.data import checking
    from client.data.check_text import as_text
    from client.data.findings import Report
    from client.data.settings import ImageFolder
    from client.site import Site
    from protos import printing
    from protos.errors import ConfigurationError, DataError

    alone = bool(layout or folder or split or unlabelled)
    if (site is None) != alone:
        raise ConfigurationError(
            "name either a site's folder or a data set",
            "onebasin site check-data FOLDER, or: onebasin site check-data --layout gta --folder /data/gta",
        )
    with _progress() as say:
        if site is not None:
            opened = Site.open(site)
            report = checking.check_site(opened.settings.data, opened.folder, say)
        else:
            if not layout or folder is None:
                raise ConfigurationError("a data set has a layout and a folder", "give both --layout and --folder")
            part = ImageFolder(layout, str(folder), split)
            use = checking.Use("images", labelled=not unlabelled)
            report = Report((checking.check_folder(part, Path.cwd(), use, say),))
    printing.show(report.as_json() if as_json else as_text(report))
    if contact_sheet is not None and any(part.images for part in report.parts):
        from client.data import contact_sheet as sheet

        sheet.write(report.parts, contact_sheet)
        typer.echo(f"contact sheet: {contact_sheet}", err=as_json)
    if report.errors:
        number = "one thing" if report.errors == 1 else f"{report.errors} things"
        raise DataError(f"the data are not ready: {number} must be fixed", "see the findings above")


@contextmanager
def _progress() -> Iterator[Say]:
    """Show how far it is on standard error: a bar on a terminal, now and then a line elsewhere."""
    if not sys.stderr.isatty():
        said = time.monotonic()

        def line(part: str, done: int, of: int) -> None:
            nonlocal said
            if time.monotonic() - said > _QUIET:
                said = time.monotonic()
                typer.echo(f"{time.strftime('%H:%M:%S')} {part}: {done:,} of {of:,} images", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def draw(part: str, done: int, of: int) -> None:
            if part not in tasks:
                tasks[part] = bar.add_task(part, total=of)
            bar.update(tasks[part], completed=done)

        yield draw
