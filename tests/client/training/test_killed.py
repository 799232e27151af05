"""A training process that is killed, as by a power cut, and started again."""

import signal
import subprocess
import sys

import pytest
import torch

PROGRAM = """
import sys, time, torch
from pathlib import Path
from client.data.datasets import scene_source, scene_target
from client.data.memory import MemoryFeed
from client.data.settings import SceneData
from client.models import build
from client.training.adapt import adapt
from client.training.settings import AdaptSettings

def go(name, method, report, checkpoint):
    data = SceneData("night", source_images=4, target_images=4, height=64, width=64)
    feed = MemoryFeed(scene_source(data), scene_target(data), 2, 0)
    numbers = {"steps": 4, "warmup": 0, "batch": 2, "threshold": 0.0, "mask_block": 16, "checkpoint_every": 2}
    settings = AdaptSettings(method=method, **numbers)
    return adapt(build(name, 19).state_dict(), name, 19, feed, settings, report, checkpoint)

def sleep_after_three(progress):
    if progress.step == 3:
        print("three", flush=True)
        time.sleep(600)

if __name__ == "__main__":
    torch.set_num_threads(1)
    go(sys.argv[1], sys.argv[2], sleep_after_three, Path(sys.argv[3]))
"""


@pytest.mark.parametrize(("name", "method"), [("tiny-resnet", "demo"), ("segformer-mitb0", "mic")])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, name, method):
    """Killed after the third of four steps, with a checkpoint of the second."""
    checkpoint = tmp_path / "checkpoint.pt"
    program = {"__name__": "here"}
    exec(PROGRAM, program)
    command = [sys.executable, "-c", PROGRAM, name, method, str(checkpoint)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        whole = program["go"](name, method, lambda progress: None, None)
        assert killed.stdout.readline() == "three\n"
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    steps = []
    resumed = program["go"](name, method, lambda progress: steps.append(progress.step), checkpoint)
    assert steps == [3, 4]
    for copy in ("student", "teacher"):
        other = resumed.copy(copy)
        assert all(torch.equal(value, other[key]) for key, value in whole.copy(copy).items())
