"""Seconds and memory of an offline merge, beside what else people use, on the same files in the same run.

Models of the size of HRDA-DAFormer R101 (48 M parameters, 345 buffers) and MiT-B5 (86 M), with random values, near
each other as models from one base are. Whole processes are measured from start to exit, with the peak memory that
the kernel counted. The floor is what no merge can do without: reading each input's bytes once and writing the
output's once, from and into the page cache. The other floor computes the SHA-256 of what it reads as well, on all
cores: no receipt can do without that. "The merge alone" leaves the inputs' digests out, to compare with the first.

    python benchmarks/merge.py --models 2 4 8 16
    python benchmarks/merge.py --mergekit ~/mergekit-venv/bin/mergekit-pytorch

mergekit pins its own versions of much, so it is taken from an environment of its own; it is left out if there is
none.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import describe
from rich.console import Console
from rich.table import Table

SIZES = {"r101": "hrda-daformer-r101", "b5": "hrda-daformer-mitb5"}

PLAIN = """
import sys, torch
*inputs, output = sys.argv[1:]
states = [torch.load(path, map_location="cpu", weights_only=True)["state_dict"] for path in inputs]
merged = {}
for name in states[0]:
    merged[name] = sum(state[name] for state in states) / len(states)
torch.save({"state_dict": merged}, output)
"""

FLOWER = """
import sys
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from safetensors.numpy import load_file, save_file
*inputs, output = sys.argv[1:]
records = []
for path in inputs:
    arrays = ArrayRecord({name: Array(value) for name, value in load_file(path).items()})
    records.append(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}))
merged = aggregate_arrayrecords(records, "num-examples")
save_file({name: array.numpy() for name, array in merged.items()}, output)
"""

LAUNCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.call(sys.argv[1:])
seconds = time.perf_counter() - started
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, flush=True)
sys.exit(code)
"""
# A process counts the memory of the one that it was forked from as its own: so a small one starts it.

FLOOR = """
import os, sys, time
started = time.perf_counter()
*inputs, output = sys.argv[1:]
buffer = bytearray(4 << 20)
for path in inputs:
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
left = os.stat(inputs[0]).st_size
with open(output, "wb", buffering=0) as file:
    while left > 0:
        left -= file.write(buffer[: min(left, len(buffer))])
print(time.perf_counter() - started)
"""

FLOOR_SHA = """
import hashlib, os, sys, time
from concurrent.futures import ThreadPoolExecutor
started = time.perf_counter()
*inputs, output = sys.argv[1:]
threads = len(os.sched_getaffinity(0))
def digest(task):
    path, start, stop = task
    buffer, state = bytearray(1 << 20), hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while start < stop and (count := file.readinto(memoryview(buffer)[: stop - start])):
            state.update(memoryview(buffer)[:count])
            start += count
    return state.digest()
parts = 8
tasks = []
for path in inputs:
    size = os.stat(path).st_size
    cuts = [size * part // parts for part in range(parts + 1)]
    tasks += [(path, *cut) for cut in zip(cuts, cuts[1:])]
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(digest, tasks))
left, buffer = os.stat(inputs[0]).st_size, bytearray(4 << 20)
with open(output, "wb", buffering=0) as file:
    while left > 0:
        left -= file.write(buffer[: min(left, len(buffer))])
print(time.perf_counter() - started)
"""

ALONE = """
import os, sys, time
from contextlib import ExitStack
from pathlib import Path
from coordinator.merge.midpoint import merged_content
from coordinator.merge.state import Update
from coordinator.offline import buffers, inputs
from protos.tensorfile import write_tensors
*paths, output = map(Path, sys.argv[1:])
threads = len(os.sched_getaffinity(0))
started = time.perf_counter()
with ExitStack() as opened:
    found = inputs.open_inputs(paths, None, opened, threads)
    manifest = found[0].file.manifest
    statistics = buffers.merged(found, list(manifest.layers), buffers.Rule.POOLED, None)
    terms = [(1, Update(i.file, {}, b"", i.name)) for i in found]
    content = merged_content(found[0].file, terms, statistics)
    write_tensors(output, manifest.tensors, content, threads=threads, durable=False)
print(time.perf_counter() - started)
"""

