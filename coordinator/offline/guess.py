"""Why two models may not be of one architecture: a guess, for the error's second line."""

from __future__ import annotations

from collections.abc import Mapping

from protos.manifest import TensorSpec

Specs = Mapping[str, TensorSpec]


def guess(a: Specs, b: Specs) -> str:
    """Guess what is behind the difference between two models' tensors."""
    return (
        _prefix(a, b)
        or _dtype(a, b)
        or _classes(a, b)
        or _depth(a, b)
        or "models can be merged only if they were adapted from the same base"
    )


def _prefix(a: Specs, b: Specs) -> str:
    """Tell whether one model's names are the other's behind a prefix."""
    for few, many in ((a, b), (b, a)):
        for name in many:
            head, dot, rest = name.partition(".")
            if dot and rest in few and all(f"{head}.{other}" in many for other in few):
                return f"the same names stand behind {head!r} in one of them: export both in the same way"
    return ""


def _dtype(a: Specs, b: Specs) -> str:
    if a.keys() == b.keys() and all(a[name].shape == b[name].shape for name in a):
        kinds = sorted({a[name].dtype.name for name in a} ^ {b[name].dtype.name for name in b})
        return f"only the dtypes differ ({', '.join(kinds)}): convert one of them"
    return ""


def _classes(a: Specs, b: Specs) -> str:
    differ = {(a[n].shape[:1], b[n].shape[:1]) for n in a.keys() & b.keys() if a[n] != b[n]}
    rest = all(a[n].shape[1:] == b[n].shape[1:] for n in a.keys() & b.keys())
    if a.keys() == b.keys() and rest and len(differ) == 1:
        ((first, second),) = differ
        if first and second:
            return (
                f"they may tell {first[0]} and {second[0]} classes apart: keep each one's head with "
                "--separate 'decode_head.*', or adapt from one base"
            )
    return ""


def _depth(a: Specs, b: Specs) -> str:
    """Tell whether one model has the other's stages with more blocks in them."""
    deeper, flatter = (a, b) if len(a) > len(b) else (b, a)
    extra = sorted(deeper.keys() - flatter.keys())
    if flatter.keys() <= deeper.keys() and all(any(part.isdecimal() for part in n.split(".")) for n in extra):
        return f"one may be a deeper variant of the other: it also has {extra[0].rpartition('.')[0]}"
    return ""
