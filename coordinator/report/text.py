"""Text and numbers for people. Names of sites and campaigns are untrusted; here they are made harmless."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

MISSING = "–"

# Control characters could drive a terminal; separators and surrogates break lines and encodings; the others
# could make a name read as another one (right-to-left overrides, invisible marks).
_BROKEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
_REORDERING = frozenset(
    map(chr, [0x61C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF])
)

_MARKDOWN_ENTITIES = {character: f"&#{ord(character)};" for character in "&<>@|"}
_MARKDOWN_MARKS = frozenset("\\`*_[]#~$")
# What hubs turn into links although nothing marks it as one.
_BARE_LINK = re.compile(r"(?i)(?<=\bwww)\.|:(?=//)|(?<=\bmailto):|(?<=\bxmpp):")


def plain(text: str, limit: int | None = None) -> str:
    """Return the text on one line, without control or reordering characters, at most ``limit`` long."""
    spaced = re.sub(r"\s+", " ", text).strip()
    clean = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _BROKEN or c in _REORDERING else c
        for c in spaced
    )
    if limit is not None and len(clean) > limit:
        return clean[: limit - 1].rstrip() + "…"
    return clean


def markdown(text: str) -> str:
    """Return the text such that Markdown, also within a table, shows just its characters.

    No mark-up, HTML, link, mention or mathematics comes of it.
    """
    escaped = "".join(_MARKDOWN_ENTITIES.get(c, f"\\{c}" if c in _MARKDOWN_MARKS else c) for c in plain(text))
    return _BARE_LINK.sub(lambda match: f"&#{ord(match[0])};", escaped)


def score(value: float | None) -> str:
    """Return a score with one decimal, or a dash."""
    return MISSING if value is None else f"{value:.1f}"


def difference(a: float, b: float) -> float:
    """Return a − b as a reader computes it from the two printed scores."""
    return round(round(a, 1) - round(b, 1), 1)


def signed(value: float) -> str:
    """Return a difference of scores with its sign, such as ``+5.5``, ``−1.2`` or ``±0.0``."""
    return "±0.0" if value == 0 else f"{'+' if value > 0 else '−'}{abs(value):.1f}"


def size(count: int | None) -> str:
    """Return a number of bytes in decimal units."""
    if count is None:
        return MISSING
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    if unit == "bytes":
        return f"{count} bytes"
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def duration(seconds: float | None) -> str:
    """Return a time span in the two largest units that matter."""
    if seconds is None:
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for name, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def count(value: int | None) -> str:
    """Return a whole number with thin spaces between its thousands."""
    return MISSING if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def moment(iso: str) -> str:
    """Return an ISO 8601 time in words and in UTC, or the text itself if it is none."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return plain(iso)
    if time.tzinfo is None:
        return f"{time.day} {time:%B %Y, %H:%M}"
    time = time.astimezone(UTC)
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def listing(names: list[str]) -> str:
    """Return names as a sentence lists them: ``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def rule(key: str, value: str | int | float | bool | None) -> tuple[str, str]:
    """Return a campaign's rule as a label and a value for people."""
    label = plain(key.removesuffix("_seconds").replace("_", " ")).capitalize()
    if isinstance(value, bool):
        return label, "yes" if value else "no"
    if value is None or value == "":
        return label, MISSING
    if key == "minimum_sites" and value == 0:
        return label, "all"
    if key.endswith("_seconds") and isinstance(value, int | float):
        return label, duration(value) if value else "none"
    return label, plain(str(value))
