"""``onebasin site check-data``: what it prints, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from client.data.scenes import render
from client.site import Site
from protos.errors import ConfigurationError, DataError


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four labelled images, named as one's own."""
    root = tmp_path / "own"
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for at in range(4):
        scene = render("clear", 0, at, (32, 64))
        cv2.imwrite(str(root / f"images/{at}.png"), scene.image[..., ::-1])
        cv2.imwrite(str(root / f"labels/{at}.png"), scene.labels)
    return root


@pytest.fixture
def site(tmp_path, folder) -> Site:
    made = Site.init(tmp_path / "north", "north", address="localhost:1", domain="night")
    text = made.settings_path.read_text()
    parts = "".join(
        f'[data.{name}]\nlayout = "folder"\nfolder = "../own"\n' for name in ("source", "target", "evaluation")
    )
    rare = "[data.rare_classes]\nmin_pixels = 20\n"
    made.settings_path.write_text(text.replace('domain = "night"\n', f"crop = 32\n{parts}{rare}"))
    return Site.open(made.folder)


def test_a_sites_data_are_ready(onebasin, site):
    code, out, err = onebasin("site", "check-data", site.folder)
    assert code == 0, err
    assert "Nothing must be fixed." in out
    assert "4 of 4 images are adapted on and judged on" in out
    assert list((site.folder / "statistics").glob("*.safetensors"))


def test_a_sites_scenes_are_ready(onebasin, tmp_path):
    made = Site.init(tmp_path / "south", "south", address="localhost:1", domain="night")
    with made.settings_path.open("a") as file:
        file.write("[data.unused]\n")
    code, _, err = onebasin("site", "check-data", made.folder)
    assert code == ConfigurationError.exit_code
    assert "unknown key unused" in err
    text = made.settings_path.read_text().replace("[data.unused]\n", "")
    sizes = "source_images = 3\ntarget_images = 3\nevaluation_images = 3\n"
    made.settings_path.write_text(text.replace('domain = "night"\n', f'domain = "night"\n{sizes}'))
    code, out, _ = onebasin("site", "check-data", made.folder, "--json")
    assert code == 0
    assert [part["layout"] for part in json.loads(out)["parts"]] == ["scenes"] * 3


def test_bad_data_end_with_the_code_of_data(onebasin, site, folder):
    (folder / "labels/1.png").unlink()
    (folder / "images/2.png").write_bytes((folder / "images/2.png").read_bytes()[:99])
    code, out, err = onebasin("site", "check-data", site.folder)
    assert code == DataError.exit_code == 12
    assert err.startswith("error: the data are not ready")
    assert "Traceback" not in out + err
    assert "has no labels" in out
    assert "2.png is cut short" in out
    assert "how to fix" in out


def test_one_data_set_is_looked_at_without_a_site(onebasin, folder, tmp_path):
    sheet = tmp_path / "sheet.png"
    options = ("--layout", "folder", "--folder", folder, "--json", "--contact-sheet", sheet)
    code, out, err = onebasin("site", "check-data", *options)
    assert code == 0
    found = json.loads(out)
    assert found["ok"]
    assert found["parts"][0]["classes"]["road"]["images"] == 4
    assert "contact sheet" in err
    assert cv2.imread(str(sheet)).shape[2] == 3


def test_json_says_what_is_wrong_and_the_code_too(onebasin, folder):
    cv2.imwrite(str(folder / "labels/0.png"), np.full((32, 64), 77, np.uint8))
    code, out, _ = onebasin("site", "check-data", "--layout", "folder", "--folder", folder, "--json")
    assert code == DataError.exit_code
    found = json.loads(out)
    assert not found["ok"]
    (finding,) = [f for f in found["findings"] if f["level"] == "error"]
    assert "77: 2,048 pixels" in finding["what"]
    assert finding["files"] == [str(folder / "labels/0.png")]


def test_unlabelled_needs_no_labels(onebasin, folder):
    for path in (folder / "labels").iterdir():
        path.unlink()
    (folder / "labels").rmdir()
    options = ("--layout", "folder", "--folder", folder)
    assert onebasin("site", "check-data", *options)[0] == DataError.exit_code
    assert onebasin("site", "check-data", *options, "--unlabelled")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name either a site's folder or a data set"),
        (("here", "--layout", "gta"), "name either a site's folder or a data set"),
        (("--layout", "gta"), "has a layout and a folder"),
        (("--layout", "gtaa", "--folder", "x"), "did you mean gta?"),
        (("--layout", "cityscapes", "--folder", "x"), 'add split = "train"'),
    ],
)
def test_wrong_arguments_are_named(onebasin, arguments, said):
    code, _, err = onebasin("site", "check-data", *arguments)
    assert code == ConfigurationError.exit_code
    assert said in err
