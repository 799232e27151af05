"""What privacy costs: seconds, bytes and error of the cryptography, one section for each kind.

    python benchmarks/security.py
    python benchmarks/security.py secure-sum --sites 3 8 16 --drop-outs 0 1

Seconds are the processor's, of one core, so other work on the machine disturbs them little; wire and disk are not
in them. The model has the size of HRDA-DAFormer R101 (48 M parameters, 115 BatchNorm layers) and random values.

Section **secure-sum**: one site's and the coordinator's share of a whole secure sum with each number of sites, and
beside it Flower's SecAgg+ (its own functions, as its client mod and its workflow call them, among as many
neighbours and on the same values; it has no consistency check, and only parameters are given to it). The error is
the largest of any parameter's mean, before it is rounded to float32, against the mean in extended precision.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import Message
from machine import describe
from rich.console import Console
from rich.table import Table

from protos import dtypes, fixedpoint, signing
from protos.boundary import BatchNorm
from protos.manifest import Manifest, TensorSpec
from protos.securesum import keystream, layout, wide
from protos.securesum import site as site_side
from protos.securesum.agreement import Agreement, default_threshold
from protos.securesum.coordinator import Advertising
from protos.securesum.keystream import Mask
from protos.securesum.layout import SUM, Layout, Vector
from protos.securesum.total import MaskedSum
from protos.securesum.wide import WORD, Words

UPDATE = bytes(32)
BLOCK = 1 << 18
"""Words that are read at a time."""
SAMPLE = 1 << 20
"""Parameters that errors are looked for in; they are of one kind, so a sample will do."""


class Stopwatch:
    """Adds up the processor's seconds of what is done under a name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count what is done inside."""
        started = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started


class Models:
    """Values of many sites near each other, as models from one base are, made from those of one."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._base = {
            name: np.random.default_rng(i).standard_normal(spec.size, np.float32) * np.float32(0.05)
            for i, (name, spec) in enumerate(manifest.parameters.items())
        }

    @cached_property
    def nbytes(self) -> int:
        """Bytes of an update in the plain mode."""
        parameters = sum(spec.nbytes for spec in self.manifest.parameters.values())
        return parameters + sum(8 * channels + 8 for channels in self.manifest.layers.values())

    def values(self, site: int, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return a site's values, flat."""
        return self._base[name][start:stop] * np.float32(1 + 0.001 * site)

    def statistics(self, site: int, channels: int) -> BatchNorm:
        """Return a site's statistics of a layer."""
        dice = np.random.default_rng(site)
        mean, var = dice.standard_normal(channels, np.float32), dice.random(channels, np.float32) + np.float32(0.1)
        return BatchNorm(mean, var, 40_000 + site)

    def mean(self, name: str, sites: list[int]) -> np.ndarray:
        """Return the mean of sites' values in extended precision."""
        return sum(self.values(site, name, 0, SAMPLE).astype(np.longdouble) for site in sites) / len(sites)


def real_manifest(name: str = "hrda-daformer-r101") -> Manifest:
    """Return the tensors of a real architecture."""
    import torch

    from client import models

    with torch.device("meta"):
        state = models.MODELS[name](19).state_dict()
    specs = {key: TensorSpec(dtypes.by_name(str(t.dtype)[6:]), tuple(t.shape)) for key, t in state.items()}
    return Manifest(specs)


# ------------------------------------------------------------------ secure-sum


@dataclass
class Cost:
    """What a secure sum took.

    Attributes:
        way: Ours or Flower's.
        sites: How many began it.
        dropped: How many sent no masked values.
        site: A site's seconds, by what it did.
        coordinator: The coordinator's seconds, by what it did.
        up: Bytes that a site sends.
        down: Bytes that a site receives.
        error: The largest error of a mean.

    """

    way: str
    sites: int
    dropped: int
    site: dict[str, float] = field(default_factory=dict)
    coordinator: dict[str, float] = field(default_factory=dict)
    up: int = 0
    down: int = 0
    error: float = float("nan")


class Added:
    """The sum of masked values, in memory: a coordinator has each site's in a file, and adds them as it reads."""

    def __init__(self, vectors: Layout) -> None:
        self._vectors = vectors
        self._sums = {key: np.zeros(vector.words, WORD) for key, vector in vectors.items()}

    def add(self, read: Callable[[Vector, int, int], Words]) -> None:
        """Add a site's values."""
        for vector, start, stop in blocks(self._vectors):
            wide.add(self(vector, start, stop), read(vector, start, stop), vector.width)

    def __call__(self, vector: Vector, start: int, stop: int) -> Words:
        """Return some of a vector's words."""
        return self._sums[vector.key][start * vector.width : stop * vector.width]


