"""The study's tables on better buffers: the same parameters with statistics of the images that they are to see."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from study_models import ALL, DOMAINS, Shelf

from client.data.images import normalise
from client.models import norms
from client.models.opening import open_network
from client.models.routed import RoutedModel
from client.models.routed_file import load_routed, save_routed
from client.recalibration import recalibrate
from coordinator.merge.pooling import pool
from protos.boundary import BatchNorm

IMAGES, BATCH = 160, 16
"""What a site measures statistics on in a campaign, too."""
Statistics = dict[str, BatchNorm]


class Buffers:
    """Gives models other buffers.

    Args:
        shelf: Where they are kept.
        seed: Of the scenes.

    """

    def __init__(self, shelf: Shelf, seed: int) -> None:
        self._shelf = shelf
        self._seed = seed
        self._measured: dict[tuple[Path, str], Statistics] = {}

    def own(self, merged: Path, single: Path) -> Path:
        """Give a model the statistics of another one."""
        found = norms.statistics(open_network(single))
        return self._with(merged, f"own-{_name(single)}", found)

    def recalibrated(self, model: Path, domain: str) -> Path:
        """Give a model the statistics of a domain's unlabelled images."""
        return self._with(model, f"recalibrated-{domain}", self.measured(model, domain))

    def pooled(self, model: Path, domains: Sequence[str]) -> Path:
        """Give a model the pooled statistics of several domains' unlabelled images."""
        return self._with(model, f"recalibrated-{'-'.join(domains)}", self._pooled(model, domains))

    def routed(self, model: Path, domains: Sequence[str]) -> Path:
        """Let a model choose among the statistics of several domains; its own ones are the fall-back."""

        def make(path: Path) -> None:
            network = open_network(model)
            sets = {domain: self.measured(model, domain) for domain in domains}
            routed = RoutedModel.from_sets(network, self._pooled(model, domains), sets)
            save_routed(path, routed, model=self._shelf.scale.model, classes=19)

        return self._shelf.file(
            f"seed{self._seed}/buffers/{_name(model)}-routed-{'-'.join(domains)}.safetensors", make
        )

    def measured(self, model: Path, domain: str) -> Statistics:
        """Measure a model's statistics on a domain's unlabelled images."""
        if (model, domain) not in self._measured:
            images = self._shelf.target(self._seed, domain).images[:IMAGES]
            self._measured[model, domain] = recalibrate(open_network(model), images.split(BATCH))
        return self._measured[model, domain]

    def right(self, routed: Path, domain: str) -> float:
        """Return the share of a domain's held-out images, in per cent, that get the domain's own set."""
        model = load_routed(routed)
        place = 1 + model.names.index(domain)
        with torch.inference_mode():
            data = self._shelf.held_out(self._seed, domain)
            chosen = [model.explained(normalise(part))[1] for part in data.images.split(BATCH)]
        return 100 * float((torch.cat(chosen) == place).float().mean())

    def _pooled(self, model: Path, domains: Sequence[str]) -> Statistics:
        found = [self.measured(model, domain) for domain in domains]
        return {layer: pool([one[layer] for one in found], layer) for layer in found[0]}

    def _with(self, model: Path, name: str, found: Statistics) -> Path:
        def make(path: Path) -> None:
            network = open_network(model)
            norms.load(network, found)
            metadata = {"model": self._shelf.scale.model, "classes": "19"}
            save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path, metadata)

        return self._shelf.file(f"seed{self._seed}/buffers/{_name(model)}-{name}.safetensors", make)


def rows(shelf: Shelf, seed: int) -> Iterator[tuple[str, list[Path]]]:
    """Yield each model's name, and its file for each domain, or one for all."""
    buffers = Buffers(shelf, seed)
    singles = [shelf.adapted(seed, domain, start=seed) for domain in DOMAINS]
    merged = shelf.merged(singles)[0]
    best = max(singles, key=lambda one: statistics.harmonic_mean([shelf.miou(one, seed, d) for d in DOMAINS]))
    named = {
        "base": shelf.base(seed, seed),
        "best single model": best,
        "trained on all targets' images": shelf.adapted(seed, ALL, start=seed),
        "merged": merged,
    }
    for name, model in named.items():
        yield f"{name}, {'pooled' if name == 'merged' else 'its own buffers'}", [model]
    yield "merged, own buffers at each site", [buffers.own(merged, one) for one in singles]
    for name, model in named.items():
        yield f"{name}, recalibrated at each site", [buffers.recalibrated(model, domain) for domain in DOMAINS]
        yield f"{name}, recalibrated and pooled", [buffers.pooled(model, DOMAINS)]
        yield f"{name}, routed", [buffers.routed(model, DOMAINS)]


def unseen(shelf: Shelf, seed: int, domain: str) -> tuple[float, float]:
    """Return mIoU in a domain that no site has, of the others' merged model: pooled, and routed."""
    others = [one for one in DOMAINS if one != domain]
    merged = shelf.merged([shelf.adapted(seed, one, start=seed) for one in others])[0]
    routed = Buffers(shelf, seed).routed(merged, others)
    return shelf.miou(merged, seed, domain), shelf.miou(routed, seed, domain)


def routing(shelf: Shelf, seed: int) -> list[float]:
    """Return, for each domain, the share of images that the merged model gives the right set, in per cent."""
    merged = shelf.merged([shelf.adapted(seed, domain, start=seed) for domain in DOMAINS])[0]
    buffers = Buffers(shelf, seed)
    return [buffers.right(buffers.routed(merged, DOMAINS), domain) for domain in DOMAINS]


def _name(path: Path) -> str:
    """Name a file so that those of one seed differ."""
    return path.parent.name if path.stem == "merged" else path.stem
