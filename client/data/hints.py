"""What to say when a data set's files are not where its layout has them: the nearest thing that is there."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from client.data.layouts import LAYOUTS, stem_of
from client.data.settings import ImageFolder
from protos.errors import DataError


def missing(path: Path, what: str, fix: str) -> DataError:
    """Return an error about a folder that isn't there, which suggests the nearest one that is."""
    parent, wanted, there = _around(path)
    near = _near(wanted, there)
    if near:
        return DataError(what, f"did you mean {parent / near}?")
    listed = f"; {parent} has {', '.join(there[:8])}" if there else ""
    return DataError(what, fix + listed)


def rename(path: Path, what: str, fix: str) -> DataError:
    """Return an error about a folder whose name a layout fixes; see `missing`."""
    parent, wanted, there = _around(path)
    near = _near(wanted, there)
    if near:
        return DataError(what, f"rename {parent / near} to {wanted}")
    listed = f"; {parent} has {', '.join(there[:8])}" if there else ""
    return DataError(what, fix + listed)


def no_images_folder(part: ImageFolder, root: Path) -> DataError:
    """Return an error about a data set's folder that doesn't hold the layout's folder of images."""
    wanted = part.rules.images
    what = f"{root} has no {wanted}/"
    if root.name == Path(wanted).parts[0]:
        return DataError(what, f"name the folder above: {root.parent}")
    for below in sorted(path for path in root.iterdir() if path.is_dir()):
        if (below / wanted).is_dir():
            return DataError(what, f"did you mean {below}?")
    fitting = [name for name, other in LAYOUTS.items() if (root / other.images).is_dir()]
    if fitting:
        return DataError(what, f"its folders look like the layout {' or '.join(fitting)}")
    return rename(root / wanted, what, f"the layout is {part.rules.about}")


def no_labels(part: ImageFolder, bare: Sequence[Path], stray: Sequence[Path]) -> DataError:
    """Return an error about images without labels, with the label map whose name is nearest to the first's.

    Args:
        part: Where they are.
        bare: The images; at least one.
        stray: Label maps without an image.

    """
    stem = stem_of(bare[0].name, part.rules.endings)
    names = " or ".join(stem + kind.ending for kind in part.rules.truths)
    number = f" (one of {len(bare):,} such images)" if len(bare) > 1 else ""
    fix = f"add {names} below {part.rules.labels}/, or remove the image"
    if stray:
        near = difflib.get_close_matches(stem, [path.name for path in stray], n=1, cutoff=0.3)
        fix += f"; {near[0] if near else stray[0].name} has no image: is it misnamed?"
    return DataError(f"{bare[0]} has no labels{number}", fix)


def _around(path: Path) -> tuple[Path, str, list[str]]:
    """Return the nearest folder above that is there, what should be in it, and which folders are."""
    parent = next(above for above in path.absolute().parents if above.is_dir())
    wanted = path.absolute().relative_to(parent).parts[0]
    try:
        there = sorted(entry.name for entry in os.scandir(parent) if entry.is_dir() and entry.name[0] != ".")
    except OSError:
        there = []
    return parent, wanted, there


def _near(wanted: str, there: Sequence[str]) -> str:
    lower = {name.lower(): name for name in there}
    near = difflib.get_close_matches(wanted.lower(), lower, n=1)
    return lower[near[0]] if near else ""
