"""What only Linux can do for a process."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing happens")


def gone(process: psutil.Process) -> bool:
    """Tell whether it ended, waited for or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def python(words: str) -> subprocess.Popen[str]:
    program = f"import os, subprocess, sys, time; from protos import linux\n{words}"
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


CHILD = """
here = os.getpid()
bound = lambda: linux.end_with_parent(here)
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], preexec_fn=bound)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_process_that_is_to_end_with_its_parent_does_though_that_is_killed():
    with python(CHILD) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    until = time.monotonic() + 30
    while not gone(child):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_process_whose_parent_is_gone_before_it_could_say_so_ends_at_once():
    another = 1 << 30
    with python(f"linux.end_with_parent({another}); print('still here')") as process:
        assert process.stdout.read() == ""
        assert process.wait(30) == 143


def test_orphans_are_adopted():
    start = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1)'], stdout=subprocess.DEVNULL).pid"
    between = f"import subprocess, sys; print({start})"
    words = (
        "linux.adopt_orphans(); "
        f"pid = int(subprocess.run([sys.executable, '-c', {between!r}], capture_output=True).stdout); "
        "print(os.waitpid(pid, 0)[0] == pid)"  # which only its parent may wait for
    )
    with python(words) as parent:
        assert parent.stdout.read() == "True\n"


def test_a_process_is_called_otherwise():
    with python("linux.call_this_process('another-name'); print(flush=True); time.sleep(60)") as process:
        process.stdout.readline()
        assert psutil.Process(process.pid).name() == "another-name"
        process.kill()
