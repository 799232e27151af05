"""The table of rounds, by fault."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from rich.table import Table

from chaos.rounds import Result


def table(results: Iterable[Result]) -> Table:
    """Return rounds run and survived per fault, and seconds from restart to continuing."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.fault, []).append(result)
    made = Table(title="seconds: from the restart, or the end of the disturbance, to the campaign's next event")
    for title in ("fault", "rounds", "struck", "survived", "runs started", "median s", "max s"):
        made.add_column(title, justify="left" if title == "fault" else "right")
    for fault, rounds in sorted(found.items()):
        made.add_row(fault, *_figures(rounds))
    made.add_section()
    made.add_row("all", *_figures([result for rounds in found.values() for result in rounds]))
    return made


def _figures(rounds: list[Result]) -> list[str]:
    times = [result.recovery for result in rounds if result.recovery is not None]
    return [
        str(len(rounds)),
        str(sum(result.struck for result in rounds)),
        str(sum(not result.problem for result in rounds)),
        str(sum(result.runs for result in rounds)),
        f"{median(times):.1f}" if times else "",
        f"{max(times):.1f}" if times else "",
    ]
