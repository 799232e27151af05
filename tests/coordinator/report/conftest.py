"""A realistic report: 19 Cityscapes classes, four sites, and pictures of random shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from coordinator.report.model import (
    CampaignSummary,
    Divergence,
    Merged,
    PairDivergence,
    Report,
    Row,
    Score,
    SiteSummary,
)
from coordinator.report.palette import CITYSCAPES
from coordinator.report.pictures import DomainPictures
from coordinator.report.verdict import conclude

CLASSES = list(CITYSCAPES)
SITES = ["clear-city", "dusty-rural", "fog-harbour", "night"]

# Pixels of a class, relative to each other, and how easily it is recognised.
FREQUENT = np.array([33, 6, 20, 1, 1, 1.5, 0.5, 0.6, 15, 1.2, 8, 1.2, 0.3, 7, 0.4, 0.4, 0.3, 0.2, 0.5])
EASY = np.array([2.2, 1, 1.4, -0.4, -0.3, 0, -0.2, 0, 1.5, 0, 2, 0.4, -0.6, 1.3, -0.2, -0.1, -0.8, -0.7, 0])


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_score(rng: np.random.Generator, skill: float, absent: tuple[int, ...] = ()) -> Score:
    """Draw a confusion matrix whose mIoU rises with ``skill``."""
    k = len(CLASSES)
    pixels = FREQUENT * rng.uniform(0.7, 1.3, k)
    pixels[list(absent)] = 0
    right = 1 / (1 + np.exp(-(skill + EASY + rng.normal(0, 0.25, k))))
    confusion = np.zeros((k, k), dtype=np.int64)
    for c in range(k):
        wrong = np.sqrt(FREQUENT) * rng.uniform(0.2, 1, k)
        wrong[c] = 0
        shares = (1 - right[c]) * wrong / wrong.sum()
        shares[c] = right[c]
        confusion[c] = np.round(shares * pixels[c] * 8000)
    return Score(confusion.tolist(), images=60)


def make_report(
    sites: list[str] | None = None,
    *,
    compare: bool = True,
    boost: dict[str, float] | None = None,
    name: str = "autumn-fleet",
) -> Report:
    """Make a report. ``boost`` makes a row's model better or worse, by its key."""
    sites = SITES if sites is None else sites
    boost = boost or {}
    rng = np.random.default_rng(7)
    hard = {site: (0.35, 0.1, -0.1, -0.45)[i % 4] for i, site in enumerate(sites)}
    absent = {site: ((), (16,), (14, 16), (17,))[i % 4] for i, site in enumerate(sites)}

    def scores(key: str, skill: float, own: str | None = None, bonus: float = 0.0) -> dict[str, Score]:
        return {
            site: make_score(
                rng, skill + boost.get(key, 0.0) + hard[site] + (bonus if site == own else 0), absent[site]
            )
            for site in sites
        }

    rows = [Row("base", "base", "base", None, scores("base", -0.15))]
    for site in sites:
        found = scores(f"single:{site}", 0.0, site, 0.75)
        if not compare:
            found = {site: found[site]}
        rows.append(Row(f"single:{site}", f"adapted at {site}", "single", site, found))
    for site in sites:
        key = f"one-site-buffers:{site}"
        title = f"mid-point, buffers of {site}"
        rows.append(Row(key, title, "one-site-buffers", site, scores(key, 0.1, site, 0.3)))
    rows.append(
        Row("averaged-buffers", "mid-point, averaged buffers", "averaged-buffers", None, scores("averaged", 0.38))
    )
    rows.append(Row("pooled-buffers", "mid-point, pooled buffers", "pooled-buffers", None, scores("pooled", 0.45)))
    key = "recalibrated-buffers"
    rows.append(Row(key, "merged, recalibrated at each site", key, None, scores("recalibrated", 0.52)))
    return Report(
        campaign=CampaignSummary(
            name=name,
            digest=digest("campaign"),
            base_digest=digest("base"),
            rules={
                "minimum_sites": 0,
                "deadline_seconds": 7200,
                "patience_seconds": 600,
                "compare_single_models": compare,
                "copy": "student",
            },
        ),
        created="2025-11-22T18:13:05+00:00",
        classes=CLASSES,
        rows=rows,
        sites=[
            SiteSummary(
                site=site,
                state="merged",
                update_digest=digest(site),
                bytes=941_322 + 13 * i,
                batches=1500 + 800 * (1 + i % 3),
                distance_from_base=0.182 + 0.017 * i,
                seconds=3.2 + 1.9 * i,
            )
            for i, site in enumerate(sites)
        ],
        divergence=make_divergence(sites),
        merged=Merged(
            digest=digest("merged"),
            file="merged.safetensors",
            parameters=231_507,
            batch_norm_layers=23,
            bytes=935_120,
        ),
        receipt_digest=digest("receipt"),
        timings={"waiting for updates": 93.2, "merge": 0.41, "evaluation": 48.7, "whole campaign": 151.3},
        versions={"onebasin": "0.1.0", "flwr": "1.39.0", "torch": "2.13.0", "python": "3.11.9"},
    )


def make_divergence(sites: list[str]) -> Divergence:
    rng = np.random.default_rng(3)
    layers = ["backbone.stem.bn"]
    layers += [f"backbone.layer{s}.{b}.bn{i}" for s in range(1, 5) for b in range(2) for i in (1, 2)]
    layers += ["head.aspp.0.bn", "head.aspp.1.bn", "head.aspp.2.bn", "head.skip.bn", "head.fuse.bn", "head.out.bn"]
    shape = 0.5 * np.exp(-np.arange(len(layers)) / 9) + 0.03
    pairs = [
        PairDivergence(a, b, (shape * (1 + i + j) * rng.lognormal(0, 0.25, len(layers))).tolist())
        for i, a in enumerate(sites)
        for j, b in enumerate(sites)
        if i < j
    ]
    return Divergence(layers, pairs)


