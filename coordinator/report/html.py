"""The report as one self-contained HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import text
from .grid import Grid, Line, results_grid
from .model import Report
from .palette import BUFFERS, KIND_COLOURS, Rgb, legend
from .pictures import PRIVACY, DomainPictures, alt_text, png_data_uri
from .plots import NARROW, WIDE, class_ious_svg, divergence_svg, harmonic_means_svg, shown_domains
from .verdict import conclude

# The page may show what is in it, and may load nothing and run nothing. Data: images are its pictures.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Figure:
    """A chart in two widths; style sheets show the one that fits."""

    label: str
    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class Fact:
    """A key figure: a number, what it is, and a remark."""

    value: str
    name: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of the table of results. ``heat`` is None where nothing is shown."""

    value: str
    heat: float | None
    best: bool
    own: bool


def render_html(
    report: Report,
    pictures: Sequence[DomainPictures] = (),
    class_colours: Sequence[Rgb] | None = None,
) -> str:
    """Return the page.

    Args:
        report: What to show; a verdict is written if it has none.
        pictures: Rows of example pictures; without any, the page has no such section.
        class_colours: The colours of the pictures' classes, for the legend; those of Cityscapes if None.

    Raises:
        DataError: A picture is not RGB of uint8.

    """
    report = report if report.verdict else conclude(report)
    grid = results_grid(report)
    divergence = report.divergence
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            policy=POLICY,
            facts=_facts(report),
            columns=[text.plain(site) for site in grid.sites],
            lines=[(line.row, _cells(grid, line)) for line in grid.lines],
            colours=KIND_COLOURS,
            buffers=BUFFERS.get(report.result_kind),
            all_panels=len(shown_domains(report)) == len(report.domains),
            images=_images(report),
            means=_figure(lambda width: harmonic_means_svg(report, width), _means_label(report)),
            classes=_figure(
                lambda width: class_ious_svg(report, width),
                "Bar chart: IoU of each class for the base, the single model and the merged model.",
            ),
            distances=divergence
            and _figure(
                lambda width: divergence_svg(divergence, width),
                "Line chart: divergence of the sites' BatchNorm statistics, layer by layer.",
            ),
            pictures=[
                (
                    row.site,
                    [(title, png_data_uri(image), alt_text(row.site, title)) for title, image in row.panels],
                )
                for row in pictures
            ],
            legend=legend(report.classes, class_colours),
            privacy=PRIVACY,
            # A digest has no room in the rules' column, and belongs to the other digests anyway.
            code=report.campaign.rules.get("code_digest"),
            rules=[text.rule(key, value) for key, value in report.campaign.rules.items() if key != "code_digest"],
            travelled=sum(site.bytes or 0 for site in report.sites),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        plain=text.plain,
        size=text.size,
        duration=text.duration,
        count=text.count,
        moment=text.moment,
    )
    return environment


def _figure(draw: Callable[[float], str | None], label: str) -> Figure | None:
    """Draw a chart in both widths. Its SVG is markup: matplotlib has escaped the names in it."""
    wide, narrow = draw(WIDE), draw(NARROW)
    if wide is None or narrow is None:
        return None
    return Figure(label, Markup(wide), Markup(narrow))  # noqa: S704


def _means_label(report: Report) -> str:
    """Return the bar chart in words."""
    bars = [
        f"{text.plain(line.row.title)} {text.score(line.values[-1])}"
        for line in results_grid(report).lines
        if line.values[-1] is not None
    ]
    return f"Bar chart of H: {'; '.join(bars)}."


def _cells(grid: Grid, line: Line) -> list[Cell]:
    own = [line.row.site == site for site in grid.sites] + [False]
    return [
        Cell(text.score(value), grid.shade(line, column), grid.is_best(line, column), own[column])
        for column, value in enumerate(line.values)
    ]


def _images(report: Report) -> int:
    """Return how many images the merged model was judged on."""
    result = report.result
    return sum(result.scores[site].images for site in report.domains) if result else 0


def _facts(report: Report) -> list[Fact]:
    """Return the key figures, the judge of the merge first."""
    facts: list[Fact] = []
    result = report.result
    h = report.h(result) if result else None
    if result and h is not None:
        facts.append(Fact(text.score(h), "H of the merged model", "harmonic mean of mIoU over the domains, %"))
        for kind, name in (("single", "against the best single model"), ("base", "against the base")):
            row = report.best("single" if kind == "single" else "base")
            other = report.h(row) if row else None
            if row and other is not None:
                gap = text.difference(h, other)
                who = f"{text.plain(row.site, 24)} has" if row.site else "it has"
                tone = "good" if gap > 0 else "bad" if gap < 0 else ""
                facts.append(Fact(text.signed(gap), name, f"{who} H {text.score(other)}", tone))
        lowest = min(report.domains, key=lambda site: result.miou(site) or 0.0)
        facts.append(Fact(text.score(result.miou(lowest)), "mIoU in the weakest domain", text.plain(lowest, 30)))
    merged = sum(site.state == "merged" for site in report.sites)
    facts.append(
        Fact(f"{merged} of {len(report.sites)}", "sites merged", "", "" if merged == len(report.sites) else "bad")
    )
    travelled = sum(site.bytes or 0 for site in report.sites)
    if travelled:
        facts.append(Fact(text.size(travelled), "travelled in all", "as updates"))
    return facts
