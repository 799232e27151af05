"""The page: well-formed, self-contained, and safe with any name."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from jinja2 import UndefinedError
from pages import Page

from coordinator.report.html import POLICY, _environment, render_html
from coordinator.report.model import SiteSummary
from coordinator.report.pictures import PRIVACY, DomainPictures, png_data_uri
from protos.errors import DataError


@pytest.fixture(scope="module")
def text(report, pictures):
    return render_html(report, pictures)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_it_is_one_page_in_english(text, page):
    assert text.lstrip().startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert "autumn-fleet" in page.text


def test_nothing_comes_from_elsewhere(text, page):
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "image"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "xlink:href", "srcset", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("data:image/png;base64,", "#"))
    assert [a["href"] for a in page.all("a") if not a["href"].startswith("#")] == [
        "https://arxiv.org/abs/2407.13771"
    ]
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", text))
    assert "@import" not in text
    # Whatever else looks like an address is the name of SVG's namespaces.
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {
        "https://arxiv.org/abs/2407.13771",
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_the_policy_forbids_all_but_inline_style_and_data_images(page):
    policies = [
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [POLICY]
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("style-src") == "'unsafe-inline'"
    assert rules.pop("img-src") == "data:"
    assert set(rules.values()) == {"'none'"}


def test_ids_are_unique_and_links_lead_somewhere(page):
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("href", "aria-labelledby", "aria-describedby"):
            target = attributes.get(name)
            if target and not target.startswith("http"):
                assert target.removeprefix("#") in ids


def test_it_shows_what_the_report_says(report, page):
    words = page.text
    assert report.verdict in words
    for row in report.rows:
        assert row.title in words
        assert f"{report.h(row):.1f}" in words
    for site in report.sites:
        assert site.update_digest in words
    for value in (
        report.receipt_digest,
        report.merged.digest,
        report.campaign.digest,
        report.campaign.base_digest,
    ):
        assert value in words
    for key in [*report.timings, *report.versions]:
        assert key in words
    assert "judged on 240 images of 4 domains" in words


def test_every_picture_is_inline_and_described(page, pictures):
    images = page.all("img")
    assert len(images) == sum(len(row.panels) for row in pictures)
    assert all(image["alt"] for image in images)
    assert all(attributes["aria-label"] for _, attributes in page.elements if attributes.get("role") == "img")
    assert PRIVACY in page.text


def test_pictures_are_the_callers_pixels(page, pictures):
    uri = page.all("img")[0]["src"]
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    expected = pictures[0].panels[0][1]
    assert shown.shape == (192, 384, 3)
    # Nearest neighbour: each pixel is a block of its own colour, red first.
    assert np.array_equal(shown[1::3, 1::3, ::-1], expected)
    assert np.array_equal(shown[0::3, 2::3, ::-1], expected)


def test_large_pictures_shrink():
    png = base64.b64decode(png_data_uri(np.zeros((1024, 2048, 3), np.uint8)).split(",")[1])
    assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape == (384, 768, 3)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_picture_is_refused(picture, tiny):
    with pytest.raises(DataError, match="picture"):
        render_html(tiny(pooled={"a": 1}), [DomainPictures("a", [("image", picture)])])


def test_pictures_are_optional(tiny):
    page = Page(render_html(tiny(pooled={"a": 1})))
    assert page.all("img") == []
    assert PRIVACY not in page.text
    assert not [a for a in page.all("a") if a["href"] == "#pictures"]


def test_the_legend_has_the_callers_colours(text, tiny):
    made = tiny(pooled={"a": 1})
    row = DomainPictures("a", [("image", np.zeros((4, 4, 3), np.uint8))])
    assert "rgb(1 2 3)" in render_html(made, [row], [(1, 2, 3), (4, 5, 6)])
    assert 'class="legend"' not in render_html(made, [row]), "classes without a known colour have none"
    assert "rgb(128 64 128)" in text


def test_the_best_of_a_column_and_own_domains_are_marked(tiny):
    made = tiny(single_a={"a": 70, "b": 20}, pooled={"a": 40, "b": 60})
    cells = [a.get("class", "").split() for a in Page(render_html(made)).all("td")][:6]
    assert [("best" in c, "own" in c) for c in cells] == [
        (True, True), (False, False), (False, False),
        (False, False), (True, False), (True, False),
    ]  # fmt: skip


def test_hostile_names_are_only_text(hostile, pictures):
    rows = [
        DomainPictures(s, [("</figcaption><script>", p.panels[0][1])])
        for s, p in zip(hostile.site_names, pictures, strict=False)
    ]
    page = Page(render_html(hostile, rows))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "b", "i", "u"}
    assert all(image["src"].startswith("data:image/png") for image in page.all("img"))
    words = page.text
    assert "<script>alert(1)</script>" in words
    assert "{{ 7*7 }}" in words
    assert "</td><b>m</b>|x" in words
    assert "\x1b" not in words
    assert "\u202e" not in words


def test_every_kind_of_report_renders(tiny):
    off = {"compare_single_models": False}
    for made in (
        tiny(),
        tiny(base={"a": 1}),
        tiny(pooled={"a": 0, "b": 0}),
        tiny(rules=off, single_a={"a": 9}, single_b={"b": 9}, pooled={"a": 8, "b": 8}),
    ):
        Page(render_html(made))


def test_what_became_of_a_silent_site_is_said(tiny):
    made = tiny(pooled={"a": 8})
    silent = SiteSummary(site="b", state="silent", message="no answer for 10 min")
    words = Page(render_html(replace(made, sites=[made.sites[0], silent]))).text
    assert "no answer for 10 min" in words
    assert "1 of 2" in words


def test_a_verdict_is_written_if_there_is_none(tiny):
    assert "The merged model (pooled buffers) has H 45.0" in render_html(tiny(pooled={"a": 45}))


def test_a_name_that_the_template_lacks_is_an_error():
    with pytest.raises(UndefinedError):
        _environment().from_string("{{ nothing }}").render()
