"""Images per second and peak memory of adaptation, beside what no trainer can do without, in the same run.

The floor is the same networks' passes on random tensors, at the same batch, size, precision and number of passes:
the student's forward and backward, the teacher's and the frozen encoder's forward. It has no data, augmentation,
mixing, losses, moving average, optimizer, checks or reports: all that is ours to keep small. Blocks of steps of
both take turns, and the ratio is the median of theirs, so that other work on the machine hits both.

    python benchmarks/adaptation.py --threads 1       the demo's model and numbers
    python benchmarks/adaptation.py --methods dacs mic --models segformer-mitb0 --size 128 128 --batch 1
    python benchmarks/adaptation.py --device cuda --models hrda-daformer-mitb5 --methods mic --size 1024 1024
        --memory "" 24GB 16GB 8GB

"Images" are target images; each comes with a source image. Memory on a GPU is what tensors took at most; on a
CPU it is by how much the process grew, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import describe
from rich import box
from rich.console import Console
from rich.table import Table

from client.data.feed import Batch
from client.data.images import normalise
from client.models import build
from client.training.adapt import adapt
from client.training.dacs import make_teacher
from client.training.daformer import FrozenEncoder
from client.training.engine import resolve
from client.training.lessons import compile_parts, fit_details, lesson_of
from client.training.presets import MEMORY, METHODS
from client.training.settings import AdaptSettings

CLASSES = 19
WARM = 2
"""Steps of each block that aren't counted."""


@dataclass(frozen=True)
class Case:
    """What to measure: a model, the settings that differ from the method's, and the images' size."""

    model: str
    settings: AdaptSettings
    size: tuple[int, int]
    device: str
    steps: int


@dataclass(frozen=True)
class Cost:
    """Seconds of a step, and the most memory that tensors took on a GPU, in MB."""

    seconds: float
    memory: int


