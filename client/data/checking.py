"""Looking at all of a site's images and labels before hours are spent on them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from client.data import datasets, findings, hints, listing, statistics
from client.data.cutting import fitted
from client.data.datasets import LabelledImages, UnlabelledImages
from client.data.findings import Finding, Part, Report, Sample
from client.data.labels import CLASSES
from client.data.layouts import Coding
from client.data.opening import STATISTICS
from client.data.reading import FileError, read_image, read_labels
from client.data.settings import DataSettings, FolderData, ImageFolder, RareClasses, SceneData
from client.data.statistics import Counts
from protos.errors import DataError
from protos.parallel import cores, each

Say = Callable[[str, int, int], None]
"""Called with a part's name, how many of its images are done, and how many there are."""


@dataclass(frozen=True)
class Use:
    """What a folder of images is for.

    Attributes:
        name: ``source``, ``target``, ``evaluation``, or anything else.
        labelled: Whether labels are looked for.
        crop: What training cuts out of it, in pixels; 0: nothing.
        rare: How training draws its images by class, if it does.
        kept: Where to keep class statistics; None: nowhere.

    """

    name: str
    labelled: bool
    crop: int = 0
    rare: RareClasses | None = None
    kept: Path | None = None


@dataclass(frozen=True)
class _Seen:
    """What reading one image and its labels told; `wrong` if it went wrong."""

    size: tuple[int, int] | None
    counts: Counts | None
    wrong: FileError | None


def check_site(settings: DataSettings, home: Path, say: Say) -> Report:
    """Read everything that a site's settings name.

    Class statistics for rare-class sampling are kept on the way, so that training needn't count again.

    Args:
        settings: ``[data]`` of ``site.toml``.
        home: The site's folder.
        say: Called as it goes on.

    Raises:
        ConfigurationError: Unknown domain of scenes, or an impossible size or seed.
        StorageError: Statistics can't be kept.

    """
    if isinstance(settings, SceneData):
        return Report(tuple(_scenes(settings)))
    rare = settings.rare_classes if settings.rare_classes.on else None
    parts = [
        check_folder(settings.source, home, Use("source", True, settings.crop, rare, home / STATISTICS), say),
        check_folder(settings.target, home, Use("target", False, settings.crop), say),
    ]
    if settings.evaluation is not None:
        parts.append(check_folder(settings.evaluation, home, Use("evaluation", True), say))
    return Report((*parts,), (*_across(settings, home),))


