"""What a look at good data and at bad data says."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from client.data import statistics
from client.data.check_text import as_text
from client.data.checking import Use, check_folder, check_site
from client.data.findings import Finding, Report
from client.data.opening import open_feed
from client.data.settings import FolderData, ImageFolder, RareClasses, SceneData
from protos.printing import show


def quiet(part: str, done: int, of: int) -> None:
    pass


@pytest.fixture
def settings(data_set):
    city = str(data_set("cityscapes", "train", number=4))
    data_set("cityscapes", "val", number=2)
    return FolderData(
        ImageFolder("gta", str(data_set("gta", number=12)), resize=(80, 40)),
        ImageFolder("cityscapes", city, "train", (64, 32)),
        ImageFolder("cityscapes", city, "val"),
        crop=32,
        rare_classes=RareClasses(min_pixels=20),
    )


def look(part: ImageFolder, *, labelled: bool = True, crop: int = 0) -> Report:
    return Report((check_folder(part, Path(), Use("source", labelled, crop), quiet),))


def only(report: Report, level: str = "error") -> Finding:
    (found,) = [finding for finding in report.findings if finding.level == level]
    return found


def test_good_folders_have_nothing_to_be_fixed(settings, tmp_path):
    report = check_site(settings, tmp_path, quiet)
    assert report.errors == 0
    source, target, evaluation = report.parts
    assert (source.images, target.images, evaluation.images) == (12, 4, 2)
    assert source.sizes == {"64 × 32": 12}
    assert source.codings == {"Cityscapes ids": 12}
    assert source.trains_at == "80 × 40, of which 32 × 32 at a time"
    assert source.shares.sum() == pytest.approx(1)
    assert source.chances.sum() == pytest.approx(1)
    assert target.counts is None
    assert not target.codings


def test_the_classes_that_were_counted_need_not_be_counted_again(settings, tmp_path, monkeypatch):
    check_site(settings, tmp_path, quiet)
    monkeypatch.setattr(statistics, "read_labels", lambda *_: pytest.fail("counted again"))
    open_feed(settings, tmp_path, batch=2, seed=0)


def test_progress_is_said(settings, tmp_path):
    said = []
    check_site(settings, tmp_path, lambda *arguments: said.append(arguments))
    assert ("source", 12, 12) in said
    assert ("target", 4, 4) in said
    assert len(said) == 18


def test_a_targets_labels_are_not_looked_at(settings, tmp_path):
    root = Path(settings.target.folder)
    for path in (root / "gtFine/train").rglob("*.png"):
        path.write_bytes(b"no labels at all")
    assert check_site(settings, tmp_path, quiet).errors == 0
    shutil.rmtree(root / "gtFine/train")
    assert check_site(settings, tmp_path, quiet).errors == 0


def test_scenes_are_looked_at_too(tmp_path):
    data = SceneData("night", source_images=4, target_images=3, evaluation_images=2)
    report = check_site(data, tmp_path, quiet)
    assert report.errors == 0
    assert [part.images for part in report.parts] == [4, 3, 2]
    assert [part.labelled for part in report.parts] == [True, False, True]
    assert all(len(part.samples(2)) == 2 for part in report.parts)


def test_a_missing_folder_is_a_finding(settings, tmp_path):
    gone = dataclasses.replace(settings.source, folder=str(tmp_path / "gtta"))
    report = check_site(dataclasses.replace(settings, source=gone), tmp_path, quiet)
    found = only(report)
    assert found.part == "source"
    assert "there is no folder" in found.what
    assert found.fix == f"did you mean {tmp_path / 'gta'}?"
    assert report.parts[1].images == 4


def test_images_without_labels_are_listed(data_set):
    root = data_set("folder")
    (root / "labels/000.png").unlink()
    (root / "labels/001.png").rename(root / "labels/01.png")
    report = look(ImageFolder("folder", str(root)))
    found = only(report)
    assert found.what == "2 images have no labels"
    assert report.parts[0].images == 3
    assert [Path(name).name for name in found.files] == ["000.png", "001.png"]
    assert "01.png has no image" in found.fix
    assert "1 label map has no image" in [finding.what for finding in report.findings]


def test_unknown_ids_say_which_where_and_how_many(data_set, sets):
    root = data_set("folder")
    labels = np.zeros(sets.SIZE, np.uint8)
    labels[0, :5] = 33
    sets.write(root / "labels/000.png", labels)
    labels[1, :2] = 26
    sets.write(root / "labels/002.png", labels)
    found = only(look(ImageFolder("folder", str(root))))
    assert "unknown label ids in 2 files" in found.what
    assert f"33: 10 pixels in 2 files, first {root / 'labels/000.png'}" in found.what
    assert f"26: 2 pixels in 1 file, first {root / 'labels/002.png'}" in found.what
    assert "train ids (0…18, or 255" in found.fix


def test_damaged_files_are_listed_and_the_rest_is_looked_at(data_set):
    root = data_set("folder", number=6)
    for at in range(2):
        path = root / f"images/{at:03}.png"
        path.write_bytes(path.read_bytes()[:300])
    report = look(ImageFolder("folder", str(root)))
    found = only(report)
    assert found.what.startswith("2 images can't be read")
    assert found.files == tuple(str(root / f"images/{at:03}.png") for at in range(2))
    assert report.parts[0].counts.shape == (4, 19)


def test_a_label_map_of_another_size_is_named(data_set, sets):
    root = data_set("folder")
    sets.write(root / "labels/001.png", np.zeros((32, 60), np.uint8))
    found = only(look(ImageFolder("folder", str(root))))
    assert "001.png is 60 × 32, its image 64 × 32" in found.what


def test_coloured_labels_are_recognised(data_set, sets):
    root = data_set("folder", number=1)
    sets.write(root / "labels/000.png", np.zeros((*sets.SIZE, 3), np.uint8))
    assert "coloured picture" in only(look(ImageFolder("folder", str(root)))).fix


def test_labels_that_say_nothing_are_an_error(data_set, sets):
    root = data_set("folder")
    for at in range(3):
        sets.write(root / f"labels/{at:03}.png", np.full(sets.SIZE, 255, np.uint8))
    assert "all labels are 255" in only(look(ImageFolder("folder", str(root)))).what


def test_absent_classes_are_named_and_those_that_cannot_be_there_apart(data_set, sets):
    root = data_set("synthia", number=1)
    sets.write(root / "GT/LABELS/000_labelTrainIds.png", np.zeros(sets.SIZE, np.uint8))
    found = only(look(ImageFolder("synthia", str(root))), "warning")
    assert found.what.startswith("no pixel is: sidewalk, building")
    (root / "GT/LABELS/000_labelTrainIds.png").unlink()
    note = only(look(ImageFolder("synthia", str(root))), "note")
    assert note.what == "this data set doesn't label: terrain, truck, train"


def test_small_images_and_rare_classes_are_warned_of(settings, tmp_path):
    part = ImageFolder("folder", str(tmp_path / "folder"))
    shutil.copytree(Path(settings.source.folder) / "images", tmp_path / "folder/images")
    report = look(part, labelled=False, crop=40)
    assert "12 images are smaller than the crop of 40 × 40" in only(report, "warning").what
    few = dataclasses.replace(settings, rare_classes=RareClasses(min_pixels=200))
    assert "no image has more than 200 pixels of:" in only(check_site(few, tmp_path, quiet), "warning").what
    none = dataclasses.replace(settings, rare_classes=RareClasses(min_pixels=30_000))
    assert "30,000 pixels of any class" in only(check_site(none, tmp_path, quiet)).what


def test_judging_on_what_was_adapted_on_is_warned_of(settings, tmp_path):
    same = dataclasses.replace(settings, evaluation=dataclasses.replace(settings.evaluation, split="train"))
    found = only(check_site(same, tmp_path, quiet), "warning")
    assert found.what == "4 of 4 images are adapted on and judged on"


def test_a_site_without_held_out_images_is_told(settings, tmp_path):
    report = check_site(dataclasses.replace(settings, evaluation=None), tmp_path, quiet)
    assert only(report, "note").what == "there are no held-out images"
    assert report.errors == 0


def test_a_report_is_json_and_text(settings, tmp_path, capsys):
    report = check_site(settings, tmp_path, quiet)
    found = json.loads(json.dumps(report.as_json()))
    assert found["ok"] is True
    road = found["parts"][0]["classes"]["road"]
    assert road["images"] == 12
    assert 0 < road["share"] < 1
    assert "classes" not in found["parts"][1]
    show(as_text(report))
    printed = capsys.readouterr().out
    for words in ("source", "80 × 40", "motorcycle", "none used", "Nothing must be fixed."):
        assert words in printed


def test_a_lot_of_files_are_not_all_printed(data_set, capsys):
    root = data_set("folder", number=6)
    shutil.rmtree(root / "labels")
    (root / "labels").mkdir()
    report = look(ImageFolder("folder", str(root)))
    show(as_text(report))
    printed = capsys.readouterr().out
    assert "6 images have no labels" in printed
    assert "… 3 more" in printed
    assert "1 thing must be fixed." in printed


def test_opencvs_threads_are_put_back(data_set):
    before = cv2.getNumThreads()
    look(ImageFolder("folder", str(data_set("folder"))))
    assert cv2.getNumThreads() == before
