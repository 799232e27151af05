"""The model card: its front matter parses, its tables hold, and names can't break out of either."""

from __future__ import annotations

import re

import pytest
import yaml
from markdown_it import MarkdownIt

from coordinator.report.card import model_card


def split(card):
    """Take the front matter off as hubs do: up to the first line that is a rule."""
    match = re.match(r"---\n(.*?)\n---\n(.*)", card, flags=re.DOTALL)
    return yaml.safe_load(match[1]), match[2]


def tables(body):
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    found, row = [], []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            found[-1].append(row)
        elif token.type == "inline" and before.type in {"th_open", "td_open"}:
            row.append("".join(child.content for child in token.children))
    return found


def inline_types(body):
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    return [child for token in tokens for child in (token.children or [])]


def test_the_front_matter_is_what_hubs_expect(report):
    matter, _ = split(model_card(report, "apache-2.0"))
    assert matter["license"] == "apache-2.0"
    assert matter["library_name"] == "onebasin"
    assert matter["pipeline_tag"] == "image-segmentation"
    assert matter["onebasin"]["base_digest"] == report.campaign.base_digest
    (model,) = matter["model-index"]
    found = {r["dataset"]["name"]: r["metrics"][0] for r in model["results"]}
    for site in report.domains:
        assert found[site]["type"] == "mean_iou"
        assert found[site]["value"] == pytest.approx(report.result.miou(site), abs=0.005)
    assert found["all domains"]["value"] == pytest.approx(report.h(report.result), abs=0.005)
    assert all(r["task"]["type"] == "image-segmentation" for r in model["results"])


def test_without_a_score_there_is_no_model_index(tiny):
    matter, body = split(model_card(tiny(base={"a": 1})))
    assert "model-index" not in matter
    assert "was not scored" in body


def test_the_tables_say_what_the_report_says(report):
    results, inputs = tables(split(model_card(report))[1])
    assert results[0] == ["Model", *report.site_names, "H"]
    assert [line[0] for line in results[1:]] == [row.title for row in report.rows]
    (pooled,) = [line for line in results if line[0] == report.result.title]
    assert pooled[-1] == f"{report.h(report.result):.1f}"
    assert [line[-1] for line in inputs[1:]] == [site.update_digest for site in report.sites]


def test_it_cites_and_says_how_to_load(report):
    body = split(model_card(report))[1]
    assert "arXiv 2407.13771" in body
    assert "load_file('merged.safetensors')" in body
    assert report.verdict in body


def test_hostile_names_break_out_of_nothing(hostile):
    matter, body = split(model_card(hostile))
    assert matter["license"] == "other", "the campaign's name must not set the licence"
    names = {r["dataset"]["name"] for r in matter["model-index"][0]["results"]}
    assert "<script>alert(1)</script>" in names
    assert "--- - !!python/object:os.system" in names

    results, inputs = tables(body)
    assert {len(line) for line in results} == {len(hostile.sites) + 2}
    assert {len(line) for line in inputs} == {7}
    assert results[0][1] == "<script>alert(1)</script>"
    assert results[0][2] == "a|b # c"

    tokens = inline_types(body)
    assert not [t for t in tokens if t.type in {"html_inline", "image"}]
    assert [t.attrs["href"] for t in tokens if t.type == "link_open"] == ["https://arxiv.org/abs/2407.13771"]
    blocks = MarkdownIt("commonmark").enable("table").parse(body)
    assert not [t for t in blocks if t.type == "html_block"]
    assert len([t for t in blocks if t.type == "heading_open" and t.tag == "h1"]) == 1
    # Hubs also link what nothing marks: their extension looks for these.
    outside = body.replace("https://arxiv.org/abs/2407.13771", "")
    assert "https://" not in outside
    assert "www." not in outside


def test_a_hostile_file_name_stays_a_string(hostile):
    body = split(model_card(hostile))[1]
    (code,) = [t.content for t in MarkdownIt().parse(body) if t.type == "fence" and t.info == "python"]
    import ast

    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert not [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "system"]
