"""What a merge would do, tensor by tensor, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.merge.state import BLOCK
from coordinator.offline import buffers, inputs, weights
from coordinator.offline.buffers import Rule
from coordinator.offline.inputs import Input
from protos.errors import ConfigurationError
from protos.manifest import STATISTICS, Manifest, TensorSpec, join
from protos.receipts import PARAMETER_RULE
from protos.tensorfile import CHUNK

_PROGRAM = 90 << 20
"""Bytes that Python and NumPy take by themselves, measured."""


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        buffers: ``pooled``, ``uniform`` or ``from:INPUT``.
        weights: Numbers, separated by commas; empty for uniform.
        separate: Patterns of tensors that each model keeps for itself.
        take: Patterns of other buffers that are taken from the first model although they differ.
        align: Whether to bring the models' channels into the first one's order before they are merged.
        allow_duplicates: Whether one model may be given twice.
        threads: How many tensors are worked on at a time.
        device: Where parameters are added up, as PyTorch names it.

    """

    buffers: str = Rule.POOLED.value
    weights: str = ""
    separate: tuple[str, ...] = ()
    take: tuple[str, ...] = ()
    align: bool = False
    allow_duplicates: bool = False
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Action:
    """What happens to one tensor.

    Attributes:
        name: The tensor.
        role: ``parameter``, ``statistic`` or ``buffer``.
        rule: What its merged values are.
        spec: Its dtype and shape.

    """

    name: str
    role: str
    rule: str
    spec: TensorSpec


@dataclass(frozen=True)
class Plan:
    """What a merge would do.

    Attributes:
        inputs: The models.
        weights: What each counts, as whole numbers.
        batches: Each model's batches: the most that one of its layers counted.
        buffer_rule: How statistics are merged.
        buffer_source: Whose statistics are taken, with the rule ``from``.
        own: Tells which tensors each model keeps for itself.
        outputs: The files to write: one, or one per model where some tensors are kept.
        actions: What happens to each tensor.
        warnings: What the user should know.
        threads: How many tensors are worked on at a time.
        device: Where parameters are added up.

    """

    inputs: list[Input]
    weights: list[int]
    batches: list[int]
    buffer_rule: Rule
    buffer_source: Input | None
    own: Callable[[str], bool]
    outputs: list[Path]
    actions: list[Action]
    warnings: list[str] = field(default_factory=list)
    threads: int = 1
    device: str = "cpu"

    @property
    def manifest(self) -> Manifest:
        """The first model's tensors; the others' are the same but for those that each keeps."""
        return self.inputs[0].file.manifest

    @property
    def parameter_rule(self) -> str:
        """Name the rule for parameters."""
        return PARAMETER_RULE if len(set(self.weights)) == 1 else "weighted-midpoint"

    @property
    def read_bytes(self) -> int:
        """Bytes of all inputs."""
        return sum(spec.nbytes for i in self.inputs for spec in i.file.manifest.tensors.values())

    @property
    def peak_bytes(self) -> int:
        """Estimate the peak memory: Python itself, and a few blocks per thread."""
        block = BLOCK * (2 * 4 + 3 * 8) + CHUNK
        statistics = sum(self.manifest.layers.values()) * 1000  # exact sums are Python's integers
        return _PROGRAM + self.threads * block + statistics


def make(found: list[Input], options: Options, output: Path) -> Plan:
    """Check the inputs against each other and plan the merge.

    Args:
        found: The open models.
        options: What the user asked for.
        output: The file to write; a folder where models keep tensors for themselves.

    Raises:
        ConfigurationError: An option makes no sense, or a model is given twice.
        ModelFileError: The models can't be merged.

    """
    own = inputs.matcher(options.separate)
    if not options.allow_duplicates:
        inputs.check_distinct(found)
    inputs.check_alike(found, own)
    if options.align:
        inputs.check_alike(found, lambda _: False)  # channels are matched over all tensors
        found = inputs.align(found)
    manifest = found[0].file.manifest
    for pattern in options.separate:
        if not any(inputs.matcher([pattern])(name) for name in manifest.tensors):
            raise ConfigurationError(
                f"--separate {pattern!r} matches no tensor",
                f"names look like this: {next(iter(manifest.tensors))}",
            )
    for layer in manifest.layers:
        kept = {own(join(layer, part)) for part in STATISTICS}
        if len(kept) > 1:
            raise ConfigurationError(
                f"--separate keeps some statistics of {layer} and merges others",
                f"keep the layer as a whole: '{layer}.*'",
            )
    rest = [name for name in manifest.buffers if not own(name)]
    taken = inputs.matcher(options.take)
    buffers.check_equal(found, rest, taken)
    rule, source = buffers.parse(options.buffers, found)
    numbers = weights.parse(options.weights, len(found)) if options.weights else weights.uniform(len(found))
    counted = buffers.counts(found, manifest)
    warnings = []
    if rule is Rule.POOLED and manifest.layers and (said := buffers.spread(found, counted)):
        warnings.append(said)
    return Plan(
        inputs=found,
        weights=numbers,
        batches=counted,
        buffer_rule=rule,
        buffer_source=source,
        own=own,
        outputs=_outputs(found, output) if options.separate else [output],
        actions=[_action(name, manifest, own, taken, rule, source) for name in manifest.tensors],
        warnings=warnings,
        threads=options.threads,
        device=options.device,
    )


def _action(
    name: str,
    manifest: Manifest,
    own: Callable[[str], bool],
    taken: Callable[[str], bool],
    rule: Rule,
    source: Input | None,
) -> Action:
    statistic = name.rpartition(".")[2] in STATISTICS
    if name in manifest.parameters:
        role, said = "parameter", "mid-point"
    elif statistic:
        role, said = "statistic", rule.value if source is None else f"from {source.name}"
    else:
        role, said = "buffer", "from the first" if taken(name) else "equal in all"
    return Action(name, role, "each its own" if own(name) else said, manifest.tensors[name])


def _outputs(found: Sequence[Input], folder: Path) -> list[Path]:
    """Name one file per model, like its own."""
    stems = [Path(i.name).stem for i in found]
    if len(set(stems)) < len(stems):
        stems = [f"{place}-{stem}" for place, stem in enumerate(stems, 1)]
    return [folder / f"{stem}.safetensors" for stem in stems]
