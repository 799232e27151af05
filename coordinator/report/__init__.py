"""The report room: what a campaign's merge achieved, for people, for machines and for model hubs.

Pure functions from a ``Report`` to text; only ``write_report`` touches the disk.
"""

from .card import model_card
from .format import FORMAT, from_json, to_json
from .html import render_html
from .model import (
    CampaignSummary,
    Divergence,
    Kind,
    Merged,
    PairDivergence,
    Report,
    Row,
    Score,
    SiteSummary,
    harmonic_mean,
)
from .pictures import DomainPictures
from .table import results_table
from .verdict import conclude, verdict
from .write import ReportFiles, write_report

__all__ = [
    "FORMAT",
    "CampaignSummary",
    "Divergence",
    "DomainPictures",
    "Kind",
    "Merged",
    "PairDivergence",
    "Report",
    "ReportFiles",
    "Row",
    "Score",
    "SiteSummary",
    "conclude",
    "from_json",
    "harmonic_mean",
    "model_card",
    "render_html",
    "results_table",
    "to_json",
    "verdict",
    "write_report",
]
