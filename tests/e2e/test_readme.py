"""The README's commands, run to the letter, but with less training and with ports that are free."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest
import tomli_w

from protos.digest import file_digest
from protos.programs import free_port
from protos.tensorfile import TensorFile

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
README = Path(__file__).parents[2] / "README.md"


def commands() -> list[str]:
    """Return the lines of the README's bash blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_commands_of_the_readme_lead_to_a_merged_model(tmp_path):
    fleet, control = free_port(), free_port()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    running, said = [], {}
    try:
        for line in commands():
            words = substituted(line.replace("9092", str(fleet)), tmp_path, environment).split()
            if words[1:3] == ["base", "train"]:
                words += ["--steps", "3", "--images", "8"]
            if words[1:3] == ["coordinator", "init"]:
                words += ["--control-port", str(control)]
            if words[-1] == "&":
                with (tmp_path / f"log{len(running)}").open("w") as log:
                    running.append(
                        subprocess.Popen(words[:-1], cwd=tmp_path, env=environment, stdout=log, stderr=log)
                    )
                if "superlink" in words:
                    wait_for(control)
                    wait_for(fleet)
                continue
            words = [found for word in words for found in expanded(word, tmp_path)]
            done = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            said[" ".join(words[1:3])] = done.stdout
            if words[1:3] == ["site", "init"]:
                shrink(tmp_path / words[3] / "site.toml")
        merged = tmp_path / "coordinator" / "campaigns" / "autumn" / "merged"
        for name in ("merged.safetensors", "README.md", "receipt.json", "report.json", "report.html"):
            assert (merged / name).exists()
        # Without compare_single_models no single model travels: only own ones are judged, each at home.
        report = json.loads((merged / "report.json").read_text())
        singles = {row["site"]: list(row["scores"]) for row in report["rows"] if row["kind"] == "single"}
        assert singles == {"north": ["north"], "south": ["south"]}
        assert "site north, campaign autumn: ready" in said["site status"]
        assert "accepted campaign autumn" in said["site join"]
        assert "bytes leave" in said["site preview"]
        with (
            TensorFile(merged / "merged.safetensors") as ours,
            TensorFile(tmp_path / "merged.safetensors") as theirs,
        ):
            assert file_digest(ours) == file_digest(theirs)
        assert (tmp_path / "sweep.png").stat().st_size > 1000
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(30)
    time.sleep(0.5)
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert not left


def test_the_files_that_the_readme_links_to_are_there():
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", README.read_text()):
        assert (README.parent / link).exists(), link


def substituted(line: str, folder: Path, environment: dict[str, str]) -> str:
    """Do what the shell does with a command in a command."""

    def output(found: re.Match[str]) -> str:
        words = found.group(1).split()
        return subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=True
        ).stdout

    return re.sub(r"\$\((.*?)\)", lambda found: output(found).strip(), line)


def expanded(word: str, folder: Path) -> list[str]:
    """Do what the shell does with a pattern."""
    found = sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else []
    return found or [word]


def shrink(path: Path) -> None:
    settings = tomllib.loads(path.read_text())
    settings["data"].update(source_images=8, target_images=8, evaluation_images=2)
    settings["adapt"] = {"steps": 3}
    settings["resources"]["threads"] = 1
    path.write_text(tomli_w.dumps(settings))


def wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(port)