class RandomFeed:
    """Noise with labels in blocks, as scenes have areas of one class."""

    fingerprint: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, batch: int, size: tuple[int, int]) -> None:
        dice = torch.Generator().manual_seed(0)
        height, width = size
        source, target = torch.randint(0, 256, (2, batch, 3, height, width), generator=dice, dtype=torch.uint8)
        coarse = torch.randint(0, CLASSES, (batch, -(-height // 16), -(-width // 16)), generator=dice)
        labels = coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height, :width]
        self._batch = Batch(source, labels.to(torch.uint8), target)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the same batch for each step."""
        for _ in range(first, last):
            yield self._batch

    def share(self, rank: int, ranks: int) -> RandomFeed:
        """Return what one of several processes is fed."""
        return self


def ours(case: Case) -> Cost:
    """Adapt for some steps; the clock runs between reports."""
    times = []

    def report(_: object) -> None:
        synchronise(case)
        times.append(time.perf_counter())

    feed = RandomFeed(case.settings.batch, case.size)
    state = build(case.model, CLASSES).state_dict()
    reset(case)
    adapt(state, case.model, CLASSES, feed, case.settings, report, device=case.device)
    return Cost((times[-1] - times[WARM - 1]) / (len(times) - WARM), peak(case))


def floor(case: Case) -> Cost:
    """Run the bare passes of as many steps."""
    settings, where = case.settings, resolve(case.device, 1)
    layout = torch.channels_last if where.type == "cuda" else torch.preserve_format
    student = build(case.model, CLASSES).train().to(where, memory_format=layout)
    teacher = make_teacher(build(case.model, CLASSES)).to(where, memory_format=layout)
    frozen = None
    if settings.feature_distance:
        frozen = FrozenEncoder(case.model, CLASSES, student.state_dict(), None).to(where)
    if settings.compile:
        compile_parts(student)
        compile_parts(teacher)
    images = normalise(torch.rand(settings.batch, 3, *case.size, device=where))
    dice = torch.Generator().manual_seed(0)
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(settings.precision)
    trained = 1 + sum(weight > 0 for weight in (settings.mixed, settings.masked, settings.entropy))
    for network in (student, teacher):
        fit_details(network, *case.size)

    def step() -> None:
        student.zero_grad(set_to_none=True)
        for _ in range(settings.accumulate):
            with torch.autocast(where.type, dtype) if dtype else nullcontext(), torch.no_grad():
                teacher(images)
                if frozen is not None:
                    frozen(images)
            for _ in range(trained):
                with torch.autocast(where.type, dtype) if dtype else nullcontext():
                    losses = [view.logits.mean() for view in lesson_of(student, images, dice).views]
                torch.stack(losses).sum().backward()

    reset(case)
    for number in range(case.steps):
        if number == WARM:
            synchronise(case)
            start = time.perf_counter()
        step()
    synchronise(case)
    return Cost((time.perf_counter() - start) / (case.steps - WARM), peak(case))


def synchronise(case: Case) -> None:
    """Wait until the GPU is done, if it is one."""
    if resolve(case.device, 1).type == "cuda":
        torch.cuda.synchronize()


def reset(case: Case) -> None:
    """Forget the GPU's peak of memory."""
    if resolve(case.device, 1).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(case: Case) -> int:
    """Return the GPU's peak of memory in MB; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() // 10**6 if resolve(case.device, 1).type == "cuda" else 0


def grown(what: str, arguments: list[str]) -> int:
    """Return by how many MB a process grew that ran one block and nothing else."""
    command = [sys.executable, __file__, *arguments, "--memory-of", what]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def alone(run: Callable[[Case], Cost], case: Case) -> int:
    """Run a block and return the growth of this process in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is in use now
    before = resident("VmRSS")
    run(case)
    return (resident("VmHWM") - before) // 1000


def resident(what: str) -> int:
    """Return a line of the kernel's count of this process's memory, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def measured(case: Case, rounds: int, arguments: list[str]) -> list[str]:
    """Return a row of the table."""
    pairs = [(ours(case), floor(case)) for _ in range(rounds)]
    images = case.settings.batch * case.settings.accumulate
    mine, bare = (images / statistics.median(pair[which].seconds for pair in pairs) for which in (0, 1))
    ratio = statistics.median(pair[1].seconds / pair[0].seconds for pair in pairs)
    if resolve(case.device, 1).type == "cuda":
        memory = [max(pair[which].memory for pair in pairs) for which in (0, 1)]
    else:
        memory = [grown(what, arguments) for what in ("ours", "floor")]
    return [f"{mine:.2f}", f"{bare:.2f}", f"{ratio:.2f}", *map(str, memory)]


def case_of(options: argparse.Namespace, model: str, method: str, memory: str) -> Case:
    """Put a case together."""
    given = {"batch": options.batch, "precision": options.precision, "accumulate": options.accumulate}
    named = {key: value for key, value in given.items() if value is not None}
    if options.no_features:
        named["feature_distance"] = 0.0
    settings = AdaptSettings(method=method, memory=memory, steps=options.steps, compile=options.compile, **named)
    return Case(model, settings, tuple(options.size), options.device, options.steps)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny-resnet"])
    parser.add_argument("--methods", nargs="+", default=["demo"], choices=list(METHODS))
    parser.add_argument("--memory", nargs="+", default=[""], choices=["", *MEMORY], help="memory presets")
    parser.add_argument("--size", nargs=2, type=int, default=[64, 128], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--accumulate", type=int)
    parser.add_argument("--precision", choices=["32", "bf16-mixed", "16-mixed"])
    parser.add_argument("--no-features", action="store_true", help="leave the feature distance out")
    parser.add_argument("--compile", action="store_true", help="with torch.compile, floor and ours")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--steps", type=int, default=12, help="of each block")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", choices=["ours", "floor"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps <= WARM:
        parser.error(f"--steps has to be more than {WARM}")
    logging.disable()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        case = case_of(options, options.models[0], options.methods[0], options.memory[0])
        print(json.dumps(alone(ours if options.memory_of == "ours" else floor, case)))
        return
    print(describe())
    where = resolve(options.device, 1)
    print(torch.cuda.get_device_name(where) if where.type == "cuda" else f"{torch.get_num_threads()} threads")
    height, width = options.size
    table = Table(title=f"{height} × {width}{', compiled' if options.compile else ''}", box=box.SIMPLE)
    columns = ("model", "method", "memory", "batch", "images/s", "floor", "ratio", "peak MB", "floor MB")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:4] else "right")
    for model in options.models:
        for method in options.methods:
            for memory in options.memory:
                case = case_of(options, model, method, memory)
                passed = [
                    *("--models", model, "--methods", method, "--memory", memory, "--device", options.device),
                    *("--size", str(height), str(width), "--threads", str(options.threads), "--steps", "4"),
                    *("--batch", str(case.settings.batch), "--accumulate", str(case.settings.accumulate)),
                    *("--precision", case.settings.precision),
                    *(["--no-features"] if options.no_features else []),
                    *(["--compile"] if options.compile else []),
                ]
                images = f"{case.settings.batch} × {case.settings.accumulate}, {case.settings.precision}"
                table.add_row(model, method, memory, images, *measured(case, options.rounds, passed))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