def make_pictures(sites: list[str] | None = None) -> list[DomainPictures]:
    """Draw 64×128 streets of boxes, and predictions that miss some of them."""
    colours = np.array(list(CITYSCAPES.values()), dtype=np.uint8)
    rows = []
    for index, site in enumerate(SITES if sites is None else sites):
        rng = np.random.default_rng(index)
        truth = np.full((64, 128), 10)
        y, x = np.mgrid[:64, :128]
        truth[24:] = 1
        truth[np.abs(x - 64) < (y - 24) * 1.4] = 0
        for c, low, high in [
            (2, 4, 44),
            (8, 10, 40),
            (2, 8, 42),
            (13, 40, 56),
            (11, 30, 58),
            (5, 6, 50),
            (7, 8, 14),
        ]:
            left = int(rng.integers(0, 110))
            wide = {5: 2, 7: 6, 11: 5, 13: 22}.get(c, int(rng.integers(14, 34)))
            truth[low:high, left : left + wide] = c
        light = (1.0, 0.8, 0.6, 0.3)[index % 4]
        image = np.clip(colours[truth] * light + rng.normal(0, 12, (64, 128, 3)) + (index == 2) * 70, 0, 255)

        def predict(noise: float, truth: np.ndarray = truth, rng: np.random.Generator = rng) -> np.ndarray:
            guess = truth.copy()
            for _ in range(int(noise)):
                top, left = int(rng.integers(0, 60)), int(rng.integers(0, 120))
                guess[top : top + 6, left : left + 12] = rng.integers(0, 19)
            return colours[guess]

        other = (SITES if sites is None else sites)[index - 1]
        rows.append(
            DomainPictures(
                site,
                [
                    ("image", image.astype(np.uint8)),
                    ("ground truth", colours[truth]),
                    ("base", predict(22)),
                    (f"adapted at {site}", predict(5)),
                    (f"adapted at {other}", predict(26)),
                    ("merged", predict(8)),
                ],
            )
        )
    return rows


@pytest.fixture(scope="session")
def report() -> Report:
    return conclude(make_report())


@pytest.fixture(scope="session")
def build() -> Callable[..., Report]:
    return make_report


@pytest.fixture(scope="session")
def pictures() -> list[DomainPictures]:
    return make_pictures()


@pytest.fixture
def silent(build: Callable[..., Report]) -> Report:
    """A report in which the last site never answered."""
    full = build()
    sites = [*full.sites[:-1], SiteSummary(site=SITES[-1], state="silent", message="no answer for 10 min")]
    rows = [
        replace(row, scores={s: score for s, score in row.scores.items() if s != SITES[-1]})
        for row in full.rows
        if row.site != SITES[-1]
    ]
    return replace(full, sites=sites, rows=rows)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Report]:
    """Make a report of exact mIoUs: ``tiny(base={"a": 30}, single_a={...}, pooled={...}, rules={...})``."""

    def make(rules: dict[str, bool] | None = None, sites: str = "ab", **rows: dict[str, float]) -> Report:
        kinds = {"base": "base", **{name: f"{name}-buffers" for name in ("averaged", "pooled", "recalibrated")}}
        made = []
        for key, mious in rows.items():
            name, _, site = key.partition("_")
            kind = kinds.get(name) or {"single": "single", "buffers": "one-site-buffers"}[name]
            # One present class, of which so many of 1,000 pixels are found; the other class is absent.
            scores = {s: Score([[round(10 * m), 1000 - round(10 * m)], [0, 0]], 5) for s, m in mious.items()}
            made.append(Row(key, key, kind, site or None, scores))
        return Report(
            campaign=CampaignSummary(name="tiny", digest="c0", base_digest="b0", rules=rules or {}),
            created="2025-01-02T03:04:05+00:00",
            classes=["x", "y"],
            rows=made,
            sites=[SiteSummary(site=site, state="merged") for site in sites],
            merged=Merged(digest="d0", file="merged.safetensors", parameters=1, batch_norm_layers=1, bytes=10),
        )

    return make


HOSTILE = [
    "<script>alert(1)</script>",
    "a|b\n\n# c",
    '"quo\'te" $x^2$ & {{ 7*7 }} 日本',
    "[bold]x[/] \x1b[31mred\u202e`**_",
    "![i](https://evil.example/x.png) www.evil.example",
    "---\n- !!python/object:os.system",
]


@pytest.fixture(scope="session")
def hostile(build: Callable[..., Report]) -> Report:
    """A report in which every name is an attack."""
    made = build(HOSTILE, name="</title><img src=x onerror=alert(1)> ]]> -->\n---\nlicense: mit\n")
    sites = [replace(s, message="</td><b>m</b>|x", state="merged <i>") for s in made.sites]
    merged = replace(made.merged, file='x"); import os; os.system("<b>")\n```')
    return replace(
        made,
        sites=sites,
        merged=merged,
        classes=["<u>road</u>|" if name == "road" else name for name in made.classes],
        timings={"<b>t</b>": 1.0},
        versions={"<b>v</b>": "<i>1</i>"},
        created="<script>",
        receipt_digest="<b>r</b>",
        verdict="",
    )
