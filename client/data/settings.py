"""Which images a site uses, as its settings name them. No PyTorch here: settings are read by every command."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path

from client.data.layouts import LAYOUTS, Layout
from protos.errors import ConfigurationError


@dataclass(frozen=True)
class SceneData:
    """Which procedural scenes to render, and how many."""

    domain: str
    """The target domain: one of ``client.data.scenes.DOMAINS``."""
    seed: int = 0
    """Which world; two sites of one domain should have different seeds."""
    source_images: int = 600
    """Labelled images of the source domain."""
    target_images: int = 400
    """Unlabelled images of the target domain, to adapt on."""
    evaluation_images: int = 120
    """Held-out labelled images of the target domain, to judge models on."""
    height: int = 64
    """A scene's height."""
    width: int = 128
    """A scene's width."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images, with labels or without: which of the two is said by where it is used.

    Raises:
        ConfigurationError: There is no such layout, the split is missing or superfluous, or the size is none.

    """

    layout: str
    """One of ``client.data.layouts.LAYOUTS``."""
    folder: str
    """The data set's folder; relative to the site's folder, or absolute."""
    split: str = ""
    """``train``, ``val``, or a subfolder's name such as ``fog/train``. GTA and SYNTHIA have none."""
    resize: tuple[int, ...] = ()
    """Width and height of the box that images are resized into, keeping their shape. If it is left out: in
    training what the recipes use for this layout and crop, in evaluation the images' own size."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            near = difflib.get_close_matches(self.layout.lower().replace("-", "_"), LAYOUTS, n=1)
            raise ConfigurationError(
                f"there is no layout {self.layout!r}",
                f"did you mean {near[0]}?" if near else f"known: {', '.join(LAYOUTS)}",
            )
        if self.rules.has_splits and not self.split:
            raise ConfigurationError(
                f"the layout {self.layout} needs a split", f'add split = "{next(iter(self.rules.splits))}"'
            )
        if self.split and (Path(self.split).is_absolute() or ".." in Path(self.split).parts):
            raise ConfigurationError(f"split = {self.split!r} leads out of the data set", "name a folder in it")
        if self.resize and (len(self.resize) != 2 or min(self.resize) < 1):
            raise ConfigurationError(
                f"resize = {list(self.resize)} is no size", "give width and height, e.g. resize = [1280, 720]"
            )

    @property
    def rules(self) -> Layout:
        """The layout itself."""
        return LAYOUTS[self.layout]

    def box(self, crop: int) -> tuple[int, int] | None:
        """Return (width, height) of the box that training resizes images into, or None for their own size.

        The recipes: DAFormer's for crops of up to 512 pixels, HRDA's, twice as large, above.
        """
        if self.resize:
            return self.resize[0], self.resize[1]
        size = self.rules.size
        if size is None or crop > 512:
            return size
        return size[0] // 2, size[1] // 2


@dataclass(frozen=True)
class RareClasses:
    """Rare-class sampling of the source (Hoyer et al., DAFormer, CVPR 2022, arXiv 2111.14887).

    Raises:
        ConfigurationError: A number makes no sense.

    """

    on: bool = True
    """Whether source images are drawn by class; if not, each is as likely as any other."""
    temperature: float = 0.01
    """T in P(c) = softmax((1 − f_c) / T) over the classes' frequencies f_c; higher is more even."""
    min_pixels: int = 3000
    """An image counts as one of a class if more pixels than this have it, at the label map's own size."""
    min_crop_ratio: float = 0.0
    """A crop is drawn again, up to ten times, until it has more than this × ``min_pixels`` pixels of the class.
    0 means as in the recipes: 0.5 for crops of 512 pixels, 2 for 1024, by area in between."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigurationError(f"temperature = {self.temperature} must be above 0", "the recipes use 0.01")
        if self.min_pixels < 0 or self.min_crop_ratio < 0:
            raise ConfigurationError("min_pixels and min_crop_ratio must not be negative", "give 0 or more")

    def crop_ratio(self, crop: int) -> float:
        """Return the share of ``min_pixels`` that a crop of `crop` × `crop` pixels must have."""
        return self.min_crop_ratio or 0.5 * (crop / 512) ** 2


@dataclass(frozen=True)
class FolderData:
    """Which folders of images to use, and how training cuts them.

    Raises:
        ConfigurationError: A number makes no sense, or images would be smaller than the crop.

    """

    source: ImageFolder
    """Labelled images, synthetic as a rule."""
    target: ImageFolder
    """The site's own images, to adapt on. Nothing looks for labels there."""
    evaluation: ImageFolder | None = None
    """Held-out labelled images of the site, to judge models on; a site may have none."""
    crop: int = 512
    """Width and height in pixels of what training sees of an image."""
    flip: bool = True
    """Mirror half of the images."""
    rare_classes: RareClasses = field(default_factory=RareClasses)
    """How source images are drawn."""
    workers: int = 4
    """Processes that read images ahead for each GPU, but no more than one per core for all GPUs together. 0: the
    training process reads."""

    def __post_init__(self) -> None:
        if self.crop < 16:
            raise ConfigurationError(f"crop = {self.crop} is too small", "the recipes use 512 or 1024")
        if self.workers < 0:
            raise ConfigurationError(f"workers = {self.workers} is negative", "give 0 or more")
        for name, part in (("source", self.source), ("target", self.target)):
            if part.resize and min(part.resize) < self.crop:
                raise ConfigurationError(
                    f"{name}.resize = {list(part.resize)} is smaller than crop = {self.crop}",
                    "resize to more, or crop less",
                )


DataSettings = SceneData | FolderData
"""What ``[data]`` in ``site.toml`` can be."""
