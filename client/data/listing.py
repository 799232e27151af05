"""Finding a data set's files, and pairing images with their labels by name.

What lists a target's images has no way to labels: :class:`UnlabelledFiles` has nowhere to keep their names, and
:func:`unlabelled` never looks into a folder of labels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from client.data import hints
from client.data.layouts import Coding, stem_of
from client.data.settings import ImageFolder
from protos.errors import DataError


@dataclass(frozen=True)
class UnlabelledFiles:
    """Image files and nothing else.

    Attributes:
        root: The data set's folder.
        images: Their paths, sorted.

    """

    root: Path
    images: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """Return a short digest of the files' names and sizes: the same for a copy of them elsewhere."""
        return _digest(self.root, self.images, times=False)


@dataclass(frozen=True)
class LabelledFiles:
    """Image files with a label map for each.

    Attributes:
        root: The data set's folder.
        images: Their paths, sorted; at least one.
        labels: The label maps' paths, in the same order.
        codings: What each label map's numbers mean.

    """

    root: Path
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    codings: tuple[Coding, ...]

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """Return a short digest of the files' names and sizes: the same for a copy of them elsewhere."""
        return _digest(self.root, [*self.images, *self.labels], times=False)

    def labels_fingerprint(self) -> str:
        """Return a short digest of the label maps' names, sizes, times of change and codings."""
        return _digest(self.root, self.labels, times=True, also={coding.name for coding in self.codings})


@dataclass(frozen=True)
class Pairs:
    """What pairing found, its failures too.

    Attributes:
        files: Images with labels; None if there is no pair at all.
        bare: Images without labels.
        stray: Label maps without an image, in the folders where the images' labels are looked for.

    """

    files: LabelledFiles | None
    bare: tuple[Path, ...]
    stray: tuple[Path, ...]


def unlabelled(part: ImageFolder, home: Path) -> UnlabelledFiles:
    """List a folder's images.

    Args:
        part: Which folder, as settings say it.
        home: What a relative folder is relative to.

    Raises:
        DataError: There is no such folder or split, or there are no images in it.

    """
    root = place(part, home)
    return UnlabelledFiles(root, tuple(_images(part, root)))


def labelled(part: ImageFolder, home: Path) -> LabelledFiles:
    """List a folder's images with their labels; see `unlabelled`.

    Raises:
        DataError: There is no such folder or split, there are no images in it, or an image has no labels.

    """
    found = pairs(part, home)
    if found.files is None or found.bare:
        raise hints.no_labels(part, found.bare, found.stray)
    return found.files


def pairs(part: ImageFolder, home: Path) -> Pairs:
    """List a folder's images with their labels, and what has no partner.

    Raises:
        DataError: There is no such folder or split, there are no images in it, or there is no folder of labels.

    """
    root = place(part, home)
    images = _images(part, root)
    rules = part.rules
    pictures, truth = root / rules.images, root / rules.labels
    if not truth.is_dir():
        raise hints.rename(truth, f"{root} has no {rules.labels}/", "label maps are needed here")
    listed: dict[Path, set[str]] = {}
    looked_for: set[Path] = set()
    paired: list[tuple[Path, Path, Coding]] = []
    bare = []
    for image in images:
        below = image.relative_to(pictures)
        folder = truth / below.parent
        if folder not in listed:
            listed[folder] = _names(folder)
        stem = stem_of(image.name, rules.endings)
        looked_for.update(folder / (stem + kind.ending) for kind in rules.truths)
        for kind in rules.truths:
            if stem + kind.ending in listed[folder]:
                paired.append((image, folder / (stem + kind.ending), kind.coding))
                break
        else:
            bare.append(image)
    endings = tuple(kind.ending for kind in rules.truths)
    there = [folder / name for folder, names in listed.items() for name in names]
    stray = sorted(path for path in there if path.name.endswith(endings) and path not in looked_for)
    if not paired:
        return Pairs(None, tuple(bare), tuple(stray))
    first, second, third = zip(*paired, strict=True)
    return Pairs(LabelledFiles(root, first, second, third), tuple(bare), tuple(stray))


def place(part: ImageFolder, home: Path) -> Path:
    """Return the data set's folder."""
    return home / Path(part.folder).expanduser()


def _images(part: ImageFolder, root: Path) -> list[Path]:
    rules, pictures = part.rules, root / part.rules.images
    if not root.is_dir():
        raise hints.missing(root, f"there is no folder {root}", "name the data set's folder")
    if not pictures.is_dir():
        raise hints.no_images_folder(part, root)
    folders = _split_folders(part, pictures)
    listed = [path for folder in folders for path in _walk(folder)]
    found = sorted(path for path in listed if path.name.lower().endswith(_lower(rules.endings)))
    if not found:
        where = folders[0] if len(folders) == 1 else pictures
        others = sorted({path.suffix for path in listed if path.suffix})
        fix = f"their names end in {', '.join(rules.endings)}"
        if others:
            fix += f"; here are files that end in {', '.join(others[:5])}"
        raise DataError(f"there are no images in {where}", fix)
    return found


def _split_folders(part: ImageFolder, pictures: Path) -> list[Path]:
    if not part.split:
        return [pictures]
    for pattern in part.rules.splits.get(part.split, (part.split,)):
        if found := sorted(path for path in pictures.glob(pattern) if path.is_dir()):
            return found
    if not part.rules.has_splits and not any(path.is_dir() for path in pictures.iterdir()):
        raise DataError(
            f"the layout {part.layout} has no splits, and {pictures} has no folders", "leave split out"
        )
    raise hints.missing(pictures / part.split, f"{pictures} has no split {part.split!r}", "name another split")


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder) if entry.name[0] != "."} if folder.is_dir() else set()


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; links are followed, each folder once, and hidden files left out."""
    seen = set()
    for where, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        yield from (Path(where) / name for name in names if not name.startswith("."))


def _lower(endings: Iterable[str]) -> tuple[str, ...]:
    return tuple(end.lower() for end in endings)


def _digest(root: Path, paths: Iterable[Path], *, times: bool, also: Iterable[str] = ()) -> str:
    sha = hashlib.sha256("\n".join(sorted(also)).encode())
    for path in paths:
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"can't read {path}: {error.strerror}", "was it removed just now?") from error
        when = found.st_mtime_ns if times else 0
        sha.update(f"{path.relative_to(root).as_posix()}\0{found.st_size}\0{when}\n".encode())
    return sha.hexdigest()[:16]
