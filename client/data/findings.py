"""What a look at a site's data found: values, and the rules by which they are good or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data.cutting import fitted
from client.data.labels import CLASSES, IGNORE
from client.data.layouts import Coding
from client.data.rare import RareClassSampler
from client.data.reading import FileError, UnknownIdsError, UnreadableError
from client.data.settings import ImageFolder, RareClasses
from client.data.statistics import Counts
from protos.errors import DataError

_LISTED = 100
"""Files that a finding names in JSON."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        level: ``error`` must be fixed, ``warning`` should be looked at, ``note`` is good to know.
        part: Where: ``source``, ``target``, ``evaluation``.
        what: What is so.
        fix: What to do about it.
        files: The files that it is about.

    """

    level: str
    part: str
    what: str
    fix: str
    files: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON's types; of many files the first hundred."""
        named = {"files": list(self.files[:_LISTED]), "number_of_files": len(self.files)}
        return {"level": self.level, "part": self.part, "what": self.what, "fix": self.fix, **named}


@dataclass(frozen=True)
class Sample:
    """One image to look at.

    Attributes:
        title: Its name.
        image: uint8 (H, W, 3), RGB.
        labels: uint8 (H, W), train ids; None if there are none.

    """

    title: str
    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8] | None


def _no_samples(_: int) -> list[Sample]:
    return []


@dataclass(frozen=True, eq=False)
class Part:
    """One folder of images, as it was found.

    Attributes:
        name: ``source``, ``target``, ``evaluation``.
        layout: Its layout's name, or ``scenes``.
        folder: Where it is, or the scenes' domain.
        split: Its split.
        labelled: Whether labels were looked for.
        images: How many there are.
        sizes: "width × height" → how many images, the most frequent first.
        codings: What label maps' numbers mean → how many maps.
        trains_at: What training makes of the most frequent size; "" if it isn't trained on.
        counts: (images that could be read, classes), pixels; None without labels.
        chances: How likely rare-class sampling is to draw each class, (classes,); None if it is off.
        findings: What is not as it should be.
        samples: Reads so many images to look at, or fewer if there are no more.

    """

    name: str
    layout: str
    folder: str
    split: str
    labelled: bool
    images: int
    sizes: dict[str, int]
    codings: dict[str, int] = field(default_factory=dict)
    trains_at: str = ""
    counts: Counts | None = None
    chances: npt.NDArray[np.float64] | None = None
    findings: tuple[Finding, ...] = ()
    samples: Callable[[int], list[Sample]] = _no_samples

    @property
    def shares(self) -> npt.NDArray[np.float64] | None:
        """Each class's share of the labelled pixels, (classes,), 0…1."""
        if self.counts is None:
            return None
        pixels: npt.NDArray[np.float64] = self.counts.sum(0, dtype=np.float64)
        return pixels / max(float(pixels.sum()), 1.0)

    @property
    def images_with(self) -> npt.NDArray[np.int64] | None:
        """How many images have each class, (classes,)."""
        return None if self.counts is None else np.count_nonzero(self.counts, axis=0)

    def as_json(self) -> dict[str, Any]:
        """Return all but the findings as JSON's types."""
        plain = ("name", "layout", "folder", "split", "labelled", "images", "sizes", "codings", "trains_at")
        content = {key: getattr(self, key) for key in plain}
        shares, images_with = self.shares, self.images_with
        if self.counts is not None and shares is not None and images_with is not None:
            pixels = self.counts.sum(0, dtype=np.int64)
            content["classes"] = {
                name: {
                    "pixels": int(pixels[at]),
                    "share": float(shares[at]),
                    "images": int(images_with[at]),
                    **({"chance": float(self.chances[at])} if self.chances is not None else {}),
                }
                for at, name in enumerate(CLASSES)
            }
        return content


