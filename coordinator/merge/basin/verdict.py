"""May two models be merged? A verdict from the evidence, in one sentence.

The bounds come from pairs of tiny-resnets whose mid-points (with pooled statistics) were evaluated on the source
domain, one run each; mIoU of both and of the mid-point:

=========================================================  ========  ======  =============  =========
pair                                                       in place  cosine  mIoU of both   mid-point
=========================================================  ========  ======  =============  =========
a trained base, adapted to night and to dust               1         0.962   69.9, 69.5     70.5
branched off after 300 training steps, 500 steps each      1         0.961   69.9, 69.6     69.6
branched off after 100                                     1         0.931   64.6, 65.4     64.6
branched off after 30                                      1         0.890   60.0, 60.0     58.3
branched off after 10                                      1         0.880   58.8, 60.0     55.0
one initialisation, no common training                     1         0.873   58.0, 59.4     52.6
a trained base, adapted at almost four times the rate      1         0.752   73.9, 72.3     73.5
one initialisation, longer and at a higher rate            0.990     0.425   75.0, 75.3     49.5
two initialisations                                        0.014     0.005   65.8, 64.3     1.9
=========================================================  ========  ======  =============  =========

So above a cosine of 0.9 mid-points held; below it depends on what the common training was, which weights don't
tell. The last pair's mid-point after alignment: 8.2, and 26.4 with statistics that were estimated anew on images.
"""

from __future__ import annotations

from enum import Enum

from coordinator.merge.basin.evidence import Closeness, Evidence

IN_PLACE = 0.99
"""Share of channels that stay, from which on re-basin would do nothing that matters."""
NEAR = 0.9
"""Cosine from which on mid-points held."""
CHANCE = 0.1
"""Models that shared no training are this near to the shuffled ones' cosine at most; 0.003 was measured."""


class Verdict(Enum):
    """Where two models lie."""

    ONE_BASIN = "one-basin"
    """They share a base and stayed near it."""
    BETWEEN = "between"
    """They have something in common, but went far, or only in some parts."""
    REORDERED = "one-basin-when-aligned"
    """They are near each other once the channels of one are in the other's order."""
    APART = "apart"
    """They have nothing in common."""


def judge(evidence: Evidence) -> Verdict:
    """Return what the evidence says."""
    if evidence.share >= IN_PLACE and evidence.as_they_are.cosine >= NEAR:
        return Verdict.ONE_BASIN
    if evidence.share < IN_PLACE and evidence.aligned.cosine >= NEAR:
        return Verdict.REORDERED
    if _by_chance(evidence.as_they_are, evidence):
        return Verdict.APART
    return Verdict.BETWEEN


def sentence(evidence: Evidence, a: str = "A", b: str = "B") -> str:
    """Return the verdict and its reasons in plain words."""
    verdict = judge(evidence)
    share, cosine = percent(evidence.share), f"{evidence.as_they_are.cosine:.3f}"
    said = f"{share} of the channels stay in place and the cosine of their weights is {cosine}"
    if verdict is Verdict.ONE_BASIN:
        return f"{a} and {b} lie in one basin: {said}; their mid-point is safe to try."
    if verdict is Verdict.REORDERED:
        return (
            f"{a} and {b} lie in one basin, but with their channels in another order: {said}, "
            f"{evidence.aligned.cosine:.3f} after alignment. Merge them with --align."
        )
    if verdict is Verdict.APART:
        return (
            f"{a} and {b} do not share a base: {said}, as with unrelated models. Their mid-point would be near "
            "chance; use --align, and expect less than from either."
        )
    if odd := _odd_parts(evidence):
        return (
            f"{a} and {b} share a base but for {' and '.join(odd)}: {said}. Keep each model's own, "
            + " ".join(f"--separate '{part}.*'" for part in odd)
            + ", or evaluate the mid-point before you use it."
        )
    return (
        f"{a} and {b} have a base in common, but are far apart: {said}. Their mid-point may be worse than either: "
        "evaluate it before you use it."
    )


def about_base(evidence: Evidence, a: str = "A", b: str = "B", base: str = "C") -> str:
    """Return in plain words whether both come from the base; empty if none was given."""
    found = evidence.base
    if found is None:
        return ""
    strange = [name for name, one in ((a, found.a), (b, found.b)) if _by_chance(one, evidence)]
    if strange:
        were = "was" if len(strange) == 1 else "were"
        return f"{' and '.join(strange)} {were} not adapted from {base}: the weights have nothing in common."
    if found.changes is None:
        return f"Both come from {base}, and one of them is {base} still."
    if found.changes < -CHANCE:
        direction = "in opposite directions, so the mid-point undoes much of it"
    else:
        direction = "at right angles to each other" if found.changes < CHANCE else "in part in the same direction"
    return f"Both come from {base}, and went {direction} (cosine of the changes {found.changes:.2f})."


def percent(share: float) -> str:
    """Return a share for people; only all of it is 100 %."""
    if share == 1:
        return "100 %"
    return f"{min(share, 0.999):.1%}".replace("%", " %")


def _by_chance(found: Closeness, evidence: Evidence) -> bool:
    return found.cosine < evidence.unrelated.cosine + CHANCE


def _odd_parts(evidence: Evidence) -> list[str]:
    """Return the parts that have nothing in common while the others lie in one basin."""
    near = [
        p.name for p in evidence.parts if p.closeness.cosine >= NEAR and (p.share is None or p.share >= IN_PLACE)
    ]
    odd = [p.name for p in evidence.parts if _by_chance(p.closeness, evidence)]
    return odd if near and len(near) + len(odd) == len(evidence.parts) else []
