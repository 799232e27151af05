"""From the evidence to a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.merge.basin.evidence import Closeness, Evidence, FromBase, Part, gather
from coordinator.merge.basin.verdict import Verdict, about_base, judge, percent, sentence


def evidence(share=1.0, cosine=0.96, aligned=None, parts=(), base=None) -> Evidence:
    near = Closeness(0.3, cosine)
    again = near if aligned is None else Closeness(0.3, aligned)
    return Evidence((), share, near, again, Closeness(1.41, 0.003), tuple(parts), base=base)


@pytest.mark.parametrize(
    ("share", "cosine", "aligned", "verdict", "said"),
    [
        # What was measured on tiny-resnets; see the module's table.
        (1.0, 0.962, None, Verdict.ONE_BASIN, "lie in one basin: 100 % of the channels"),
        (1.0, 0.931, None, Verdict.ONE_BASIN, "mid-point is safe to try"),
        (1.0, 0.873, None, Verdict.BETWEEN, "evaluate it before you use it"),
        (0.9904, 0.425, 0.426, Verdict.BETWEEN, "a base in common, but are far apart: 99.0 % of"),
        (0.0144, 0.005, 0.154, Verdict.APART, "would be near chance; use --align, and expect less"),
        (0.0144, 0.005, 0.99, Verdict.REORDERED, "0.005, 0.990 after alignment. Merge them with --align"),
    ],
)
def test_verdicts(share, cosine, aligned, verdict, said):
    found = evidence(share, cosine, aligned)
    assert judge(found) is verdict
    assert said in sentence(found, "day", "night")
    assert sentence(found, "day", "night").startswith("day and night")


def test_heads_that_began_anew_are_named():
    parts = [
        Part("backbone", 1.0, Closeness(0.2, 0.97)),
        Part("decode_head", 0.02, Closeness(1.4, 0.01)),
        Part("auxiliary_head", 0.02, Closeness(1.4, 0.01)),
    ]
    found = evidence(0.8, 0.7, 0.75, parts)
    assert judge(found) is Verdict.BETWEEN
    assert "share a base but for decode_head and auxiliary_head" in sentence(found)
    assert "--separate 'decode_head.*' --separate 'auxiliary_head.*'" in sentence(found)
    # Where the backbone went far too, keeping heads apart would not be enough.
    far = replace(found, parts=(Part("backbone", 1.0, Closeness(0.5, 0.6)), *found.parts[1:]))
    assert "--separate" not in sentence(far)


NEAR, FAR = Closeness(0.3, 0.95), Closeness(1.4, 0.02)


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (None, ""),
        (FromBase(NEAR, NEAR, 0.43), "in part in the same direction (cosine of the changes 0.43)"),
        (FromBase(NEAR, NEAR, 0.02), "at right angles to each other"),
        (FromBase(NEAR, NEAR, -0.4), "in opposite directions, so the mid-point undoes much of it"),
        (FromBase(NEAR, NEAR, None), "one of them is C still"),
        (FromBase(NEAR, FAR, 0.0), "B was not adapted from C"),
        (FromBase(FAR, FAR, 0.9), "A and B were not adapted from C"),
    ],
)
def test_what_is_said_about_the_base(base, said):
    found = about_base(evidence(base=base))
    assert said in found
    assert bool(said) == bool(found)


def test_only_all_of_it_is_a_hundred_per_cent():
    assert [percent(share) for share in (1.0, 0.99999, 0.5, 0.0)] == ["100 %", "99.9 %", "50.0 %", "0.0 %"]


def test_a_copy_with_other_channel_order_is_recognised(tiny, tiny_table, shuffled, reordered, opened, with_noise):
    found = gather(opened(tiny), opened(reordered(with_noise(tiny, 1), shuffled(tiny_table, 1))))
    assert judge(found) is Verdict.REORDERED
    assert found.aligned.cosine > 0.97
