"""Judging a model file on labelled images, and looking at what it predicts: tools for whoever has the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from client.data.datasets import LabelledImages
from client.data.labels import CLASSES
from client.data.named import open_named
from client.data.opening import Evaluation
from client.data.overlay import overlaid
from client.data.reading import read_image
from client.evaluation import Windows, confusion, miou, predict
from client.models.opening import open_network
from protos import files
from protos.errors import ConfigurationError, StorageError

Say = Callable[[str, int, int], None]
"""Called with the name of a set, how many of its images are done, and how many there are."""


@dataclass(frozen=True)
class Judged:
    """How a model does on one set of images.

    Attributes:
        images: How many.
        miou: Mean IoU in per cent.
        iou: Each class's IoU in per cent; None where the truth has none of it.
        confusion: Pixels: rows are the truth, columns the prediction.

    """

    images: int
    miou: float
    iou: list[float | None]
    confusion: list[list[int]]


@dataclass(frozen=True)
class Evaluated:
    """How a model does.

    Attributes:
        model: Its file.
        convention: Over which classes the mean goes; None for all of the model's.
        data: The sets by name.

    """

    model: str
    convention: str | None
    data: dict[str, Judged]

    @property
    def h(self) -> float:
        """The harmonic mean of the sets' mIoU; 0 if one is 0."""
        return harmonic_mean([one.miou for one in self.data.values()])

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON's types."""
        sets = {
            name: {**vars(one), "iou": dict(zip(class_names(len(one.iou)), one.iou, strict=True))}
            for name, one in self.data.items()
        }
        return {"model": self.model, "convention": self.convention, "h": self.h, "data": sets}


def evaluate(
    path: Path,
    data: Sequence[str],
    *,
    copy: str | None = None,
    model: str = "",
    convention: str | None = None,
    missing: float | None = None,
    windows: Windows | None = None,
    scenes: int = 120,
    device: str = "auto",
    say: Say = lambda *_: None,
) -> Evaluated:
    """Judge a model on labelled images.

    Args:
        path: The model's file.
        data: Names of sets; see `client.data.named.open_named`.
        copy: Which copy to take where the file holds several.
        model: The architecture; by default what the file says.
        convention: Over which classes the mean goes; see `client.evaluation.CONVENTIONS`.
        missing: What a class counts as, in the mean, that the truth has none of; by default it is left out.
        windows: How to look at large images; by default whole.
        scenes: How many scenes to render for a domain.
        device: Where the network runs, as PyTorch names it; "auto" is a GPU if there is one.
        say: Called after each image or batch.

    Raises:
        ModelFileError: The model can't be read.
        ConfigurationError: An argument makes no sense.
        DataError: Images or labels are missing, damaged, or not what they should be.

    """
    sets = open_named(data, scenes)
    place = _device(device)
    network = open_network(path, copy=copy, name=model).to(place)
    found = {}
    for name, images in sets.items():
        counts = _counted(network, images, place, windows, partial(say, name))
        mean, each = miou(counts, convention, missing=missing)
        percent = [None if value is None else 100 * value for value in each]
        found[name] = Judged(len(images), 100 * mean, percent, counts.tolist())
    return Evaluated(str(path), convention, found)


def show(
    path: Path,
    images: Sequence[Path],
    output: Path,
    *,
    copy: str | None = None,
    model: str = "",
    windows: Windows | None = None,
    device: str = "auto",
) -> Iterator[Path]:
    """Write what a model sees in images: ``NAME.overlay.png``, and ``NAME.labels.png`` with train ids.

    Args:
        path: The model's file.
        images: Image files.
        output: The folder to write to.
        copy: Which copy to take where the file holds several.
        model: The architecture; by default what the file says.
        windows: How to look at large images; by default whole.
        device: Where the network runs; "auto" is a GPU if there is one.

    Yields:
        Each overlay's path, once it is there.

    Raises:
        ModelFileError: The model can't be read.
        DataError: An image can't be read.
        ConfigurationError: An argument makes no sense, or two images would have the same name.
        StorageError: The folder can't be written to.

    """
    if len({image.stem for image in images}) < len(images):
        raise ConfigurationError("two images have the same name", "give them in two commands, with two folders")
    place = _device(device)
    network = open_network(path, copy=copy, name=model).to(place)
    files.make_folder(output)
    for image in images:
        pixels = read_image(image)
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(place)
        labels = predict(network, batch, 1, windows)[0].numpy()
        _write(output / f"{image.stem}.labels.png", labels)
        overlay = output / f"{image.stem}.overlay.png"
        _write(overlay, overlaid(pixels, labels)[..., ::-1])
        yield overlay


def class_names(number: int) -> list[str]:
    """Return the classes' names: Cityscapes', if there are as many; else numbers."""
    return list(CLASSES) if number == len(CLASSES) else [str(i) for i in range(number)]


def _counted(
    network: nn.Module,
    images: Evaluation,
    place: torch.device,
    windows: Windows | None,
    say: Callable[[int, int], None],
) -> torch.Tensor:
    total, done = None, 0
    for part in images:
        counts = confusion(network, LabelledImages(part.images.to(place), part.labels), windows=windows)
        total = counts if total is None else total + counts
        done += len(part)
        say(done, len(images))
    assert total is not None, "a set of images has one at least"
    return total


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"device {name!r} can't be used: {str(error).splitlines()[0]}", "leave --device out"
        ) from error


def _write(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    done, packed = cv2.imencode(".png", pixels)
    if not done:
        raise StorageError(f"can't write {path}: it can't be packed as PNG", "report this")
    files.write(path, packed.tobytes())
