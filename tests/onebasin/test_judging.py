"""`onebasin site evaluate` and `onebasin site predict`, as someone types them."""

from __future__ import annotations

import json

import cv2
import pytest
from safetensors.torch import save_file

from client import models
from client.data.scenes import render
from protos.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(models.build("tiny-resnet", 19, 3).state_dict(), path, {"model": "tiny-resnet", "classes": "19"})
    return path


def test_a_table_and_json_say_the_same(onebasin, model):
    command = ("site", "evaluate", model, "--data", "night", "--data", "dusty", "--scenes", "2")
    code, table, _ = onebasin(*command)
    assert code == 0
    code, text, _ = onebasin(*command, "--json")
    found = json.loads(text)
    assert code == 0
    assert f"H, the harmonic mean over the sets: {found['h']:.1f}" in table
    for name in ("night", "dusty"):
        assert f"{found['data'][name]['miou']:.1f}" in table
        assert set(found["data"][name]["iou"]) >= {"road", "bicycle"}
        assert sum(map(sum, found["data"][name]["confusion"])) <= 2 * 64 * 128


def test_predictions_are_named_as_they_are_written(onebasin, model, tmp_path):
    image = tmp_path / "street.png"
    cv2.imwrite(str(image), render("clear", 0, 1, (64, 128)).image[..., ::-1])
    code, said, _ = onebasin("site", "predict", model, image, "-o", tmp_path / "seen", "--windows", "64:32")
    assert (code, said.split()) == (0, [str(tmp_path / "seen" / "street.overlay.png")])
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"street.overlay.png", "street.labels.png"}


@pytest.mark.parametrize("windows", ["a", "64:x", "32:64", "0:0"])
def test_windows_that_are_none(onebasin, model, windows, tmp_path):
    code, _, said = onebasin("site", "predict", model, tmp_path / "x.png", "--windows", windows)
    assert code == ConfigurationError.exit_code
    assert "windows" in said.lower()
