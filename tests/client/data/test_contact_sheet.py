"""The contact sheet shows images with their labels' colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from client.data import contact_sheet
from client.data.checking import Use, check_folder, check_site
from client.data.findings import Sample
from client.data.labels import PALETTE
from client.data.settings import ImageFolder, SceneData
from protos.errors import ConfigurationError, DataError


def quiet(part: str, done: int, of: int) -> None:
    pass


def look(root, *, labelled: bool = True):
    return check_folder(ImageFolder("folder", str(root)), Path(), Use("images", labelled), quiet)


def test_a_dozen_images_are_drawn(data_set, tmp_path):
    part = look(data_set("folder", number=30))
    assert len(part.samples(12)) == 12
    assert len({sample.title for sample in part.samples(12)}) == 12
    contact_sheet.write([part], tmp_path / "sheet.png")
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert picture.shape[1] > 1500
    assert picture.std() > 20
    assert not list(tmp_path.glob(".*"))


def test_labels_tint_and_ignored_pixels_do_not():
    labels = np.full((60, 80), 255, np.uint8)
    labels[:, 40:] = 13
    image = np.full((60, 80, 3), 200, np.uint8)
    found = contact_sheet._overlaid(Sample("x", image, labels))
    height, width = found.shape[:2]
    assert (found[height // 2, width // 4] == 200).all()
    car = 0.45 * 200 + 0.55 * np.array(PALETTE[13])
    assert np.abs(found[height // 2, 3 * width // 4] - car).max() <= 1
    assert (contact_sheet._overlaid(Sample("x", image, None)) == 200).all()


def test_a_sites_parts_are_drawn_one_below_the_other(tmp_path):
    report = check_site(SceneData("night", source_images=5, target_images=5, evaluation_images=2), tmp_path, quiet)
    contact_sheet.write(report.parts, tmp_path / "sheet.png")
    height, width = cv2.imread(str(tmp_path / "sheet.png")).shape[:2]
    assert 0.4 * width < height < width


def test_an_unlabelled_part_has_no_legend(data_set, tmp_path):
    root = data_set("folder", number=4)
    for labelled in (True, False):
        contact_sheet.write([look(root, labelled=labelled)], tmp_path / f"{labelled}.png")
    tall, short = (cv2.imread(str(tmp_path / f"{labelled}.png")).shape[0] for labelled in (True, False))
    assert tall > short + 50


def test_what_cannot_be_drawn_is_refused(data_set, tmp_path):
    root = data_set("folder")
    with pytest.raises(ConfigurationError, match=r"no picture can be written to sheet\.xyz"):
        contact_sheet.write([look(root)], tmp_path / "sheet.xyz")
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image to draw"):
        contact_sheet.write([look(root)], tmp_path / "sheet.png")
