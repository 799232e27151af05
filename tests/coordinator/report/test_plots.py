"""The charts: they say what the numbers say, twice the same, and as SVG that shares a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from coordinator.report.model import Divergence, PairDivergence
from coordinator.report.plots import (
    NARROW,
    WIDE,
    class_ious_svg,
    divergence_svg,
    harmonic_means_svg,
    shown_domains,
)


def texts(svg):
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).iter() if node.tag.endswith("text")]


def draw_all(report, width):
    return [
        harmonic_means_svg(report, width),
        class_ious_svg(report, width),
        divergence_svg(report.divergence, width),
    ]


@pytest.fixture(scope="module")
def wide(report):
    return draw_all(report, WIDE)


def test_the_bars_carry_every_h(report):
    shown = texts(harmonic_means_svg(report))
    for row in report.rows:
        assert f"{report.h(row):.1f}" in shown
        assert row.title in shown


def bars(svg, colour):
    """Return the lengths of the bars of one colour, in points, from the paths that matplotlib draws."""
    found = []
    for node in ET.fromstring(svg).iter():
        if node.tag.endswith("path") and f"fill: {colour}" in node.get("style", ""):
            numbers = re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", node.get("d"))
            x = [float(a) for a, _ in numbers]
            y = [float(b) for _, b in numbers]
            found.append((max(x) - min(x), max(y) - min(y)))
    return found


@pytest.mark.parametrize("draw", [harmonic_means_svg, class_ious_svg])
def test_bars_are_as_long_as_their_numbers(tiny, draw):
    made = tiny(base={"a": 20, "b": 20}, single_a={"a": 40, "b": 40}, pooled={"a": 60, "b": 60})
    svg = draw(made)
    lengths = [max(w for w, _ in bars(svg, colour)) for colour in ("#8a929c", "#e69f00", "#0072b2")]
    assert lengths[1] / lengths[0] == pytest.approx(2, rel=0.01)
    assert lengths[2] / lengths[0] == pytest.approx(3, rel=0.01)


def test_a_panel_for_the_mean_and_each_domain(report):
    shown = texts(class_ious_svg(report))
    assert {"mean of the domains", *report.domains, "road", "bicycle"} <= set(shown)
    assert any(text.startswith(f"best single model ({report.best('single').site})") for text in shown)


def test_without_comparison_each_sites_own_model_is_shown(build):
    assert "each site's own model" in texts(class_ious_svg(build(compare=False)))


def test_many_domains_show_the_weakest(build):
    made = build([f"s{i}" for i in range(11)])
    shown = shown_domains(made)
    assert len(shown) == 8
    hidden = set(made.domains) - set(shown)
    assert min(made.result.miou(s) for s in hidden) >= max(made.result.miou(s) for s in shown)


def test_few_pairs_get_a_line_each_and_many_a_band(report, build):
    assert sum(" – " in text for text in texts(divergence_svg(report.divergence))) == 6
    shown = texts(divergence_svg(build([f"s{i}" for i in range(5)]).divergence))
    assert "mean of the pairs" in shown
    assert "lowest to highest of 10 pairs" in shown


def test_what_a_log_scale_cannot_show_is_a_gap():
    nan, inf = float("nan"), float("inf")
    svg = divergence_svg(Divergence(["a", "b", "c"], [PairDivergence("x", "y", [0.0, 2.0, inf])]))
    assert svg is not None
    assert "nan" not in svg.lower()
    many = [PairDivergence("x", f"y{i}", [0.0, nan, 1.0 + i]) for i in range(9)]
    assert "nan" not in divergence_svg(Divergence(["a", "b", "c"], many)).lower()


def test_nothing_to_show_is_no_chart(tiny):
    empty = tiny(base={}, pooled={})
    assert harmonic_means_svg(empty) is None
    assert class_ious_svg(empty) is None
    assert divergence_svg(Divergence(["a"], [PairDivergence("x", "y", [0.0])])) is None
    assert divergence_svg(Divergence([], [])) is None


def test_the_same_report_gives_the_same_bytes(report, wide):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    assert wide == draw_all(report, WIDE)
    assert dict(mpl.rcParams) == before, "charts must not change matplotlib's settings"


def test_charts_share_a_page(report, wide):
    ids = []
    for svg in wide + draw_all(report, NARROW):
        root = ET.fromstring(svg)  # well-formed
        assert "<style" not in svg, "a style element would be the whole page's"
        assert "<metadata" not in svg
        assert "<!--" not in svg
        own = [node.get("id") for node in root.iter() if node.get("id")]
        assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg)) == set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_hostile_names_stay_text(hostile):
    for svg in draw_all(hostile, WIDE):
        root = ET.fromstring(svg)
        kinds = {node.tag.rpartition("}")[2] for node in root.iter()}
        assert not kinds & {"script", "b", "img", "a", "image", "foreignObject"}
    assert any("$x^2$" in text for text in texts(harmonic_means_svg(hostile))), "no mathematics from a name"


def test_a_silent_site_has_no_panel(silent):
    assert silent.site_names[-1] not in texts(class_ious_svg(silent))
    assert replace(silent, divergence=None).divergence is None
