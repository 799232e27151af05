"""``onebasin export``, as someone types it, and as the quick start does."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from client.models import build
from client.tensors import raw_state
from protos.errors import ConfigurationError
from protos.tensorfile import write_arrays

QUICK_START = Path(__file__).parents[2] / "docs" / "quick-start.md"


@pytest.fixture
def merged(tmp_path, monkeypatch, one_thread) -> Path:
    """A campaign's result where the quick start has it."""
    folder = tmp_path / "coordinator" / "campaigns" / "autumn" / "merged"
    folder.mkdir(parents=True)
    metadata = {"format": "pt", "model": "tiny-resnet", "classes": "19"}
    write_arrays(folder / "merged.safetensors", raw_state(build("tiny-resnet", 19).state_dict()), metadata)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_quick_starts_commands_export_a_result(onebasin, merged):
    blocks = re.findall(r"^```bash\n(.*?)^```", QUICK_START.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("onebasin export ")]
    assert len(lines) == 2
    for line in lines:
        if ".onnx" in line and importlib.util.find_spec("onnxruntime") is None:
            pytest.skip("the extra `export` is not installed")
        code, out, err = onebasin(*shlex.split(line)[1:])
        assert code == 0, err
        assert out.startswith("wrote merged.")
    assert torch.load("merged.pth", weights_only=True)["meta"]["CLASSES"]
    assert Path("merged.onnx").stat().st_size > 100_000


def test_json_says_what_was_written(onebasin, merged):
    code, out, err = onebasin("export", merged, "out.pth", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["file"], found["model"], found["classes"]) == ("out.pth", "tiny-resnet", 19)
    assert (found["opset"], found["tried"], found["bytes"]) == (None, [], Path("out.pth").stat().st_size)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["out.onnx", "--size", "big"], "'big' is no size of images"),
        (["out.bin"], "out.bin says no format"),
        (["out.pth", "--statistics", "north"], "one set of statistics"),
    ],
)
def test_wrong_options_end_with_the_code_of_configuration(onebasin, merged, options, said):
    code, out, err = onebasin("export", merged, *options)
    assert code == ConfigurationError.exit_code
    assert said in err and "Traceback" not in out + err
