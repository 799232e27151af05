"""Lines of a log: text for people, JSON for programs; and what others print, wrapped."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import logpump, logs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Leave nothing behind that other tests would see."""
    monkeypatch.setattr(logs, "_about", {"campaign": "", "site": ""})
    monkeypatch.delenv(logs.MARK, raising=False)


@pytest.fixture
def as_json(monkeypatch):
    monkeypatch.setenv(logs.VARIABLE, logs.JSON)


def test_text_is_what_there_is_by_itself(monkeypatch, capsys):
    monkeypatch.delenv(logs.VARIABLE, raising=False)
    logs.say("all is well", event="said", site="fog")
    logs.say("a certificate ends", level="warning", err=True)
    assert capsys.readouterr() == ("all is well\n", "warning: a certificate ends\n")


def test_a_line_has_what_every_line_has_and_what_belongs_to_it(as_json, capsys):
    logs.about(campaign="autumn")
    logs.say("fog: connected", event="connected", site="fog", node=7)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found = json.loads(out)
    assert tuple(found)[: len(logs.FIRST)] == logs.FIRST
    assert (found["level"], found["event"], found["campaign"], found["site"], found["node"]) == (
        "info",
        "connected",
        "autumn",
        "fog",
        7,
    )
    assert found["time"].endswith("Z")
    assert datetime.fromisoformat(found["time"]).tzinfo is not None


def test_a_time_is_in_rfc_3339():
    assert json.loads(logs.line("x", at=0.25))["time"] == "1970-01-01T00:00:00.250Z"
    assert json.loads(logs.line("x", at=1_795_434_189))["time"] == "2026-11-23T11:43:09.000Z"


@given(st.text(), st.text(), st.floats() | st.lists(st.floats()))
@settings(max_examples=50)
def test_whatever_is_said_is_one_line_of_json_that_every_parser_takes(message, site, value):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = logs.line(message, site=site, value=value, odd={1: object()})
    assert text.isascii()
    assert len(text.splitlines()) == 1
    found = json.loads(text, parse_constant=refuse)
    assert (found["message"], found["site"]) == (message, site)


def test_records_of_loggers_are_lines_too(as_json):
    logs.about(site="fog", campaign="autumn")
    record = logging.LogRecord("onebasin.site", logging.ERROR, __file__, 1, "refused %s", ("it",), None)
    try:
        raise ValueError("why")
    except ValueError:
        record.exc_info = sys.exc_info()
    text = logs.formatter().format(record)
    found = json.loads(text)
    assert (found["level"], found["message"], found["site"], found["campaign"]) == (
        "error",
        "refused it",
        "fog",
        "autumn",
    )
    assert found["traceback"].endswith("ValueError: why")


# ------------------------------------------------------------------ the pump


@pytest.mark.parametrize(
    ("raw", "level", "message"),
    [
        (b"\x1b[92mINFO \x1b[0m:      Starting Flower SuperLink\n", "info", "Starting Flower SuperLink"),
        (b"\x1b[93mWARNING 2026-11-23 11:00:00,123\x1b[0m:   slow\n", "warning", "slow"),
        (b"2026-11-23T11:56:57.193Z INFO [uvicorn.error] up\n", "info", "[uvicorn.error] up"),
        (b"2026-11-23T11:56:57.193Z WARNING of a storm\n", "info", "2026-11-23T11:56:57.193Z WARNING of a storm"),
        (b"ERROR :     it broke\r\n", "error", "it broke"),
        (b'  File "x.py", line 3, in f\n', "info", '  File "x.py", line 3, in f'),
        (b"INFORMATION: none\n", "info", "INFORMATION: none"),
        (b"\xff\xfe\0\n", "info", "\ufffd\ufffd\0"),
        (b'{"event": "merged", "level": "critical"}\n', "info", '{"event": "merged", "level": "critical"}'),
    ],
)
def test_what_others_print_is_wrapped(raw, level, message):
    found = logpump.wrapped(raw, {"site": "fog", "campaign": ""}, "")
    assert (found["level"], found["message"], found["event"], found["site"]) == (level, message, "output", "fog")
    assert tuple(found) == logs.FIRST


@pytest.mark.parametrize("raw", [b"\n", b"", b"\x1b[0m\n", b"   \r\n", b"INFO :      \n"])
def test_an_empty_line_is_none(raw):
    assert logpump.wrapped(raw) is None


def test_a_line_of_ours_goes_through_as_it_is(monkeypatch):
    monkeypatch.setenv(logs.MARK, "m" * 32)
    raw = logs.line("merged 3 models", event="merged", models=3).encode()
    found = logpump.wrapped(raw, {"campaign": "autumn", "site": ""}, "m" * 32)
    assert (found["event"], found["models"], found["campaign"]) == ("merged", 3, "autumn")
    assert "mark" not in found


def test_a_line_without_an_end_does_not_fill_the_memory():
    assert [len(line) for line in logpump.lines(io.BytesIO(b"x" * (2 << 16) + b"y\n"))] == [1 << 16, 1 << 16, 2]


PROGRAM = """
import logging, os, subprocess, sys
from protos import logpump, logs
logs.about(site="fog", campaign="autumn")
logpump.start()
logs.attach("onebasin")
print("printed")
logging.getLogger("onebasin.site").warning("logged")
subprocess.run([sys.executable, "-c", "import sys; print('by a child', file=sys.stderr)"])
logs.say("said", event="adapted", step=3)
END
"""


def ran(end: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    program = [sys.executable, "-c", PROGRAM.replace("END", end)]
    return subprocess.run(program, env=env, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_all_that_a_process_and_its_children_print_comes_out_as_json():
    done = ran("raise SystemExit(3)", ONEBASIN_LOG="json")
    assert (done.returncode, done.stderr) == (3, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    said = {line["message"]: line for line in found}
    assert said.keys() == {"printed", "logged", "by a child", "said"}
    assert all((line["site"], line["campaign"]) == ("fog", "autumn") for line in found)
    assert all(tuple(line)[: len(logs.FIRST)] == logs.FIRST for line in found)
    assert not any("mark" in line for line in found)
    assert {message: line["event"] for message, line in said.items()} == {
        "printed": "output",
        "by a child": "output",
        "logged": "log",
        "said": "adapted",
    }
    assert said["logged"]["level"] == "warning"


def test_the_last_words_of_a_process_that_is_killed_are_not_lost():
    done = ran("print('last words', flush=True); os.kill(os.getpid(), 9)", ONEBASIN_LOG="json")
    assert done.returncode == -signal.SIGKILL
    assert json.loads(done.stdout.splitlines()[-1])["message"] == "last words"


def test_without_being_asked_for_nothing_is_wrapped():
    done = ran(ONEBASIN_LOG="text")
    assert sorted(done.stdout.split()) == ["printed", "said"]
    assert "logged" in done.stderr
