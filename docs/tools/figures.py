"""The pictures of docs/method.md, computed from models of the study (`benchmarks/study.py`); trains what lacks.

    python docs/tools/figures.py --folder runs/study/tiny-resnet-450 --seed 1

Everything that is shown is measured: cross entropy on held-out labelled scenes of two domains, and the statistics
that two sites' teachers gathered.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from study_models import Scale, Shelf

from client import models
from client.data.images import normalise
from client.data.labels import CLASSES, IGNORE

PAGES = Path(__file__).parents[1] / "method"
SITES = ("dusty", "adverse")
IMAGES = 32
"""Held-out scenes of each domain."""
UNRELATED = 100
"""What the study adds to a seed for another initialisation."""
COLOURS = {"dusty": "#e69f00", "adverse": "#0072b2", "pooled": "black", "averaged": "#cc79a7"}

State = Mapping[str, Tensor]


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/study/tiny-resnet-450"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pages", type=Path, default=PAGES)
    parser.add_argument("--format", default="svg", choices=["svg", "png"])
    options = parser.parse_args()
    mpl.rcParams.update({"svg.hashsalt": "onebasin", "font.size": 9, "axes.spines.top": False})
    mpl.rcParams["axes.spines.right"] = False
    torch.set_num_threads(1)
    options.pages.mkdir(parents=True, exist_ok=True)
    shelf, seed = Shelf(options.folder, Scale(), print), options.seed
    judge = Judge(shelf, seed)
    drawn = {
        "line": line(shelf, seed, judge),
        "plane": plane(shelf, seed, judge),
        "pooling": pooling(shelf, seed),
    }
    for name, figure in drawn.items():
        metadata = {"Date": None} if options.format == "svg" else None
        figure.savefig(options.pages / f"{name}.{options.format}", metadata=metadata, dpi=150)


class Judge:
    """Tells a model's loss: mean cross entropy over the pixels of both domains' held-out scenes."""

    def __init__(self, shelf: Shelf, seed: int) -> None:
        self._network = models.build("tiny-resnet", len(CLASSES)).eval()
        found = [shelf.held_out(seed, domain) for domain in SITES]
        self._images = torch.cat([one.images[:IMAGES] for one in found])
        self._labels = torch.cat([one.labels[:IMAGES] for one in found]).long()

    def __call__(self, state: State) -> float:
        """Return the loss."""
        self._network.load_state_dict(dict(state))
        with torch.inference_mode():
            logits = self._network(normalise(self._images))
            return float(F.cross_entropy(logits, self._labels, ignore_index=IGNORE))


def blend(parts: list[tuple[float, State]], statistics: State) -> State:
    """Return Σ weight · parameters, with one set of statistics for all."""
    names = [name for name in parts[0][1] if "running_" not in name and "num_batches" not in name]
    sums = {name: torch.stack([weight * state[name] for weight, state in parts]).sum(0) for name in names}
    return {**statistics, **sums}


def pooled(a: State, b: State) -> dict[str, Tensor]:
    """Return two models' statistics, pooled as Gaussians weighted by batches."""
    found = {}
    for name in (name for name in a if name.endswith("running_mean")):
        layer = name.removesuffix("running_mean")
        counts = [float(state[f"{layer}num_batches_tracked"]) for state in (a, b)]
        means = [state[name].double() for state in (a, b)]
        variances = [state[f"{layer}running_var"].double() for state in (a, b)]
        mean = sum(n * m for n, m in zip(counts, means, strict=True)) / sum(counts)
        moment = sum(n * (v + (m - mean) ** 2) for n, m, v in zip(counts, means, variances, strict=True))
        found[name], found[f"{layer}running_var"] = mean.float(), (moment / sum(counts)).float()
        found[f"{layer}num_batches_tracked"] = torch.tensor(int(sum(counts)))
    return found