@dataclass(frozen=True, eq=False)
class Report:
    """What was found in all parts.

    Attributes:
        parts: The folders.
        across: Findings that concern several of them.

    """

    parts: tuple[Part, ...]
    across: tuple[Finding, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """All findings, the worst first."""
        found = [finding for part in self.parts for finding in part.findings]
        return sorted([*found, *self.across], key=lambda f: ("error", "warning", "note").index(f.level))

    @property
    def errors(self) -> int:
        """How many things must be fixed."""
        return sum(finding.level == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON's types."""
        return {
            "ok": not self.errors,
            "parts": [part.as_json() for part in self.parts],
            "findings": [finding.as_json() for finding in self.findings],
        }


def unreadable(part: str, wrong: Sequence[FileError]) -> Iterable[Finding]:
    """Yield what went wrong as files were read: unknown ids together, the rest by kind."""
    ids = [error for error in wrong if isinstance(error, UnknownIdsError)]
    if ids:
        pixels, files = Counter[int](), dict[int, list[str]]()
        for error in ids:
            pixels.update(error.pixels)
            for value in error.pixels:
                files.setdefault(value, []).append(str(error.path))
        said = [
            f"{value}: {number:,} pixels in {len(files[value]):,} file{'s'[: len(files[value]) > 1]}, "
            f"first {files[value][0]}"
            for value, number in pixels.most_common(5)
        ]
        more = f"\nand {len(pixels) - 5} more ids" if len(pixels) > 5 else ""
        what = f"unknown label ids in {len(ids):,} files\n" + "\n".join(said) + more
        yield Finding("error", part, what, ids[0].fix, tuple(str(error.path) for error in ids))
    damaged = [error for error in wrong if isinstance(error, UnreadableError)]
    others = [error for error in wrong if not isinstance(error, UnreadableError | UnknownIdsError)]
    for kind, found in (("can't be read", damaged), ("have labels that don't fit", others)):
        if len(found) == 1:
            yield Finding("error", part, found[0].what, found[0].fix, (str(found[0].path),))
        elif found:
            what = f"{len(found):,} images {kind}\n" + "\n".join(error.what for error in found[:3])
            what += "\n…" if len(found) > 3 else ""
            yield Finding("error", part, what, found[0].fix, tuple(str(error.path) for error in found))


def small(name: str, part: ImageFolder, crop: int, sizes: Mapping[tuple[int, int], int]) -> Iterable[Finding]:
    """Yield a warning if images are smaller than what is cut out of them."""
    if not crop:
        return
    box = part.box(crop)
    enlarged = sum(number for size, number in sizes.items() if fitted(size, box, crop) != fitted(size, box))
    if enlarged:
        what = f"{enlarged:,} images are smaller than the crop of {crop} × {crop}, so they are enlarged"
        yield Finding("warning", name, what, "lower data.crop, or resize to more")


def classes(part: str, counts: Counts, rare: RareClasses | None, codings: Collection[Coding]) -> Iterable[Finding]:
    """Yield what is odd about which classes occur, and how often."""
    pixels = counts.sum(0, dtype=np.int64)
    possible = {train for coding in codings for train in coding.train_ids.values() if train != IGNORE}
    absent = [CLASSES[c] for c in range(len(CLASSES)) if not pixels[c] and c in possible]
    never = [CLASSES[c] for c in range(len(CLASSES)) if c not in possible]
    blank = int((counts.sum(1) == 0).sum())
    if blank == len(counts):
        yield Finding("error", part, "all labels are 255: nothing is labelled", "map the labels to train ids")
        return
    if blank:
        yield Finding("warning", part, f"{blank:,} label maps are all 255", "they teach and judge nothing")
    if absent:
        yield Finding("warning", part, f"no pixel is: {', '.join(absent)}", _absent(part))
    if never:
        yield Finding("note", part, f"this data set doesn't label: {', '.join(never)}", _absent(part))
    if rare:
        few = [CLASSES[c] for c in range(len(CLASSES)) if pixels[c] and not (counts[:, c] > rare.min_pixels).any()]
        if len(few) == int((pixels > 0).sum()):
            what = f"no image has more than {rare.min_pixels:,} pixels of any class"
            fix = "lower data.rare_classes.min_pixels, or set data.rare_classes.on = false"
            yield Finding("error", part, what, fix)
        elif few:
            what = f"no image has more than {rare.min_pixels:,} pixels of: {', '.join(few)}"
            yield Finding(
                "warning", part, what, "these are never drawn on purpose; lower min_pixels if they matter"
            )


def chances(counts: Counts | None, rare: RareClasses | None) -> npt.NDArray[np.float64] | None:
    """Return how likely rare-class sampling is to draw each class, (classes,), or None if it can't."""
    if counts is None or rare is None:
        return None
    try:
        sampler = RareClassSampler.of(counts, rare)
    except DataError:
        return None
    found = np.zeros(len(CLASSES))
    found[sampler.classes] = sampler.chances
    return found


def _absent(part: str) -> str:
    if part == "evaluation":
        return "these have no IoU here and are left out of the mean"
    return "models learn nothing new about these here"
