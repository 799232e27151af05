"""Do faults to a real federation, one per round, and print what was survived.

python -m chaos --rounds 200 --seed 1        all faults in turn, in a random order
python -m chaos --seed 1 --only 17           one round again, as it was
python -m chaos --fault superlink --fault at:fold-after --rounds 4
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from chaos.faults import Fault, all_faults
from chaos.rounds import Result, yard
from chaos.table import table
from onebasin.processes import interruptible


def main() -> int:
    """Run rounds; return 0 only if all were survived."""
    faults = all_faults()
    options = _options(list(faults))
    console = Console(width=130)
    chosen = {name: faults[name] for name in options.fault or faults}
    for name, fault in list(chosen.items()):
        if why := fault.needs():
            console.print(f"skipped: {name}: {why}", highlight=False)
            del chosen[name]
    results: list[Result] = []
    folder = options.folder or Path(tempfile.mkdtemp(prefix="onebasin-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"seed {options.seed}; folder {folder}", highlight=False)
    with interruptible(), yard(folder.resolve()) as found:
        for adapts in sorted({fault.adapts for fault in chosen.values()}):
            learned = found.learn(adapts=adapts)
            console.print(_line(learned), highlight=False)
            if learned.problem:
                return 1
        for number, fault in _plan(chosen, options.rounds, options.seed):
            if options.only and number != options.only:
                continue
            results.append(found.round(number, fault, f"{options.seed}-{number}-{fault.name}"))
            console.print(_line(results[-1]), highlight=False)
            if options.json:
                options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    console.print(table(results))
    lost = [result for result in results if result.problem]
    for result in lost:
        again = f"python -m chaos --seed {options.seed} --rounds {options.rounds} --only {result.number}"
        again += "".join(f" --fault {name}" for name in options.fault or ())
        console.print(f"not survived: {_line(result)}\n  again: {again}", highlight=False, markup=False)
    return 1 if lost else 0


def _plan(faults: dict[str, Fault], rounds: int, seed: int) -> Iterator[tuple[int, Fault]]:
    """Take all faults in turn, each time in another order, and number them."""
    dice, number = random.Random(seed), 0
    while number < rounds:
        for fault in dice.sample(list(faults.values()), len(faults))[: rounds - number]:
            number += 1
            yield number, fault


def _line(result: Result) -> str:
    end = f"NOT SURVIVED: {result.problem}" if result.problem else "survived"
    recovery = "" if result.recovery is None else f", continued after {result.recovery:.1f} s"
    runs = f", {result.runs} runs" if result.runs > 1 else ""
    told = result.told or "nothing was done"
    return f"round {result.number:3d}  {result.fault:20s} {result.seconds:5.1f} s  {told}: {end}{recovery}{runs}"


def _options(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=len(names), help="how many (default: each fault once)")
    parser.add_argument("--seed", type=int, default=1, help="of the order, and of all moments")
    parser.add_argument("--only", type=int, help="run that one of the rounds")
    parser.add_argument("--fault", action="append", choices=names, help="only this one; may be given again")
    parser.add_argument("--folder", type=Path, help="an empty folder, which stays; by default a temporary one")
    parser.add_argument("--json", type=Path, help="write the results here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
