"""``[data]`` of ``site.toml``: scenes as ever, or folders."""

from __future__ import annotations

import pytest

from client.data.settings import FolderData, ImageFolder, RareClasses, SceneData
from client.settings import SiteSettings
from protos import settings
from protos.errors import ConfigurationError

HEAD = 'name = "fog"\n[superlink]\naddress = "localhost:1"\n'
FOLDERS = """
[data]
crop = 1024
[data.source]
layout = "gta"
folder = "/data/gta"
[data.target]
layout = "acdc"
folder = "images"
split = "fog/train"
resize = [1920, 1080]
"""


@pytest.fixture
def load(tmp_path):
    def read(text: str):
        (tmp_path / "site.toml").write_text(HEAD + text)
        return settings.load(tmp_path / "site.toml", SiteSettings).data

    return read


def test_scenes_are_as_simple_as_ever(load):
    assert load('[data]\ndomain = "night"\n') == SceneData("night")
    assert load('[data]\ndomain = "night"\nseed = 3\nheight = 32\n') == SceneData("night", 3, height=32)


def test_folders_are_read(load):
    assert load(FOLDERS) == FolderData(
        ImageFolder("gta", "/data/gta"), ImageFolder("acdc", "images", "fog/train", (1920, 1080)), crop=1024
    )
    more = '[data.evaluation]\nlayout = "folder"\nfolder = "x"\n[data.rare_classes]\non = false\n'
    found = load(FOLDERS + more)
    assert found.evaluation == ImageFolder("folder", "x")
    assert found.rare_classes == RareClasses(on=False)


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("[data]\ndomian = 'night'\n", "data: unknown key domian", "did you mean domain?"),
        (FOLDERS + "[data.sourc]\nlayout = 'gta'\n", "data: unknown key sourc", "did you mean source?"),
        (FOLDERS + "splitt = 'a'\n", "data: target: unknown key splitt", "did you mean split?"),
        (FOLDERS.replace("gta", "gtaa"), "data: source: there is no layout 'gtaa'", "did you mean gta?"),
        (FOLDERS.replace("acdc", "dark-zurich"), "no layout 'dark-zurich'", "did you mean dark_zurich?"),
        (FOLDERS.replace("split =", "# "), "the layout acdc needs a split", 'add split = "train"'),
        (FOLDERS.replace("[1920, 1080]", "[1920]"), "resize = [1920] is no size", "width and height"),
        (FOLDERS.replace("[1920, 1080]", "[1920, 800]"), "is smaller than crop = 1024", "crop less"),
        (FOLDERS.replace("1024", "0"), "crop = 0 is too small", "512 or 1024"),
        (FOLDERS + "[data.rare_classes]\ntemperature = 0.0\n", "temperature = 0.0 must be above 0", "0.01"),
        ("[data.source]\nlayout = 'gta'\nfolder = 'x'\n", "data: target is missing", "add it"),
        ("[data]\n", "data: domain is missing", "add it"),
    ],
)
def test_mistakes_are_named_with_what_to_do(load, text, what, fix):
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert what in caught.value.what
    assert "site.toml" in caught.value.what
    assert fix in caught.value.fix


def test_the_recipes_sizes_follow_the_crop():
    gta, city = ImageFolder("gta", "x"), ImageFolder("cityscapes", "x", "train")
    assert (gta.box(512), gta.box(1024)) == ((1280, 720), (2560, 1440))
    assert (city.box(512), city.box(1024)) == ((1024, 512), (2048, 1024))
    assert ImageFolder("synthia", "x").box(512) == (1280, 760)
    assert ImageFolder("folder", "x").box(512) is None
    assert ImageFolder("gta", "x", resize=(640, 360)).box(512) == (640, 360)


def test_the_recipes_crops_hold_so_much_of_a_rare_class():
    assert RareClasses().crop_ratio(512) == 0.5
    assert RareClasses().crop_ratio(1024) == 2
    assert RareClasses(min_crop_ratio=0.1).crop_ratio(512) == 0.1
