"""The verdict says what the evidence does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.merge.basin.evidence import Closeness, Evidence, FromBase, Part, gather
from coordinator.merge.basin.verdict import Verdict, about_base, judge, percent, sentence


def evidence(share: float, cosine: float, aligned: float | None = None, **more) -> Evidence:
    return Evidence(
        groups=(),
        share=share,
        as_they_are=Closeness(0.5, cosine),
        aligned=Closeness(0.5, cosine if aligned is None else aligned),
        unrelated=Closeness(1.4, 0.02),
        parts=more.pop("parts", (Part("backbone", share, Closeness(0.5, cosine)),)),
        **more,
    )


@pytest.mark.parametrize(
    ("found", "expected", "said"),
    [
        (evidence(1.0, 0.96), Verdict.ONE_BASIN, "lie in one basin: 100 % of the channels stay in place"),
        (evidence(0.995, 0.91), Verdict.ONE_BASIN, "safe to try"),
        (evidence(1.0, 0.75), Verdict.BETWEEN, "may be worse than either"),
        (evidence(0.014, 0.005, 0.4), Verdict.APART, "do not share a base"),
        (evidence(0.02, 0.01, 0.999), Verdict.REORDERED, "Merge them with --align"),
        (evidence(0.6, 0.5, 0.6), Verdict.BETWEEN, "evaluate it before you use it"),
    ],
)
def test_each_verdict_has_its_sentence(found, expected, said):
    assert judge(found) is expected
    assert said in sentence(found, "north", "south")
    assert "north and south" in sentence(found, "north", "south")


def test_a_head_that_has_nothing_in_common_is_to_be_kept_apart():
    parts = (Part("backbone", 1.0, Closeness(0.2, 0.97)), Part("decode_head", 0.01, Closeness(1.4, 0.0)))
    found = evidence(0.9, 0.8, 0.85, parts=parts)
    assert "share a base but for decode_head" in sentence(found)
    assert "--separate 'decode_head.*'" in sentence(found)
    more = replace(found, parts=(*parts, Part("auxiliary_head", None, Closeness(1.4, 0.0))))
    assert "but for decode_head and auxiliary_head" in sentence(more)
    assert "--separate 'decode_head.*' --separate 'auxiliary_head.*'" in sentence(more)


def test_where_the_backbone_went_far_too_keeping_heads_apart_is_not_advised():
    parts = (Part("backbone", 1.0, Closeness(0.7, 0.6)), Part("decode_head", 0.01, Closeness(1.4, 0.0)))
    assert "--separate" not in sentence(evidence(0.9, 0.5, 0.6, parts=parts))


def test_a_copy_whose_channels_are_in_another_order_is_recognised(
    tiny, tiny_table, shuffled, reordered, opened, with_noise
):
    found = gather(opened(tiny), opened(reordered(with_noise(tiny, 1), shuffled(tiny_table, 1))))
    assert judge(found) is Verdict.REORDERED
    assert found.aligned.cosine > 0.97


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (0.02, "at right angles"),
        (0.6, "in part in the same direction"),
        (-0.5, "in opposite directions"),
        (None, "one of them is base still"),
    ],
)
def test_what_both_changed_since_the_base_is_told(changes, said):
    near = Closeness(0.2, 0.98)
    found = evidence(1.0, 0.96, base=FromBase(near, near, changes))
    assert said in about_base(found, "a", "b", "base")


def test_a_model_that_does_not_come_from_the_base_is_named():
    found = evidence(1.0, 0.96, base=FromBase(Closeness(0.2, 0.98), Closeness(1.4, 0.0), 0.1))
    assert about_base(found, "a", "b", "base").startswith("b was not adapted from base")
    far = replace(found, base=FromBase(Closeness(1.4, 0.0), Closeness(1.4, 0.0), 0.9))
    assert about_base(far, "a", "b", "base").startswith("a and b were not adapted from base")
    assert replace(found, base=None) and about_base(replace(found, base=None)) == ""


@pytest.mark.parametrize(("share", "text"), [(1, "100 %"), (0.99999, "99.9 %"), (0.5, "50.0 %"), (0, "0.0 %")])
def test_only_all_of_it_is_a_hundred_per_cent(share, text):
    assert percent(share) == text
