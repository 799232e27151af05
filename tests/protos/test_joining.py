"""Arrays that arrive are joined once, one after the other: the same bytes, in less memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

from flwr.superlink.grid import http_grid

from protos import joining

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


def test_the_module_that_pulls_messages_puts_them_together_as_expected():
    assert callable(vars(http_grid)[joining.INFLATE])
    assert http_grid.HttpGrid.__module__ == http_grid.__name__


def test_messages_that_arrive_together_are_put_together_one_after_the_other():
    engine, inside, most = ModuleType("engine"), threading.Semaphore(0), []

    def inflate(name: str, contents: dict[str, bytes]) -> bytes:
        inside.release()
        time.sleep(0.02)
        most.append(inside._value)
        inside.acquire()
        return contents[name]

    vars(engine)[joining.INFLATE] = inflate
    joining.one_at_a_time(engine)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: vars(engine)[joining.INFLATE](str(i), {str(i): bytes([i])}), range(8)))
    assert found == [bytes([i]) for i in range(8)]
    assert most == [1] * 8


def test_a_flower_that_puts_none_together_is_left_alone():
    engine = ModuleType("engine")
    joining.one_at_a_time(engine)
    assert not hasattr(engine, joining.INFLATE)
