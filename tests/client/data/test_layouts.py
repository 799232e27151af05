"""Each layout is found, paired and mapped to train ids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from client.data.labels import CLASSES
from client.data.layouts import CITYSCAPES, IDD, LAYOUTS, SYNTHIA, TRAIN_IDS, stem_of
from client.data.listing import labelled, unlabelled
from client.data.reading import read_image, read_labels
from client.data.scenes import render
from client.data.settings import ImageFolder

EVERY = [(name, split) for name, layout in LAYOUTS.items() for split in layout.splits or ("",)]


@pytest.mark.parametrize(("layout", "split"), EVERY)
def test_images_and_labels_are_read(sets, data_set, layout, split):
    found = labelled(ImageFolder(layout, str(data_set(layout, split)), split), Path())
    coding = sets.PLACES[layout][split][3]
    assert len(found) == 3
    for at in range(3):
        scene = render("source", 0, at, sets.SIZE)
        image = read_image(found.images[at])
        assert image.dtype == np.uint8
        if found.images[at].suffix == ".png":
            assert np.array_equal(image, scene.image)
        assert found.codings[at] == coding
        labels = read_labels(found.labels[at], found.codings[at], image.shape[:2])
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, sets.known(scene.labels, coding))


@pytest.mark.parametrize(("layout", "split"), EVERY)
def test_ready_train_ids_take_precedence(sets, data_set, layout, split):
    if layout == "folder":
        return
    root = data_set(layout, split, number=1)
    image = sets.PLACES[layout][split][0].format("000")
    kind = LAYOUTS[layout].truths[0]
    below = Path(image).relative_to(LAYOUTS[layout].images)
    ready = (
        root / LAYOUTS[layout].labels / below.parent / (stem_of(below.name, LAYOUTS[layout].endings) + kind.ending)
    )
    truth = np.full(sets.SIZE, 9, np.uint8)
    sets.write(ready, truth)
    found = labelled(ImageFolder(layout, str(root), split), Path())
    assert found.labels == (ready,)
    assert np.array_equal(read_labels(ready, found.codings[0]), truth)


def test_acdc_is_found_with_and_without_folders_for_the_weather(sets, tmp_path):
    for weather in ("fog/", "rain/", ""):
        root = tmp_path / f"acdc{bool(weather)}"
        sets.write(root / f"rgb_anon/{weather}train/GOPR1/a_rgb_anon.png", np.zeros((8, 8, 3), np.uint8))
    both = unlabelled(ImageFolder("acdc", str(tmp_path / "acdcTrue"), "train"), Path())
    assert [path.parts[-4] for path in both.images] == ["fog", "rain"]
    assert len(unlabelled(ImageFolder("acdc", str(tmp_path / "acdcTrue"), "fog/train"), Path())) == 1
    assert len(unlabelled(ImageFolder("acdc", str(tmp_path / "acdcFalse"), "train"), Path())) == 1


def test_dark_zurichs_day_is_no_part_of_it(sets, data_set):
    root = data_set("dark_zurich", "train")
    sets.write(root / "rgb_anon/train/day/GOPR1/x_rgb_anon.png", np.zeros((8, 8, 3), np.uint8))
    assert len(unlabelled(ImageFolder("dark_zurich", str(root), "train"), Path())) == 3


def test_a_gta_label_map_with_a_palette_is_read_as_numbers(sets, data_set):
    root = data_set("gta", number=1)
    truth = render("source", 0, 0, sets.SIZE).labels
    path = root / "labels/000.png"
    path.write_bytes(sets.palette_png(sets.raw(truth, CITYSCAPES)))
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (*sets.SIZE, 3)  # what OpenCV makes of it
    assert np.array_equal(read_labels(path, CITYSCAPES, sets.SIZE), truth)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_palette_of_few_colours_is_read_as_numbers(sets, tmp_path, bits):
    truth = (np.arange(16 * 16).reshape(16, 16) % 2**bits).astype(np.uint8)
    (tmp_path / "map.png").write_bytes(sets.palette_png(truth, bits))
    assert np.array_equal(read_labels(tmp_path / "map.png", TRAIN_IDS), truth)


def test_the_codings_name_each_class_once():
    assert sorted(CITYSCAPES.train_ids.values()) == list(range(len(CLASSES)))
    assert sorted(SYNTHIA.train_ids.values()) == [c for c in range(19) if c not in (9, 14, 16)]
    assert sorted(IDD.train_ids.values()) == [c for c in range(19) if c != 16]
    for layout in LAYOUTS.values():
        for truth in layout.truths:
            assert not truth.coding.train_ids.keys() & truth.coding.ignored


def test_layouts_and_settings_need_neither_numpy_nor_pytorch():
    code = (
        "import sys, client.settings; print('numpy' in sys.modules, 'torch' in sys.modules, 'cv2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3