OURS = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from coordinator.offline import inputs
from coordinator.offline.plan import Options, make
from coordinator.offline.write import write
import os
*paths, output = map(Path, sys.argv[1:])
threads = len(os.sched_getaffinity(0))
started = time.perf_counter()
with ExitStack() as opened:
    write(make(inputs.open_inputs(paths, None, opened, threads), Options(threads=threads), output))
print(time.perf_counter() - started)
"""


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds, and peak resident memory in bytes; `inner` seconds without its start."""

    seconds: float
    peak: int
    inner: float = 0.0


def spent(command: list[str], *, inner: bool = False) -> Cost:
    """Run a command and measure it; with `inner` it prints seconds of its own last.

    Raises:
        SystemExit: It failed.

    """
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCH, *command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} … failed:\n{done.stdout}{done.stderr}")
    *said, last = done.stdout.splitlines()
    seconds, peak = last.split()
    return Cost(float(seconds), int(peak) * 1024, float(said[-1]) if inner else 0.0)


def best(measure: Callable[[], Cost], repeats: int) -> Cost:
    """Repeat a measurement and keep the quickest: other work on the machine only ever adds."""
    return min((measure() for _ in range(repeats)), key=lambda cost: cost.seconds)


def write_models(folder: Path, name: str, count: int) -> list[Path]:
    """Write models of a real architecture, in torch's form and, beside it, as safetensors."""
    import torch
    from safetensors.torch import save_file

    from client import models

    with torch.device("meta"):
        specs = {key: tensor.shape for key, tensor in models.MODELS[name](19).state_dict().items()}
    dice = np.random.default_rng(0)
    base = {key: dice.standard_normal(shape, np.float32) * 0.05 for key, shape in specs.items()}
    paths = []
    for i in range(count):
        state = {}
        for key, shape in specs.items():
            if key.endswith("num_batches_tracked"):
                state[key] = torch.tensor(40_000)
            elif key.endswith("running_var"):
                state[key] = torch.from_numpy(dice.random(shape, np.float32) + 0.1)
            else:
                state[key] = torch.from_numpy(base[key] + np.float32(0.001 * (i + 1)))
        path = folder / f"{name}-{i}.pth"
        torch.save({"meta": {}, "state_dict": state}, path)
        torch.save(state, path.with_suffix(".bin"))  # mergekit knows no checkpoints with a state dict inside
        save_file(state, path.with_suffix(".safetensors"))
        paths.append(path)
    return paths


def mergekit(program: str, folder: Path, paths: list[Path]) -> Cost:
    """Merge with mergekit-pytorch, linear, equal weights."""
    import yaml

    recipe = {
        "merge_method": "linear",
        "dtype": "float32",
        "models": [{"model": str(path.with_suffix(".bin")), "parameters": {"weight": 1.0}} for path in paths],
    }
    (folder / "recipe.yml").write_text(yaml.safe_dump(recipe))
    shutil.rmtree(folder / "mergekit", ignore_errors=True)
    return spent([program, str(folder / "recipe.yml"), str(folder / "mergekit")])


