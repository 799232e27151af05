"""The models of the study: trained, merged and judged once, and kept, so that a stopped study goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file

from client import evaluation, models
from client.data import datasets
from client.data.datasets import LabelledImages, UnlabelledImages
from client.data.labels import CLASSES
from client.data.memory import MemoryFeed
from client.data.settings import SceneData
from client.models.opening import open_network
from client.training.adapt import adapt
from client.training.progress import Progress
from client.training.settings import AdaptSettings, BaseSettings
from client.training.supervised import train_base
from coordinator.offline.inputs import open_inputs
from coordinator.offline.plan import Options, make
from coordinator.offline.write import write

T = TypeVar("T", LabelledImages, UnlabelledImages)
DOMAINS = ("clear", "dusty", "adverse", "night")
ALL = "all"
"""In the place of a domain: the images of all of them."""


@dataclass(frozen=True)
class Scale:
    """How much is trained, and on what.

    Attributes:
        model: The architecture.
        base_steps: Steps of the base.
        steps: Steps of each adaptation.
        source: Labelled source images.
        target: Unlabelled images of each domain.
        evaluation: Held-out labelled images of each domain.
        device: Where, as `client.training.adapt` names it.

    """

    model: str = "tiny-resnet"
    base_steps: int = 1000
    steps: int = 450
    source: int = 600
    target: int = 400
    evaluation: int = 120
    device: str = "cpu"


class Shelf:
    """A folder of things that are made once.

    Args:
        folder: Where they are.
        scale: What they are made of; another scale goes into another folder.
        say: Called with what is being made.

    """

    def __init__(self, folder: Path, scale: Scale, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.scale = scale
        self.say = say
        self._scenes: dict[tuple[str, int, str], LabelledImages | UnlabelledImages] = {}

    def file(self, name: str, do: Callable[[Path], None]) -> Path:
        """Return a file of this name, made if it isn't there."""
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.say(name)
            part = path.with_name(f"part-{path.name}")
            do(part)
            part.replace(path)
        return path

    def base(self, seed: int, start: int, base_order: int = 0) -> Path:
        """Return a base.

        Args:
            seed: Of the scenes and of everything else.
            start: Of the initial weights.
            base_order: Another one gives other batches.

        """

        def train(path: Path) -> None:
            network = models.build(self.scale.model, len(CLASSES), start)
            settings = BaseSettings(steps=self.scale.base_steps, seed=1000 * base_order + start)
            train_base(network, self._source(seed), settings, self._progress())
            self._save(network.state_dict(), path)

        return self.file(f"seed{seed}/base-{start}{_other(base_order)}.safetensors", train)

    def adapted(
        self, seed: int, domain: str, *, start: int, order: int = 0, base_order: int = 0, copy: str = "student"
    ) -> Path:
        """Return a model that was adapted to a domain.

        Args:
            seed: Of the scenes.
            domain: Its name, or `ALL`.
            start: The base's.
            order: Another one gives other batches.
            base_order: The base's.
            copy: ``student`` or ``teacher``.

        """
        stem = f"seed{seed}/{domain}-{start}{_other(base_order)}-{order}"

        def train(path: Path) -> None:
            feed = MemoryFeed(self._source(seed), self.target(seed, domain), 4, 1000 * order + seed)
            checkpoint = self.folder / f"{stem}.checkpoint"
            found = adapt(
                load_file(self.base(seed, start, base_order)),
                self.scale.model,
                len(CLASSES),
                feed,
                AdaptSettings(steps=self.scale.steps, seed=seed + order),
                self._progress(),
                checkpoint,
                device=self.scale.device,
            )
            self._save(found.teacher, self.folder / f"{stem}-teacher.safetensors")
            self._save(found.student, path)
            checkpoint.unlink()

        student = self.file(f"{stem}-student.safetensors", train)
        return student if copy == "student" else student.with_name(student.name.replace("-student.", "-teacher."))

    def merged(self, parts: Sequence[Path], **options: object) -> list[Path]:
        """Merge models as `onebasin merge` does; several files where each keeps some tensors."""
        made = repr(([str(path.relative_to(self.folder)) for path in parts], sorted(options.items())))
        name = hashlib.sha256(made.encode()).hexdigest()[:16]
        folder = self.folder / "merged" / name
        if not folder.exists():
            part = folder.with_name(f"part-{name}")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            with ExitStack() as opened:
                found = open_inputs(parts, None, opened, 1)
                output = part if "separate" in options else part / "merged.safetensors"
                write(make(found, Options(**options), output))  # type: ignore[arg-type]
            part.rename(folder)
        files = sorted(folder.glob("*.safetensors"))
        if len(files) == 1:
            return files
        return [next(file for file in files if file.stem.endswith(path.stem)) for path in parts]

    def miou(self, model: Path, seed: int, domain: str) -> float:
        """Return a model's mIoU in a domain, in per cent."""

        def judge(path: Path) -> None:
            network = open_network(model)
            counts = evaluation.confusion(network, self.held_out(seed, domain))
            path.write_text(json.dumps(100 * evaluation.miou(counts)[0]))

        name = hashlib.sha256(model.read_bytes()).hexdigest()[:16]
        path = self.folder / "scores" / f"seed{seed}" / f"{name}-{domain}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            judge(path)
        return float(json.loads(path.read_text()))

    def _save(self, state: dict[str, torch.Tensor], path: Path) -> None:
        metadata = {"model": self.scale.model, "classes": str(len(CLASSES))}
        save_file({name: value.contiguous() for name, value in state.items()}, path, metadata)

    def _data(self, domain: str, seed: int) -> SceneData:
        s = self.scale
        return SceneData(domain, seed, s.source, s.target, s.evaluation)

    def _source(self, seed: int) -> LabelledImages:
        return self._kept(("source", seed, ""), lambda: datasets.scene_source(self._data("source", seed)))

    def target(self, seed: int, domain: str) -> UnlabelledImages:
        """Return a domain's unlabelled images; those of all of them for `ALL`."""
        if domain == ALL:
            images = torch.cat([self.target(seed, one).images for one in DOMAINS])
            return UnlabelledImages(images)
        return self._kept(("target", seed, domain), lambda: datasets.scene_target(self._data(domain, seed)))

    def held_out(self, seed: int, domain: str) -> LabelledImages:
        """Return a domain's held-out labelled images."""

        def render() -> LabelledImages:
            return datasets.scene_evaluation(self._data(domain, seed))

        return self._kept(("evaluation", seed, domain), render)

    def _kept(self, key: tuple[str, int, str], render: Callable[[], T]) -> T:
        if key not in self._scenes:
            self._scenes[key] = render()
        return self._scenes[key]  # type: ignore[return-value]

    def _progress(self) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            if progress.step % 100 == 0:
                self.say(f"  step {progress.step} of {progress.steps}, loss {progress.loss:.3f}")

        return report


def _other(order: int) -> str:
    return f"-{order}" if order else ""


def quick(scale: Scale) -> Scale:
    """Return a scale that shows in two minutes that everything runs, and nothing else."""
    return replace(scale, base_steps=30, steps=10, source=16, target=12, evaluation=4)
