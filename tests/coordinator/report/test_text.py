"""Numbers and names for people."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from coordinator.report import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (941_322, "941 kB"),
     (999_600, "1.0 MB"), (3_800_000, "3.8 MB"), (99_960_000, "100 MB"), (5 * 10**12, "5000 GB")],
)  # fmt: skip
def test_sizes(value, expected):
    assert text.size(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0.41, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (125, "2 min 5 s"),
     (7200, "2 h"), (3 * 3600 + 240, "3 h 4 min"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_durations(value, expected):
    assert text.duration(value) == expected


def test_scores_and_differences():
    assert text.score(None) == "–"
    assert text.score(45.449) == "45.4"
    assert text.difference(45.44, 40.06) == 5.3
    assert [text.signed(v) for v in (5.5, -1.25, 0.0)] == ["+5.5", "−1.2", "±0.0"]


def test_moments_are_in_utc():
    assert text.moment("2025-11-22T19:13:05+01:00") == "22 November 2025, 18:13 UTC"
    assert text.moment("some\nday") == "some day"


def test_plain_is_one_harmless_line():
    assert text.plain(" a\n\tb\x1b[1m\u202ec ") == "a b\ufffd[1m\ufffdc"
    assert text.plain("日本 Zürich 👩‍🚀") == "日本 Zürich 👩‍🚀"
    assert text.plain("x" * 50, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    "name",
    ["<b>&amp;", "a|b", "`x`", "**x** _y_", "[a](b)", "![a](b)", "https://x.example", "www.x.example", "\\|",
     "a@b.example", "~~x~~", "<https://x.example>", "mailto:a", "ends with \\"],
)  # fmt: skip
def test_markdown_shows_just_the_characters(name):
    tokens = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(f"| h |\n| - |\n| {text.markdown(name)} |")
    )
    cell = [token for token in tokens if token.type == "inline"][1]
    assert {child.type for child in cell.children} <= {"text", "text_special"}
    assert "".join(child.content for child in cell.children) == name
