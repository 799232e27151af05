"""From a model file to a network that can run."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from client.models import MODELS, build
from client.tensors import from_raw
from protos.checkpoints import ModelFile, open_model
from protos.errors import ConfigurationError, ModelFileError
from protos.manifest import Manifest

_CLASSES = 19


def open_network(path: Path, *, copy: str | None = None, name: str = "") -> nn.Module:
    """Build a model file's network and load it.

    Args:
        path: Any file that `protos.checkpoints.open_model` reads.
        copy: Which copy to take where a file holds several.
        name: The architecture, one of ``MODELS``; by default what the file's metadata say.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        ModelFileError: The file can't be read, or doesn't fit the architecture; a tensor is named.
        ConfigurationError: Neither the file nor `name` says which architecture it is, or there is none such.

    """
    with open_model(path, copy) as file:
        network = network_of(file, file.path.name, name)
        own = network.state_dict()
        tensors = file.manifest.tensors
        missing, surplus = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
        shapes = [key for key in own if key in tensors and tuple(own[key].shape) != tensors[key].shape]
        for wrong, what in ((missing, "has no"), (surplus, "has an unknown"), (shapes, "has another shape of")):
            if wrong:
                more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
                raise ModelFileError(
                    f"{path} {what} {wrong[0]}{more}", "name the architecture that it is: --model NAME"
                )
        network.load_state_dict({key: from_raw(file.read(key), spec) for key, spec in tensors.items()})
    return network.eval()


def network_of(file: ModelFile, called: str, name: str = "") -> nn.Module:
    """Build a model file's network, with random weights.

    Args:
        file: The open file.
        called: What it is called in messages.
        name: The architecture; by default what the file's metadata say.

    Raises:
        ConfigurationError: Neither says which architecture it is, or there is none such.

    """
    name = name or file.metadata.get("model", "")
    if not name:
        raise ConfigurationError(
            f"{called} doesn't say which architecture it is", f"name it: --model, one of {', '.join(MODELS)}"
        )
    return build(name, int(file.metadata.get("classes", 0)) or _classes(file.manifest))


def _classes(manifest: Manifest) -> int:
    """Count the classes of a model with mmsegmentation's names: most heads end in `conv_seg`, not DeepLabV2's."""
    for last in ("conv_seg.weight", "decode_head.aspp_modules.0.conv.bias"):
        for key, spec in manifest.tensors.items():
            if key.endswith(last):
                return spec.shape[0]
    return _CLASSES
