"""A site's adaptation: days of it, perhaps, so it can be stopped at any step and continued bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from client.data.feed import Feed
from client.training import checkpoint as checkpoints
from client.training.engine import launch, resolve
from client.training.loop import Adapted, Job, train
from client.training.progress import Report
from client.training.settings import AdaptSettings
from client.training.tracking import Tracked
from protos.digest import sha256
from protos.errors import ConfigurationError, ModelFileError

__all__ = ["Adapted", "adapt"]


def adapt(
    base_state: Mapping[str, Tensor],
    model_name: str,
    classes: int,
    feed: Feed,
    settings: AdaptSettings,
    report: Report,
    checkpoint: Path | None = None,
    *,
    device: str = "cpu",
    logs: Path | None = None,
    tracked: Tracked | None = None,
) -> Adapted:
    """Adapt the base to unlabelled target images.

    Every random number is a function of (settings.seed, step), so a run that continues from its checkpoint ends
    with the same bits as one that was never interrupted (on the same machine, with the same number of threads). On
    a GPU the random numbers are the same, but CUDA adds up some sums in any order, so the last bits vary.

    Args:
        base_state: State dict of the base; not changed.
        model_name: One of ``client.models.MODELS``.
        classes: Number of classes.
        feed: Source and target images. With several devices it has to be picklable, as has ``report``.
        settings: Everything else.
        report: Called after each step; an exception from it ends the run, to be continued later.
        checkpoint: Where to keep a checkpoint. If the file exists, the run continues from it.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        logs: Folder of TensorBoard's logs, if there are to be any and the settings don't forbid them.
        tracked: The run as the site's MLflow is to know it, if it has one.

    Returns:
        Student and teacher, on the CPU.

    Raises:
        AdaptationError: The base doesn't fit the model, the checkpoint is damaged or of another run, the loss is
            not finite, memory ran out, or the GPU failed; the step is named.
        ConfigurationError: There is no such model or device, the method doesn't go with the model, or MLflow is to
            be told and its package is missing.
        DataError: A label is none of the classes.
        StorageError: The training logs can't be written.

    """
    if settings.method == "hrda" and not model_name.startswith("hrda-"):
        raise ConfigurationError(
            f"The method hrda is for the hrda-… models, and the base is a {model_name}.",
            "Choose another method: daformer has the same numbers.",
        )
    where = resolve(device, settings.devices)
    if settings.devices > 1 and checkpoint is None:
        raise ConfigurationError(
            "Several devices hand over their result in a checkpoint, and none is named.", "Name a checkpoint file."
        )
    run: dict[str, Any] = {}
    if checkpoint is not None:
        run = _run(base_state, model_name, classes, feed, settings)
    job = Job(
        dict(base_state),
        model_name,
        classes,
        feed,
        settings,
        report,
        run,
        checkpoint,
        logs if settings.tensorboard else None,
        tracked,
    )
    adapted = launch(train, job, where, settings.devices, settings.precision)
    if adapted is None:
        assert checkpoint is not None
        found = checkpoints.load(checkpoint, run)
        assert found is not None  # the last step's
        adapted = Adapted(found["student"], found["teacher"])
    assert isinstance(adapted, Adapted)
    return adapted


def _run(
    base_state: Mapping[str, Tensor], model_name: str, classes: int, feed: Feed, settings: AdaptSettings
) -> dict[str, Any]:
    """Return everything that the result depends on, small enough to keep in each checkpoint."""
    return {
        "model": model_name,
        "classes": classes,
        **settings.identity(),
        "base": _digest(base_state),
        **(
            {"encoder": _file_digest(Path(settings.encoder))}
            if settings.feature_distance and settings.encoder
            else {}
        ),
        **{f"data.{key}": value for key, value in feed.fingerprint.items()},
    }


def _file_digest(path: Path) -> str:
    try:
        return sha256([path.read_bytes()]).hex()[:16]
    except OSError as error:
        raise ModelFileError(f"can't read {path}: {error.strerror}", "check adapt.encoder") from error


def _digest(state: Mapping[str, Tensor]) -> str:
    """Return a fingerprint of a model, to notice that it is another; short, for it is no signature."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        sha.update(str((name, tensor.dtype, tuple(tensor.shape))).encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]