def measure(folder: Path, paths: list[Path], program: str | None, repeats: int) -> dict[str, Cost]:
    """Measure all ways of merging the same models, one after the other."""
    python, onebasin = sys.executable, str(Path(sys.executable).with_name("onebasin"))
    tensors = [str(path.with_suffix(".safetensors")) for path in paths]
    pth = [str(path) for path in paths]
    out, out_pth = str(folder / "out.safetensors"), str(folder / "out.pth")
    spent([python, "-c", FLOOR, *tensors, *pth, out])  # into the page cache
    ways: dict[str, Callable[[], Cost]] = {
        "onebasin, safetensors": lambda: spent([onebasin, "merge", *tensors, "-o", out, "--force"]),
        "onebasin, .pth": lambda: spent([onebasin, "merge", *pth, "-o", out_pth, "--force"]),
        "onebasin, .pth, --no-digests": lambda: spent(
            [onebasin, "merge", *pth, "-o", out_pth, "--force", "--no-digests"]
        ),
        "torch.load and average": lambda: spent([python, "-c", PLAIN, *pth, out_pth]),
        "Flower's aggregate_arrayrecords": lambda: spent([python, "-c", FLOWER, *tensors, out]),
        "onebasin, in process": lambda: spent([python, "-c", OURS, *tensors, out], inner=True),
        "the merge alone, in process": lambda: spent([python, "-c", ALONE, *tensors, out], inner=True),
        "floor, in process": lambda: spent([python, "-c", FLOOR, *tensors, out], inner=True),
        "floor with SHA-256, in process": lambda: spent([python, "-c", FLOOR_SHA, *tensors, out], inner=True),
    }
    if program:
        ways["mergekit-pytorch"] = lambda: mergekit(program, folder, paths)
    return {way: best(run, repeats) for way, run in ways.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument(
        "--mergekit", default=shutil.which("mergekit-pytorch"), help="the program mergekit-pytorch"
    )
    parser.add_argument("--repeats", type=int, default=3, help="the quickest of so many counts")
    parser.add_argument("--folder", type=Path, help="where to put the models (several gigabytes)")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
    console.print(describe())
    if not options.mergekit:
        console.print("mergekit-pytorch is not here: left out")
    found: dict[str, dict[int, dict[str, Cost]]] = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            paths = write_models(folder, SIZES[size], max(options.models))
            megabytes = paths[0].stat().st_size / 1e6
            found[size] = {
                n: measure(folder, paths[:n], options.mergekit, options.repeats) for n in options.models
            }
        console.print(table(f"{SIZES[size]}, {megabytes:.0f} MB per model", found[size]))
        for n, costs in found[size].items():
            console.print(ratios(n, costs))
    if options.output:
        plain = {
            s: {n: {w: vars(c) for w, c in row.items()} for n, row in rows.items()} for s, rows in found.items()
        }
        options.output.write_text(json.dumps({"machine": describe(), "figures": plain}, indent=1))


def table(title: str, rows: dict[int, dict[str, Cost]]) -> Table:
    """Return the figures side by side: seconds, and peak memory in MB."""
    result = Table(title=title)
    result.add_column("")
    for n in rows:
        result.add_column(f"N = {n}: s", justify="right")
        result.add_column("MB", justify="right")
    for way in next(iter(rows.values())):
        cells = []
        for costs in rows.values():
            cost = costs[way]
            cells += [f"{cost.inner or cost.seconds:.2f}", f"{cost.peak / 1e6:.0f}"]
        result.add_row(way, *cells)
    return result


def ratios(n: int, costs: dict[str, Cost]) -> str:
    """Say what the figures mean."""
    inner = {way: cost.inner for way, cost in costs.items()}
    ours, floor = inner["onebasin, in process"], inner["floor, in process"]
    said = [
        f"onebasin / floor, in process: {ours / floor:.2f}",
        f"onebasin / floor with SHA-256: {ours / inner['floor with SHA-256, in process']:.2f}",
        f"the merge alone / floor: {inner['the merge alone, in process'] / floor:.2f}",
    ]
    whole = costs["onebasin, safetensors"].seconds
    for name, way in (("onebasin", "onebasin, .pth"), ("onebasin --no-digests", "onebasin, .pth, --no-digests")):
        for other in ("mergekit-pytorch", "torch.load and average"):
            if other in costs:
                said.append(f"{other} / {name}: {costs[other].seconds / costs[way].seconds:.1f}")
    said.append(f"Flower / onebasin: {costs[FLOWER_WAY].seconds / whole:.1f}")
    return f"N = {n}: " + "; ".join(said)


FLOWER_WAY = "Flower's aggregate_arrayrecords"

if __name__ == "__main__":
    main()
