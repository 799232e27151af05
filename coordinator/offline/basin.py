"""``onebasin basin``: may two models be merged? Told from their weights, without data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.offline.commands import CopyOption, JsonOption

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from coordinator.merge.basin.evidence import Evidence
    from coordinator.offline.inputs import Input

_MOST = 10
"""Groups to show."""


def basin(
    a: Annotated[Path, typer.Argument(help="A model.", metavar="A", show_default=False)],
    b: Annotated[Path, typer.Argument(help="Another of the same architecture.", metavar="B", show_default=False)],
    base: Annotated[
        Path | None,
        typer.Option(help="What both were adapted from, to see how far each went.", show_default=False),
    ] = None,
    copy: CopyOption = None,
    json: JsonOption = False,
) -> None:
    """Tell whether two models may be merged: whether they lie in one basin of the loss. Needs no data.

    Matches their channels as Git Re-Basin does. Models adapted from one base keep theirs in place, and their
    mid-point is a good model; between models that began at different initialisations it is none.
    """
    from protos import printing

    found = examine(a, b, base, copy)
    printing.show(found.as_json() if json else found.as_text())


@dataclass(frozen=True)
class Examined:
    """Two models, perhaps their base, and what their weights tell.

    Attributes:
        models: The models, the base last if there is one.
        digests: Their digests.
        evidence: What was measured.

    """

    models: list[Input]
    digests: list[bytes]
    evidence: Evidence

    @property
    def names(self) -> list[str]:
        """What the models are called."""
        from coordinator.report.text import plain

        return [plain(one.name) for one in self.models]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON's types; what isn't there is null."""
        from coordinator.merge.basin.verdict import about_base, judge, sentence

        a, b, *base = self.names
        return {
            "verdict": judge(self.evidence).value,
            "sentence": sentence(self.evidence, a, b),
            "about_base": about_base(self.evidence, a, b, *base) or None,
            "models": [
                {
                    "role": role,
                    "name": one.name,
                    "file": str(one.file.path),
                    "copy": one.file.copy,
                    "digest": digest.hex(),
                }
                for role, one, digest in zip(("a", "b", "base"), self.models, self.digests, strict=False)
            ],
            **_without_infinity(asdict(self.evidence)),
        }

    def as_text(self) -> Iterator[Table | Text]:
        """Yield what a person wants to read."""
        from rich.text import Text

        from coordinator.merge.basin.verdict import about_base, sentence
        from coordinator.report.text import listing, plain

        a, b, *base = self.names
        if self.digests[0] == self.digests[1]:
            yield Text(f"note: {a} and {b} hold the same model")
        yield self._compared()
        yield Text("")
        moved = [one for one in self.evidence.groups if one.in_place < 1]
        if moved:
            yield self._groups()
            if len(moved) > _MOST:
                yield Text(f"and {len(moved) - _MOST} more groups; --json lists them")
            yield Text("")
        if self.evidence.unknown:
            unknown = listing([plain(part) for part in self.evidence.unknown])
            yield Text(f"note: {unknown} is not known here, so the channels that it reads were left as they are")
        yield Text(sentence(self.evidence, a, b))
        if base:
            yield Text(about_base(self.evidence, a, b, *base))

    def _compared(self) -> Table:
        from rich.text import Text

        from coordinator.merge.basin.verdict import percent
        from coordinator.report.text import count, plain

        found = self.evidence
        a, b, *base = self.names
        table = _table("", "channels in place", "cosine", "relative distance")
        channels = count(sum(one.channels for one in found.groups))
        rows = [(f"{a} and {b}", f"{percent(found.share)} of {channels}", found.as_they_are)]
        if len(found.parts) > 1:
            rows += [
                (f"  {plain(part.name)}", "" if part.share is None else percent(part.share), part.closeness)
                for part in found.parts
            ]
        if found.share < 1:
            rows.append(("aligned", "", found.aligned))
        rows.append(("unrelated models", "", found.unrelated))
        if found.base is not None:
            rows += [(f"{a} and base {base[0]}", "", found.base.a), (f"{b} and base {base[0]}", "", found.base.b)]
        for name, share, closeness in rows:
            table.add_row(Text(name), share, f"{closeness.cosine:.3f}", f"{closeness.relative:.3f}")
        return table

    def _groups(self) -> Table:
        from rich.text import Text

        from coordinator.merge.basin.verdict import percent
        from coordinator.report.text import count, plain

        table = _table("channels of", "number", "in place")
        for one in self.evidence.groups[:_MOST]:
            if one.in_place < 1:
                table.add_row(Text(plain(one.name)), count(one.channels), percent(one.in_place))
        return table


def examine(a: Path, b: Path, base: Path | None = None, copy: str | None = None) -> Examined:
    """Match two models and measure how near they are.

    Args:
        a: A model's file.
        b: Another's.
        base: The file of what both were adapted from.
        copy: Which copy to take where a file holds several.

    Raises:
        ModelFileError: One can't be read, they are not of one architecture, or it is none that is known here.

    """
    from contextlib import ExitStack

    from coordinator.merge.basin.evidence import gather
    from coordinator.offline.inputs import check_alike, open_inputs
    from protos.parallel import cores

    paths = [a, b] if base is None else [a, b, base]
    with ExitStack() as opened:
        found = open_inputs(paths, copy, opened, cores())
        check_alike(found, lambda _: False)
        origin = None if base is None else found[2].file
        evidence = gather(found[0].file, found[1].file, origin)
        return Examined(found, [one.digest for one in found], evidence)


def _without_infinity(found: Any) -> Any:
    """Return JSON's types with null for a distance that is relative to nothing."""
    if isinstance(found, dict):
        return {key: _without_infinity(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_without_infinity(value) for value in found]
    return None if found in (math.inf, -math.inf) else found


def _table(first: str, *others: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table
