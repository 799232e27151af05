"""The loop of an adaptation: one process's steps over its batches, from the last checkpoint to the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from client.data.feed import Batch, Feed
from client.data.labels import IGNORE
from client.models import build
from client.training import checkpoint as checkpoints
from client.training.dacs import follow, make_teacher
from client.training.daformer import FrozenEncoder
from client.training.engine import Engine
from client.training.failures import Place, explained
from client.training.lessons import Learner, compile_parts
from client.training.logbook import Logbook
from client.training.optimizer import make_optimizer, set_rate
from client.training.passes import Passes
from client.training.presets import CROPS
from client.training.progress import Clock, Report
from client.training.settings import AdaptSettings
from client.training.steps import (
    own_global_state,
    require_finite,
    require_finite_weights,
    seed_global_state,
    step_generator,
)
from client.training.tracking import Tracked, Tracker
from client.training.watch import Watch, name_of
from protos.errors import AdaptationError, DataError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Adapted:
    """What adaptation leaves: two copies of the model. Send one, whole: parameters and buffers of the same copy.

    A BatchNorm layer's statistics describe what its own copy's parameters made of the images that this copy saw.
    Parameters of one copy with statistics of the other are a model that nobody trained.

    Attributes:
        student: State dict of the model that learned. Its BatchNorm statistics come from all that it learned from:
            source, mixed and masked images.
        teacher: State dict of its moving average. Its statistics come from target images only, as they are.

    """

    student: dict[str, Tensor]
    teacher: dict[str, Tensor]

    def copy(self, name: str) -> dict[str, Tensor]:
        """Return one copy: its parameters and its own buffers.

        Args:
            name: "student" or "teacher", as a campaign's rule ``copy`` has it.

        """
        return {"student": self.student, "teacher": self.teacher}[name]


@dataclass(frozen=True, eq=False)
class Job:
    """All that a process needs to know; see ``client.training.adapt.adapt``.

    Attributes:
        base: State dict of the base.
        model: One of ``client.models.MODELS``.
        classes: Number of classes.
        feed: Source and target images, for all processes.
        settings: Everything else.
        report: Called after each step, by the first process.
        run: What the result depends on, for checkpoints.
        checkpoint: Where to keep a checkpoint, if anywhere.
        logs: Where to keep training logs, if anywhere.
        tracked: The run as the site's MLflow is to know it, if it has one.

    """

    base: dict[str, Tensor]
    model: str
    classes: int
    feed: Feed
    settings: AdaptSettings
    report: Report
    run: dict[str, Any]
    checkpoint: Path | None
    logs: Path | None
    tracked: Tracked | None = None


def train(engine: Engine, job: Job) -> Adapted:
    """Do all steps that are left; see ``client.training.adapt.adapt`` for what is raised."""
    place = Place()
    with explained(job.settings, place), own_global_state(engine.device):
        return _Training(engine, job, place).run()


class _Training:
    """A run in one process: networks, optimizer, and what else a checkpoint has to hold."""

    def __init__(self, engine: Engine, job: Job, place: Place) -> None:
        self._engine, self._job, self._place = engine, job, place
        settings = job.settings
        self._student = engine.place(_loaded(job.base, job.model, job.classes).train())
        self._teacher = engine.place(make_teacher(_loaded(job.base, job.model, job.classes)))
        self._frozen: FrozenEncoder | None = None
        if settings.feature_distance:
            file = Path(settings.encoder) if settings.encoder else None
            self._frozen = FrozenEncoder(job.model, job.classes, job.base, file)
            engine.place(self._frozen)
        if settings.compile:
            for network in (self._student, self._teacher):
                compile_parts(network)
        self._optimizer = make_optimizer(self._student, settings)
        self._watch = Watch(job.classes, engine.device)
        self._first = self._continued()
        self._unlabelled = True
        learn, self._stepper = engine.wrap(Learner(self._student), self._optimizer)
        self._passes = Passes(self._student, learn, self._teacher, self._frozen, settings, engine)

    def run(self) -> Adapted:
        """Do the steps that are left."""
        engine, job, settings = self._engine, self._job, self._job.settings
        leads = engine.rank == 0
        tracker = Tracker(job.tracked) if leads and job.tracked else None
        logbook = Logbook(job.logs if leads else None, self._first, tracker)
        clock = Clock("adapt", self._first, settings.steps)
        with _batches(job, engine, self._first) as batches:
            for step in range(self._first, settings.steps):
                self._place.step = done = step + 1
                rate = set_rate(self._optimizer, settings.lr, step, settings.steps, settings.warmup)
                loss, coverage = self._step(step, batches)
                if not leads:
                    continue
                if done % settings.checkpoint_every == 0 or done == settings.steps:
                    # The loss shows a gradient that was no number only a step later: too late for the checkpoint.
                    require_finite_weights(self._student, done)
                    self._save(done)
                memory = engine.memory()
                values = {"loss": loss, "learning rate": rate, "pseudo-label coverage": coverage}
                logbook.write(done, {**values, "GPU memory MB": memory} if memory else values)
                job.report(clock.progress(done, loss, self._note(coverage), coverage=coverage, memory=memory))
        logbook.close()
        return Adapted(_copied(self._student), _copied(self._teacher))

    def _step(self, step: int, batches: Iterator[Batch]) -> tuple[float, float]:
        """Do one step, and return its loss and the share of sure pixels."""
        engine, settings = self._engine, self._job.settings
        follow(self._teacher, self._student, step, settings.ema)
        self._optimizer.zero_grad(set_to_none=True)
        parts = []
        for part in range(settings.accumulate):
            number = step * settings.accumulate + part
            batch = self._next(batches, number)
            seed_global_state(engine.device, settings.seed, number, engine.rank)
            with engine.apart(part < settings.accumulate - 1):
                outcome = self._passes.run(batch, step_generator(settings.seed, number, engine.rank))
            if engine.rank == 0:  # whose checkpoint and log it is
                self._watch.count(outcome.guess)
            parts.append(torch.stack([outcome.loss, outcome.coverage]))
        # A loss that is no number in one process shows in all of them, so that none goes on without it.
        loss, coverage = engine.mean(torch.stack(parts).mean(0)).tolist()
        require_finite(loss, step + 1)
        engine.clip(self._stepper, settings.clip)
        self._stepper.step()
        return loss, coverage

    def _next(self, batches: Iterator[Batch], number: int) -> Batch:
        batch = next(batches, None)
        if batch is None:
            raise AdaptationError(
                f"The data ended at step {self._place.step}.", "Report this: a feed has a batch for each step."
            )
        self._unlabelled = len(batch.target) > 0
        size = (batch.target.shape[2], batch.target.shape[3])
        if self._place.size is None:
            meant = CROPS.get(self._job.settings.method, 0)
            if min(size) < meant:
                _log.warning(
                    "the numbers of method %s are meant for crops of %d pixels, these images have %d × %d: set "
                    "crop in the data's settings",
                    self._job.settings.method,
                    meant,
                    *size,
                )
        self._place.size = size
        wrong = (batch.labels >= self._job.classes) & (batch.labels != IGNORE)
        if bool(wrong.any()):
            raise DataError(
                f"A source image of step {self._place.step} has label {int(batch.labels[wrong].max())}; there are "
                f"{self._job.classes} classes.",
                "Map the labels to train ids first, with 255 for what is none of the classes.",
            )
        return batch

    def _note(self, coverage: float) -> str:
        if not self._unlabelled:
            return ""
        note = f"{coverage:.0%} of target pixels are sure"
        if self._watch.lost:
            note += f"; gone from the pseudo-labels: {', '.join(map(name_of, self._watch.lost))}"
        return note

    def _save(self, done: int) -> None:
        if self._job.checkpoint is not None:
            content = {
                "run": self._job.run,
                "step": done,
                "student": self._student.state_dict(),
                "teacher": self._teacher.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "engine": self._engine.state(),
                "watch": self._watch.state(),
            }
            checkpoints.save(self._job.checkpoint, content)

    def _continued(self) -> int:
        """Take back what the checkpoint holds, if there is one, and return the step to go on with."""
        if self._job.checkpoint is None:
            return 0
        found = checkpoints.load(self._job.checkpoint, self._job.run)
        if found is None:
            return 0
        self._student.load_state_dict(found["student"])
        self._teacher.load_state_dict(found["teacher"])
        self._optimizer.load_state_dict(found["optimizer"])
        self._engine.load(found["engine"])
        self._watch.load(found["watch"])
        return int(found["step"])


@contextmanager
def _batches(job: Job, engine: Engine, first: int) -> Iterator[Iterator[Batch]]:
    """Open this process's batches, and let whatever reads ahead end."""
    several = job.settings.accumulate
    feed = job.feed.share(engine.rank, engine.ranks) if engine.ranks > 1 else job.feed
    batches = feed.batches(first * several, job.settings.steps * several)
    try:
        yield batches
    finally:
        close = getattr(batches, "close", None)  # generators have it
        if close is not None:
            close()


def _loaded(state: Mapping[str, Tensor], name: str, classes: int) -> nn.Module:
    model = build(name, classes)
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise AdaptationError(
            f"The base does not fit the model {name!r}: {error}",
            "Name the model and classes that the base was trained with.",
        ) from error
    return model


def _copied(model: nn.Module) -> dict[str, Tensor]:
    plain = torch.contiguous_format
    return {key: value.detach().cpu().clone(memory_format=plain) for key, value in model.state_dict().items()}
