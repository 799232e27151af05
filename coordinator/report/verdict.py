"""The verdict: what the scores say, in plain sentences that hide nothing.

Differences are taken between the printed, rounded scores, so that a reader who subtracts finds the same.
"""

from __future__ import annotations

from dataclasses import replace

from .model import Report, Row
from .text import difference, listing, plain, score

MERGED = "The merged model (pooled buffers)"


def conclude(report: Report) -> Report:
    """Return the report with its verdict written."""
    return replace(report, verdict=verdict(report))


def verdict(report: Report) -> str:
    """Say in a few sentences whether the merge paid, by how much, and what does better still."""
    pooled = report.pooled
    h = None if pooled is None else report.h(pooled)
    if pooled is None or h is None:
        return "The merged model was not scored: no site has evaluated it."
    best = report.best("single")
    if best is None:
        sentences = [_against_base(report, h), _own_domains(report, pooled), _why_no_singles(report)]
    else:
        sentences = [_against_single(report, h, best), _left_out(report), _base_ahead(report, h)]
    sentences += [_zero(report, pooled), *_better_buffers(report, h), _recalibrated(report, h), _unscored(report)]
    return " ".join(sentence for sentence in sentences if sentence)


def _compare(h: float, other: float, name: str) -> str:
    """Say how the merged model's H stands to another's; ``name`` holds the other and its H."""
    gap = difference(h, other)
    if gap == 0:
        return f"{MERGED} has H {score(h)}, level with {name}."
    if gap < 0:
        return f"{MERGED} is behind: it has H {score(h)}, {-gap:.1f} below {name}."
    return f"{MERGED} has H {score(h)}, {gap:.1f} above {name}."


def _against_single(report: Report, h: float, best: Row) -> str:
    other = report.h(best)
    assert other is not None and best.site is not None  # best() returns only judged rows, singles have a site
    return _compare(h, other, f"the best single model ({plain(best.site)}, {score(other)})")


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
        return f"{MERGED} has H {score(h)}; there is nothing to compare that with."
    return _compare(h, base, f"the base ({score(base)})")


def _own_domains(report: Report, pooled: Row) -> str:
    """Compare each site's own model in its own domain, which is all that stays home."""
    pairs = [
        (own, merged)
        for row in report.of_kind("single")
        if row.site in report.domains
        and (own := row.miou(row.site)) is not None
        and (merged := pooled.miou(row.site)) is not None
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


def _zero(report: Report, pooled: Row) -> str:
    """Explain an H of 0: one domain is enough."""
    zeros = [plain(site) for site in report.domains if pooled.miou(site) == 0]
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
            found.append(f"{name} (H {score(other)}, {gap:.1f} above pooled)")
    return [f"With the same parameters, {listing(found)} would have done better."] if found else []


def _recalibrated(report: Report, h: float) -> str:
    """Say what statistics of each site's own images are worth."""
    row = report.best("recalibrated-buffers")
    other = None if row is None else report.h(row)
    if other is None:
        return ""
    gap = difference(other, h)
    said = "level with pooled" if gap == 0 else f"{abs(gap):.1f} {'above' if gap > 0 else 'below'} pooled"
    return f"With statistics that each site measured on its own unlabelled images it has H {score(other)}, {said}."


def _unscored(report: Report) -> str:
    missing = [plain(site) for site in report.site_names if site not in report.domains]
    if not missing:
        return ""
    return (
        f"H is over {len(report.domains)} of the campaign's {len(report.site_names)} sites: "
        f"{listing(missing)} sent no score of the merged model."
    )
