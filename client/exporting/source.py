"""What is to be exported: a model file, and which of its BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.models.routed_file import described_sets, read_set
from protos import campaign as campaigns
from protos.boundary import Statistics
from protos.checkpoints import ModelFile, open_model
from protos.digest import file_digest
from protos.errors import ConfigurationError, ModelFileError
from protos.manifest import STATISTICS, TensorSpec
from protos.merged import PREFIX, SETS, statistic
from protos.rules import KEPT_AT_SITES

MERGED, CAMPAIGN = "merged.safetensors", "campaign.binpb"
"""What model and campaign are called: at the coordinator, the campaign's folder holds the model's folder."""
POOLED = "pooled"
"""What the statistics are called that a file with several sets has under the network's own names."""


@dataclass(frozen=True)
class Source:
    """An open model, and which of its statistics are wanted.

    Attributes:
        file: The open file.
        names: The sets of statistics that it holds beside the pooled ones; none in a plain model.
        chosen: The one that is wanted: `POOLED`, one of `names`, or empty for all that there is.

    """

    file: ModelFile
    names: tuple[str, ...]
    chosen: str

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """The network's own tensors, by name in ascending order."""
        return {name: spec for name, spec in self.file.manifest.tensors.items() if not name.startswith(PREFIX)}

    @property
    def layers(self) -> tuple[str, ...]:
        """The network's BatchNorm layers."""
        return tuple(layer for layer in self.file.manifest.layers if not layer.startswith(PREFIX))

    @property
    def routes(self) -> bool:
        """Whether what is exported chooses its statistics for each image."""
        return bool(self.names) and not self.chosen

    @property
    def digest(self) -> bytes:
        """The file's canonical digest, as receipts name a merged model."""
        return file_digest(self.file)

    def note(self) -> str:
        """Say that this file's statistics are not those that sites use, if the campaign beside it rules so."""
        beside = self.file.path.parent.parent / CAMPAIGN
        if not beside.is_file():
            return ""
        campaign = campaigns.load(beside)
        rule = campaign.rules.buffers
        if rule not in KEPT_AT_SITES or self.file.metadata.get("campaign") != campaign.digest.hex():
            return ""
        return (
            f"by the rule {rule!r} of campaign {campaign.name} each site has statistics of its own, and this file "
            f"has the pooled ones: for a site, export its own {MERGED}"
        )

    def statistics(self) -> Statistics | None:
        """Return the chosen set's statistics; None where the network's own tensors are what is wanted."""
        if self.chosen in ("", POOLED):
            return None
        return {layer: read_set(self.file, self.chosen, layer) for layer in self.layers}

    def content(self, name: str, chosen: Statistics | None) -> Iterator[bytes | memoryview]:
        """Yield a tensor of the network in chunks.

        Args:
            name: One of `tensors`.
            chosen: What `statistics` returned.

        Raises:
            MergeRangeError: A statistic is more than the network's dtype holds.

        """
        layer, _, part = name.rpartition(".")
        if chosen is not None and part in STATISTICS and layer in chosen:
            yield statistic(self.file.manifest, name, chosen[layer]).tobytes()
        else:
            yield from self.file.chunks(name)


def found(path: Path) -> Path:
    """Return the model that a path means: a file, a folder with the result of a merge, or of a sharded model."""
    return path / MERGED if (path / MERGED).is_file() else path


@contextmanager
def opened(path: Path, *, copy: str | None = None, statistics: str = "") -> Iterator[Source]:
    """Open what is to be exported.

    Args:
        path: A model file, or a folder with the result of a merge.
        copy: Which copy to take where a checkpoint holds several.
        statistics: Which statistics to take where a file holds several sets: a set's name, or `POOLED`.

    Raises:
        ModelFileError: The file can't be read.
        ConfigurationError: It holds no such set, or one set alone.

    """
    where = found(path)
    if path.is_dir() and where == path and not any(path.glob("*.index.json")):
        raise ModelFileError(
            f"there is no {MERGED} in {path}",
            "name the folder of a result (coordinator/campaigns/NAME/merged), or a model file",
        )
    with open_model(where, copy) as file:
        names = tuple(described_sets(file)[0]) if SETS in file.metadata else ()
        known = (POOLED, *names)
        if statistics and not names:
            raise ConfigurationError(
                f"{where} holds one set of statistics, so there is none to choose", "leave --statistics out"
            )
        if statistics and known.count(statistics) != 1:
            raise ConfigurationError(
                f"{where} holds no set of statistics that is called {statistics!r} alone",
                f"it holds: {', '.join(known)}",
            )
        yield Source(file, names, statistics)
