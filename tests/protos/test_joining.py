"""Arrays that arrive are joined once: the same bytes, in less memory."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, tracemalloc
from flwr.app import Array
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from protos import joining

if sys.argv[1] == "once":
    joining.join_once()
data = bytes(range(256)) * (1 << 16)
sent = Array(dtype="uint8", shape=(len(data),), stype="raw", data=data)
contents = {key: one.deflate() for key, one in get_all_nested_objects(sent).items()}
name, shape = sent.object_id, sent.shape
del sent
tracemalloc.start()
found = inflate_object_from_contents(name, contents)
peak = tracemalloc.get_traced_memory()[1]
assert type(found.data) is bytes and found.data == data and found.shape == shape
print(peak / len(data))
"""


def peak(how: str) -> float:
    """Return how many times an array is in memory, beside the chunks that came, when Flower puts it together."""
    return float(subprocess.check_output([sys.executable, "-c", PROGRAM, how]))


def test_an_array_that_is_joined_once_needs_less_memory_and_is_the_same():
    assert peak("once") < 2.1 < 2.4 < peak("as Flower does")
