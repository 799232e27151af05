"""Judging models on the site's own held-out labelled images.

What leaves is counts of pixels. The pictures that are made on the way stay in the site's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from client import evaluation, models
from client.data import labels
from client.data.opening import open_evaluation, unlabelled_batches
from client.delivered import Delivered, ForbiddenError
from client.models import norms
from client.outbox import Outbox
from client.recalibration import recalibrate
from client.site import Joined
from client.tensors import load_state, raw_state
from protos import boundary, files
from protos import messages_pb2 as pb
from protos.boundary import BatchNorm
from protos.errors import StorageError, UpdateRefusedError
from protos.manifest import COUNT, MEAN, VAR, join
from protos.tensorfile import write_arrays

State = dict[str, torch.Tensor]
MERGED = "merged.safetensors"
"""In a campaign's folder at the site: the merged model with statistics of the site's own images."""
_IMAGES, _BATCH = 160, 16
"""Unlabelled images that statistics are measured on, and how many at a time: ten batches settle them."""
_EXAMPLE = 0
"""Which held-out image the pictures show."""


def judge(joined: Joined, request: pb.Evaluate, delivered: Delivered) -> list[pb.Score]:
    """Evaluate each candidate that the coordinator names.

    Args:
        joined: The campaign.
        request: The candidates, and the statistics that came with them.
        delivered: The models that were delivered for it.

    Returns:
        One confusion matrix per candidate.

    Raises:
        DataError: The site has no held-out images.
        NotDeliveredError: A model isn't here, or not whole.
        ForbiddenError: The campaign's rules forbid it.
        UpdateRefusedError: Statistics don't fit the base.

    """
    site = joined.site
    if site.settings.resources.threads:
        torch.set_num_threads(site.settings.resources.threads)
    data = open_evaluation(site.settings.data, site.folder)
    example = data[_EXAMPLE]
    message = joined.campaign.message
    model = models.build(message.model, message.classes)
    sets = {
        entry.set: {b.layer: boundary.batch_norm(b) for b in entry.batch_norms} for entry in request.buffer_sets
    }
    states = _States(joined, delivered, sets)
    if not joined.campaign.rules.recalibrate and any(_measured(candidate) for candidate in request.candidates):
        raise ForbiddenError(f"site {site.name}: the campaign's rules know no recalibration")
    pictures = files.make_folder(joined.folder / "pictures")
    _picture(pictures / "image.png", example.images[0].permute(1, 2, 0).numpy())
    _picture(pictures / "ground-truth.png", labels.colour(example.labels[0].numpy()))
    scores = []
    for candidate in request.candidates:
        model.load_state_dict(states.state(candidate))
        if _measured(candidate):
            images = unlabelled_batches(site.settings.data, site.folder, most=_IMAGES, batch=_BATCH)
            norms.load(model, recalibrate(model, images))
            _keep(joined, model)
        matrix = torch.stack([evaluation.confusion(model, part) for part in data]).sum(0)
        shown = evaluation.predict(model, example.images)[0].numpy()
        _picture(pictures / f"prediction-{_plain(candidate.key)}.png", labels.colour(shown))
        scores.append(
            pb.Score(
                key=candidate.key,
                classes=message.classes,
                confusion=matrix.flatten().tolist(),
                images=len(data),
            )
        )
    return scores


def _measured(candidate: pb.Candidate) -> bool:
    return candidate.buffers.kind == pb.Candidate.KIND_RECALIBRATED


def _keep(joined: Joined, model: torch.nn.Module) -> None:
    """Keep the merged model with this site's own statistics: the best that the campaign leaves it with."""
    message = joined.campaign.message
    metadata = {"format": "pt", "model": message.model, "classes": str(message.classes), "campaign": message.name}
    write_arrays(joined.folder / MERGED, raw_state(model.state_dict()), metadata)


class _States:
    """Puts candidates together from the site's own files and from the sets that came along."""

    def __init__(
        self,
        joined: Joined,
        delivered: Delivered,
        statistics: Mapping[str, Mapping[str, BatchNorm]],
    ) -> None:
        self._joined = joined
        self._delivered = delivered
        self._statistics = statistics
        self._base = load_state(joined.base)
        self._site = joined.site.name

    def state(self, candidate: pb.Candidate) -> State:
        """Return a candidate's complete state dict."""
        state = dict(self._base)
        state.update(self._parameters(candidate.parameters))
        state.update(self._buffers(candidate.buffers))
        return state

    def _parameters(self, source: pb.Candidate.Source) -> State:
        if source.kind == pb.Candidate.KIND_CARRIED:
            with self._delivered.open(source.digest) as file:
                return load_state(file.path)
        return {name: value for name, value in self._local(source).items() if not _is_statistic(name)}

    def _buffers(self, source: pb.Candidate.Source) -> State:
        if source.kind == pb.Candidate.KIND_RECALIBRATED:
            return {}  # measured once the model is whole
        if source.kind != pb.Candidate.KIND_CARRIED:
            return {name: value for name, value in self._local(source).items() if _is_statistic(name)}
        found = self._carried_statistics(source.set)
        for name, value in found.items():
            wanted = self._base.get(name)
            if wanted is None or wanted.shape != value.shape or wanted.dtype != value.dtype:
                raise UpdateRefusedError(f"site {self._site}: {name} of {source.set} doesn't fit the base")
        return found

    def _local(self, source: pb.Candidate.Source) -> State:
        if source.kind == pb.Candidate.KIND_BASE:
            return {}
        if source.kind == pb.Candidate.KIND_OWN:
            return load_state(Outbox(self._joined).model)
        raise UpdateRefusedError(f"site {self._site}: a candidate of unknown kind", "run the same version")

    def _carried_statistics(self, name: str) -> State:
        layers = self._statistics.get(name)
        if layers is None:
            raise UpdateRefusedError(f"site {self._site}: the statistics {name} did not come along")
        state: State = {}
        for layer, found in layers.items():
            for part, values in ((MEAN, found.mean), (VAR, found.var)):
                wanted = self._base.get(join(layer, part))
                dtype = wanted.dtype if wanted is not None else torch.float32
                state[join(layer, part)] = torch.from_numpy(values).to(dtype)
            state[join(layer, COUNT)] = torch.tensor(found.count)
        return state


def _is_statistic(name: str) -> bool:
    return name.rpartition(".")[2] in (MEAN, VAR, COUNT)


def _plain(key: str) -> str:
    """Turn a candidate's key into a part of a file name; keys come from outside."""
    return "".join(letter if letter.isalnum() else "-" for letter in key)[:80]


def _picture(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    if not done:
        raise StorageError(f"can't encode the picture {path}")
    files.write(path, encoded.tobytes())
