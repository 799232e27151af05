"""The study: the paper's tables on the procedural scenes, side by side with ours.

Bases are trained on the synthetic source, adapted to each of four unlabelled target domains, merged in every way,
and judged on held-out images. Everything is kept in a folder: a study that was stopped goes on where it was.

    python benchmarks/study.py --seeds 0 1 2
    python benchmarks/study.py --quick          # two minutes, to see that it runs
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import study_buffers
import study_digits
import torch
from machine import describe
from safetensors.torch import load_file
from study_models import ALL, DOMAINS, Scale, Shelf, quick

from coordinator.merge.distance import relative_distance
from coordinator.offline.basin import examine
from onebasin.sweep import Step, Sweep, plot
from protos.checkpoints import open_model

Row = tuple[str, list[float]]
"""A name, and its figures: one per column."""

PAPER_SUBSETS = {
    "C": 32.4, "I": 31.8, "A": 31.9, "D": 33.5, "CI": 34.2, "CA": 36.2, "CD": 38.9, "IA": 36.1, "ID": 39.3,
    "AD": 35.2, "CIA": 35.9, "CID": 37.1, "CAD": 36.7, "IAD": 36.8, "CIAD": 36.4,
}  # fmt: skip
"""H over its four targets, of its models for each subset of them (R101)."""
PAPER_OURS = dict(zip("CIAD", DOMAINS, strict=True))
"""Which of our domains stands where the paper has Cityscapes, IDD, ACDC and Dark Zurich."""


def main() -> None:
    """Run the study and write its pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/study"), help="what is trained is kept here")
    parser.add_argument("--pages", type=Path, default=Path("docs/study"), help="where tables and plots go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default=Scale.model)
    parser.add_argument("--steps", type=int, default=Scale.steps)
    parser.add_argument("--device", default=Scale.device)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a few steps: shows that it runs, and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scale = Scale(model=options.model, steps=options.steps, device=options.device)
    scale = quick(scale) if options.quick else scale
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {line}", file=sys.stderr, flush=True)

    shelf = Shelf(options.folder / ("quick" if options.quick else f"{scale.model}-{scale.steps}"), scale, say)
    options.pages.mkdir(parents=True, exist_ok=True)
    parts = [
        f"# The study\n\n`{shlex.join(['python', 'benchmarks/study.py', *sys.argv[1:]])}`\n\n{describe()}\n\n"
        f"{scale.model}, base {scale.base_steps} steps, adaptation {scale.steps} steps of DACS, "
        f"{scale.evaluation} held-out images per domain; seeds {', '.join(map(str, options.seeds))}. Figures are "
        "mIoU in %, H is the harmonic mean over the domains; means over the seeds, ± standard deviation.\n\n"
        "What follows from it: [findings](findings.md).\n"
    ]
    for part in (main_table, better_buffers, unseen, subsets, copies, starts, line, digits):
        parts.append(part(shelf, options.seeds, options.pages))
        (options.pages / "README.md").write_text("\n".join(parts))
    print("\n".join(parts))


def main_table(shelf: Shelf, seeds: Sequence[int], _: Path) -> str:
    """Judge all models in all domains."""
    rows: dict[str, list[list[float]]] = {}
    for seed in seeds:
        singles = [shelf.adapted(seed, domain, start=seed) for domain in DOMAINS]
        models: dict[str, list[Path]] = {"base": [shelf.base(seed, seed)]}
        models.update({f"adapted to {d}": [path] for d, path in zip(DOMAINS, singles, strict=True)})
        for place, domain in enumerate(DOMAINS, 1):
            models[f"mid-point, buffers of {domain}"] = shelf.merged(singles, buffers=f"from:{place}")
        models["mid-point, buffers averaged"] = shelf.merged(singles, buffers="uniform")
        models["mid-point, buffers pooled"] = shelf.merged(singles)
        models["mid-point, pooled, separate heads"] = shelf.merged(singles, separate=("decode_head.*",))
        models["trained on all targets' images"] = [shelf.adapted(seed, ALL, start=seed)]
        for name, files in models.items():
            rows.setdefault(name, []).append(_scores(shelf, seed, files, DOMAINS))
    return _section("All four domains", [*DOMAINS, "H"], rows)


def better_buffers(shelf: Shelf, seeds: Sequence[int], _: Path) -> str:
    """Give the merged model, and everything that it competes with, better buffers."""
    rows: dict[str, list[list[float]]] = {}
    for seed in seeds:
        for name, files in study_buffers.rows(shelf, seed):
            rows.setdefault(name, []).append(_scores(shelf, seed, files, DOMAINS))
        rows.setdefault("images that the merged, routed model gives the right set, %", []).append(
            [*(found := study_buffers.routing(shelf, seed)), statistics.mean(found)]
        )
    return _section("Better buffers", [*DOMAINS, "H"], rows)


def unseen(shelf: Shelf, seeds: Sequence[int], _: Path) -> str:
    """Judge the merged model of three sites in the fourth one's domain."""
    rows: dict[str, list[list[float]]] = {"pooled": [], "routed": [], "routed − pooled": []}
    for seed in seeds:
        pairs = [study_buffers.unseen(shelf, seed, domain) for domain in DOMAINS]
        rows["pooled"].append([pooled for pooled, _ in pairs])
        rows["routed"].append([routed for _, routed in pairs])
        rows["routed − pooled"].append([routed - pooled for pooled, routed in pairs])
    return _section("A domain that no site has (three sites merged, mIoU in the fourth)", DOMAINS, rows)


def subsets(shelf: Shelf, seeds: Sequence[int], _: Path) -> str:
    """Judge the 15 subsets of the paper's table; H over all four domains, as there, and over the merged ones."""
    rows: dict[str, list[list[float]]] = {}
    for seed in seeds:
        singles = {domain: shelf.adapted(seed, domain, start=seed) for domain in DOMAINS}
        for number in range(1, len(DOMAINS) + 1):
            for letters in itertools.combinations("CIAD", number):
                inside = [PAPER_OURS[letter] for letter in letters]
                parts = [singles[domain] for domain in inside]
                files = parts if number == 1 else shelf.merged(parts)
                own = max(_h([shelf.miou(part, seed, d) for d in inside]) for part in parts)
                here = _scores(shelf, seed, files, inside)[-1]
                everywhere = _scores(shelf, seed, files, DOMAINS)
                name = " + ".join(inside)
                figures = [*everywhere, PAPER_SUBSETS["".join(letters)], here, here - own]
                rows.setdefault(name, []).append(figures)
    titles = [*DOMAINS, "H", "H, paper (R101)", "H over the merged", "over their best single"]
    return _section("Every subset", titles, rows)


def copies(shelf: Shelf, seeds: Sequence[int], _: Path) -> str:
    """Compare student and teacher: whose statistics are a domain's own."""
    rows: dict[str, list[list[float]]] = {}
    for seed in seeds:
        for copy in ("student", "teacher"):
            parts = [shelf.adapted(seed, domain, start=seed, copy=copy) for domain in DOMAINS]
            best = max((_scores(shelf, seed, [part], DOMAINS) for part in parts), key=lambda row: row[-1])
            rows.setdefault(f"{copy}, best single", []).append(best)
            for rule in ("uniform", "pooled"):
                figures = _scores(shelf, seed, shelf.merged(parts, buffers=rule), DOMAINS)
                rows.setdefault(f"{copy}, mid-point, {rule}", []).append(figures)
    return _section("Which copy is sent", [*DOMAINS, "H"], rows)


def starts(shelf: Shelf, seeds: Sequence[int], _: Path) -> str:
    """Compare one base, other batches, other bases, and unrelated initialisations; with and without re-basin."""
    a, b = "dusty", "adverse"
    rows: dict[str, list[list[float]]] = {}
    for seed in seeds:
        first = shelf.adapted(seed, a, start=seed)
        others = {
            "one base": shelf.adapted(seed, b, start=seed),
            "one base, other batches": shelf.adapted(seed, b, start=seed, order=1),
            "two bases of one initialisation": shelf.adapted(seed, b, start=seed, base_order=1),
            "unrelated initialisations": shelf.adapted(seed, b, start=seed + 100),
        }
        for name, second in others.items():
            best = max(_scores(shelf, seed, [part], (a, b))[-1] for part in (first, second))
            merged, aligned = (shelf.merged([first, second], align=align) for align in (False, True))
            with open_model(first) as one, open_model(second) as other:
                apart = relative_distance(one, other)
            place = 100 * examine(first, second).evidence.share
            figures = [best, *(_scores(shelf, seed, files, (a, b))[-1] for files in (merged, aligned))]
            rows.setdefault(name, []).append([*figures, place, 100 * apart])
    titles = ["best single", "mid-point", "mid-point after re-basin", "channels in place, %", "distance, %"]
    return _section(f"What has to be shared ({a} and {b}, H)", titles, rows)


def line(shelf: Shelf, seeds: Sequence[int], pages: Path) -> str:
    """Walk from λ = 0 to 1, for one base and for unrelated initialisations."""
    seed, (a, b) = seeds[0], ("dusty", "adverse")
    first = shelf.adapted(seed, a, start=seed)
    said = []
    for name, start in (("one-base", seed), ("unrelated", seed + 100)):
        second = shelf.adapted(seed, b, start=start)
        found = _walk(shelf, seed, (first, second), (a, b))
        plot(found, pages / f"line-{name}.png")
        own = [_scores(shelf, seed, [one], (a, b))[-1] for one in (first, second)]
        said.append(
            f"![λ sweep, {name}](line-{name}.png)\n\n{name}: error barrier {found.barrier:.1f}, best at λ = "
            f"{found.best.share:.1f} with H {found.best.h:.1f}. All points have pooled buffers, also the ends; "
            f"with their own ones these have H {own[0]:.1f} and {own[1]:.1f}.\n"
        )
    return f"## The line between two models ({a} to {b}, seed {seed})\n\n" + "\n".join(said)


def digits(shelf: Shelf, seeds: Sequence[int], _: Path) -> str:
    """Merge classifiers that know half of the classes each."""
    if importlib.util.find_spec("sklearn") is None:
        return "## Disjoint classes\n\nLeft out: scikit-learn, whose digits it needs, is not installed.\n"

    def merge(parts: Sequence[Path], rule: str) -> study_digits.State:
        return load_file(shelf.merged(parts, buffers=rule)[0])

    rows: dict[str, list[list[float]]] = {}
    for seed in seeds:
        folder = shelf.folder / f"seed{seed}" / "digits"
        for name, figures in study_digits.run(folder, seed, merge, 20 if shelf.scale.steps < 100 else 300).items():
            rows.setdefault(name, []).append(figures)
    titles = ["better parent", "mid-point, averaged", "mid-point, pooled"]
    return _section("Disjoint classes (digits, accuracy on all ten)", titles, rows)


def _walk(shelf: Shelf, seed: int, pair: tuple[Path, Path], domains: Sequence[str]) -> Sweep:
    """Judge eleven points of the line, each with pooled buffers, as in the paper's figure; the ends too."""
    steps = []
    for at in range(11):
        (file,) = shelf.merged(pair, weights=f"{10 - at},{at}")
        scores = {domain: shelf.miou(file, seed, domain) for domain in domains}
        steps.append(Step(at / 10, scores, _h(list(scores.values()))))
    return Sweep(pair[0].stem, pair[1].stem, "pooled", steps)


def _scores(shelf: Shelf, seed: int, files: Sequence[Path], domains: Sequence[str]) -> list[float]:
    """Return mIoU in each domain and H: of one model, or of one model for each domain."""
    each = files if len(files) > 1 else list(files) * len(domains)
    found = [shelf.miou(file, seed, domain) for file, domain in zip(each, domains, strict=True)]
    return [*found, _h(found)]


def _h(values: Sequence[float]) -> float:
    return statistics.harmonic_mean(values)


def _section(title: str, columns: Sequence[str], rows: dict[str, list[list[float]]]) -> str:
    """Return a table in Markdown: means over the seeds, and the deviation of more than one."""
    lines = [f"## {title}\n", f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name, found in rows.items():
        lines.append(f"| {name} | {' | '.join(_cell(column) for column in zip(*found, strict=True))} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(set(values)) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
