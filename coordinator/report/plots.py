"""The report's charts, as SVG strings. Each comes in any width, so that a phone gets one drawn for a phone."""

from __future__ import annotations

import statistics
import textwrap
from typing import TYPE_CHECKING

from .grid import results_grid
from .model import Divergence, Report, Row
from .palette import KIND_COLOURS, KIND_NAMES, LINES
from .svg import MUTED, drawing, to_svg
from .text import plain, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

WIDE = 10.0
"""Inches, at 72 points each: the width of the page's column."""

NARROW = 4.2
"""Inches: a phone shows this a little smaller than drawn."""

_MOST_PANELS = 8
_MOST_LINES = 6
_MARKERS = ("o", "s", "^", "D", "v", "P")


def harmonic_means_svg(report: Report, width: float = WIDE) -> str | None:
    """Return a bar for the H of every row that has one, or None if none has."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    judged = [(line.row, line.values[-1]) for line in results_grid(report).lines]
    rows = [(row, h) for row, h in judged if h is not None]
    if not rows:
        return None
    kinds = list(dict.fromkeys(row.kind for row, _ in rows))
    narrow = width < 7
    with drawing(f"h-{width}"):
        figure = Figure(
            figsize=(
                width,
                (0.36 if narrow else 0.29) * len(rows) + (0.2 * len(kinds) if narrow else 0.35) + 0.55,
            ),
            layout="constrained",
        )
        axes = figure.add_subplot()
        places = range(len(rows))
        axes.barh(places, [h for _, h in rows], height=0.72, color=[KIND_COLOURS[row.kind] for row, _ in rows])
        top = max(h for _, h in rows)
        best = round(top, 1)
        for place, (_, h) in enumerate(rows):
            weight = "bold" if round(h, 1) == best else "normal"
            axes.text(h + 0.012 * top, place, score(h), va="center", ha="left", fontweight=weight)
        axes.set_yticks(places, [_wrapped(row.title, 19 if narrow else 52) for row, _ in rows])
        for label, (row, _) in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if row.kind == report.result_kind else "normal")
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, max(top * 1.1, 1.0))
        axes.set_xlabel("H, %" if narrow else "H: harmonic mean of mIoU over the domains, %")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        figure.legend(
            handles=[Patch(color=KIND_COLOURS[kind], label=KIND_NAMES[kind]) for kind in kinds],
            loc="outside upper left",
            ncols=1 if narrow else 3,
            columnspacing=1.4,
            labelcolor=MUTED,
        )
        return to_svg(figure)


def class_ious_svg(report: Report, width: float = WIDE) -> str | None:
    """Return per-class IoU of the base, the best single model and the merged model, or None without scores.

    The first panel is the mean over the domains that have the class; the others are one domain each. If no
    single model was scored in every domain, each domain shows its own site's model instead.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    series = _series(report)
    shown = shown_domains(report)
    if not series or not shown:
        return None
    present = [
        c for c in range(len(report.classes)) if any(_mean(report, rows, c) is not None for _, _, rows in series)
    ]
    narrow = width < 7
    columns = min(2 if narrow else 5, 1 + len(shown))
    lines = -(-(len(shown) + 1) // columns)
    with drawing(f"classes-{width}"):
        height = max(1.0, (0.05 + 0.076 * (len(series) + 0.9)) * len(present))
        figure = Figure(
            figsize=(width, lines * (height + 0.55) + (0.2 * len(series) if narrow else 0.3)),
            layout="constrained",
        )
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
        for index, axes in enumerate(panels):
            if index > len(shown):
                axes.set_visible(False)
                continue
            site = None if index == 0 else shown[index - 1]
            for at, (_, colour, rows) in enumerate(series):
                values = [_mean(report, rows, c) if site is None else _iou(rows, site, c) for c in present]
                _bars(axes, values, at, len(series), colour)
            axes.set_title("mean of the domains" if site is None else plain(site, 20 if narrow else 22))
            axes.set_xlim(0, 100)
            axes.set_ylim(len(present) - 0.5, -0.5)
            axes.set_yticks(range(len(present)), [plain(report.classes[c], 16) for c in present])
            axes.set_xticks([0, 40, 80])  # 100 would run into the next panel's 0
            axes.tick_params(axis="x", labelbottom=True)
            axes.grid(axis="x")
            # Thin lines between the classes lead the eye from the names to the last panel.
            edges = [place + 0.5 for place in range(len(present) - 1)]
            axes.hlines(edges, 0, 100, color="#eef1f3", linewidth=0.6, zorder=0)
        figure.supxlabel("IoU, %", fontsize=9, color=MUTED)
        figure.legend(
            handles=[Patch(color=colour, label=plain(name, 48)) for name, colour, _ in series],
            loc="outside upper left",
            ncols=1 if narrow else 3,
            columnspacing=1.4,
            labelcolor=MUTED,
        )
        return to_svg(figure)


def divergence_svg(divergence: Divergence, width: float = WIDE) -> str | None:
    """Return how far apart the sites' BatchNorm statistics lie per layer, on a log scale; None if nowhere.

    Up to six pairs of sites get a line each; more become their mean in a band from lowest to highest.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    # A log scale has no place for 0 or for infinity: the line has a gap there.
    pairs = [[v if v is not None and v > 0 else float("nan") for v in p.values] for p in divergence.pairs]
    if not any(value == value for values in pairs for value in values):
        return None
    narrow = width < 7
    count = len(divergence.layers)
    places = list(range(1, count + 1))
    few = len(pairs) <= _MOST_LINES
    names = _short_names(divergence.layers)
    with drawing(f"divergence-{width}"):
        figure = Figure(figsize=(width, 4.4 if narrow else 4.2), layout="constrained")
        axes = figure.add_subplot()
        if few:
            for index, (pair, values) in enumerate(zip(divergence.pairs, pairs, strict=True)):
                axes.plot(
                    places,
                    values,
                    color=LINES[index],
                    marker=_MARKERS[index],
                    markersize=4 if count <= 40 else 0,
                    linewidth=1.5,
                    label=f"{plain(pair.a, 18)} – {plain(pair.b, 18)}",
                )
        else:
            known = [[v for v in values if v == v] for values in zip(*pairs, strict=True)]
            nothing = float("nan")
            axes.fill_between(
                places,
                [min(v, default=nothing) for v in known],
                [max(v, default=nothing) for v in known],
                color=LINES[0],
                alpha=0.18,
                linewidth=0,
                label=f"lowest to highest of {len(pairs)} pairs",
            )
            axes.plot(
                places,
                [statistics.fmean(v) if v else nothing for v in known],
                color=LINES[0],
                linewidth=1.8,
                marker="o",
                markersize=3.5 if count <= 40 else 0,
                label="mean of the pairs",
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("symmetric KL divergence")
        axes.set_xlim(0.5, count + 0.5)
        step = max(1, -(-count // (14 if narrow else 30)))
        axes.set_xticks(places[::step], [plain(name, 22) for name in names[::step]], rotation=90, fontsize=7.5)
        axes.grid(axis="both")
        axes.tick_params(axis="y", colors=MUTED)
        figure.legend(loc="outside upper left", ncols=2 if narrow else 3, columnspacing=1.4, labelcolor=MUTED)
        return to_svg(figure)


_Series = tuple[str, str, dict[str, Row]]  # its name, its colour, and the row to show for each domain


def _series(report: Report) -> list[_Series]:
    """Return what the per-class chart compares."""
    domains = report.domains
    series: list[_Series] = []
    if base := report.best("base"):
        series.append(("base", KIND_COLOURS["base"], dict.fromkeys(domains, base)))
    if best := report.best("single"):
        name = f"best single model ({plain(best.site or '', 20)})"
        series.append((name, KIND_COLOURS["single"], dict.fromkeys(domains, best)))
    elif own := {row.site: row for row in report.of_kind("single") if row.site in domains}:
        series.append(("each site's own model", KIND_COLOURS["single"], {s: r for s, r in own.items() if s}))
    for kind in dict.fromkeys(("pooled-buffers", report.result_kind)):
        if row := report.best(kind):
            name = KIND_NAMES[kind] + (" (merged)" if kind == report.result_kind else "")
            series.append((name, KIND_COLOURS[kind], dict.fromkeys(domains, row)))
    return series


def shown_domains(report: Report) -> tuple[str, ...]:
    """Return the domains with a panel of their own: all, or those where the merged model is weakest."""
    result = report.result
    if result is None or len(report.domains) <= _MOST_PANELS:
        return report.domains
    weakest = sorted(report.domains, key=lambda site: result.miou(site) or 0.0)[:_MOST_PANELS]
    return tuple(site for site in report.domains if site in weakest)


def _iou(rows: dict[str, Row], site: str, c: int) -> float | None:
    score = rows[site].scores.get(site) if site in rows else None
    return None if score is None else score.iou[c]


def _mean(report: Report, rows: dict[str, Row], c: int) -> float | None:
    known = [value for site in report.domains if (value := _iou(rows, site, c)) is not None]
    return statistics.fmean(known) if known else None


def _bars(axes: Axes, values: Sequence[float | None], at: int, of: int, colour: str) -> None:
    """Draw one series of grouped horizontal bars; a class that is absent has none."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    thick = 0.8 / of
    corners = [
        [(0.0, top), (value, top), (value, top + 0.92 * thick), (0.0, top + 0.92 * thick), (0.0, top)]
        for place, value in enumerate(values)
        if value is not None
        for top in [place - 0.4 + (at + 0.04) * thick]
    ]
    if corners:
        # One path for all of them: a patch for each of some hundred bars takes most of a report's time.
        axes.add_patch(PathPatch(Path.make_compound_path(*map(Path, corners)), facecolor=colour, linewidth=0))


def _wrapped(title: str, width: int) -> str:
    """Return a title on at most two lines; what tells rows apart often stands at its end."""
    return textwrap.fill(plain(title), width, max_lines=2, placeholder="…", break_on_hyphens=False)


def _short_names(layers: Sequence[str]) -> list[str]:
    """Return the layers' names without the dotted prefix that all of them share."""
    parts = [layer.split(".") for layer in layers]
    shared = 0
    while all(len(p) > shared + 1 for p in parts) and len({p[shared] for p in parts}) == 1:
        shared += 1
    return [".".join(p[shared:]) for p in parts]