def blocks(vectors: Layout) -> Iterator[tuple[Vector, int, int]]:
    """Cut all vectors into blocks of about 2 MiB."""
    for vector in vectors.values():
        step = BLOCK // vector.width
        for start in range(0, vector.size, step):
            yield vector, start, min(start + step, vector.size)


class Masking:
    """A site's masked values, computed when they are asked for and timed."""

    def __init__(
        self, state: site_side.Masked, models: Models, vectors: Layout, site: int, watch: Stopwatch
    ) -> None:
        self._masker = state.masker(vectors, UPDATE)
        self._models, self._site, self._watch = models, site, watch
        self._statistics: dict[str, Words] = {}

    def __call__(self, vector: Vector, start: int, stop: int) -> Words:
        """Return some of a vector's masked words."""
        if vector.part == SUM:
            values = self._models.values(self._site, vector.name, start, stop)
            with self._watch("mask"):
                return self._masker.parameter(vector.name, start, values)
        if vector.key not in self._statistics:
            found = self._models.statistics(self._site, self._models.manifest.layers[vector.name])
            with self._watch("mask"):
                self._statistics |= self._masker.statistics(vector.name, found)
        return self._statistics.pop(vector.key)[start * vector.width : stop * vector.width]


def ours(models: Models, count: int, dropped: int) -> Cost | None:
    """Play a whole secure sum; None if the threshold doesn't allow so many drop-outs."""
    sites = [f"site-{i:02}" for i in range(count)]
    keys = {site: Ed25519PrivateKey.generate() for site in sites}
    threshold = default_threshold(count)
    if count - dropped < threshold:
        return None
    members = {site: signing.public_bytes(key) for site, key in keys.items()}
    agreement = Agreement(bytes(32), secrets.token_bytes(16), members, threshold)
    vectors, at_site, here = layout.layout(models.manifest), Stopwatch(), Stopwatch()
    up, down = [layout.total_bytes(vectors)], []

    def sent(message: Message, to: list[int], site: str) -> None:
        if site == sites[0]:
            to.append(message.ByteSize())

    states, said = {}, {}
    for site in sites:
        with at_site("keys and shares"):
            states[site], said[site] = site_side.begin(agreement, site, keys[site])
        sent(said[site], up, site)
    with here("keys and shares"):
        advertising = Advertising(agreement)
        for site in sites:
            advertising = advertising.take(site, said[site])
        sharing, roster = advertising.close()
    for site in sites:
        with at_site("keys and shares"):
            states[site], said[site] = states[site].share(roster, keys[site])
        sent(roster, down, site)
        sent(said[site], up, site)
    with here("keys and shares"):
        for site in sites:
            sharing = sharing.take(site, said[site])
        masking, deliveries = sharing.close()
    added = Added(vectors)
    for i, site in enumerate(sites):
        with at_site("keys and shares"):
            states[site] = states[site].receive(deliveries[site], UPDATE)
        sent(deliveries[site], down, site)
        if i >= count - dropped:
            continue
        source, before = Masking(states[site], models, vectors, i, at_site), at_site.seconds.get("mask", 0.0)
        started = time.process_time()
        added.add(source)
        spent = time.process_time() - started - (at_site.seconds["mask"] - before)
        here.seconds["fold and make values"] = here.seconds.get("fold and make values", 0.0) + spent
        header = states[site].statement(dict.fromkeys(vectors, bytes(32)), keys[site])
        masking = masking.take(site, header, vectors)
        sent(header, up, site)
    confirming, survivors = masking.close()
    for site in confirming.survivors:
        with at_site("confirm and reveal"):
            states[site], envelope = states[site].confirm(survivors, keys[site])
        confirming = confirming.take(site, envelope)
        sent(survivors, down, site)
        sent(envelope, up, site)
    revealing, confirmations = confirming.close()
    for site in revealing.survivors:
        with at_site("confirm and reveal"):
            _, envelope = states[site].reveal(confirmations, keys[site])
        revealing = revealing.take(site, envelope)
        sent(confirmations, down, site)
        sent(envelope, up, site)
    with here("secrets"):
        masks = revealing.close()
    total = MaskedSum(vectors, [added], masks)
    with here("unmask"):
        for vector, start, stop in blocks(vectors):
            if vector.part == SUM:
                total.parameter(vector.name, start, stop)
        for layer in models.manifest.layers:
            total.statistics(layer)
    merged = list(range(count - dropped))
    error = max(
        float(
            np.abs(
                fixedpoint.mean(total.parameter(name, 0, min(spec.size, SAMPLE)), len(merged)).astype(
                    np.longdouble
                )
                - models.mean(name, merged)
            ).max(initial=0)
        )
        for name, spec in models.manifest.parameters.items()
    )
    here.seconds["fold and make values"] -= making(models, len(merged))
    here.seconds["fold"] = here.seconds.pop("fold and make values")
    parts = {
        what: spent / (len(merged) if what != "keys and shares" else count)
        for what, spent in at_site.seconds.items()
    }
    return Cost("onebasin", count, dropped, parts, here.seconds, sum(up), sum(down), error)


