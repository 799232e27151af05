"""What is missing or misnamed is said, with the nearest thing; a target's labels are never looked for."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from client.data.listing import UnlabelledFiles, labelled, pairs, unlabelled
from client.data.settings import ImageFolder
from protos.errors import DataError


def gta(root: Path) -> ImageFolder:
    return ImageFolder("gta", str(root))


def refused(part: ImageFolder) -> DataError:
    with pytest.raises(DataError) as caught:
        labelled(part, Path())
    return caught.value


def test_a_relative_folder_is_below_the_sites(data_set, tmp_path):
    data_set("gta")
    assert len(unlabelled(ImageFolder("gta", "gta"), tmp_path)) == 3


def test_a_missing_folder_suggests_the_nearest(data_set, tmp_path):
    data_set("gta")
    error = refused(gta(tmp_path / "gtaa"))
    assert error.what == f"there is no folder {tmp_path / 'gtaa'}"
    assert error.fix == f"did you mean {tmp_path / 'gta'}?"
    assert "has gta" in refused(gta(tmp_path / "elsewhere" / "deep")).fix


def test_a_misnamed_folder_of_images_suggests_its_name(data_set):
    root = data_set("gta")
    (root / "images").rename(root / "Image")
    error = refused(gta(root))
    assert error.what == f"{root} has no images/"
    assert error.fix == f"rename {root / 'Image'} to images"


def test_a_folder_of_another_layout_is_recognised(data_set):
    error = refused(gta(data_set("cityscapes", "val")))
    assert error.fix == "its folders look like the layout cityscapes or idd"


def test_the_folder_above_or_below_is_suggested(data_set, tmp_path):
    root = data_set("gta")
    assert refused(gta(tmp_path)).fix == f"did you mean {root}?"
    assert refused(gta(root / "images")).fix == f"name the folder above: {root}"


def test_a_missing_split_suggests_the_nearest(data_set):
    root = data_set("cityscapes", "val")
    error = refused(ImageFolder("cityscapes", str(root), "valid"))
    assert "has no split 'valid'" in error.what
    assert error.fix == f"did you mean {root / 'leftImg8bit' / 'val'}?"


def test_a_split_where_there_are_none_is_refused(data_set):
    assert refused(ImageFolder("gta", str(data_set("gta")), "train")).fix == "leave split out"


def test_a_split_cannot_lead_out_of_the_data_set():
    from protos.errors import ConfigurationError

    for split in ("../other", "/etc"):
        with pytest.raises(ConfigurationError, match="leads out"):
            ImageFolder("cityscapes", "x", split)


def test_no_images_says_which_files_there_are(data_set):
    root = data_set("gta")
    for path in (root / "images").iterdir():
        path.rename(path.with_suffix(".bmp"))
    error = refused(gta(root))
    assert "there are no images in" in error.what
    assert error.fix == "their names end in .png, .jpg, .jpeg; here are files that end in .bmp"


def test_a_missing_folder_of_labels_is_named(data_set):
    root = data_set("gta")
    shutil.move(root / "labels", root / "label")
    error = refused(gta(root))
    assert error.what == f"{root} has no labels/"
    assert error.fix == f"rename {root / 'label'} to labels"


def test_an_image_without_labels_is_named_with_what_is_looked_for(data_set):
    root = data_set("cityscapes", "val")
    (root / "gtFine/val/ulm/ulm_001_gtFine_labelIds.png").unlink()
    error = refused(ImageFolder("cityscapes", str(root), "val"))
    assert "ulm_001_leftImg8bit.png has no labels" in error.what
    assert "ulm_001_gtFine_labelTrainIds.png or ulm_001_gtFine_labelIds.png" in error.fix


def test_a_misnamed_label_map_is_suggested(data_set):
    root = data_set("folder")
    (root / "labels/001.png").rename(root / "labels/001-gt.png")
    part = ImageFolder("folder", str(root))
    assert "001-gt.png has no image: is it misnamed?" in refused(part).fix
    found = pairs(part, Path())
    assert [path.name for path in found.bare] == ["001.png"]
    assert [path.name for path in found.stray] == ["001-gt.png"]
    assert found.files is not None
    assert len(found.files) == 2


def test_links_are_followed_once_and_hidden_files_left_out(data_set, tmp_path):
    root = data_set("folder")
    (root / "images/._000.png").write_bytes(b"junk")
    (root / "images/again").symlink_to(root / "images")
    (tmp_path / "linked").symlink_to(root)
    assert len(unlabelled(ImageFolder("folder", str(tmp_path / "linked")), Path())) == 3


def test_unlabelled_files_have_nowhere_to_keep_labels():
    assert [field.name for field in dataclasses.fields(UnlabelledFiles)] == ["root", "images"]


def test_a_targets_labels_are_never_looked_for(data_set, monkeypatch):
    root = data_set("cityscapes", "train")
    looked: list[str] = []

    def spied(real):
        def spy(path=".", *arguments, **options):
            looked.append(str(path))
            return real(path, *arguments, **options)

        return spy

    for name in ("scandir", "listdir", "stat", "lstat", "open"):
        monkeypatch.setattr(os, name, spied(getattr(os, name)))
    found = unlabelled(ImageFolder("cityscapes", str(root), "train"), Path())
    found.fingerprint()
    assert any("leftImg8bit" in path for path in looked)
    assert not [path for path in looked if "gtFine" in path]


def test_labels_of_a_target_change_nothing(data_set, sets):
    root = data_set("cityscapes", "train")
    part = ImageFolder("cityscapes", str(root), "train")
    before = unlabelled(part, Path())
    print_before = before.fingerprint()
    for path in (root / "gtFine").rglob("*.png"):
        sets.write(path, np.full((4, 4), 77, np.uint8))
    assert unlabelled(part, Path()) == before
    assert before.fingerprint() == print_before
    shutil.rmtree(root / "gtFine")
    assert unlabelled(part, Path()) == before


def test_the_fingerprint_follows_the_files_not_the_place(data_set, tmp_path):
    root = data_set("gta")
    found = labelled(gta(root), Path())
    shutil.copytree(root, tmp_path / "copy")
    copied = labelled(gta(tmp_path / "copy"), Path())
    assert copied.fingerprint() == found.fingerprint()
    (tmp_path / "copy/images/000.png").write_bytes(b"longer or shorter")
    assert copied.fingerprint() != found.fingerprint()
    before = found.labels_fingerprint()
    os.utime(root / "labels/000.png", ns=(1, 1))
    assert found.labels_fingerprint() != before
