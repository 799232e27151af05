"""The table of results for a terminal."""

from __future__ import annotations

import statistics

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from .grid import Grid, Line, results_grid
from .model import Report
from .text import plain, score

_WIDTH = 100
_MODEL = 32  # at least so many characters for the model's title
_CELL = 6  # "100.0" and the mark of the best
_GAP = 2  # what rich puts between two cells


def results_table(report: Report) -> Table:
    """Return mIoU per domain and H of every model, at most 100 columns wide.

    The best of each column is bold and has a star, so it is seen without colour and in a pipe too. Where
    the sites are too many for a column each, their lowest, mean and highest mIoU stand for them.
    """
    grid = results_grid(report)
    room = _WIDTH - 2 - (_MODEL + _GAP) - (_CELL + _GAP)  # 2: one at either edge
    if len(grid.sites) * (_CELL + _GAP) > room:
        grid = _summarised(grid)
    most = min(14, room // max(1, len(grid.sites)) - _GAP)
    widths = [max(_CELL, min(most, cell_len(plain(site)))) for site in grid.sites]
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption=Text("mIoU per domain and their harmonic mean H, in per cent; * best of its column"),
        caption_justify="left",
        caption_style="dim",
    )
    # The titles have what the sites leave, and give way on a narrower terminal.
    table.add_column("Model", max_width=_MODEL + room - sum(width + _GAP for width in widths))
    for site, width in zip(grid.sites, widths, strict=True):
        header = Text(plain(site))
        table.add_column(
            header, justify="right", no_wrap=True, overflow="ellipsis", min_width=_CELL, max_width=width
        )
    table.add_column("H", justify="right", no_wrap=True, min_width=_CELL)
    previous = ""
    for line in grid.lines:
        if previous and line.row.group != previous:
            table.add_section()
        previous = line.row.group
        title = Text(plain(line.row.title), style="bold" if line.row.kind == report.result_kind else "")
        table.add_row(title, *(_cell(grid, line, column) for column in range(len(line.values))))
    return table


def _cell(grid: Grid, line: Line, column: int) -> Text:
    text = score(line.values[column])
    if grid.is_best(line, column):
        return Text(f"{text}*", style="bold")
    # A space where the star would be keeps the decimals in line.
    return Text(f"{text} ", style="dim" if line.values[column] is None else "")


def _summarised(grid: Grid) -> Grid:
    def summary(line: Line) -> Line:
        *values, h = line.values
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return Line(line.row, (None, None, None, h))
        return Line(line.row, (min(known), statistics.fmean(known), max(known), h))

    return Grid(("lowest", "mean", "highest"), tuple(summary(line) for line in grid.lines))
