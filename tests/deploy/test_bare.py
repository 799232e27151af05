"""The entry points on a root file system that can't be written to, without a network and without capabilities."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In namespaces of its own: all is read-only but one folder, and no interface is up.
_SCRIPT = """
set -e
mount --rbind / /
mount -o remount,bind,ro /
mount -t tmpfs tmpfs "$1"
! touch "$2" 2>/dev/null
cd "$1"
shift 2
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


@pytest.fixture(scope="module")
def confined(tmp_path_factory):
    """Return a function that runs a program in such a place; its one writable folder is gone afterwards."""
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("unshare and setpriv are not on this machine: entry points were not run on a bare system")
    folder = tmp_path_factory.mktemp("data")

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        place = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", _SCRIPT, "sh"]
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        env |= {"HOME": str(folder), "MPLCONFIGDIR": str(folder), "TMPDIR": str(folder)}
        arguments = [*place, str(folder), str(ROOT / "written"), *command]
        return subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=120)

    if run("true").returncode:
        pytest.skip("this machine gives no namespaces: entry points were not run on a bare system")
    return run


def test_nothing_can_be_written_but_in_one_folder(confined):
    assert confined("sh", "-c", "touch here").returncode == 0
    assert confined("sh", "-c", f"touch {ROOT / 'written'}").returncode != 0
    assert not (ROOT / "written").exists()


def test_a_coordinator_and_a_site_are_made_and_looked_at_there(confined):
    onebasin = f"{sys.executable} -m onebasin"
    done = confined(
        "sh",
        "-ec",
        f"""
        {onebasin} coordinator init coordinator --host merge.example
        {onebasin} site init north --domain dusty
        said=$({onebasin} site fingerprint north)
        {onebasin} coordinator approve coordinator north/request.json --fingerprint $said
        {onebasin} coordinator health coordinator --live && exit 1
        {onebasin} site health north --live || echo status $?
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "approved north" in done.stdout
    assert "SuperLink: bad" in done.stdout
    assert "SuperNode: bad" in done.stdout
    assert "status 15" in done.stdout
