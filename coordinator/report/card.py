"""The model card: README.md beside the merged model, as model hubs read it."""

from __future__ import annotations

from typing import Any

import yaml

from .grid import results_grid
from .model import Report
from .palette import BUFFERS
from .text import count, duration, markdown, moment, plain, rule, score, size
from .verdict import conclude

TAGS = ("semantic-segmentation", "model-merging", "domain-adaptation", "federated-learning", "onebasin")

CITATION = """\
@inproceedings{li2024trainingfree,
  title     = {Training-Free Model Merging for Multi-target Domain Adaptation},
  author    = {Li, Wenyi and Gao, Huan-ang and Gao, Mingju and Tian, Beiwen and Zhi, Rong and Zhao, Hao},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2024},
  note      = {arXiv 2407.13771},
}"""


def model_card(report: Report, license_id: str = "other") -> str:
    """Return the model card: YAML front matter, then Markdown.

    Args:
        report: What was merged and how well it does; a verdict is written if it has none.
        license_id: A hub's identifier of the merged model's licence. onebasin can't know it: it follows
            from those of the base and of the sites' data.

    """
    report = report if report.verdict else conclude(report)
    return "\n".join(
        [
            "---",
            # One line per scalar: a folded one could leave a line that reads as the end of the front matter.
            yaml.safe_dump(front_matter(report, license_id), sort_keys=False, allow_unicode=True, width=2**30)
            + "---\n",
            f"# {markdown(report.campaign.name)}\n",
            f"{markdown(report.verdict)}\n",
            *_what(report),
            *_results(report),
            *_inputs(report),
            *_use(report),
            "## Citation\n",
            "The method is by W. Li et al., *Training-Free Model Merging for Multi-target Domain Adaptation*, "
            "ECCV 2024, [arXiv 2407.13771](https://arxiv.org/abs/2407.13771).\n",
            f"```bibtex\n{CITATION}\n```\n",
        ]
    )


def front_matter(report: Report, license_id: str = "other") -> dict[str, Any]:
    """Return the card's front matter.

    Hubs expect the name of one of their own repositories as ``base_model``. The base has a digest instead,
    which stands, with the others, under ``onebasin``.
    """
    matter: dict[str, Any] = {
        "license": license_id,
        "library_name": "onebasin",
        "pipeline_tag": "image-segmentation",
        "tags": list(TAGS),
        "onebasin": {
            "campaign": plain(report.campaign.name),
            "campaign_digest": plain(report.campaign.digest),
            "base_digest": plain(report.campaign.base_digest),
            "merged_digest": plain(report.merged.digest),
            "classes": [plain(name) for name in report.classes],
        },
    }
    if report.receipt_digest:
        matter["onebasin"]["receipt_digest"] = plain(report.receipt_digest)
    if results := _index(report):
        matter["model-index"] = [{"name": plain(report.campaign.name), "results": results}]
    return matter


def _index(report: Report) -> list[dict[str, Any]]:
    result = report.result
    h = report.h(result) if result else None
    if result is None or h is None:
        return []
    scores = [
        (plain(site), "mean_iou", "mIoU (%)", miou)
        for site in report.domains
        if (miou := result.miou(site)) is not None
    ]
    scores.append(("all domains", "harmonic_mean_iou", "H: harmonic mean of mIoU over the domains (%)", h))
    return [
        {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": {"type": "private", "name": name},
            "metrics": [{"type": kind, "name": title, "value": round(value, 2)}],
        }
        for name, kind, title, value in scores
    ]


def _what(report: Report) -> list[str]:
    merged = sum(summary.state == "merged" for summary in report.sites)
    sites = "1 site" if merged == 1 else f"{merged} sites"
    return [
        "## What it is\n",
        f"One semantic segmentation model, merged by onebasin from the models of {sites}. Each site had adapted "
        "the same base to its own unlabelled images, which never left it. Nothing was trained after the merge.\n",
        f"- {len(report.classes)} classes: {', '.join(markdown(name) for name in report.classes)}",
        f"- {count(report.merged.parameters)} parameters, {count(report.merged.batch_norm_layers)} "
        f"BatchNorm layers, {size(report.merged.bytes)}",
        f"- merged {markdown(moment(report.created))}\n",
        "## How it was merged\n",
        "- Parameters: the uniform mid-point of the k sites' models, θ = (1/k) Σ θᵢ.",
        "- BatchNorm statistics: pooled as Gaussians, weighted by tracked batches: n = Σ nᵢ, μ = Σ nᵢ μᵢ / n, "
        "σ² = Σ nᵢ (σᵢ² + (μᵢ − μ)²) / n.",
        *([f"- {further}"] if (further := BUFFERS.get(report.result_kind)) else []),
        "",
    ]


def _results(report: Report) -> list[str]:
    grid = results_grid(report)
    if not grid.lines:
        return []
    lines = [
        "## Results\n",
        "mIoU in each site's domain and their harmonic mean H, in per cent, on images of the sites' own. "
        "mIoU is the mean over the classes that a domain's ground truth holds.\n",
        _row(["Model", *(markdown(site) for site in grid.sites), "H"]),
        _row([":---", *("---:" for _ in grid.sites), "---:"]),
    ]
    for line in grid.lines:
        cells = [
            f"**{score(value)}**" if grid.is_best(line, column) else score(value)
            for column, value in enumerate(line.values)
        ]
        lines.append(_row([markdown(line.row.title), *cells]))
    return [*lines, ""]


def _inputs(report: Report) -> list[str]:
    rules = [rule(key, value) for key, value in report.campaign.rules.items()]
    return [
        "## What went in\n",
        _row(["Site", "State", "Update", "Batches", "Distance from base", "Time", "Digest"]),
        _row([":---", ":---", "---:", "---:", "---:", "---:", ":---"]),
        *(
            _row(
                [
                    markdown(s.site),
                    markdown(s.state + (f": {s.message}" if s.message else "")),
                    size(s.bytes),
                    count(s.batches),
                    "–" if s.distance_from_base is None else f"{s.distance_from_base:.3f}",
                    duration(s.seconds),
                    markdown(s.update_digest or "–"),
                ]
            )
            for s in report.sites
        ),
        "",
        f"- Campaign {markdown(report.campaign.digest)}",
        f"- Base {markdown(report.campaign.base_digest)}",
        f"- Merged model {markdown(report.merged.digest)}",
        *([f"- Receipt {markdown(report.receipt_digest)}"] if report.receipt_digest else []),
        *(f"- {markdown(label)}: {markdown(value)}" for label, value in rules),
        "",
    ]


def _use(report: Report) -> list[str]:
    return [
        "## How to load it\n",
        "```python",
        "from safetensors.torch import load_file",
        "",
        f"state = load_file({plain(report.merged.file)!r})",
        "model.load_state_dict(state)  # of the architecture that the base has",
        "model.eval()",
        "```\n",
        "The full report with charts is in report.html, its numbers in report.json.\n",
    ]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