def line(shelf: Shelf, seed: int, judge: Judge) -> Figure:
    """Draw the loss along the straight line between two models: of one base, and of two."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    shares = np.linspace(0, 1, 21)
    first = load_file(shelf.adapted(seed, SITES[0], start=seed))
    for start, title, style in ((seed, "one base", "-"), (seed + UNRELATED, "two bases, unrelated", "--")):
        second = load_file(shelf.adapted(seed, SITES[1], start=start))
        both = pooled(first, second)
        losses = [judge(blend([(1 - share, first), (share, second)], both)) for share in shares]
        axes.plot(shares, losses, style, color="black", marker=".", label=title)
        print(title, [round(loss, 3) for loss in losses])
    axes.set_xlabel(f"λ: 0 is the model adapted to {SITES[0]}, 1 the one adapted to {SITES[1]}")
    axes.set_ylabel("loss in both domains")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def plane(shelf: Shelf, seed: int, judge: Judge) -> Figure:
    """Draw the loss in the plane through the base and two models that were adapted from it."""
    base = load_file(shelf.base(seed, seed))
    first, second = (load_file(shelf.adapted(seed, site, start=seed)) for site in SITES)
    both = pooled(first, second)
    ticks = np.linspace(-0.4, 1.4, 13)
    losses = np.array(
        [[judge(blend([(1 - s - t, base), (s, first), (t, second)], both)) for s in ticks] for t in ticks]
    )
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    levels = np.geomspace(losses.min(), losses.max(), 18)
    drawn = axes.contourf(ticks, ticks, losses, levels=levels, cmap="viridis_r")
    axes.contour(ticks, ticks, losses, levels=levels, colors="white", linewidths=0.3)
    figure.colorbar(drawn, ax=axes, label="loss in both domains", format="%.2f")
    axes.plot([1, 0], [0, 1], "--", color="black", linewidth=1)
    places = {"base": (0, 0), SITES[0]: (1, 0), SITES[1]: (0, 1), "mid-point": (0.5, 0.5)}
    for name, (x, y) in places.items():
        axes.plot(x, y, "o", color="white", markeredgecolor="black", markersize=6)
        axes.annotate(name, (x, y), xytext=(6, 6), textcoords="offset points", fontweight="bold")
    axes.set_xlabel(f"from the base towards {SITES[0]}")
    axes.set_ylabel(f"from the base towards {SITES[1]}")
    print("plane", losses.round(3).tolist())
    return figure


def pooling(shelf: Shelf, seed: int) -> Figure:
    """Draw one channel's statistics at two sites, pooled and averaged: the channel where the sites differ most."""
    a, b = (load_file(shelf.adapted(seed, site, start=seed, copy="teacher")) for site in SITES)
    best, shift = ("", 0), -1.0
    for name in (name for name in a if name.startswith("backbone.") and name.endswith("running_mean")):
        layer = name.removesuffix("running_mean")
        apart = (a[name] - b[name]) ** 2 / (a[f"{layer}running_var"] + b[f"{layer}running_var"])
        if float(apart.max()) > shift:
            best, shift = (layer, int(apart.argmax())), float(apart.max())
    layer, channel = best
    both = pooled(a, b)

    def pair(state: State) -> tuple[float, float]:
        return float(state[f"{layer}running_mean"][channel]), float(state[f"{layer}running_var"][channel])

    (mean_a, var_a), (mean_b, var_b), whole = pair(a), pair(b), pair(both)
    averaged = (mean_a + mean_b) / 2, (var_a + var_b) / 2
    shown = {SITES[0]: (mean_a, var_a), SITES[1]: (mean_b, var_b), "pooled": whole, "averaged": averaged}
    low = min(mean - 3.2 * var**0.5 for mean, var in shown.values())
    high = max(mean + 3.2 * var**0.5 for mean, var in shown.values())
    x = np.linspace(low, high, 400)
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for name, (mean, var) in shown.items():
        y = np.exp(-((x - mean) ** 2) / (2 * var)) / (2 * np.pi * var) ** 0.5
        if name in SITES:
            axes.fill_between(x, y, color=COLOURS[name], alpha=0.3, linewidth=0)
        axes.plot(
            x, y, "--" if name == "averaged" else "-", color=COLOURS[name], label=f"{name}: {mean:.2f}, {var:.2f}"
        )
    axes.set_xlabel(f"activation of channel {channel} of {layer.removesuffix('.')}")
    axes.set_yticks([])
    axes.legend(frameon=False, title="mean, variance")
    print("pooling", best, shown)
    return figure


if __name__ == "__main__":
    main()
