"""The terminal's table: its width, its marks, and names that try to drive the terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from coordinator.report.table import results_table


def draw(report, width=120, **options):
    out = io.StringIO()
    Console(file=out, width=width, **options).print(results_table(report))
    return out.getvalue()


def columns(text, start):
    line = next(line for line in text.splitlines() if line.strip().startswith(start))
    return line.strip().removeprefix(start).split()


def test_it_fits_100_columns_and_has_no_colour_in_a_pipe(report):
    text = draw(report)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "\x1b" not in text


def test_it_shows_the_scores(report):
    expected = [f"{report.result.miou(site):.1f}" for site in report.site_names] + [
        f"{report.h(report.result):.1f}"
    ]
    found = columns(draw(report), "mid-point, pooled buffers")
    assert [cell.rstrip("*") for cell in found] == expected


def test_the_best_of_each_column_has_a_star_and_is_bold(tiny):
    made = tiny(base={"a": 70, "b": 20}, pooled={"a": 40, "b": 60})
    assert columns(draw(made), "base") == ["70.0*", "20.0", "31.1"]
    assert columns(draw(made), "pooled") == ["40.0", "60.0*", "48.0*"]
    assert re.search(r"\x1b\[1m *70\.0\*", draw(made, force_terminal=True, color_system="standard"))


def test_missing_scores_are_dashes(tiny):
    assert columns(draw(tiny(single_a={"a": 50}, pooled={"a": 40, "b": 60})), "single_a") == ["50.0*", "–", "–"]


@pytest.mark.parametrize("count", [1, 2, 7, 8, 30])
def test_it_fits_and_keeps_h_with_any_number_of_sites(build, count):
    sites = [f"a-site-with-a-long-name-{i}" for i in range(count)]
    made = build(sites)
    for width in (80, 120):
        text = draw(made, width)
        assert max(len(line.rstrip()) for line in text.splitlines()) <= min(width, 100)
        assert all(f" {made.h(row):.1f}" in text for row in made.rows)
    assert ("lowest" in draw(made)) == (count > 7)


def test_hostile_names_are_only_text(hostile):
    text = draw(hostile, force_terminal=True, color_system="standard")
    assert "\x1b[31m" not in text
    assert "\u202e" not in text
    assert "[bold]x[/]" in text.replace("\x1b[1m", "")
    assert max(cell_len(line.rstrip()) for line in draw(hostile).splitlines()) <= 100
