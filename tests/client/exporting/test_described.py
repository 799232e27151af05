"""What goes beside the weights."""

from __future__ import annotations

import json

import pytest
import torch

from client.data.images import normalise
from client.data.labels import CLASSES, PALETTE
from client.exporting.described import Meaning, meaning, properties


class File:
    """A model file with notes."""

    def __init__(self, **meta):
        self.meta = meta


def test_nineteen_classes_are_those_of_cityscapes():
    assert meaning(File(), 19) == Meaning(CLASSES, PALETTE)


def test_a_checkpoints_own_names_and_colours_come_first():
    file = File(CLASSES=("road", "rest"), PALETTE=[[1, 2, 3], [4, 5, 6]])
    assert meaning(file, 2) == Meaning(("road", "rest"), ((1, 2, 3), (4, 5, 6)))


@pytest.mark.parametrize(
    "notes",
    [{}, {"CLASSES": ["one"]}, {"CLASSES": [1, 2]}, {"CLASSES": "ab"}, {"PALETTE": [[0, 0, 256], [0, 0, 0]]}],
)
def test_names_that_do_not_fit_are_no_names(notes):
    assert meaning(File(**notes), 2) == Meaning()
    assert "classes" not in properties(Meaning())


def test_what_is_said_of_pixels_is_what_training_did_to_them():
    said = properties(Meaning(CLASSES, PALETTE))
    assert (said["layout"], said["channel_order"], said["scale"]) == ("NCHW", "RGB", "1/255")
    mean, std = (torch.tensor(json.loads(said[key]))[None, :, None, None] for key in ("mean", "std"))
    pixels = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    assert torch.allclose((pixels / 255 - mean) / std, normalise(pixels))
    assert json.loads(said["classes"]) == list(CLASSES)
    assert json.loads(said["palette"])[0] == [128, 64, 128]
