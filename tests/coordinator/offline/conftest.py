"""Model files to be merged offline, in every form that people have them in."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from coordinator.offline import inputs
from coordinator.offline import plan as planning
from coordinator.offline.plan import Options
from coordinator.offline.write import Output, write

META = {"CLASSES": ("road", "car"), "PALETTE": [[128, 64, 128], [0, 0, 142]], "iter": 40_000, "seed": 0}


def torch_state(model) -> OrderedDict:
    """Return a model as torch has it (the shared builders store bfloat16 as uint16; not used here)."""
    return OrderedDict((name, torch.from_numpy(np.array(array))) for name, array in model.items())


@pytest.fixture
def made(tmp_path, model) -> Callable[..., list[Path]]:
    """Return a function that writes models adapted from one base, in one of the forms."""

    def make(count: int, form: str = "safetensors", **changes) -> list[Path]:
        paths = []
        for i in range(1, count + 1):
            content = {**model(i), "table": np.arange(6).reshape(2, 3)}
            for name, value in changes.items():
                content[name.replace("__", ".")] = value(i) if callable(value) else value
            paths.append(store(tmp_path / f"site{i}", content, form))
        return paths

    return make


def store(stem: Path, content, form: str) -> Path:
    state = torch_state(content)
    if form == "safetensors":
        path = stem.with_suffix(".safetensors")
        save_file(state, path, {"format": "pt", "model": "tiny-resnet", "classes": "5"})
    elif form == "pth":
        path = stem.with_suffix(".pth")
        torch.save({"meta": META, "state_dict": state, "optimizer": {"state": {}}}, path)
    elif form == "plain":
        path = stem.with_suffix(".pt")
        torch.save(state, path)
    elif form == "sharded":
        stem.mkdir()
        names = sorted(state)
        shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for shard, inside in shards.items():
            save_file({n: state[n] for n in inside}, stem / shard)
        index = {"metadata": {}, "weight_map": {n: shard for shard, inside in shards.items() for n in inside}}
        path = stem / "model.safetensors.index.json"
        path.write_text(json.dumps(index))
    else:
        raise AssertionError(form)
    return path


@pytest.fixture
def merged(tmp_path) -> Callable[..., list[Output]]:
    """Return a function that merges files."""

    def run(paths, output="merged.safetensors", copy=None, digests=True, **options) -> list[Output]:
        with ExitStack() as opened:
            found = inputs.open_inputs(paths, copy, opened, 2, named_by_digest=digests)
            return write(planning.make(found, Options(**options), tmp_path / output))

    return run


@pytest.fixture
def planned(tmp_path) -> Callable[..., planning.Plan]:
    """Return a function that plans a merge."""

    def run(paths, output="merged.safetensors", copy=None, **options) -> planning.Plan:
        with ExitStack() as opened:
            return planning.make(inputs.open_inputs(paths, copy, opened, 2), Options(**options), tmp_path / output)

    return run
