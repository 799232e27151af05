"""Metrics: what an exporter gathers, what it does where something can't be read, that its text can be parsed."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from protos import metrics
from protos.errors import JournalError
from protos.metrics import COUNTER, GAUGE, SUMMARY, Exporter, Metric, Sample

LEVEL = Metric("onebasin_test_level", GAUGE, "A level", ("campaign", "site"))
SEEN = Metric("onebasin_test_seen_total", COUNTER, "A count", ("campaign",))
TOOK = Metric("onebasin_test_took_seconds", SUMMARY, "Seconds", ("campaign",))


def text_of(exporter: Exporter) -> str:
    registry = CollectorRegistry()
    registry.register(exporter)
    return generate_latest(registry).decode()


def series(text: str) -> dict[tuple[str, ...], float]:
    """Return what a text says: name and the labels' values in order of their names, and the value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def exporter(*parts, said: list[str] | None = None) -> Exporter:
    return Exporter({f"part-{i}": part for i, part in enumerate(parts)}, ([] if said is None else said).append)


def test_gauges_counters_and_summaries_are_shown_as_what_they_are():
    def read() -> Iterator[Sample]:
        yield LEVEL(0.5, "autumn", "fog")
        yield SEEN(3, "autumn")
        yield TOOK(1.5, "autumn", times=2)

    text = text_of(exporter(read))
    found = series(text)
    assert found["onebasin_test_level", "autumn", "fog"] == 0.5
    assert found["onebasin_test_seen_total", "autumn"] == 3
    assert found["onebasin_test_took_seconds_count", "autumn"] == 2
    assert found["onebasin_test_took_seconds_sum", "autumn"] == 1.5
    assert "# TYPE onebasin_test_seen_total counter" in text
    assert "# TYPE onebasin_test_took_seconds summary" in text
    assert {name for metric in (LEVEL, SEEN, TOOK) for name in metric.series} < {name for name, *_ in found}
    assert (found["onebasin_up",], found["onebasin_part_up", "part-0"]) == (1, 1)


def test_a_part_that_can_not_be_read_is_named_and_the_others_are_there():
    said: list[str] = []
    broken = [True]

    def read() -> Iterator[Sample]:
        yield SEEN(1, "before")
        if broken:
            raise JournalError("the journal is damaged", "restore it")

    def worse() -> Iterator[Sample]:
        if broken:
            raise KeyError("nobody thought of that")
        return iter(())

    found = exporter(read, worse, lambda: [SEEN(2, "other")], said=said)
    for _ in range(2):
        now = series(text_of(found))
        assert now["onebasin_up",] == 0
        assert [now["onebasin_part_up", f"part-{i}"] for i in range(3)] == [0, 0, 1]
        assert (now["onebasin_test_seen_total", "before"], now["onebasin_test_seen_total", "other"]) == (1, 2)
    assert said == [
        "can't read part-0: the journal is damaged",
        "can't read part-1: KeyError: 'nobody thought of that'",
    ]  # once, however often it is scraped
    broken.clear()
    assert series(text_of(found))["onebasin_up",] == 1
    assert said[2:] == ["part-0 can be read again", "part-1 can be read again"]


def test_a_series_is_there_once_whatever_was_read():
    text = text_of(exporter(lambda: [SEEN(1, "autumn"), SEEN(2, "autumn")]))
    assert len(re.findall(r'^onebasin_test_seen_total\{campaign="autumn"\}', text, re.MULTILINE)) == 1


@settings(max_examples=40)
@given(st.text(max_size=300), st.text(max_size=300))
def test_no_label_breaks_the_exposition_format(campaign, site):
    """Also lone surrogates, which UTF-8 can't say, and whatever ends a line or a string."""
    sample = LEVEL(1, campaign, site)
    text = text_of(exporter(lambda: [sample, SEEN(1, "last")]))
    found = series(text)
    assert len([key for key in found if key[0] == LEVEL.name]) == 1
    assert found["onebasin_test_seen_total", "last"] == 1
    assert max(map(len, sample.labels)) <= 200
    assert all(line.startswith(("#", "onebasin_")) for line in text.removesuffix("\n").split("\n"))


@pytest.mark.parametrize("hostile", ['fog"} 1\nonebasin_up 1', "a\\", 'a\\"', "\n", "# HELP x", "\ud800", "\0"])
def test_hostile_names_stay_inside_their_label(hostile):
    found = series(text_of(exporter(lambda: [LEVEL(7, hostile, hostile), SEEN(1, "last")])))
    (key,) = [key for key in found if key[0] == LEVEL.name]
    assert key[1] == hostile.encode(errors="replace").decode()
    assert found[key] == 7


def test_scrapes_at_the_same_time_take_turns():
    inside, most = 0, 0

    def read() -> Iterator[Sample]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        yield SEEN(1, "autumn")
        inside -= 1

    found = exporter(read)
    threads = [threading.Thread(target=found.collect) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.parametrize(("held", "number"), [(3, 3.0), (0.5, 0.5), (True, None), ("3", None), (None, None)])
def test_only_a_number_is_one(held, number):
    assert metrics.number(held) == number


def test_a_certificate_ends_when_the_last_in_its_file_does(world):
    from coordinator import certificates
    from protos import validity

    keys = world.home.keys
    before = metrics.certificate(keys / "ca.crt", "ca.crt").value
    certificates.stage_authority(keys)
    both = validity.certificates(keys / "ca.crt")
    assert len(both) == 2
    after = metrics.certificate(keys / "ca.crt", "ca.crt").value
    assert after == max(one.not_valid_after_utc.timestamp() for one in both) >= before
