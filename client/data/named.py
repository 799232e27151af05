"""Labelled images as they are named on a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from client.data.layouts import LAYOUTS
from client.data.listing import labelled
from client.data.opening import Evaluation, FileEvaluation, open_evaluation
from client.data.scenes import DOMAINS
from client.data.settings import ImageFolder, SceneData
from protos.errors import ConfigurationError


def open_named(names: Sequence[str], scenes: int) -> dict[str, Evaluation]:
    """Open sets of labelled images.

    Args:
        names: Each a domain of scenes, a folder with ``images/`` and ``labels/``, or ``LAYOUT:FOLDER`` or
            ``LAYOUT:FOLDER:SPLIT``.
        scenes: How many scenes to render for a domain.

    Returns:
        The sets by the last part of their names.

    Raises:
        ConfigurationError: A name is none of these, or two sets have the same.
        DataError: Images or labels are missing.

    """
    if not names:
        raise ConfigurationError("there is nothing to judge on", "name some labelled images: --data")
    found = {Path(name).name: _open(name, scenes) for name in names}
    if len(found) < len(names):
        raise ConfigurationError("two of the data sets have the same name", "rename a folder")
    return found


def _open(name: str, scenes: int) -> Evaluation:
    if name in DOMAINS:
        return open_evaluation(SceneData(domain=name, evaluation_images=scenes), Path())
    part = image_folder(name, f"the name of a domain of scenes ({', '.join(DOMAINS)})")
    return FileEvaluation(labelled(part, Path()), part)


def image_folder(name: str, another: str = "") -> ImageFolder:
    """Return the folder of labelled images that a name means.

    Args:
        name: ``LAYOUT:FOLDER``, ``LAYOUT:FOLDER:SPLIT``, or a folder with ``images/`` and ``labels/``.
        another: What else may be named, for the message.

    Raises:
        ConfigurationError: It is none.

    """
    layout, _, rest = name.partition(":")
    if layout in LAYOUTS and rest:
        where, split = rest, ""
        if LAYOUTS[layout].has_splits and ":" in rest:
            where, _, split = rest.rpartition(":")
        return ImageFolder(layout, where, split)
    if not Path(name).is_dir():
        raise ConfigurationError(
            f"--data {name!r} is no folder of labelled images",
            "give a folder with images/ and labels/, LAYOUT:FOLDER or LAYOUT:FOLDER:SPLIT"
            + (f", or {another}" if another else ""),
        )
    return ImageFolder("folder", name)
