"""IoU, mIoU and H against computations of their own, and what the values refuse."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from coordinator.report.model import Divergence, PairDivergence, Row, Score, SiteSummary, harmonic_mean
from protos.errors import DataError


def test_iou_equals_that_of_pixel_sets():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 4000)
    truth[truth == 3] = 0  # class 3 is absent from the ground truth, but predicted
    guess = np.where(rng.random(4000) < 0.6, truth, rng.integers(0, 5, 4000))
    confusion = [[int(np.sum((truth == t) & (guess == p))) for p in range(5)] for t in range(5)]
    score = Score(confusion, images=1)

    expected = []
    for c in range(5):
        is_truth = set(np.flatnonzero(truth == c))
        is_guess = set(np.flatnonzero(guess == c))
        expected.append(100 * len(is_truth & is_guess) / len(is_truth | is_guess) if is_truth else None)
    assert expected[3] is None
    assert score.iou[3] is None
    present = [c for c in range(5) if c != 3]
    assert [score.iou[c] for c in present] == pytest.approx([expected[c] for c in present])
    assert score.miou == pytest.approx(sum(expected[c] for c in present) / 4)


def test_a_class_that_is_only_predicted_counts_against_the_true_one():
    score = Score([[6, 4], [0, 0]], images=1)
    assert score.iou == (60.0, None)
    assert score.miou == 60.0


def test_a_present_class_that_is_never_found_has_iou_0():
    assert Score([[0, 5], [0, 5]], images=1).iou == (0.0, 50.0)


def test_no_ground_truth_is_no_score():
    assert Score([[0, 0], [0, 0]], images=3).miou is None


def test_harmonic_mean_of_the_papers_four_targets():
    # Table of the paper: all four merged, C / I / A / D and their H.
    assert harmonic_mean([51.6, 47.3, 45.8, 21.1]) == pytest.approx(36.4, abs=0.05)
    exact = 3 / (1 / Fraction(10) + 1 / Fraction(20) + 1 / Fraction(40))
    assert harmonic_mean([10, 20, 40]) == pytest.approx(float(exact))


def test_harmonic_mean_is_0_if_one_domain_is():
    assert harmonic_mean([50.0, 0.0]) == 0.0
    with pytest.raises(ValueError, match="not defined"):
        harmonic_mean([])


def test_h_needs_every_domain(tiny):
    report = tiny(base={"a": 30}, pooled={"a": 40, "b": 60})
    base, pooled = report.rows
    assert report.h(base) is None
    assert report.h(pooled) == pytest.approx(48.0)
    assert pooled.harmonic_mean(["a", "b", "c"]) is None
    assert pooled.harmonic_mean([]) is None


def test_a_silent_site_is_no_domain(silent):
    assert silent.domains == silent.site_names[:-1]
    assert silent.h(silent.result) == pytest.approx(harmonic_mean([silent.result.miou(s) for s in silent.domains]))


def test_best_single_is_the_highest_h(report):
    heights = {row.site: report.h(row) for row in report.of_kind("single")}
    assert report.best("single").site == max(heights, key=heights.get)


def test_lists_and_numpy_numbers_become_plain_tuples():
    score = Score(np.array([[1, 2], [3, 4]]).tolist(), images=np.int64(2))
    assert score == Score(((1, 2), (3, 4)), 2)
    assert type(score.images) is int


@pytest.mark.parametrize(
    "confusion", [[[1, 2]], [[1], [2]], [[1, -1], [0, 0]], [[0.5, 1], [1, 1]], [["1", 1], [1, 1]], [1, 2]]
)
def test_a_matrix_that_is_none_is_refused(confusion):
    with pytest.raises(DataError):
        Score(confusion, images=1)


@pytest.mark.parametrize(
    ("kind", "site"), [("base", "a"), ("single", None), ("pooled-buffers", "a"), ("best", None)]
)
def test_a_row_without_sense_is_refused(kind, site):
    with pytest.raises(DataError):
        Row("k", "t", kind, site, {})


def test_contradictions_are_refused(tiny):
    with pytest.raises(DataError, match="no site of the campaign"):
        tiny(pooled={"z": 1})
    with pytest.raises(DataError, match="twice"):
        tiny(sites="aa", pooled={"a": 1})
    with pytest.raises(DataError, match="divergences"):
        Divergence(["l1", "l2"], [PairDivergence("a", "b", [1.0])])


def test_numbers_that_are_not_finite_become_missing():
    assert PairDivergence("a", "b", [1.0, float("inf"), float("nan")]).values == (1.0, None, None)
    assert SiteSummary(site="a", state="merged", distance_from_base=float("nan")).distance_from_base is None
