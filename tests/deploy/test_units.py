"""The systemd units: verified, confined, and that their commands exist."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from client.settings import ASKED, SCHEDULED
from protos import errors, keyfiles

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(path.name for path in [*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")])
SERVICES = [name for name in UNITS if name.endswith(".service")]
PROGRAMS = [name for name in SERVICES if name != "onebasin-adapt-end.service"]
PROGRAM = "/opt/onebasin/bin/onebasin"
WORST = 2.0
"""The exposure level that `systemd-analyze security` may find in what runs our code, of 10."""


def settings(name: str) -> list[tuple[str, str]]:
    """Return a unit's settings in order; a key may occur more than once."""
    lines = (FOLDER / name).read_text().splitlines()
    return [tuple(line.split("=", 1)) for line in lines if line and line[0] not in "#["]


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not on this machine: units are not verified")
    return subprocess.run([program, *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The units as they would be installed, with a program that exists: systemd looks whether it does."""
    folder = tmp_path_factory.mktemp("units")
    for name in UNITS:
        (folder / name).write_text((FOLDER / name).read_text().replace(PROGRAM, "/bin/true"))
    return folder


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_a_unit(installed, name):
    instance = name.replace("@.", "@autumn.")
    if instance != name:
        (installed / instance).write_text((installed / name).read_text())
    done = systemd_analyze("verify", "--man=no", str(installed / instance))
    mine = [line for line in done.stderr.splitlines() if "onebasin" in line]
    assert not mine
    assert done.returncode == 0


def test_a_unit_that_is_wrong_would_be_found(installed, tmp_path):
    path = tmp_path / "onebasin-wrong.service"
    path.write_text(
        (installed / "onebasin-superlink.service").read_text().replace("ProtectSystem=strict", "Protect=1")
    )
    done = systemd_analyze("verify", "--man=no", str(path))
    assert "Protect" in done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_unit_exposes_little(installed, name):
    done = systemd_analyze("security", "--offline=true", "--no-pager", str(installed / name))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze knows no --offline: units are not judged")
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= WORST, done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_unit_is_confined_limited_and_not_roots(name):
    found = dict(settings(name))
    assert found["User"] == found["Group"] == "onebasin"
    assert found["NoNewPrivileges"] == found["PrivateTmp"] == "yes"
    assert found["ProtectSystem"] == "strict"
    assert found["CapabilityBoundingSet"] == ""
    assert (found["StateDirectory"], found["StateDirectoryMode"], found["UMask"]) == ("onebasin", "0700", "0077")
    for limit in ("MemoryMax", "CPUQuota", "TasksMax"):
        assert found[limit]
    assert "MemoryDenyWriteExecute" not in found  # PyTorch writes code and runs it


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_commands_of_a_unit_exist(understood, name):
    commands = [value for key, value in settings(name) if key.startswith("Exec")]
    assert commands
    for command in commands:
        program, *arguments = command.split()
        assert program == PROGRAM
        understood([word.replace("%I", "autumn").replace("%i", "autumn") for word in arguments])
        folders = [word for word in arguments if word.startswith("/")]
        assert all(folder.startswith("/var/lib/onebasin/") for folder in folders)  # the only place it may write to
        assert folders


def test_exit_codes_in_the_units_are_documented_ones():
    def codes(kind: type) -> set[int]:
        return {kind.exit_code}.union(*(codes(below) for below in kind.__subclasses__()))

    known = {str(code) for code in codes(errors.OnebasinError) | {2, 130}} | {"143"}
    for name in SERVICES:
        for key, value in settings(name):
            if key.endswith("ExitStatus"):
                assert {word for word in value.split() if word.isdigit()} <= known, f"{name}: {key}"


def test_every_variable_is_read_by_somebody():
    known = {"HOME", "MPLCONFIGDIR", "PYTHONUNBUFFERED", "CUDA_VISIBLE_DEVICES", keyfiles.PASSPHRASE_FILE}
    for path in FOLDER.iterdir():
        for line in path.read_text().splitlines():
            if line.startswith("Environment="):
                assert {word.partition("=")[0] for word in line.removeprefix("Environment=").split()} <= known


def test_the_night_begins_and_ends():
    assert ("Conflicts", "onebasin-adapt.service") in settings("onebasin-adapt-end.service")
    starts = dict(settings("onebasin-adapt.timer"))["OnCalendar"]
    end = dict(settings("onebasin-adapt-end.timer"))["OnCalendar"]
    hours = [int(hour) for hour in re.search(r"[\d,]+(?=:00:00)", starts)[0].split(",")]
    last = int(re.search(r"(\d\d):00:00", end)[1])
    assert (hours[-1] + 1) % 24 == last  # no start falls into the day
    assert all((after - before) % 24 == 1 for before, after in itertools.pairwise(hours))
    for name in ("onebasin-adapt.timer", "onebasin-adapt-end.timer"):
        found = dict(settings(name))
        assert found["Persistent"] == "no"
        done = systemd_analyze("calendar", found["OnCalendar"])
        assert done.returncode == 0, done.stderr
    assert dict(settings("onebasin-adapt.service"))["KillSignal"] == "SIGINT"


def test_adapting_by_schedule_is_a_setting_that_exists():
    assert (ASKED, SCHEDULED) == ("asked", "scheduled")
    assert f'adapting = "{SCHEDULED}"' in (FOLDER / "onebasin-adapt.service").read_text()


def test_adapting_sees_a_gpu_and_no_network():
    found = settings("onebasin-adapt.service")
    assert ("DeviceAllow", "char-nvidia* rw") in found
    assert dict(found)["DevicePolicy"] == "closed"
    assert dict(found)["PrivateNetwork"] == "yes"
    assert "PrivateDevices" not in dict(found)  # it would hide the GPU


def test_drop_ins_add_to_a_unit_and_take_nothing_away():
    for name in ("passphrase.conf", "jetson.conf"):
        keys = {key for key, _ in settings(name)}
        assert keys <= {"LoadCredentialEncrypted", "Environment", "DeviceAllow"}


def test_the_scores_are_printed_for_the_log(installed, capsys):
    scores = {}
    for name in PROGRAMS:
        done = systemd_analyze("security", "--offline=true", "--no-pager", str(installed / name))
        found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
        scores[name] = found[1] if found else "not judged"
    with capsys.disabled():
        print(f"\nsystemd-analyze security: {json.dumps(scores)}")
    assert scores
