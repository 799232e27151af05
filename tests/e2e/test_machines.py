"""docs/quick-start.md, "Two machines": typed as it stands, each role in a folder of its own, with images in files.

From one folder to another goes only what people carry: requests, welcomes, the base, and what they read out.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from contextlib import ExitStack
from pathlib import Path

import pytest
import tomli_w
from data_sets import make
from typed import Terminal, blocks, wait_for

from protos.programs import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "quick-start.md"
SITES = ("north", "south")
FINGERPRINT = "ABCD-EFGH-IJKL-MNOP-QRST"
DIGEST = "0123456789abcdef0123"


def chapter() -> list[list[str]]:
    """Return the blocks: making the coordinator, a site; approving, joining, running."""
    (text,) = re.findall(r"^## Two machines\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return blocks(text, "sh")


def name_images(folder: Path, images: Path) -> None:
    """Say where a site's images are, as its operator does; and that three steps are enough."""
    path = folder / "site.toml"
    settings = tomllib.loads(path.read_text())
    settings["data"] = {
        "crop": 32,
        "workers": 0,
        "rare_classes": {"on": False},  # such small images have few pixels of any class
        "source": {"layout": "gta", "folder": str(images / "gta")},
        "target": {"layout": "cityscapes", "folder": str(images / "cityscapes"), "split": "train"},
        "evaluation": {"layout": "cityscapes", "folder": str(images / "cityscapes"), "split": "val"},
    }
    settings["adapt"] = {"steps": 3}
    settings["resources"] = {"device": "cpu", "threads": 1}
    path.write_text(tomli_w.dumps(settings))


def test_the_commands_for_machines_of_their_own_lead_to_a_merged_model(tmp_path):
    making, site_making, approving, joining, running = chapter()
    images = tmp_path / "images"
    make(images / "gta", "gta")
    for split in ("train", "val"):
        make(images / "cityscapes", "cityscapes", split)
    fleet, control = free_port(), free_port()

    with ExitStack() as stack:
        desks = {}
        for name in ("merge", *SITES):
            (tmp_path / name).mkdir()
            desks[name] = stack.enter_context(Terminal(tmp_path / name))
        merge = desks["merge"]
        merge.type("onebasin base train --output base.safetensors --steps 3 --images 8 --no-cache")

        # merge.example is this machine, on which the usual ports may be in use.
        ports = f" --listen 127.0.0.1:{fleet} --control-port {control}"
        for line in making:
            more = ports if " init " in line else ""
            coordinator = merge.type(line.replace("merge.example", "localhost") + more).strip()

        fingerprints = {}
        for name in SITES:
            for line in site_making:
                if "check-data" in line:
                    name_images(tmp_path / name / name, images)
                fingerprints[name] = desks[name].type(line.replace("north", name)).strip()
            shutil.copy(tmp_path / name / name / "request.json", tmp_path / "merge" / f"request-{name}.json")

        approve, *others = approving
        for name in SITES:
            line = approve.replace("request.json", f"request-{name}.json")
            merge.type(line.replace(FINGERPRINT, fingerprints[name]))
        for line in others:
            merge.type(line)
        wait_for(fleet)
        wait_for(control)

        digest = merge.type("onebasin coordinator digest coordinator autumn").strip()
        for name in SITES:
            shutil.copy(tmp_path / "merge" / "coordinator" / "sites" / name / "welcome.json", tmp_path / name)
            shutil.copy(tmp_path / "merge" / "base.safetensors", tmp_path / name)
            for line in joining:
                typed = line.replace("north", name).replace(FINGERPRINT, coordinator).replace(DIGEST, digest[:20])
                shown = desks[name].type(typed)
                assert digest in shown or " show " not in line
        for line in running:
            merge.type(line)

    merged = tmp_path / "merge" / "coordinator" / "campaigns" / "autumn" / "merged"
    report = json.loads((merged / "report.json").read_text())
    (row,) = [row for row in report["rows"] if row["kind"] == "pooled-buffers"]
    assert set(row["scores"]) == set(SITES)
