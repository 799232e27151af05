"""How long to wait: for an answer, and before asking again. Nothing of it is left to chance."""

from __future__ import annotations

from protos.letters import LONGEST

RETRY = 5.0
"""Seconds until somebody who did not answer is asked again, the first time."""
LONGEST_PAUSE = 300.0
"""Seconds until then, at most."""
SHARE = 64
"""A request that gets lost costs this share of the time that the campaign has, at first."""
_PARTS = (600.0, 3600.0)
_QUESTIONS = (60.0, 120.0)
"""Seconds that a first try lives, at least and at most. What Flower loses without a word is noticed after that."""


def pause(failures: int) -> float:
    """Return the seconds until somebody is asked again: twice as many after each failure in a row, up to a cap."""
    return min(RETRY * 2.0 ** min(max(failures - 1, 0), 30), LONGEST_PAUSE)


def lifetime(kind: str, deadline_seconds: float, left: float, failures: int = 0) -> float:
    """Return the seconds that a request lives.

    It doubles with each failure in a row: a site whose line takes longer than the first try gets through in the
    end. No request outlives the deadline or what sites allow, but one that is over doesn't shorten any.

    Args:
        kind: What is asked, as `coordinator.courier.kind_of` names it.
        deadline_seconds: From the campaign's first run to its deadline.
        left: Seconds left of that.
        failures: How often the site failed to answer in a row.

    """
    least, most = _PARTS if kind == "submit" else _QUESTIONS
    first = min(max(deadline_seconds / SHARE, least), most)
    longest = min(max(left, _QUESTIONS[0]), LONGEST) if left > 0 else LONGEST
    return min(first * 2.0 ** min(failures, 30), longest)
