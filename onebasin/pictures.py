"""The report's pictures, read from the sites' own folders. They exist only where all sites are on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from client.joined import Joined
from coordinator.report.pictures import DomainPictures


def pictures(sites: Sequence[Joined]) -> list[DomainPictures]:
    """Return a row of pictures per site: image, ground truth, and what four models see."""
    names = [joined.site.name for joined in sites]
    rows = []
    for at, joined in enumerate(sites):
        other = names[(at + 1) % len(names)]
        own = names[at]
        panels = [
            ("image", "image.png"),
            ("ground truth", "ground-truth.png"),
            ("base", "prediction-base.png"),
            (f"adapted at {own}", f"prediction-single-{own}.png"),
            (f"adapted at {other}", f"prediction-single-{other}.png"),
            ("merged", "prediction-midpoint-pooled.png"),
        ]
        folder = joined.folder / "pictures"
        found = [(title, _read(folder / name)) for title, name in panels if (folder / name).exists()]
        if found:
            rows.append(DomainPictures(own, found))
    return rows


def _read(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None, path
    return np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8)
