"""From a finished campaign to its report: what stands in it comes from what was merged and judged."""

from __future__ import annotations

import pytest

from coordinator.members import Member, State
from coordinator.merge.distance import symmetric_kl
from coordinator.report.model import KINDS
from coordinator.results import class_names, divergence, report, rows
from protos import boundary
from protos.rules import BUFFERS
from protos.tensorfile import TensorFile

RIGHT = ([[9 * (i == j) for j in range(5)] for i in range(5)], 3)
"""A confusion matrix in which every pixel is right, of three images."""


def judged(*keys: str) -> dict:
    return dict.fromkeys(keys, RIGHT)


@pytest.fixture
def members(world) -> list[Member]:
    found = []
    for site in world.sites:
        header, digest = world.outbox(site).header(), world.outbox(site).digest()
        found.append(Member(site, 0.0, State.MERGED, header=header, digest=digest, seconds=12.5))
    return found


def test_rows_stand_in_the_order_in_which_reports_show_them():
    keys = ("midpoint:pooled", "single:b", "midpoint:site:a", "base", "single:a", "midpoint:averaged")
    found = list(rows({"a": judged(*keys), "b": judged("base", "midpoint:pooled")}, ("a", "b"), "pooled"))
    assert [row.key for row in found] == [
        "base",
        "single:a",
        "single:b",
        "midpoint:site:a",
        "midpoint:averaged",
        "midpoint:pooled",
    ]
    assert [row.site for row in found] == [None, "a", "b", "a", None, None]
    assert set(found[0].scores) == {"a", "b"}
    assert set(found[1].scores) == {"a"}


@pytest.mark.parametrize("rule", BUFFERS)
def test_the_merged_model_is_the_one_with_the_campaigns_buffers(rule):
    keys = [f"midpoint:{name}" for name in BUFFERS]
    found = list(rows({"a": judged(*keys)}, ("a",), rule))
    assert [row.key for row in found] == keys
    assert [row.key for row in found if row.title.startswith("merged: ")] == [f"midpoint:{rule}"]
    assert {row.kind for row in found} <= set(KINDS)


def test_a_model_that_nobody_judged_has_no_row():
    assert list(rows({}, ("a", "b"), "pooled")) == []
    assert list(rows({"a": {}}, ("a",), "pooled")) == []


def test_classes_are_cityscapes_or_numbers():
    assert class_names(19)[:2] == ["road", "sidewalk"]
    assert class_names(3) == ["class 0", "class 1", "class 2"]


def test_the_distance_between_statistics_is_told_for_every_pair_and_layer(members):
    found = divergence(members)
    assert found is not None
    assert list(found.layers) == ["norm", "xnorm.deep"]
    assert [(pair.a, pair.b) for pair in found.pairs] == [("clear", "fog"), ("clear", "night"), ("fog", "night")]
    statistics = {m.site: boundary.statistics(m.header) for m in members}
    expected = symmetric_kl(statistics["clear"]["norm"], statistics["fog"]["norm"])
    assert found.pairs[0].values[0] == expected


def test_of_one_site_there_is_no_distance(members):
    assert divergence(members[:1]) is None
    members[1].state = State.REFUSED
    assert divergence(members[:2]) is None


def test_a_report_says_who_was_merged_and_why_others_were_not(world, members, make_receipt):
    members[2] = Member("night", 0.0, State.REFUSED, reason="site night sent NaN")
    world.folder.merged.mkdir(parents=True, exist_ok=True)
    (world.folder.merged / "merged.safetensors").write_bytes(world.base.read_bytes())
    with TensorFile(world.base) as base:
        scores = {"fog": judged("base", "midpoint:pooled"), "clear": judged("base", "midpoint:pooled")}
        receipt = make_receipt()
        found = report(world.folder, base, members, receipt, scores, {"merging": 1.23456})
    assert found.campaign.digest == world.campaign.digest.hex()
    assert (found.merged.digest, found.receipt_digest) == ("d" * 64, receipt.digest)
    assert found.merged.parameters == sum(spec.size for spec in world.manifest.parameters.values())
    by_site = {entry.site: entry for entry in found.sites}
    assert by_site["night"].message == "site night sent NaN"
    assert by_site["night"].update_digest is None or by_site["night"].update_digest == ""
    assert by_site["fog"].update_digest == world.outbox("fog").digest().hex()
    assert by_site["fog"].batches == max(s.count for s in world.outbox("fog").statistics().values())
    assert by_site["fog"].distance_from_base is None  # the model was not kept
    assert found.timings == {"merging": 1.235}
    assert found.verdict
