"""A report on a site's data as tables, for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from client.data.findings import Finding, Part, Report
from client.data.labels import CLASSES, PALETTE

_STYLE = {"error": "bold red", "warning": "yellow", "note": "dim"}
_BAR = 12
"""Characters of the longest bar."""


def as_text(report: Report) -> Iterator[Table | Text | str]:
    """Yield the parts, the classes, the findings, and a verdict."""
    yield _parts(report.parts)
    if any(part.counts is not None for part in report.parts):
        yield ""
        yield _classes(report.parts)
    yield ""
    if report.findings:
        yield _findings(report.findings)
        yield ""
    yield _verdict(report)


def _parts(parts: tuple[Part, ...]) -> Table:
    table = Table(title="images", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("", "layout", "folder", "split", "images", "sizes", "labels", "in training"):
        table.add_column(name, justify="right" if name == "images" else "left", header_style="dim")
    for part in parts:
        labels = ", ".join(part.codings) or "yes" if part.labelled else "none used"
        row = [part.name, part.layout, part.folder, part.split, f"{part.images:,}", _sizes(part.sizes), labels]
        table.add_row(*map(escape, [*row, part.trains_at]))
    return table


def _sizes(sizes: dict[str, int]) -> str:
    listed = list(sizes.items())
    if len(listed) == 1:
        return listed[0][0]
    said = [f"{number:,} of {size}" for size, number in listed[:3]]
    return "\n".join([*said, *([f"{len(listed) - 3} other sizes"] if len(listed) > 3 else [])])


def _classes(parts: tuple[Part, ...]) -> Table:
    shown = [part for part in parts if part.counts is not None]
    table = Table(title="classes", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for part in shown:
        table.add_column(f"{part.name}: pixels", justify="right", header_style="dim", no_wrap=True)
        table.add_column("", no_wrap=True, width=_BAR)
        table.add_column("images", justify="right", header_style="dim", no_wrap=True)
        if part.chances is not None:
            table.add_column("drawn", justify="right", header_style="dim", no_wrap=True)
    for at, name in enumerate(CLASSES):
        cells: list[str | Text] = [Text.assemble(("■ ", "rgb({},{},{})".format(*PALETTE[at])), name)]
        for part in shown:
            shares, images = part.shares, part.images_with
            assert shares is not None
            assert images is not None
            style = "" if shares[at] else "dim"
            cells.append(Text(_percent(float(shares[at])), style))
            cells.append(Text("█" * round(_BAR * float(shares[at]) / float(shares.max() or 1)), "cyan"))
            cells.append(Text(f"{int(images[at]):,}", style))
            if part.chances is not None:
                cells.append(Text(_percent(float(part.chances[at])), style))
        table.add_row(*cells)
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share else "–"


def _findings(found: list[Finding]) -> Table:
    table = Table(title="findings", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("", "where", "what", "how to fix"):
        table.add_column(name, header_style="dim", overflow="fold")
    for finding in found:
        files = [f"{name}" for name in finding.files[:3] if name not in finding.what]
        more = [f"… {len(finding.files) - 3:,} more"] if files and len(finding.files) > 3 else []
        what = Text("\n".join([finding.what, *("  " + line for line in [*files, *more])]))
        table.add_row(Text(finding.level, _STYLE[finding.level]), finding.part, what, Text(finding.fix))
    return table


def _verdict(report: Report) -> Text:
    if report.errors:
        things = "1 thing" if report.errors == 1 else f"{report.errors} things"
        return Text(f"{things} must be fixed.", "bold red")
    return Text("Nothing must be fixed.", "bold green")
