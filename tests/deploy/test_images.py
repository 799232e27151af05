"""The Dockerfile: what it takes, who it runs as, and that its commands exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import click
import pytest

from coordinator.settings import CoordinatorSettings
from protos import keyfiles
from protos.addresses import Address

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
# What other programs than ours read.
READ_BY_OTHERS = {"PATH", "HOME", "USER", "LOGNAME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES"}
READ_BY_OTHERS |= {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}
READ_BY_OTHERS |= {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}


def instructions() -> list[tuple[str, str]]:
    """Return each instruction of the Dockerfile: its word, and the rest with continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line.strip()]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for word, rest in instructions():
        if word == "FROM":
            found[rest.split()[-1]] = []
        list(found.values())[-1].append((word, rest))
    return found


def test_every_base_is_an_argument_without_a_default_or_a_stage_before():
    found = stages()
    assert found[""] == [("ARG", "BASE_IMAGE")]
    bases = {name: body[0][1].split()[0] for name, body in found.items() if name}
    assert bases == {
        "tools": "${BASE_IMAGE}",
        "sources": "scratch",
        "build-coordinator": "tools",
        "torch": "tools",
        "build-site": "torch",
        "runtime": "${BASE_IMAGE}",
        "coordinator": "runtime",
        "site": "runtime",
    }


def test_pytorch_is_a_sites_alone():
    installs = {
        name: " ".join(rest for word, rest in body if word == "RUN" and "pip install" in rest)
        for name, body in stages().items()
    }
    assert "constraints.txt .;" in installs["build-coordinator"]
    assert "torch" not in installs["build-coordinator"]
    assert "constraints.txt torch;" in installs["torch"]
    assert "constraints.txt '.[site]';" in installs["build-site"]
    for role in ("coordinator", "site"):
        copies = [rest for word, rest in stages()[role] if word == "COPY"]
        assert copies == [f"--from=build-{role} /opt/onebasin /opt/onebasin"]


def test_nothing_names_a_place_on_the_network():
    words = [word for word, _ in instructions()]
    assert "ADD" not in words
    assert not re.search(r"https?://|\b(curl|wget|apt-get|git clone)\b", DOCKERFILE.read_text())
    indexes = [rest for word, rest in instructions() if word == "ARG" and "INDEX" in rest]
    assert set(indexes) == {"INDEX_URL=", "TORCH_INDEX_URL="}


def test_what_runs_is_not_root_and_brings_nothing_to_build_with():
    runtime = stages()["runtime"]
    assert ("USER", "10001:10001") in runtime
    assert not any(word == "RUN" for stage in ("runtime", "coordinator", "site") for word, _ in stages()[stage])
    assert not any(word == "COPY" for word, _ in runtime)
    users = [rest for stage in stages().values() for word, rest in stage if word == "USER"]
    assert users == ["10001:10001"]  # nobody turns root again


def test_versions_are_those_that_the_tests_ran_with():
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert installs
    for rest in installs:
        assert all("-c constraints.txt" in part for part in rest.split(";") if "pip install" in part)


@pytest.mark.parametrize("stage", ["coordinator", "site"])
def test_the_commands_of_an_image_exist(understood, stage):
    runtime, body = dict(stages()["runtime"]), dict(stages()[stage])
    assert json.loads(runtime["ENTRYPOINT"]) == ["onebasin"]
    understood(json.loads(body["CMD"]))
    check = json.loads(body["HEALTHCHECK"].partition("CMD ")[2])
    assert check[0] == "onebasin"
    understood(check[1:])
    with pytest.raises(click.UsageError):
        understood([*check[1:], "--no-such-option"])


def test_the_variables_of_the_images_are_read_by_somebody():
    (env,) = [rest for word, rest in stages()["runtime"] if word == "ENV"]
    names = {pair.partition("=")[0] for pair in env.split()}
    assert names <= READ_BY_OTHERS | {keyfiles.PASSPHRASE_FILE}


def test_the_port_is_the_one_that_a_coordinator_listens_on_by_itself(understood, tmp_path, onebasin_settings):
    settings = onebasin_settings(tmp_path / "made")
    port = Address.parse(settings.fleet_address).port
    assert dict(stages()["coordinator"])["EXPOSE"] == str(port)
    assert isinstance(settings, CoordinatorSettings)
    assert settings.control_port != port


@pytest.fixture
def onebasin_settings():
    """Make a coordinator with the command's own defaults, and return its settings."""
    from typer.testing import CliRunner

    from coordinator.home import Home
    from onebasin.cli import app

    def made(folder: Path) -> CoordinatorSettings:
        assert CliRunner().invoke(app, ["coordinator", "init", str(folder)]).exit_code == 0
        return Home.open(folder).settings

    return made


def test_the_builder_sees_only_what_is_copied():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = set()
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            copied |= {part.strip("/") for part in rest.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)


def test_wheels_are_carried_in_and_never_committed():
    ignored = (ROOT / "deploy" / "offline" / "wheels" / ".gitignore").read_text().splitlines()
    assert "*" in ignored


@pytest.mark.parametrize("name", ["collect", "install"])
def test_the_offline_scripts_are_sound_and_ask_no_network_to_install(name):
    path = ROOT / "deploy" / "offline" / name
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text()
    assert "set -euo pipefail" in text
    assert not re.search(r"https?://", text)
    if name == "install":
        assert "--isolated" in text
        assert "--no-index" in text


def test_the_installer_refuses_wheels_that_were_changed_on_the_way(tmp_path):
    (tmp_path / "some.whl").write_bytes(b"changed")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  some.whl\n")
    command = ["bash", str(ROOT / "deploy" / "offline" / "install"), str(tmp_path / "venv"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "some.whl" in done.stdout + done.stderr
    assert not (tmp_path / "venv").exists()
