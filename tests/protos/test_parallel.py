"""One job over many names by a few threads."""

from __future__ import annotations

import threading

import pytest

from protos.parallel import each


@pytest.mark.parametrize("threads", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_each_name_is_done_once_and_the_results_are_in_order(threads, count):
    seen: list[int] = []

    def job(number: int) -> int:
        seen.append(number)
        return number * number

    found = each(range(count), job, threads)
    assert list(found.items()) == [(i, i * i) for i in range(count)]
    assert sorted(seen) == list(range(count))


def test_several_threads_work_at_a_time():
    meeting = threading.Barrier(3, timeout=20)
    each("abc", lambda _: meeting.wait(), 3)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_failure_comes_out_and_ends_the_work(threads, kind):
    seen: list[int] = []

    def job(number: int) -> None:
        seen.append(number)
        if number == 5:
            raise kind("five")

    with pytest.raises(kind, match="five"):
        each(range(100_000), job, threads)
    assert len(seen) < 100_000
