import re
import subprocess
import sys
from pathlib import Path

import pytest

from protos import faults

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from protos import faults
for _ in range(3):
    faults.point("fold-before")
    faults.point("fold-after")
    print("passed", flush=True)
"""


def passed(armed: str | None) -> tuple[int, int]:
    environment = {"PYTHONPATH": str(ROOT), **({} if armed is None else {faults.VARIABLE: armed})}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout.count("passed")


def test_all_names_in_the_code_are_in_the_table_and_the_other_way_round():
    found = {
        name
        for room in ("protos", "coordinator", "client", "onebasin")
        for path in (ROOT / room).rglob("*.py")
        for name in re.findall(r"faults\.point\(([^)]*)\)", path.read_text())
    }

    assert found == {f'"{name}"' for name in faults.POINTS}


@pytest.mark.parametrize(
    ("armed", "expected"),
    [
        (None, (0, 3)),
        ("", (0, 3)),
        ("arrival-part", (0, 3)),
        ("fold-after:4", (0, 3)),
        ("fold-after", (faults.EXIT_CODE, 0)),
        ("fold-before:3", (faults.EXIT_CODE, 2)),
    ],
)
def test_a_process_ends_at_the_place_that_the_variable_names_and_nowhere_else(armed, expected):
    assert passed(armed) == expected


def test_a_file_counts_for_all_processes_and_is_gone_once_one_ended(tmp_path):
    path = tmp_path / "fault"
    path.write_text("fold-after:5\n")

    assert [passed(str(path)) for _ in range(3)] == [(0, 3), (faults.EXIT_CODE, 1), (0, 3)]
    assert not path.exists()
