"""Memory doesn't grow with the number of models or their size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from protos.dtypes import FLOAT32, INT64
from protos.manifest import TensorSpec
from protos.tensorfile import header_bytes

MIB = 1 << 20
MERGE = """
import json, resource, sys
from onebasin.cli import app
app(sys.argv[1:], standalone_mode=False)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""


def sparse(path: Path, tensors: int, megabytes: int) -> Path:
    """Write a model of zeros that takes no room on the disk, with a number that tells it from others."""
    specs = {f"layer{i:02d}.weight": TensorSpec(FLOAT32, (megabytes * MIB // 4,)) for i in range(tensors)}
    for part in ("running_mean", "running_var"):
        specs[f"norm.{part}"] = TensorSpec(FLOAT32, (4,))
    specs["norm.num_batches_tracked"] = TensorSpec(INT64, ())
    header = header_bytes(specs, {})
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(spec.nbytes for spec in specs.values()) - 8)
        file.seek(0, 2)
        file.write((1000 + int(path.stem)).to_bytes(8, "little"))
    return path


def peak(folder: Path, count: int, tensors: int, megabytes: int, *options: str) -> int:
    """Merge so many models in a process of its own and return the most memory that it took."""
    paths = [sparse(folder / f"{i}.safetensors", tensors, megabytes) for i in range(count)]
    command = ["merge", *map(str, paths), "-o", str(folder / "out.safetensors"), "--force", *options]
    launcher = [sys.executable, "-S", "-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"]
    done = subprocess.run(
        [*launcher, sys.executable, "-c", MERGE, *command], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(("count", "tensors", "megabytes"), [(2, 3, 64), (12, 3, 16), (2, 40, 4)])
def test_the_peak_is_bounded_by_twice_the_largest_tensor_and_256_mib(tmp_path, count, tensors, megabytes):
    assert peak(tmp_path, count, tensors, megabytes) < (2 * megabytes + 256) * MIB


def test_the_peak_is_what_the_plan_says(tmp_path):
    found = peak(tmp_path, 3, 3, 32, "--threads", "2")
    plan = [sys.executable, "-m", "onebasin", "merge", *(str(tmp_path / f"{i}.safetensors") for i in range(3))]
    done = subprocess.run(
        [*plan, "-o", "x.safetensors", "--plan", "--json", "--threads", "2"], capture_output=True
    )
    assert found < 1.25 * json.loads(done.stdout)["peak_bytes"]


def test_the_peak_does_not_grow_with_the_number_of_models(tmp_path):
    assert peak(tmp_path, 10, 2, 8) < peak(tmp_path, 2, 2, 8) + 16 * MIB  # they are 16 MiB each
