"""Processes are found by what they are, and a slow one gets its share of the time."""

import subprocess
import sys
import time

import psutil

from chaos import hunting

COUNT = "import time\nn = 0\nend = time.time() + 60\nwhile time.time() < end: n += 1"


def test_a_process_is_found_by_its_role_and_folder_until_it_is_killed(tmp_path, monkeypatch):
    monkeypatch.setitem(hunting.ROLES, "sleeper", "sleeping beauty")
    words = [sys.executable, "-c", "import time; time.sleep(60)", "sleeping beauty", str(tmp_path)]
    with subprocess.Popen(words) as process:
        while not hunting.find("sleeper", tmp_path):
            time.sleep(0.01)
        assert [found.pid for found in hunting.find("sleeper", tmp_path)] == [process.pid]
        assert not hunting.find("sleeper", tmp_path / "another")
        found = hunting.find("sleeper", tmp_path)
        assert hunting.kill(found) == 1
        assert process.wait(10) == -9
        assert hunting.kill(found) == 0
        assert not hunting.find("sleeper", tmp_path)


def test_a_slowed_process_works_a_small_share_of_the_time_and_goes_on_afterwards():
    with subprocess.Popen([sys.executable, "-c", COUNT]) as process:
        worker = psutil.Process(process.pid)
        while worker.cpu_times().user < 0.1:
            time.sleep(0.01)
        with hunting.slowed(lambda: [worker], share=0.02):
            before = worker.cpu_times().user
            time.sleep(2.0)
            assert worker.cpu_times().user - before < 1.0
        assert worker.status() != psutil.STATUS_STOPPED
        process.kill()
