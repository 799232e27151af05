"""The demo as a newcomer runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
DEMO = [sys.executable, "-m", "onebasin", "demo", "--quick"]


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the processes that have to do with a run's folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = " ".join(process.info["cmdline"] or []) + " ".join((process.info["environ"] or {}).values())
        if str(folder) in words and process.pid != os.getpid():
            found.append(process)
    return found


def test_the_demo_ends_with_a_table_a_report_with_pictures_and_no_process(tmp_path):
    folder = tmp_path / "run"
    done = subprocess.run(
        [*DEMO, "--folder", str(folder)], capture_output=True, text=True, timeout=350, cwd=tmp_path
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("base", "adapted at night", "averaged buffers", "merged: mid-point"):
        assert row in done.stdout
    assert re.search(r"night: adapting step \d+ of \d+, \d+ s left", done.stdout)
    result = folder / "coordinator" / "campaigns" / "demo" / "merged"
    wanted = {"merged.safetensors", "README.md", "receipt.json", "report.json", "report.html"}
    assert wanted <= {path.name for path in result.iterdir()}
    page = (result / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4 * 6
    report = json.loads((result / "report.json").read_text())
    assert sorted(site["site"] for site in report["sites"]) == ["adverse", "clear", "dusty", "night"]
    assert not processes_of(folder)
    again = subprocess.run([*DEMO, "--folder", str(folder)], capture_output=True, text=True, timeout=60)
    assert again.returncode == 3
    assert "is not empty" in again.stderr


@pytest.mark.parametrize(
    ("number", "when", "least"),
    [(signal.SIGINT, "connected", 5), (signal.SIGTERM, "starting the SuperLink", 1)],
    ids=["ctrl-c", "early-sigterm"],
)
def test_an_interrupted_demo_leaves_no_process_behind(tmp_path, number, when, least):
    folder = tmp_path / "run"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*DEMO, "--folder", str(folder)],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            # Where the tests run in the background of a shell, Ctrl-C is ignored, and that would be inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    until = time.monotonic() + 200
    while when not in (tmp_path / "log").read_text() or len(processes_of(folder)) < least:
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < until
        time.sleep(0.2)

    process.send_signal(number)

    assert process.wait(120) == 130, (tmp_path / "log").read_text()
    assert "interrupted" in (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not processes_of(folder)
