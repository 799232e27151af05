"""A process ends with its program, and says how it ended."""

import subprocess
import sys

import pytest

# What would never let a process end by itself: something that waits when it is cleared up, and a thread.
HANGING = """
import threading, sys
from protos.ending import end_with

class Closing:
    def __del__(self):
        threading.Event().wait()

def wait():
    threading.Event().wait()

closing = Closing()
threading.Thread(target=wait).start()
print("to be seen")

def run():
    {body}

end_with(run)
"""


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return None", 0, ""),
        ("return 3", 3, ""),
        ("sys.exit(4)", 4, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('no such thing')", 1, "no such thing"),
        ("raise ValueError('a bad value')", 1, "ValueError: a bad value"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
    ],
)
def test_it_ends_at_once_with_the_programs_exit_code(body, code, said):
    words = [sys.executable, "-c", HANGING.format(body=body)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (code, "to be seen\n")
    assert said in done.stderr
    assert bool(done.stderr) == bool(said)