def making(models: Models, count: int) -> float:
    """Return the seconds that it takes to make up so many models' values, which is no one's work."""
    started = time.process_time()
    for vector in layout.layout(models.manifest).values():
        if vector.part == SUM:
            for start in range(0, vector.size, BLOCK):
                models.values(1, vector.name, start, start + BLOCK)
    return (time.process_time() - started) * count


def flowers(models: Models, count: int) -> Cost:
    """Do what Flower's SecAgg+ does: one site's work in full, and the coordinator's for all of them.

    Source of the order of calls: flwr's ``secaggplus_mod._share_keys``, ``_collect_masked_vectors`` and
    ``secaggplus_workflow.unmask_stage``; defaults are its own (clipping at 8, 22 bits), a weight of 1.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
    from flwr.common.secure_aggregation.ndarrays_arithmetic import (
        factor_combine,
        parameters_addition,
        parameters_mod,
        parameters_multiply,
        parameters_subtraction,
    )
    from flwr.common.secure_aggregation.quantization import dequantize, quantize
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    clipping, target, modulus = 8.0, 1 << 22, 1 << 32
    threshold, watch, here = default_threshold(count), Stopwatch(), Stopwatch()
    np.random.seed(0)  # what Flower rounds with
    with watch("keys and shares"):
        own, other = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
        shares = create_shares(secrets.token_bytes(32), threshold, count)
        create_shares(secrets.token_bytes(306), threshold, count)  # a private key in PEM
        for _ in range(count - 1):
            generate_shared_key(own, other.public_key())
    values = [models.values(0, name) for name in models.manifest.parameters]
    with watch("mask"):
        quantized = factor_combine(target, quantize(parameters_multiply(values, 1.0), clipping, target))
        shapes = [array.shape for array in quantized]
        masked = parameters_addition(quantized, pseudo_rand_gen(secrets.token_bytes(32), modulus, shapes))
        for neighbour in range(count - 1):
            mask = pseudo_rand_gen(generate_shared_key(own, other.public_key()), modulus, shapes)
            masked = (parameters_subtraction if neighbour % 2 else parameters_addition)(masked, mask)
        masked = parameters_mod(masked, modulus)
    up, total = sum(array.nbytes for array in masked), masked
    with here("fold"):
        for _ in range(count - 1):
            total = parameters_addition(total, masked)
        total = parameters_mod(total, modulus)
    with here("secrets"):
        for _ in range(count):
            combine_shares(shares[:threshold])
    with here("unmask"):
        for _ in range(count):
            total = parameters_subtraction(total, pseudo_rand_gen(secrets.token_bytes(32), modulus, shapes))
        dequantize(parameters_mod(total, modulus)[1:], clipping, target)
    return Cost("Flower SecAgg+", count, 0, watch.seconds, here.seconds, up, 0, flowers_error(models, count))


def flowers_error(models: Models, count: int) -> float:
    """Return the largest error of Flower's mean; masks cancel, so they are left out."""
    from flwr.common.secure_aggregation.quantization import dequantize, quantize

    clipping, target, worst = 8.0, 1 << 22, 0.0
    for name in models.manifest.parameters:
        total = sum(
            quantize([models.values(i, name, 0, SAMPLE)], clipping, target)[0].astype(np.int64)
            for i in range(count)
        )
        (found,) = dequantize([np.asarray(total)], clipping, target)
        found = (found - (count - 1) * clipping) / count
        worst = max(worst, float(np.abs(found - models.mean(name, list(range(count)))).max(initial=0)))
    return worst