def check_folder(part: ImageFolder, home: Path, use: Use, say: Say) -> Part:
    """Read a folder's images, and their labels if they are for that.

    Args:
        part: The folder.
        home: What it is relative to.
        use: What it is for.
        say: Called as it goes on.

    Raises:
        StorageError: Statistics can't be kept.

    """
    root = listing.place(part, home)
    found: list[Finding] = []
    codings: Sequence[Coding | None]
    bare = 0
    try:
        if use.labelled:
            pairs = listing.pairs(part, home)
            found += _unpaired(part, use, pairs)
            files, bare = pairs.files, len(pairs.bare)
            images = files.images if files else ()
            labels, codings = (files.labels, files.codings) if files else ((), ())
        else:
            files = None
            images = listing.unlabelled(part, home).images
            labels, codings = (), ()
    except DataError as error:
        return Part(use.name, part.layout, str(root), part.split, use.labelled, 0, {}, findings=(_of(use, error),))
    seen = _read(images, labels, codings, use, say)
    good = [at for at, one in enumerate(seen) if one.wrong is None]
    sizes = Counter(one.size for one in seen if one.size)
    found += findings.unreadable(use.name, [one.wrong for one in seen if one.wrong])
    found += findings.small(use.name, part, use.crop, sizes)
    counts = np.stack([one.counts for one in seen if one.counts is not None]) if good and use.labelled else None
    if counts is not None:
        found += findings.classes(use.name, counts, use.rare, {c.name: c for c in codings if c}.values())
        if files and use.kept and len(good) == len(files):
            statistics.store(use.kept, files, counts)

    def samples(number: int) -> list[Sample]:
        picked = [good[i * len(good) // number] for i in range(number)] if len(good) > number else good
        truths = list(zip(labels, codings, strict=True))
        return [_sample(images[at], *(truths[at] if truths else (None, None))) for at in picked]

    return Part(
        use.name,
        part.layout,
        str(root),
        part.split,
        use.labelled,
        len(images) + bare,
        {f"{width} × {height}": number for (height, width), number in sizes.most_common()},
        codings=dict(Counter(coding.name for coding in codings if coding)),
        trains_at=_trains_at(part, use, sizes),
        counts=counts,
        chances=findings.chances(counts, use.rare),
        findings=tuple(found),
        samples=samples,
    )


def _read(
    images: Sequence[Path], labels: Sequence[Path], codings: Sequence[Coding | None], use: Use, say: Say
) -> list[_Seen]:
    lock, done = threading.Lock(), 0

    def job(at: int) -> _Seen:
        nonlocal done
        size = None
        counts = None
        wrong = None
        try:
            height, width, _ = read_image(images[at]).shape
            size = (height, width)
            if labels and (coding := codings[at]):
                counts = statistics.count(read_labels(labels[at], coding, size))
        except FileError as error:
            wrong = error
        with lock:
            done += 1
            say(use.name, done, len(images))
        return _Seen(size, counts, wrong)

    with _our_threads():
        return list(each(range(len(images)), job, cores()).values())


@contextmanager
def _our_threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _unpaired(part: ImageFolder, use: Use, pairs: listing.Pairs) -> list[Finding]:
    found = []
    if pairs.bare:
        error = hints.no_labels(part, pairs.bare, pairs.stray)
        number = f"{len(pairs.bare):,} images have" if len(pairs.bare) > 1 else "1 image has"
        found.append(Finding("error", use.name, f"{number} no labels", error.fix, tuple(map(str, pairs.bare))))
    if pairs.stray:
        number = f"{len(pairs.stray):,} label maps have" if len(pairs.stray) > 1 else "1 label map has"
        what, fix = f"{number} no image", "nothing reads them: add the images, or leave them"
        found.append(Finding("warning", use.name, what, fix, tuple(map(str, pairs.stray))))
    return found


def _across(settings: FolderData, home: Path) -> Iterator[Finding]:
    """Yield what is only seen with all parts in view."""
    if settings.evaluation is None:
        yield Finding(
            "note", "evaluation", "there are no held-out images", "to judge models here, add [data.evaluation]"
        )
        return
    try:
        adapted = set(listing.unlabelled(settings.target, home).images)
        judged = listing.unlabelled(settings.evaluation, home).images
    except DataError:
        return  # said already
    both = tuple(str(path) for path in judged if path in adapted)
    if both:
        yield Finding(
            "warning",
            "evaluation",
            f"{len(both):,} of {len(judged):,} images are adapted on and judged on",
            "judge on images that were held out: name another split or folder",
            both,
        )


def _of(use: Use, error: DataError) -> Finding:
    return Finding("error", use.name, error.what, error.fix)


def _trains_at(part: ImageFolder, use: Use, sizes: Counter[tuple[int, int]]) -> str:
    if not use.crop or not sizes:
        return ""
    (size, _), *_ = sizes.most_common(1)
    height, width = fitted(size, part.box(use.crop), use.crop)
    return f"{width} × {height}, of which {use.crop} × {use.crop} at a time"


def _sample(image: Path, labels: Path | None, coding: Coding | None) -> Sample:
    pixels = read_image(image)
    return Sample(image.name, pixels, read_labels(labels, coding) if labels and coding else None)


def _scenes(settings: SceneData) -> Iterator[Part]:
    for name, images in (
        ("source", datasets.scene_source(settings)),
        ("target", datasets.scene_target(settings)),
        ("evaluation", datasets.scene_evaluation(settings)),
    ):
        domain = "source" if name == "source" else settings.domain
        yield _scene_part(name, domain, images, {f"{settings.width} × {settings.height}": len(images)})


def _scene_part(name: str, domain: str, images: LabelledImages | UnlabelledImages, sizes: dict[str, int]) -> Part:
    maps = images.labels.numpy() if isinstance(images, LabelledImages) else None
    counts = np.stack([statistics.count(labels) for labels in maps]) if maps is not None else None

    def samples(number: int) -> list[Sample]:
        picked = range(0, len(images), -(-len(images) // number))
        pixels = images.images.permute(0, 2, 3, 1).numpy()
        return [Sample(f"{domain} {at}", pixels[at], maps[at] if maps is not None else None) for at in picked]

    assert counts is None or counts.shape[1] == len(CLASSES)
    return Part(name, "scenes", domain, "", maps is not None, len(images), sizes, counts=counts, samples=samples)
