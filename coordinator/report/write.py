"""Writing a report's files: each is whole or not there, also when the machine stops in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protos.files import make_folder, write

from .card import model_card
from .format import to_json
from .html import render_html
from .model import Report
from .palette import Rgb
from .pictures import DomainPictures
from .verdict import conclude


@dataclass(frozen=True)
class ReportFiles:
    """Where a report was written."""

    json: Path
    html: Path
    card: Path


def write_report(
    folder: Path,
    report: Report,
    pictures: Sequence[DomainPictures] = (),
    *,
    class_colours: Sequence[Rgb] | None = None,
    license_id: str = "other",
) -> ReportFiles:
    """Write report.json, report.html and README.md (the model card) into ``folder``; it is made if need be.

    Everything is rendered before anything is written. Files that are there are replaced.

    Args:
        folder: Beside the merged model's file.
        report: A verdict is written if it has none.
        pictures: Rows of example pictures for the page.
        class_colours: The colours of the pictures' classes; those of Cityscapes if None.
        license_id: A hub's identifier of the merged model's licence.

    Raises:
        DataError: A picture is not RGB of uint8.
        StorageError: A file can't be written.

    """
    report = report if report.verdict else conclude(report)
    files = ReportFiles(folder / "report.json", folder / "report.html", folder / "README.md")
    texts = {
        files.json: to_json(report),
        files.html: render_html(report, pictures, class_colours),
        files.card: model_card(report, license_id),
    }
    make_folder(folder)
    for path, text in texts.items():
        write(path, text)
    return files
