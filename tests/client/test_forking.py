"""ClientApps are forked from a process that has imported Flower, and are otherwise as if started anew."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest
from flwr.supercore.superexec.executor import subprocess_executor

LOADED = """
import json, os, sys, time
from client import forking
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

def launch(kind, token):
    return SubprocessExecutor().launch(ExecutionSpec(
        task_type=kind, runtime_api_address="127.0.0.1:1", token=token, insecure=True, root_certificates_path=None,
        runtime_dependency_install=False, parent_pid=os.getpid(), suppress_output=False, task_id=1, fab_hash=None))

def said(**what):
    import psutil
    us = psutil.Process()
    what |= dict(argv=sys.argv, name=us.name(), pid=us.pid, parent=us.ppid(), threads=us.num_threads(),
                 loaded=[name in sys.modules for name in ("client.client_app", "torch")])
    os.write(1, json.dumps(what).encode() + b"\\n")
"""


def run(program: str, **options: object) -> tuple[list[dict], subprocess.CompletedProcess[str]]:
    command = [sys.executable, "-c", LOADED + program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    return [json.loads(line) for line in done.stdout.splitlines()], done


@pytest.fixture(scope="module")
def two() -> list[dict]:
    found, done = run("""
def superexec():
    said(role="superexec")
    for token in ("one", "two"):
        assert launch(TaskType.CLIENT_APP, token).status.name == "ACCEPTED"
        time.sleep(0.5)

forking.flower_superexec = superexec
forking.flwr_clientapp = lambda: said(role="clientapp")
forking.main()()
""")
    assert done.returncode == 0, done.stderr
    return found


def test_each_message_has_a_process_of_its_own(two):
    assert [one["role"] for one in two] == ["superexec", "clientapp", "clientapp"]
    assert len({one["pid"] for one in two}) == 3
    assert len({one["parent"] for one in two}) == 1  # all are children of the one that imported Flower


def test_it_has_the_command_line_that_flower_gives_it_and_its_name(two):
    for one, token in zip(two[1:], ("one", "two"), strict=True):
        assert one["argv"][0] == "flwr-clientapp"
        assert one["argv"][one["argv"].index("--token") + 1] == token
        assert one["argv"][one["argv"].index("--parent-pid") + 1] == str(two[0]["pid"])
        if sys.platform == "linux":
            assert one["name"] == "flwr-clientapp"


def test_it_has_imported_what_most_messages_need_and_runs_nothing_else(two):
    assert all(one["loaded"] == [True, False] for one in two)
    assert all(one["threads"] == 1 for one in two)


def test_other_programs_are_started_as_ever():
    found, done = run("""
def superexec():
    before = os.environ["PATH"]
    os.environ["PATH"] = "/nowhere"
    try:
        launch(TaskType.SERVER_APP, "one")
    except FileNotFoundError as error:
        os.environ["PATH"] = before
        said(role="superexec", missing=error.filename)

forking.flower_superexec = superexec
forking.flwr_clientapp = lambda: said(role="clientapp")
forking.main()()
""")
    assert [one["missing"] for one in found] == ["flwr-serverapp"], done.stderr


def test_a_client_app_that_fails_is_no_harm_to_the_next():
    found, done = run("""
def superexec():
    for token in ("one", "two"):
        launch(TaskType.CLIENT_APP, token)

def clientapp():
    if "one" in sys.argv:
        raise RuntimeError("the first one fails")
    said(role="clientapp")

forking.flower_superexec, forking.flwr_clientapp = superexec, clientapp
forking.main()()
""")
    assert [one["role"] for one in found] == ["clientapp"]
    assert "the first one fails" in done.stderr


def test_it_ends_with_the_superexec_and_the_superexec_with_it():
    found, done = run("""
import signal, threading
def superexec():
    said(role="superexec")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)

forking.flower_superexec = superexec
forking.main()()
""")
    assert done.returncode == -9
    (one,) = found
    # A zombie is at its end too: there may be nobody here who asks how it was.
    _, left = psutil.wait_procs([process for process in psutil.process_iter() if process.pid == one["pid"]], 20)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in left)


def test_flower_still_has_what_is_replaced():
    assert subprocess_executor.subprocess is subprocess
