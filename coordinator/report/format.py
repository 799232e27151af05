"""The file format ``onebasin-report/1``: a report as JSON, and back.

One JSON object in UTF-8 (in fact ASCII: other characters are escaped), with the keys of ``Report`` and the
values it is made of, plus

- ``format``: ``"onebasin-report/1"``,
- ``domains``: the sites over which H is taken,
- ``h`` in every row, and ``iou`` and ``miou`` in every score: per cent, or null.

The last two lines are derived, for readers that only want the numbers; ``from_json`` computes them anew. A
reader ignores keys that it doesn't know, so ``/1`` may gain keys; a change of meaning is a new number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TypeVar, cast

from protos.errors import ConfigurationError, DataError

from .model import (
    CampaignSummary,
    Divergence,
    Kind,
    Merged,
    PairDivergence,
    Report,
    Row,
    Scalar,
    Score,
    SiteSummary,
)

FORMAT = "onebasin-report/1"

_T = TypeVar("_T")


def to_json(report: Report) -> str:
    """Return the report as JSON. The same report gives the same bytes."""
    campaign, merged, divergence = report.campaign, report.merged, report.divergence
    value = {
        "format": FORMAT,
        "campaign": {
            "name": campaign.name,
            "digest": campaign.digest,
            "base_digest": campaign.base_digest,
            "rules": dict(campaign.rules),
        },
        "created": report.created,
        "verdict": report.verdict,
        "classes": list(report.classes),
        "domains": list(report.domains),
        "rows": [_row(report, row) for row in report.rows],
        "sites": [vars(site) for site in report.sites],
        "divergence": divergence
        and {
            "layers": list(divergence.layers),
            "pairs": [{"a": p.a, "b": p.b, "values": list(p.values)} for p in divergence.pairs],
        },
        "merged": vars(merged),
        "receipt_digest": report.receipt_digest,
        "timings": dict(report.timings),
        "versions": dict(report.versions),
    }
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _row(report: Report, row: Row) -> dict[str, object]:
    return {
        "key": row.key,
        "title": row.title,
        "kind": row.kind,
        "site": row.site,
        "h": report.h(row),
        "scores": {
            site: {
                "images": score.images,
                "miou": score.miou,
                "iou": list(score.iou),
                "confusion": [list(line) for line in score.confusion],
            }
            for site, score in row.scores.items()
        },
    }


def from_json(text: str | bytes) -> Report:
    """Read a report.

    Raises:
        ConfigurationError: The text is no JSON, is of another format, or a value is missing or of a wrong type.

    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"The report is no JSON: {error}.", "Name a report.json of a campaign."
        ) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else None
        raise ConfigurationError(
            f"The report's format is {found!r}, but this version reads {FORMAT!r}.",
            "Name a report.json of a campaign, or read it with the onebasin that wrote it.",
        )
    try:
        return _report(_Object(value, "report"))
    except DataError as error:
        raise ConfigurationError(f"The report contradicts itself: {error.what}") from error


def _report(top: _Object) -> Report:
    campaign, merged = top.child("campaign"), top.child("merged")
    return Report(
        campaign=CampaignSummary(
            name=campaign.text("name"),
            digest=campaign.text("digest"),
            base_digest=campaign.text("base_digest"),
            rules=campaign.table("rules", _scalar),
        ),
        created=top.text("created"),
        verdict=top.text("verdict"),
        classes=top.items("classes", _text),
        rows=top.items("rows", lambda value, where: _read_row(_Object(value, where))),
        sites=top.items("sites", lambda value, where: _read_site(_Object(value, where))),
        divergence=None if top.get("divergence") is None else _read_divergence(top.child("divergence")),
        merged=Merged(
            digest=merged.text("digest"),
            file=merged.text("file"),
            parameters=merged.read("parameters", _whole),
            batch_norm_layers=merged.read("batch_norm_layers", _whole),
            bytes=merged.read("bytes", _whole),
        ),
        receipt_digest=top.read("receipt_digest", _maybe(_text)),
        timings=top.table("timings", _number),
        versions=top.table("versions", _text),
    )


def _read_row(row: _Object) -> Row:
    return Row(
        key=row.text("key"),
        title=row.text("title"),
        kind=cast(Kind, row.text("kind")),  # Row refuses any other word
        site=row.read("site", _maybe(_text)),
        scores=row.table("scores", lambda value, where: _read_score(_Object(value, where))),
    )


def _read_score(score: _Object) -> Score:
    return Score(
        confusion=score.items("confusion", lambda value, where: _list(value, where, _whole)),
        images=score.read("images", _whole),
    )


def _read_site(site: _Object) -> SiteSummary:
    return SiteSummary(
        site=site.text("site"),
        state=site.text("state"),
        update_digest=site.read("update_digest", _maybe(_text)),
        bytes=site.read("bytes", _maybe(_whole)),
        batches=site.read("batches", _maybe(_whole)),
        distance_from_base=site.read("distance_from_base", _maybe(_number)),
        seconds=site.read("seconds", _maybe(_number)),
        message=site.text("message"),
    )


def _read_divergence(divergence: _Object) -> Divergence:
    def pair(value: object, where: str) -> PairDivergence:
        entry = _Object(value, where)
        return PairDivergence(entry.text("a"), entry.text("b"), entry.items("values", _maybe(_number)))

    return Divergence(divergence.items("layers", _text), divergence.items("pairs", pair))


class _Object:
    """A JSON object whose values are read with a check of their type; errors name the place."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(value, where, "an object")
        self._value = value
        self._where = where

    def get(self, key: str) -> object:
        return self._value.get(key)

    def read(self, key: str, as_: Callable[[object, str], _T]) -> _T:
        if key not in self._value:
            raise ConfigurationError(f"The report lacks {self._where}.{key}.")
        return as_(self._value[key], f"{self._where}.{key}")

    def text(self, key: str) -> str:
        return self.read(key, _text)

    def child(self, key: str) -> _Object:
        return self.read(key, _Object)

    def items(self, key: str, as_: Callable[[object, str], _T]) -> list[_T]:
        return self.read(key, lambda value, where: _list(value, where, as_))

    def table(self, key: str, as_: Callable[[object, str], _T]) -> dict[str, _T]:
        return self.read(
            key,
            lambda value, where: {k: as_(v, f"{where}.{k}") for k, v in _Object(value, where)._value.items()},
        )


def _wrong(value: object, where: str, expected: str) -> ConfigurationError:
    return ConfigurationError(f"In the report, {where} should be {expected}, not {type(value).__name__}.")


def _list(value: object, where: str, as_: Callable[[object, str], _T]) -> list[_T]:
    if not isinstance(value, list):
        raise _wrong(value, where, "a list")
    return [as_(item, f"{where}[{index}]") for index, item in enumerate(value)]


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, where, "text")
    return value


def _whole(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(value, where, "a whole number")
    return value


def _number(value: object, where: str) -> float:
    # json reads NaN, Infinity and 1e999, although JSON has none of them.
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _wrong(value, where, "a finite number")
    return value


def _scalar(value: object, where: str) -> Scalar:
    if value is not None and not isinstance(value, str | bool):
        return _number(value, where)
    return value


def _maybe(as_: Callable[[object, str], _T]) -> Callable[[object, str], _T | None]:
    return lambda value, where: None if value is None else as_(value, where)
