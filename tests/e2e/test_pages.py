"""The commands of README and docs, typed as they stand, but with less training and with ports that are free."""

import json
import re
import shutil
import tomllib
import urllib.request
from pathlib import Path

import pytest
import tomli_w
import torch
from data_sets import make
from typed import Terminal, commands, wait_for

from client.models import build
from protos.digest import file_digest
from protos.programs import free_port
from protos.tensorfile import TensorFile

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = ("quick-start", "enrolment", "operations", "metrics", "page", "security-records", "data")
"""Those whose commands are typed where the README's have been, in this order."""
ELSEWHERE = {ROOT / "docs" / "regions.md"}
"""Those that have a test of their own."""
LISTENING = {
    "coordinator metrics": ("--address 127.0.0.1:{}", "/metrics", b"onebasin_up 1"),
    "site metrics": ("--address 127.0.0.1:{}", "/metrics", b"onebasin_up 1"),
    "coordinator serve": ("--port {}", "/login", b"Log in"),
}
"""Commands that stay: how they are told a port, what to ask them for, and what is in the answer."""


def test_the_commands_of_the_pages_lead_to_a_merged_model_and_around_it(tmp_path):
    with Terminal(tmp_path) as terminal:
        said = type_readme(terminal)
        check_merged(tmp_path, said)
        for page in PAGES:
            prepare(page, terminal)
            for line in commands(ROOT / "docs" / f"{page}.md"):
                if line not in said:
                    said[line] = type_there(page, terminal, line)


def type_readme(terminal: Terminal) -> dict[str, str]:
    """Type the README's commands, and return what each printed."""
    fleet, control, said = free_port(), free_port(), {}
    for command in commands(README):
        line, words = command.replace("9092", str(fleet)), command.split()
        if words[1:3] == ["base", "train"]:
            line += " --steps 3 --images 8"
        if words[1:3] == ["coordinator", "init"]:
            line += f" --control-port {control}"
        said[command] = terminal.type(line)
        if "superlink" in words:
            wait_for(control)
            wait_for(fleet)
        if words[1:3] == ["site", "init"]:
            shrink(terminal.folder / words[3] / "site.toml")
    return said


def check_merged(folder: Path, said: dict[str, str]) -> None:
    """Look at what the README's commands left."""
    merged = folder / "coordinator" / "campaigns" / "autumn" / "merged"
    for name in ("merged.safetensors", "README.md", "receipt.json", "report.json", "report.html"):
        assert (merged / name).exists()
    # Without compare_single_models no single model travels: only own ones are judged, each at home.
    report = json.loads((merged / "report.json").read_text())
    singles = {row["site"]: list(row["scores"]) for row in report["rows"] if row["kind"] == "single"}
    assert singles == {"north": ["north"], "south": ["south"]}
    assert "site north, campaign autumn: ready" in said["onebasin site status north"]
    assert "bytes leave" in said["onebasin site preview north"]
    assert all("accepted campaign autumn" in text for line, text in said.items() if "site join" in line)
    with TensorFile(merged / "merged.safetensors") as ours, TensorFile(folder / "merged.safetensors") as theirs:
        assert file_digest(ours) == file_digest(theirs)
    assert (folder / "sweep.png").stat().st_size > 1000


def prepare(page: str, terminal: Terminal) -> None:
    """Lay down what a page takes to be there."""
    folder = terminal.folder
    campaign = folder / "coordinator" / "campaigns" / "autumn"
    if page == "page":
        for name, key in (("chain.pem", "server.pem"), ("key.pem", "server.key")):
            shutil.copy(folder / "coordinator" / "keys" / key, folder / name)
    if page == "security-records":
        shutil.copytree(campaign / "merged", folder / page)
        shutil.copy(campaign / "campaign.binpb", folder / page)
        for name in ("coordinator", "north", "south", "base.safetensors"):
            (folder / page / name).symlink_to(folder / name)
        for name in ("north", "south"):
            terminal.type(f"cd {page} && onebasin site export {name} -o {name}.safetensors")
    if page == "data":
        make(folder / "data" / "gta", "gta")
        for layout in ("acdc", "cityscapes"):
            make(folder / "data" / layout, layout, "val")
        shutil.copy(folder / "data" / "gta" / "images" / "000.png", folder / "street.png")
        network = build("segformer-mitb0", 19)
        torch.save(network.backbone.state_dict(), folder / "mit_b0.pth")
        copies = {copy: network.state_dict() for copy in ("model", "ema_model")}
        state = {f"{copy}.{name}": tensor for copy, one in copies.items() for name, tensor in one.items()}
        torch.save({"state_dict": state}, folder / "checkpoint.pth")


def type_there(page: str, terminal: Terminal, line: str) -> str:
    """Type a line of a page where what it speaks of is."""
    if page == "security-records":
        return terminal.type(f"cd {page} && {line}")
    if page == "data":
        less = " --steps 1 --crop 64 --workers 0" if " base train " in line else ""
        return terminal.type(line.replace("/data/", f"{terminal.folder}/data/") + less)
    stays = LISTENING.get(" ".join(line.split()[1:3]))
    if not stays or {"--once", "--textfile"} & set(line.split()):
        return terminal.type(line)
    option, path, expected = stays
    port = free_port()
    terminal.type(f"{line} {option.format(port)} &")
    wait_for(port)
    if "--certificate" not in line:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            assert expected in answer.read()
    return ""


def test_no_page_has_commands_that_nobody_types():
    pages = {page for page in (*ROOT.glob("*.md"), *ROOT.glob("[!.]*/**/*.md")) if commands(page)}
    assert pages == {README, *(ROOT / "docs" / f"{page}.md" for page in PAGES), *ELSEWHERE}


def test_the_files_that_the_readme_links_to_are_there():
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", README.read_text()):
        assert (README.parent / link).exists(), link


def shrink(path: Path) -> None:
    settings = tomllib.loads(path.read_text())
    settings["data"].update(source_images=8, target_images=8, evaluation_images=2)
    settings["adapt"] = {"steps": 3}
    settings["resources"]["threads"] = 1
    path.write_text(tomli_w.dumps(settings))
