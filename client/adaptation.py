"""What the adapting process does: from the base to an update in the outbox, telling how far it is."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from client.data.settings import DataSettings, FolderData
from client.joined import Joined
from client.outbox import Outbox
from client.training.presets import MAX_CROPS
from client.training.progress import Progress
from client.training.tracking import Tracked
from protos.errors import StorageError

PROGRESS = "progress.json"
"""Where it says how far it is."""
_INTERVAL = 0.5
"""Seconds between two writings of it."""


def adapt(joined: Joined) -> None:
    """Adapt the base to the site's images, from the last checkpoint if there is one, and store the update.

    Raises:
        OnebasinError: The data, the settings, the machine or the update is not fit for it; says which and why.

    """
    # PyTorch takes seconds to load; whoever only asks for the status need not wait for it.
    import torch

    from client.data.opening import open_feed
    from client.tensors import load_state, raw_state
    from client.training import adapt as training_adapt

    settings, campaign = joined.site.settings, joined.campaign
    training = settings.adapt
    if training.encoder:
        training = replace(training, encoder=str(joined.site.folder / training.encoder))
    done = {"step": 0, "steps": settings.adapt.steps}
    _write_progress(joined.folder, {"phase": "data", **done})
    if settings.resources.threads:
        torch.set_num_threads(settings.resources.threads)
    report = _Reporter(joined.folder)
    feed = open_feed(
        within(settings.data, training.memory),
        joined.site.folder,
        batch=settings.adapt.batch,
        seed=settings.adapt.seed,
        say=report.data,
    )
    adapted = training_adapt.adapt(
        load_state(joined.base),
        campaign.message.model,
        campaign.message.classes,
        feed,
        training,
        report,
        joined.folder / "checkpoint.pt",
        device=settings.resources.device,
        logs=joined.folder / "tensorboard",
        tracked=tracked(joined),
    )
    _write_progress(joined.folder, {**done, "phase": "update", "step": settings.adapt.steps})
    # One copy, whole: statistics belong to the parameters that they were gathered with.
    Outbox(joined).store(raw_state(adapted.copy(campaign.rules.copy)))
    (joined.folder / "checkpoint.pt").unlink(missing_ok=True)


def tracked(joined: Joined) -> Tracked | None:
    """Return how the site's MLflow is to know this adaptation; None if the site has none."""
    settings, campaign = joined.site.settings, joined.campaign
    if not settings.tracking.mlflow:
        return None
    return Tracked(
        settings.tracking,
        name=f"{joined.site.name} {campaign.name}",
        parameters={"model": campaign.message.model, **settings.adapt.identity()},
        tags={
            "site": joined.site.name,
            "campaign": campaign.digest.hex(),
            "base": campaign.message.base_digest.hex(),
        },
        file=joined.folder / "mlflow.json",
    )


def within(data: DataSettings, memory: str) -> DataSettings:
    """Return the data with crops as small as a memory preset wants them."""
    largest = MAX_CROPS.get(memory)
    if largest is not None and isinstance(data, FolderData) and data.crop > largest:
        return replace(data, crop=largest)
    return data


class _Reporter:
    """Keeps progress.json fresh. It is no closure, so that another process can have it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0.0

    def __call__(self, progress: Progress) -> None:
        self._write(asdict(progress), last=progress.step >= progress.steps)

    def data(self, done: int, of: int) -> None:
        """Say how many images were looked through before training."""
        self._write({"phase": "data", "step": done, "steps": of}, last=done >= of)

    def _write(self, values: dict[str, Any], *, last: bool) -> None:
        now = time.monotonic()
        if last or now - self._written > _INTERVAL:
            self._written = now
            _write_progress(self._folder, values)


def _write_progress(folder: Path, values: dict[str, Any]) -> None:
    path = folder / PROGRESS
    # No fsync: after a crash an old progress is as good as a new one.
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps({**values, "pid": os.getpid(), "time": time.time()}))
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}", "free some space") from error
