"""The verdict: what the scores say, in plain sentences that hide nothing.

Differences are taken between the printed, rounded scores, so that a reader who subtracts finds the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from .model import Kind, Report, Row
from .text import difference, listing, plain, score

_BUFFERS: Mapping[Kind, str] = {
    "pooled-buffers": "pooled",
    "own-buffers": "own",
    "recalibrated-buffers": "recalibrated",
    "pooled-recalibrated-buffers": "recalibrated and pooled",
    "routed-buffers": "routed",
}
"""What kind of buffers the merged model may have, in a word."""
_OTHERS: Mapping[Kind, str] = {
    "pooled-buffers": "With the updates' statistics pooled, as in the paper,",
    "own-buffers": "With the statistics of each site's own update",
    "recalibrated-buffers": "With statistics that each site measured on its own unlabelled images",
    "pooled-recalibrated-buffers": "With such statistics pooled",
}
"""How a sentence begins that is about the same parameters with other buffers."""


def conclude(report: Report) -> Report:
    """Return the report with its verdict written."""
    return replace(report, verdict=verdict(report))


def verdict(report: Report) -> str:
    """Say in a few sentences whether the merge paid, by how much, and what does better still."""
    result = report.result
    h = None if result is None else report.h(result)
    if result is None or h is None:
        return "The merged model was not scored: no site has evaluated it."
    best = report.best("single")
    if best is None:
        sentences = [_against_base(report, h), _own_domains(report, result), _why_no_singles(report)]
    else:
        sentences = [_against_single(report, h, best), _left_out(report), _base_ahead(report, h)]
    sentences += [_zero(report, result), *_better_buffers(report, h), *_others(report, h), _unscored(report)]
    return " ".join(sentence for sentence in sentences if sentence)


def _merged(report: Report) -> str:
    return f"The merged model ({_BUFFERS[report.result_kind]} buffers)"


def _compare(report: Report, h: float, other: float, name: str) -> str:
    """Say how the merged model's H stands to another's; ``name`` holds the other and its H."""
    gap = difference(h, other)
    if gap == 0:
        return f"{_merged(report)} has H {score(h)}, level with {name}."
    if gap < 0:
        return f"{_merged(report)} is behind: it has H {score(h)}, {-gap:.1f} below {name}."
    return f"{_merged(report)} has H {score(h)}, {gap:.1f} above {name}."


def _against_single(report: Report, h: float, best: Row) -> str:
    other = report.h(best)
    assert other is not None and best.site is not None  # best() returns only judged rows, singles have a site
    return _compare(report, h, other, f"the best single model ({plain(best.site)}, {score(other)})")


def _left_out(report: Report) -> str:
    missing = [plain(row.site or "") for row in report.of_kind("single") if report.h(row) is None]
    if not missing:
        return ""
    many = len(missing) > 1
    return (
        f"The model{'s' if many else ''} of {listing(missing)} {'were' if many else 'was'} not scored in every "
        f"domain and {'are' if many else 'is'} left out of that."
    )


def _base_h(report: Report) -> float | None:
    base = report.best("base")
    return None if base is None else report.h(base)


def _base_ahead(report: Report, h: float) -> str:
    base = _base_h(report)
    if base is None or (gap := difference(base, h)) <= 0:
        return ""
    return f"The base, before any adapting, does better: H {score(base)}, {gap:.1f} above the merged model."


def _against_base(report: Report, h: float) -> str:
    base = _base_h(report)
    if base is None:
        return f"{_merged(report)} has H {score(h)}; there is nothing to compare that with."
    return _compare(report, h, base, f"the base ({score(base)})")


def _own_domains(report: Report, result: Row) -> str:
    """Compare each site's own model in its own domain, which is all that stays home."""
    pairs = [
        (own, merged)
        for row in report.of_kind("single")
        if row.site in report.domains
        and (own := row.miou(row.site)) is not None
        and (merged := result.miou(row.site)) is not None
    ]
    if not pairs:
        return ""
    ahead = sum(difference(merged, own) > 0 for own, merged in pairs)
    own_mean, merged_mean = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    domains = f"{len(pairs)} domains" if len(pairs) > 1 else "1 domain"
    return (
        f"It beats the site's own model in {ahead} of {domains}; in their own domains the sites' models "
        f"have {score(own_mean)} mIoU on average, the merged model {score(merged_mean)}."
    )


def _why_no_singles(report: Report) -> str:
    if report.campaign.rules.get("compare_single_models") is False:
        return "Single models were not compared across domains (rule compare_single_models is off)."
    return "No single model was scored in every domain, so there is no best single model to compare with."


def _zero(report: Report, result: Row) -> str:
    """Explain an H of 0: one domain is enough."""
    zeros = [plain(site) for site in report.domains if result.miou(site) == 0]
    return f"H is 0 because nothing was recognised at {listing(zeros)}." if zeros else ""


def _better_buffers(report: Report, h: float) -> list[str]:
    """Name the buffers that would have served the same parameters better."""
    found: list[str] = []
    averaged, one_site = report.best("averaged-buffers"), report.best("one-site-buffers")
    for row, name in (
        (averaged, "averaged buffers"),
        (one_site, f"the buffers of {plain(one_site.site or '')} alone" if one_site else ""),
    ):
        other = None if row is None else report.h(row)
        if other is not None and (gap := difference(other, h)) > 0:
            found.append(f"{name} (H {score(other)}, {gap:.1f} above {_BUFFERS[report.result_kind]})")
    return [f"With the same parameters, {listing(found)} would have done better."] if found else []


def _others(report: Report, h: float) -> Iterator[str]:
    """Say what the same parameters are worth with the other buffers that a campaign may choose."""
    word = _BUFFERS[report.result_kind]
    for kind, beginning in _OTHERS.items():
        row = None if kind == report.result_kind else report.best(kind)
        other = None if row is None else report.h(row)
        if other is not None:
            gap = difference(other, h)
            said = f"level with {word}" if gap == 0 else f"{abs(gap):.1f} {'above' if gap > 0 else 'below'} {word}"
            yield f"{beginning} it has H {score(other)}, {said}."


def _unscored(report: Report) -> str:
    missing = [plain(site) for site in report.site_names if site not in report.domains]
    if not missing:
        return ""
    return (
        f"H is over {len(report.domains)} of the campaign's {len(report.site_names)} sites: "
        f"{listing(missing)} sent no score of the merged model."
    )
