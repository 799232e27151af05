"""onebasin-report/1: there and back, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coordinator.report.format import FORMAT, from_json, to_json
from coordinator.report.model import PairDivergence
from protos.errors import ConfigurationError


def test_a_report_comes_back_as_it_was(report, silent, hostile, tiny):
    for made in (report, silent, hostile, tiny(pooled={"a": 1.5})):
        text = to_json(made)
        again = from_json(text)
        assert again == made
        assert to_json(again) == text


def test_infinite_divergences_come_back_as_missing(report):
    divergence = replace(report.divergence, layers=["l"], pairs=[PairDivergence("a", "b", [float("inf")])])
    made = replace(report, divergence=divergence)
    assert from_json(to_json(made)).divergence.pairs[0].values == (None,)


def test_the_derived_numbers_are_there_for_others(report):
    value = json.loads(to_json(report))
    assert value["format"] == FORMAT == "onebasin-report/1"
    assert value["domains"] == list(report.domains)
    for line in value["rows"]:
        mious = [score["miou"] for score in line["scores"].values()]
        assert line["h"] == pytest.approx(len(mious) / sum(1 / m for m in mious))
        for score in line["scores"].values():
            known = [iou for iou in score["iou"] if iou is not None]
            assert score["miou"] == pytest.approx(sum(known) / len(known))


def test_the_text_is_ascii_and_has_no_nan(hostile):
    text = to_json(hostile)
    text.encode("ascii")
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_unknown_keys_are_left_alone(report):
    value = json.loads(to_json(report))
    value["later"] = value["rows"][0]["later"] = 1
    assert from_json(json.dumps(value)) == report


def _break(value, path, new):
    *way, last = path
    for step in way:
        value = value[step]
    if new is KeyError:
        del value[last]
    else:
        value[last] = new


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (["format"], "onebasin-report/2"),
        (["format"], KeyError),
        (["campaign"], None),
        (["campaign", "digest"], 5),
        (["campaign", "rules"], {"a": [1]}),
        (["created"], KeyError),
        (["classes"], "road"),
        (["classes"], ["road"]),
        (["rows", 0, "kind"], "worst"),
        (["rows", 0, "site"], 3),
        (["rows", 0, "scores", "night", "images"], True),
        (["rows", 0, "scores", "night", "images"], -1),
        (["rows", 0, "scores", "night", "confusion", 0, 0], 1.5),
        (["rows", 0, "scores", "night", "confusion", 0], [1]),
        (["rows", 1, "key"], "base"),
        (["sites"], {}),
        (["sites", 0, "bytes"], "12"),
        (["sites", 0, "site"], "night"),
        (["sites", 0, "site"], "renamed"),
        (["divergence", "pairs", 0, "values"], [1.0]),
        (["merged", "parameters"], None),
        (["timings", "merge"], float("nan")),
        (["timings", "merge"], float("inf")),
        (["versions"], {"torch": 2}),
    ],
)
def test_damage_is_refused_with_one_of_our_errors(report, path, new):
    value = json.loads(to_json(report))
    _break(value, path, new)
    with pytest.raises(ConfigurationError):
        from_json(json.dumps(value))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", b"\xff", "[" * 100_000])
def test_what_is_no_report_is_refused(text):
    with pytest.raises(ConfigurationError):
        from_json(text)


def test_an_error_names_the_place(report):
    value = json.loads(to_json(report))
    value["sites"][2]["bytes"] = "many"
    with pytest.raises(ConfigurationError, match=r"report\.sites\[2\]\.bytes should be a whole number, not str"):
        from_json(json.dumps(value))
