"""What a merged model's buffers are made of: pooled Gaussians, plain averages, or one model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from coordinator.merge.pooling import average, pool
from coordinator.offline.inputs import Input, find
from protos.boundary import BatchNorm
from protos.errors import ConfigurationError, MergeRangeError, ModelFileError
from protos.manifest import COUNT, Manifest, join

SPREAD = 3.0
"""Batch counts that differ by more than this factor are pointed out."""


class Rule(Enum):
    """How statistics are merged."""

    POOLED = "pooled"
    UNIFORM = "uniform"
    FROM = "from"


def parse(text: str, inputs: Sequence[Input]) -> tuple[Rule, Input | None]:
    """Read ``pooled``, ``uniform`` or ``from:INPUT``.

    Raises:
        ConfigurationError: It is none of them.

    """
    kind, _, wanted = text.partition(":")
    if kind == Rule.FROM.value and wanted:
        return Rule.FROM, find(inputs, wanted, "--buffers")
    if text in (Rule.POOLED.value, Rule.UNIFORM.value):
        return Rule(text), None
    raise ConfigurationError(f"--buffers {text!r} is no rule", "choose pooled, uniform, or from:INPUT")


def merged(
    inputs: Sequence[Input], layers: Sequence[str], rule: Rule, single: Input | None
) -> dict[str, BatchNorm]:
    """Merge the statistics of BatchNorm layers.

    Raises:
        ModelFileError: A statistic makes no sense, or no batches were counted where counts are needed.
        MergeRangeError: The result is more than float32 holds.

    """
    if single is not None:
        return {layer: single.statistics(layer) for layer in layers}
    return {layer: _merged(inputs, layer, rule) for layer in layers}


def _merged(inputs: Sequence[Input], layer: str, rule: Rule) -> BatchNorm:
    found = [i.statistics(layer) for i in inputs]
    if rule is Rule.UNIFORM:
        return average(found)
    if not any(one.count for one in found):
        raise ModelFileError(
            f"{join(layer, COUNT)} is 0 in every model, so pooling has no weights",
            "--buffers uniform would average means and variances with equal weights",
        )
    try:
        return pool(found, layer)
    except MergeRangeError as error:
        raise MergeRangeError(
            error.what, "one of the models diverged: look at them with `onebasin inspect`"
        ) from error


def counts(inputs: Sequence[Input], manifest: Manifest) -> list[int]:
    """Return each model's batches: the most that one of its layers counted."""
    return [
        max((int(i.reader.read(join(layer, COUNT))[0]) for layer in manifest.layers), default=0) for i in inputs
    ]


def spread(inputs: Sequence[Input], found: Sequence[int]) -> str:
    """Point out counts that differ more than threefold; empty if they don't."""
    low, high = min(found), max(found)
    if high <= SPREAD * low:
        return ""
    few, many = (inputs[found.index(count)].name for count in (low, high))
    share = high / sum(found)
    ratios = ",".join(map(str, found))
    return (
        f"batch counts differ: {few} has {low}, {many} {high}. Parameters are weighted as --weights says, buffers "
        f"by counts, so {many} gives {share:.0%} of the buffers. --buffers uniform would give each model the same "
        f"share of them; --weights {ratios} would weight the parameters in the same way."
    )


def check_equal(inputs: Sequence[Input], names: Sequence[str], taken: Callable[[str], bool]) -> None:
    """Check that buffers that are no statistics are the same in all models.

    Args:
        inputs: The models.
        names: The buffers.
        taken: Tells which of them are taken from the first model, whatever the others say.

    Raises:
        ModelFileError: One differs.

    """
    for name in names:
        if taken(name):
            continue
        first = inputs[0].file.read(name).tobytes()
        for other in inputs[1:]:
            if other.file.read(name).tobytes() != first:
                raise ModelFileError(
                    f"buffer {name} differs between {inputs[0].name} and {other.name}, and it is no BatchNorm "
                    "statistic that could be pooled",
                    f"say that the first model's is to be taken: --take '{name}'",
                )
