"""From a model file to a network that can run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import nn

from client.models import MODELS, build
from client.tensors import from_raw
from protos.checkpoints import ModelFile, open_model
from protos.errors import ConfigurationError, ModelFileError
from protos.manifest import Manifest
from protos.merged import SETS

_CLASSES = 19


def open_network(path: Path, *, copy: str | None = None, name: str = "") -> nn.Module:
    """Build a model file's network and load it.

    Args:
        path: Any file that `protos.checkpoints.open_model` reads.
        copy: Which copy to take where a file holds several.
        name: The architecture, one of ``MODELS``; by default what the file's metadata say.

    Returns:
        The network, in evaluation mode, on the CPU; one that picks its statistics for each image if the file
        holds several sets.

    Raises:
        ModelFileError: The file can't be read, or doesn't fit the architecture; a tensor is named.
        ConfigurationError: Neither the file nor `name` says which architecture it is, or there is none such.

    """
    with open_model(path, copy) as file:
        if SETS in file.metadata:
            from client.models.routed_file import routed

            return routed(file)
        network = network_of(file, file.path.name, name)
        fill(network, file, file.manifest.tensors)
    return network.eval()


def fill(network: nn.Module, file: ModelFile, names: Collection[str]) -> None:
    """Load a network from tensors of a file that have these names.

    Raises:
        ModelFileError: They are not the network's; a tensor is named.

    """
    check(network, file, names)
    tensors = file.manifest.tensors
    network.load_state_dict({key: from_raw(file.read(key), tensors[key]) for key in network.state_dict()})


def check(network: nn.Module, file: ModelFile, names: Collection[str]) -> None:
    """Make sure that tensors of a file that have these names are a network's.

    Raises:
        ModelFileError: They are not; a tensor is named.

    """
    own, tensors = network.state_dict(), file.manifest.tensors
    missing, surplus = sorted(own.keys() - names), sorted(names - own.keys())
    shapes = [key for key in own if key in tensors and tuple(own[key].shape) != tensors[key].shape]
    for wrong, what in ((missing, "has no"), (surplus, "has an unknown"), (shapes, "has another shape of")):
        if wrong:
            more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise ModelFileError(
                f"{file.path} {what} {wrong[0]}{more}",
                "name the architecture that it is (--model NAME); if that is right, the file is damaged",
            )


def network_of(file: ModelFile, called: str, name: str = "") -> nn.Module:
    """Build a model file's network, with random weights.

    Args:
        file: The open file.
        called: What it is called in messages.
        name: The architecture; by default what the file's metadata say.

    Raises:
        ConfigurationError: Neither says which architecture it is, or there is none such.

    """
    return build(*architecture(file, called, name))


def architecture(file: ModelFile, called: str, name: str = "") -> tuple[str, int]:
    """Return the name of a model file's network, and how many classes it tells apart; see `network_of`."""
    name = name or file.metadata.get("model", "")
    if not name:
        raise ConfigurationError(
            f"{called} doesn't say which architecture it is", f"name it: --model, one of {', '.join(MODELS)}"
        )
    return name, int(file.metadata.get("classes", 0)) or _classes(file.manifest)


def _classes(manifest: Manifest) -> int:
    """Count the classes of a model with mmsegmentation's names: most heads end in `conv_seg`, not DeepLabV2's."""
    for last in ("conv_seg.weight", "decode_head.aspp_modules.0.conv.bias"):
        for key, spec in manifest.tensors.items():
            if key.endswith(last):
                return spec.shape[0]
    return _CLASSES
