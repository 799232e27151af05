"""Bases for images of one's own: an encoder from ImageNet, somebody's checkpoint, or training on labelled images.

Any safetensors file whose metadata name ``model`` and ``classes`` is a base; these make such files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from client.data.disk import DiskFeed
from client.data.listing import UnlabelledFiles, labelled
from client.data.settings import FolderData, ImageFolder, RareClasses
from client.models import build
from client.models.opening import architecture, fill
from client.models.pretrained import load_encoder
from client.tensors import raw_state
from client.training.adapt import adapt
from client.training.progress import Report
from client.training.settings import AdaptSettings
from protos import files
from protos.boundary import Array
from protos.checkpoints import open_model
from protos.digest import file_digest
from protos.errors import ConfigurationError, ModelFileError
from protos.merged import SETS
from protos.tensorfile import TensorFile, write_arrays

CHECKPOINT = ".checkpoint"
"""What is put after a base's name while it is trained."""


@dataclass(frozen=True)
class Training:
    """How a base is trained on labelled images.

    Attributes:
        data: The images.
        crop: Width and height in pixels of what training sees of an image.
        workers: Processes that read images ahead.
        settings: Everything else; only what the method ``source`` needs of it counts.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".

    """

    data: ImageFolder
    crop: int
    workers: int
    settings: AdaptSettings
    device: str = "auto"


def from_encoder(output: Path, model: str, encoder: Path | None, classes: int, seed: int = 0) -> bytes:
    """Make a base of an encoder that was pretrained on ImageNet and a decode head with random weights.

    Sites that adapt it train the head too, as the recipes of DAFormer and HRDA do.

    Args:
        output: Where to write it.
        model: One of ``client.models.MODELS``.
        encoder: A file that ``client.models.pretrained`` knows; None: the encoder's weights are random too.
        classes: How many classes it tells apart.
        seed: Seed of the random weights.

    Returns:
        The base's digest.

    Raises:
        ConfigurationError: There is no such model, it has no encoder that can be loaded, or `output` is there.
        ModelFileError: The encoder's file doesn't fit, or holds what is no number; a tensor is named.
        StorageError: It can't be written.

    """
    _check_free(output)
    network = build(model, classes, seed)
    if encoder is not None:
        load_encoder(network, encoder)
    return _written(output, network, model, classes)


def from_model(output: Path, path: Path, name: str = "", copy: str | None = None) -> bytes:
    """Make a base of a model file: an official checkpoint, for example.

    Args:
        output: Where to write it.
        path: Any file that ``protos.checkpoints`` reads.
        name: The architecture; by default what the file's metadata say.
        copy: Which copy to take where a file holds several.

    Returns:
        The base's digest.

    Raises:
        ConfigurationError: Neither the file nor `name` says which architecture it is, the file has several sets of
            statistics, or `output` is there.
        ModelFileError: The file can't be read, doesn't fit the architecture, or holds what is no number; a tensor
            is named.
        StorageError: It can't be written.

    """
    _check_free(output)
    with open_model(path, copy) as file:
        if SETS in file.metadata:
            raise ConfigurationError(
                f"{path} holds the statistics of several sites, and a base has those of one model",
                "export one set of it: onebasin export MODEL --statistics NAME",
            )
        model, classes = architecture(file, file.path.name, name)
        network = build(model, classes)
        fill(network, file, file.manifest.tensors)
    return _written(output, network, model, classes)


def trained(output: Path, start: Path, training: Training, report: Report) -> bytes:
    """Train a base on labelled images, by cross-entropy; a run that was interrupted is continued.

    Args:
        output: Where to write it. Beside it is a checkpoint until it is finished.
        start: The base to start from.
        training: How.
        report: Called after each step.

    Returns:
        The base's digest.

    Raises:
        ConfigurationError: `start` doesn't say what it is, a number can't be meant, or `output` is there.
        DataError: Images or labels are missing, can't be read, or are none of the classes.
        AdaptationError: The loss is no number, memory ran out, or there is a checkpoint of another run.
        ModelFileError: `start` is no model.
        StorageError: A file can't be written.

    """
    _check_free(output)
    with open_model(start) as file:
        model, classes = architecture(file, file.path.name)
        network = build(model, classes)
        fill(network, file, file.manifest.tensors)
    found = labelled(training.data, Path())
    settings = training.settings
    folders = FolderData(
        training.data,
        training.data,
        crop=training.crop,
        workers=training.workers,
        rare_classes=RareClasses(on=False),
    )
    feed = DiskFeed(found, UnlabelledFiles(found.root, ()), folders, None, settings.batch, settings.seed)
    checkpoint = output.with_name(output.name + CHECKPOINT)
    files.make_folder(output.absolute().parent)
    adapted = adapt(
        network.state_dict(), model, classes, feed, settings, report, checkpoint, device=training.device
    )
    network.load_state_dict(adapted.student)
    digest = _written(output, network, model, classes)
    checkpoint.unlink(missing_ok=True)
    return digest


def _check_free(output: Path) -> None:
    if output.exists():
        raise ConfigurationError(
            f"there is a file at {output} already",
            "a base is not overwritten: move it away, or choose another name",
        )


def _written(output: Path, network: nn.Module, model: str, classes: int) -> bytes:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"the tensor {name} has values that are infinite or no numbers", "mend its file")
    files.make_folder(output.absolute().parent)
    arrays: dict[str, Array] = raw_state(network.state_dict())
    write_arrays(output, arrays, {"format": "pt", "model": model, "classes": str(classes)})
    with TensorFile(output) as file:
        return file_digest(file)
