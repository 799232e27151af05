"""Linear mode connectivity: how well the models on the line between two others do.

θ(λ) = (1 − λ) θ_A + λ θ_B for λ from 0 to 1, as in Li et al., ECCV 2024 (arXiv 2407.13771), and the error barrier
of Frankle et al., ICML 2020 (arXiv 1912.05671). This needs labelled images, so it is a tool for whoever has some;
`onebasin basin` needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from client import evaluation
from client.data.named import open_named
from client.data.opening import Evaluation
from client.models.opening import network_of
from coordinator.merge.midpoint import merged_content
from coordinator.merge.state import Update
from coordinator.offline import buffers
from coordinator.offline.inputs import check_alike, open_inputs
from coordinator.report.model import harmonic_mean
from protos.errors import ConfigurationError
from protos.fixedpoint import MAX_MODELS
from protos.manifest import Manifest


@dataclass(frozen=True)
class Step:
    """One point on the line.

    Attributes:
        share: λ: the share of the second model, 0 to 1.
        miou: mIoU in per cent, by domain.
        h: The domains' harmonic mean; 0 if one is 0.

    """

    share: float
    miou: dict[str, float]
    h: float


@dataclass(frozen=True)
class Sweep:
    """The line between two models.

    Attributes:
        a: The model at λ = 0.
        b: The model at λ = 1.
        buffers: Which statistics all points have.
        steps: The points.

    """

    a: str
    b: str
    buffers: str
    steps: list[Step]

    @property
    def barrier(self) -> float:
        """The error barrier in per cent of H: how far the line dips below the one between its ends.

        It is 0 where no point does, i.e. where the two lie in one basin.
        """
        first, last = self.steps[0].h, self.steps[-1].h
        return max(0.0, *((1 - s.share) * first + s.share * last - s.h for s in self.steps))

    @property
    def best(self) -> Step:
        """The point with the highest H; of several, the one nearest to the middle."""
        return max(self.steps, key=lambda step: (step.h, -abs(step.share - 0.5)))

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON's types."""
        return {**asdict(self), "barrier": self.barrier, "best": self.best.share}


def sweep(
    paths: tuple[Path, Path],
    data: Sequence[str],
    *,
    steps: int = 11,
    copy: str | None = None,
    rule: str = "pooled",
    model: str = "",
    images: int = 120,
    threads: int = 1,
    say: Callable[[Step], None] = lambda _: None,
) -> Sweep:
    """Evaluate the models on the line between two others.

    Args:
        paths: The two models, adapted from one base.
        data: Where to judge them: names of procedural scene domains, folders with ``images/`` and ``labels/``, or
            ``LAYOUT:FOLDER`` or ``LAYOUT:FOLDER:SPLIT``.
        steps: How many points, with both ends.
        copy: Which copy to take where a file holds several.
        rule: All points' statistics: ``pooled``, ``uniform`` or ``from:MODEL``.
        model: The architecture's name; by default what the files' metadata say.
        images: How many scenes to render per domain.
        threads: How many tensors are read at a time.
        say: Called with each point when it is done.

    Raises:
        ConfigurationError: An argument makes no sense.
        ModelFileError: A model can't be read, or they are not of one architecture.
        DataError: The data can't be read.

    """
    if not 2 <= steps <= MAX_MODELS:
        raise ConfigurationError(f"{steps} steps make no line", "ask for 2 or more, e.g. --steps 11")
    sets = open_named(data, images)
    with ExitStack() as opened:
        found = open_inputs(paths, copy, opened, threads)
        check_alike(found, lambda _: False)
        a, b = found
        network = network_of(a.file, a.name, model)
        manifest = a.file.manifest
        kind, source = buffers.parse(rule, found)
        statistics = buffers.merged(found, list(manifest.layers), kind, source)
        terms = [Update(i.file, {}, b"", i.name) for i in found]
        done = []
        for step in range(steps):
            weights = (steps - 1 - step, step)
            weighted = [(weight, term) for weight, term in zip(weights, terms, strict=True) if weight]
            network.load_state_dict(_state(manifest, merged_content(a.file, weighted, statistics)))
            miou = {name: _miou(network, images) for name, images in sets.items()}
            h = harmonic_mean(miou.values()) if all(miou.values()) else 0.0
            done.append(Step(step / (steps - 1), miou, h))
            say(done[-1])
    return Sweep(a.name, b.name, rule, done)


def _state(manifest: Manifest, content: Callable[[str], Any]) -> dict[str, torch.Tensor]:
    state = {}
    for name, spec in manifest.tensors.items():
        raw = bytearray().join(content(name))
        dtype = getattr(torch, spec.dtype.name)
        state[name] = (
            torch.frombuffer(raw, dtype=dtype).reshape(spec.shape) if raw else torch.empty(spec.shape, dtype=dtype)
        )
    return state


def _miou(network: torch.nn.Module, images: Evaluation) -> float:
    counts = sum(evaluation.confusion(network, part) for part in images)
    assert isinstance(counts, torch.Tensor)
    return 100 * evaluation.miou(counts)[0]


def plot(found: Sweep, path: Path) -> None:
    """Draw the curves into a file whose suffix says the format (``.png``, ``.svg``, ``.pdf``).

    Raises:
        ConfigurationError: Matplotlib knows no such format.

    """
    from matplotlib.figure import Figure

    from protos import files

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    shares = [step.share for step in found.steps]
    for name in found.steps[0].miou:
        axes.plot(
            shares, [step.miou[name] for step in found.steps], marker=".", linewidth=1, label=f"mIoU, {name}"
        )
    axes.plot(shares, [step.h for step in found.steps], marker="o", linewidth=2.5, color="black", label="H")
    axes.plot(shares[:: len(shares) - 1], [found.steps[0].h, found.steps[-1].h], "--", color="grey", linewidth=1)
    axes.set_xlabel(f"λ: 0 is {found.a}, 1 is {found.b}")
    axes.set_ylabel("per cent")
    axes.set_ylim(bottom=0)
    axes.set_title(f"error barrier {found.barrier:.1f}; buffers: {found.buffers}", fontsize=10)
    axes.legend(fontsize=8)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise ConfigurationError(f"no plot can be written to {path.name}", "end its name in .png, .svg or .pdf")
    with files.atomic(path, durable=False) as file:
        figure.savefig(file, format=kind, dpi=150)
