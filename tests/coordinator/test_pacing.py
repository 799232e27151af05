"""How long to wait: never without end, and always the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.pacing import LONGEST_PAUSE, RETRY, lifetime, pause
from protos.letters import LONGEST

DAY = 86_400


def test_pauses_double_up_to_a_cap():
    found = [pause(failures) for failures in range(1, 12)]
    assert found[:4] == [RETRY, 2 * RETRY, 4 * RETRY, 8 * RETRY]
    assert found[-1] == LONGEST_PAUSE
    assert all(later == min(2 * earlier, LONGEST_PAUSE) for earlier, later in pairwise(found))


@pytest.mark.parametrize(("days", "seconds"), [(7, 3600), (1, 1350), (1 / 24, 600)])
def test_a_part_lives_for_a_share_of_the_deadline(days, seconds):
    assert lifetime("submit", days * DAY, left=DAY) == seconds


@given(
    kind=st.sampled_from(["submit", "progress", "adapt", "hello"]),
    deadline=st.integers(1, 10**9),
    left=st.floats(-1e9, 1e9),
    failures=st.integers(0, 10**6),
)
def test_a_request_lives_as_long_as_sites_allow_and_not_beyond_the_deadline(kind, deadline, left, failures):
    found = lifetime(kind, deadline, left, failures)
    assert 60 <= found <= LONGEST
    if left > 60:
        assert found <= left
    assert lifetime(kind, deadline, left, failures + 1) >= found
    assert pause(failures) <= LONGEST_PAUSE


def test_a_site_whose_line_is_slow_gets_a_day_in_the_end():
    assert lifetime("submit", 7 * DAY, left=3 * DAY, failures=20) == LONGEST
