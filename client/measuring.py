"""The merged model's BatchNorm statistics on this site's own unlabelled images: measured once, and kept here.

They leave the site only where the campaign's rules say so (`protos.rules.MEASURED`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.delivered import Delivered
from client.joined import Joined
from protos import files
from protos.boundary import BatchNorm, Statistics
from protos.errors import ModelFileError
from protos.manifest import COUNT, MEAN, VAR, Manifest, join
from protos.tensorfile import TensorFile, write_arrays

IMAGES, BATCH = 160, 16
"""Unlabelled images that statistics are measured on, and how many at a time: ten batches settle them."""


def measured(joined: Joined, base: Manifest, delivered: Delivered, digest: bytes) -> Statistics:
    """Return the statistics of delivered parameters on this site's images; later they are read from a file.

    Args:
        joined: The campaign.
        base: What models consist of.
        delivered: The models that were delivered for it.
        digest: Of the parameters.

    Raises:
        NotDeliveredError: The parameters aren't here, or not whole.
        DataError: The site has no images, or can't read them.
        ModelFileError: What the model makes of the images is NaN or infinite.
        StorageError: The disk is full.

    """
    path = joined.folder / "measured" / f"{digest.hex()}.safetensors"
    try:
        return _read(path, base)
    except ModelFileError:  # not measured yet, or not whole
        found = _measure(joined, delivered, digest)
    files.make_folder(path.parent)
    arrays = {}
    for layer, one in found.items():
        arrays[join(layer, MEAN)], arrays[join(layer, VAR)] = one.mean, one.var
        arrays[join(layer, COUNT)] = np.asarray(one.count, np.int64)
    write_arrays(path, arrays)
    return found


def _measure(joined: Joined, delivered: Delivered, digest: bytes) -> Statistics:
    import torch

    from client import models
    from client.data.opening import unlabelled_batches
    from client.recalibration import recalibrate
    from client.tensors import load_state

    site, message = joined.site, joined.campaign.message
    if site.settings.resources.threads:
        torch.set_num_threads(site.settings.resources.threads)
    model = models.build(message.model, message.classes)
    with delivered.open(digest) as file:
        parameters = load_state(file.path)
    model.load_state_dict({**load_state(joined.base), **parameters})
    return recalibrate(model, unlabelled_batches(site.settings.data, site.folder, most=IMAGES, batch=BATCH))


def _read(path: Path, base: Manifest) -> Statistics:
    with TensorFile(path) as file:
        if file.manifest.layers != base.layers:
            raise ModelFileError(f"{path} holds statistics of another model")
        return {
            layer: BatchNorm(
                file.read(join(layer, MEAN)).astype(np.float32, copy=False),
                file.read(join(layer, VAR)).astype(np.float32, copy=False),
                int(file.read(join(layer, COUNT))[0]),
            )
            for layer in base.layers
        }
