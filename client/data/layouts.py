"""Where data sets keep their images and labels: a table, so that one more of them is one more entry.

Plain values only: settings name layouts, and settings are read without NumPy or PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_NO_SPLITS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@dataclass(frozen=True)
class Coding:
    """What the numbers in a label map mean.

    Attributes:
        name: For messages.
        train_ids: Train id of each number that stands for a class.
        ignored: Numbers that stand for something else, on purpose: they become 255. Any other number is an error,
            for it shows that the file has another coding.
        channel: Which channel of a map with several holds the numbers, in OpenCV's order; None: it must have one.

    """

    name: str
    train_ids: Mapping[int, int]
    ignored: frozenset[int]
    channel: int | None = None


@dataclass(frozen=True)
class Truth:
    """One kind of label file.

    Attributes:
        ending: What replaces the image's ending in the file's name.
        coding: What its numbers mean.

    """

    ending: str
    coding: Coding


@dataclass(frozen=True)
class Layout:
    """Where one data set's files are.

    Attributes:
        about: What it is, for people.
        images: The folder of images, below the data set's.
        endings: How images' names end; the rest of the name is what its labels' name begins with.
        labels: The folder of labels; below it are the same subfolders as below `images`.
        truths: Kinds of label files; the first that is there counts.
        splits: Split → glob patterns below `images` and `labels`, the first that is there counts; images may lie
            in folders below. A split that is not listed is a subfolder's name. Empty: there are no splits.
        size: (width, height) of the box that the recipes for 1024 × 1024 crops resize images into; half of it for
            crops of 512 × 512. None: images stay as they are.

    """

    about: str
    images: str
    endings: tuple[str, ...]
    labels: str
    truths: tuple[Truth, ...]
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NO_SPLITS)
    size: tuple[int, int] | None = None

    @property
    def has_splits(self) -> bool:
        """Whether a split must be named."""
        return any(self.splits)


def stem_of(name: str, endings: Iterable[str]) -> str:
    """Return a file's name without the first of the endings that it has, in capitals or not."""
    return next((name[: -len(end)] for end in endings if name.lower().endswith(end.lower())), name)


def _ignore(*ids: int) -> frozenset[int]:
    return frozenset({255, *ids})


TRAIN_IDS: Final = Coding("train ids", {i: i for i in range(19)}, _ignore())
"""The numbers are train ids already."""

_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES: Final = Coding(
    "Cityscapes ids",
    {raw: train for train, raw in enumerate(_CITYSCAPES_IDS)},
    # GTA writes licence plates as 34, Cityscapes as −1, which is 255 in 8 bits.
    _ignore(*(raw for raw in range(35) if raw not in _CITYSCAPES_IDS)),
)
"""Cityscapes' own ids, which GTA uses too."""

_SYNTHIA_IDS = {
    3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 1: 10, 10: 11, 17: 12, 8: 13, 19: 15, 12: 17, 11: 18,
}  # fmt: skip
SYNTHIA: Final = Coding(
    "SYNTHIA ids", _SYNTHIA_IDS, _ignore(*(raw for raw in range(23) if raw not in _SYNTHIA_IDS)), channel=2
)
"""16 of the 19 classes: no terrain, truck or train. Maps have three channels of 16 bits: class, instance, 0."""

_IDD_IDS = {
    0: 0, 2: 1, 3: 9, 4: 11, 5: 12, 6: 17, 7: 18, 9: 13, 10: 14, 11: 15, 14: 3, 15: 4, 18: 7, 19: 6, 20: 5, 22: 2,
    24: 8, 25: 10,
}  # fmt: skip
IDD: Final = Coding("IDD level 3 ids", _IDD_IDS, _ignore(*(raw for raw in range(26) if raw not in _IDD_IDS)))
"""18 of the 19 classes: no train."""

_READY: Final = "_labelTrainIds.png"
_PLAIN: Final = (".png", ".jpg", ".jpeg")


def _cityscapes_like(about: str, *others: Truth) -> Layout:
    return Layout(
        about=about,
        images="leftImg8bit",
        endings=("_leftImg8bit.png", "_leftImg8bit.jpg"),
        labels="gtFine",
        truths=(Truth("_gtFine_labelTrainIds.png", TRAIN_IDS), *others),
        splits={"train": ("train",), "val": ("val",)},
        size=(2048, 1024),
    )


def _acdc_like(about: str, splits: Mapping[str, tuple[str, ...]]) -> Layout:
    return Layout(
        about=about,
        images="rgb_anon",
        endings=("_rgb_anon.png",),
        labels="gt",
        truths=(Truth("_gt_labelTrainIds.png", TRAIN_IDS), Truth("_gt_labelIds.png", CITYSCAPES)),
        splits=splits,
        size=(1920, 1080),
    )


LAYOUTS: Final[Mapping[str, Layout]] = MappingProxyType(
    {
        "gta": Layout(
            about="GTA5: images/, labels/",
            images="images",
            endings=_PLAIN,
            labels="labels",
            truths=(Truth(_READY, TRAIN_IDS), Truth(".png", CITYSCAPES)),
            size=(2560, 1440),
        ),
        "synthia": Layout(
            about="SYNTHIA-RAND-CITYSCAPES: RGB/, GT/LABELS/",
            images="RGB",
            endings=_PLAIN,
            labels="GT/LABELS",
            truths=(Truth(_READY, TRAIN_IDS), Truth(".png", SYNTHIA)),
            size=(2560, 1520),
        ),
        "cityscapes": _cityscapes_like(
            "Cityscapes: leftImg8bit/SPLIT/, gtFine/SPLIT/", Truth("_gtFine_labelIds.png", CITYSCAPES)
        ),
        "idd": _cityscapes_like(
            "IDD: leftImg8bit/SPLIT/, gtFine/SPLIT/",
            Truth("_gtFine_labelcsTrainIds.png", TRAIN_IDS),
            Truth("_gtFine_labellevel3Ids.png", IDD),
        ),
        # As its authors ship it, ACDC has a folder for each weather above the split; others drop them.
        "acdc": _acdc_like(
            "ACDC: rgb_anon/SPLIT/ or rgb_anon/fog/SPLIT/ …, gt/ likewise",
            {"train": ("train", "*/train"), "val": ("val", "*/val")},
        ),
        # Its train/ holds day and twilight too, which are no part of the domain.
        "dark_zurich": _acdc_like(
            "Dark Zurich: rgb_anon/train/night/, rgb_anon/val/, gt/val/",
            {"train": ("train/night",), "val": ("val/night", "val")},
        ),
        "folder": Layout(
            about="one's own: images/, labels/ with train ids, same names",
            images="images",
            endings=_PLAIN,
            labels="labels",
            truths=(Truth(".png", TRAIN_IDS),),
        ),
    }
)
"""The layouts by the names that settings use."""
