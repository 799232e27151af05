"""The table of results, once for all its appearances: terminal, HTML and Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from .model import KINDS, Report, Row


@dataclass(frozen=True)
class Line:
    """One row of the table: a model, its mIoU in each column's domain, and its H last; None where missing."""

    row: Row
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Grid:
    """The table of results.

    Args:
        sites: The sites with any score; the columns, before the last one for H.
        lines: The models, in the order of ``KINDS``.

    """

    sites: tuple[str, ...]
    lines: tuple[Line, ...]

    def is_best(self, line: Line, column: int) -> bool:
        """Tell whether no other line is better in this column, to the one decimal that is printed."""
        value = line.values[column]
        return value is not None and round(value, 1) == round(max(self._column(column)), 1)

    def shade(self, line: Line, column: int) -> float | None:
        """Return where the value lies between the column's lowest (0) and highest (1); None where missing."""
        value, known = line.values[column], self._column(column)
        if value is None:
            return None
        low, high = min(known), max(known)
        return (value - low) / (high - low) if high > low else 0.5

    def _column(self, column: int) -> list[float]:
        return [value for line in self.lines if (value := line.values[column]) is not None]


def results_grid(report: Report) -> Grid:
    """Lay the report's scores out as a table. Rows without any score are left out."""
    sites = tuple(s for s in report.site_names if any(row.miou(s) is not None for row in report.rows))
    rows = sorted(report.rows, key=lambda row: KINDS.index(row.kind))
    lines = (Line(row, (*(row.miou(site) for site in sites), report.h(row))) for row in rows)
    return Grid(sites, tuple(line for line in lines if any(value is not None for value in line.values)))