def mask_rates() -> dict[str, float]:
    """Return gigabytes of mask a second, on one core, added to 128 MiB of numbers: by how it is made."""
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    words, block = np.zeros(1 << 24, WORD), 1 << 18
    vector, found = Vector(SUM, "w", 0, words.size, 1), {}

    def rate(size: int, work: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            work()
            best = min(best, time.process_time() - started)
        return size / best / 1e9

    def added(masks: list[Mask]) -> None:
        for start in range(0, words.size, block):
            keystream.apply(masks, vector, start, words[start : start + block])

    for count in (1, 4, 16):
        masks = [Mask(secrets.token_bytes(32), (-1) ** i) for i in range(count)]
        found[f"onebasin, {count} at once"] = rate(count * words.nbytes, lambda masks=masks: added(masks))
    # Flower's numbers have 32 random bits each, though they take up and travel as 64.
    flowers_words = words.view(np.int64)
    found["Flower, pseudo_rand_gen"] = rate(
        words.nbytes // 2,
        lambda: flowers_words + pseudo_rand_gen(secrets.token_bytes(32), 1 << 32, [words.shape])[0],
    )
    return found


def secure_sum(console: Console, options: argparse.Namespace) -> dict[str, object]:
    """Measure masks, and whole sums beside Flower's."""
    rates = mask_rates()
    for way, rate in rates.items():
        console.print(f"masks, added up, one core: {rate:5.2f} GB/s  {way}")
    models = Models(real_manifest())
    console.print(
        f"{sum(spec.size for spec in models.manifest.parameters.values()):,} parameters, "
        f"{len(models.manifest.layers)} BatchNorm layers; plain update {models.nbytes / 1e6:.1f} MB"
    )
    table = Table(title="secure-sum: seconds of one core")
    for column in ("", "sites", "dropped", "site: keys", "mask", "reveal", "coordinator: keys", "fold", "secrets",
                   "unmask", "up / plain", "other kB up", "kB down", "largest error"):  # fmt: skip
        table.add_column(column, justify="left" if not column else "right")
    costs = []
    for count in options.sites:
        runs: list[Callable[[], Cost | None]] = [
            lambda d=dropped, n=count: ours(models, n, d) for dropped in options.drop_outs
        ]
        if not options.no_flower:
            runs.append(lambda n=count: flowers(models, n))
        for run in runs:
            if cost := run():
                costs.append(cost)
                table.add_row(*_row(cost, models))
    console.print(table)
    return {"rates": rates, "costs": [asdict(cost) for cost in costs]}


def _row(cost: Cost, models: Models) -> list[str]:
    def seconds(found: dict[str, float], *names: str) -> list[str]:
        return [f"{found[name]:.2f}" if name in found else "–" for name in names]

    masked = layout.total_bytes(layout.layout(models.manifest))
    other = f"{(cost.up - masked) / 1e3:.1f}" if cost.down else "–"
    return [
        cost.way,
        str(cost.sites),
        str(cost.dropped),
        *seconds(cost.site, "keys and shares", "mask", "confirm and reveal"),
        *seconds(cost.coordinator, "keys and shares", "fold", "secrets", "unmask"),
        f"{cost.up / models.nbytes:.3f}",
        other,
        f"{cost.down / 1e3:.1f}" if cost.down else "–",
        f"{cost.error:.1e}",
    ]


SECTIONS: dict[str, Callable[[Console, argparse.Namespace], dict[str, object]]] = {"secure-sum": secure_sum}
"""What can be measured: each prints its figures and returns them for ``--output``."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all if none is named")
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 8, 16])
    parser.add_argument("--drop-outs", type=int, nargs="+", default=[0, 1], help="left out where too few stay")
    parser.add_argument("--no-flower", action="store_true", help="leave Flower's out; it takes minutes")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"there is no section {min(unknown)}; there are {', '.join(SECTIONS)}")
    console = Console(width=170, highlight=False)
    console.print(describe())
    figures = {name: SECTIONS[name](console, options) for name in options.sections or SECTIONS}
    if options.output:
        options.output.write_text(json.dumps({"machine": describe(), "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
