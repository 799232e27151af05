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
from client.data.opening import open_evaluation
from client.delivered import Delivered, ForbiddenError
from client.joined import Joined
from client.measuring import measured
from client.models.routed import RoutedModel
from client.outbox import Outbox
from client.tensors import load_state
from protos import boundary, files
from protos import messages_pb2 as pb
from protos.boundary import BatchNorm
from protos.errors import StorageError, UpdateRefusedError
from protos.manifest import COUNT, MEAN, VAR, join
from protos.rules import MEASURED
from protos.tensorfile import TensorFile

State = dict[str, torch.Tensor]
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
    _check_allowed(request, joined)
    if site.settings.resources.threads:
        torch.set_num_threads(site.settings.resources.threads)
    data = open_evaluation(site.settings.data, site.folder)
    example = data[_EXAMPLE]
    message = joined.campaign.message
    plain = models.build(message.model, message.classes)
    sets = {
        entry.set: {b.layer: boundary.batch_norm(b) for b in entry.batch_norms} for entry in request.buffer_sets
    }
    states = _States(joined, delivered, sets)
    pictures = files.make_folder(joined.folder / "pictures")
    _picture(pictures / "image.png", example.images[0].permute(1, 2, 0).numpy())
    _picture(pictures / "ground-truth.png", labels.colour(example.labels[0].numpy()))
    scores = []
    for candidate in request.candidates:
        plain.load_state_dict(states.state(candidate))
        model = states.routed(plain, candidate) if candidate.buffers.sets else plain
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


def _check_allowed(request: pb.Evaluate, joined: Joined) -> None:
    """Refuse what the campaign's rules have no use for.

    Parameters can be made up so that a model's scores tell its statistics, and the other way round. So half of the
    site's own model is judged with another half only where the merged model is to consist of the two.
    """
    rules, own = joined.campaign.rules, pb.Candidate.KIND_OWN
    if not rules.evaluate:
        raise ForbiddenError(f"site {joined.site.name}: by the campaign's rules no scores leave")
    for candidate in request.candidates:
        parameters, buffers = candidate.parameters.kind, candidate.buffers.kind
        if buffers == pb.Candidate.KIND_RECALIBRATED and rules.buffers not in MEASURED | {"recalibrated"}:
            raise ForbiddenError(f"site {joined.site.name}: the campaign's rules know no recalibration")
        if (parameters == own) != (buffers == own) and (parameters == own or rules.buffers != "own"):
            raise ForbiddenError(
                f"site {joined.site.name}: by the rules its parameters and statistics are not judged apart"
            )


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
        state.update(self._buffers(candidate))
        return state

    def routed(self, network: torch.nn.Module, candidate: pb.Candidate) -> RoutedModel:
        """Return a network with a candidate's state as a model that chooses among the candidate's sets."""
        first, *others = [self._set(name) for name in candidate.buffers.sets]
        return RoutedModel(network, first, {f"set-{at}": found for at, found in enumerate(others)})

    def _parameters(self, source: pb.Candidate.Source) -> State:
        if source.kind == pb.Candidate.KIND_CARRIED:
            with self._delivered.open(source.digest) as file:
                return load_state(file.path)
        return {name: value for name, value in self._local(source).items() if not _is_statistic(name)}

    def _buffers(self, candidate: pb.Candidate) -> State:
        source = candidate.buffers
        if source.kind == pb.Candidate.KIND_RECALIBRATED:
            with TensorFile(self._joined.base) as base:
                digest = candidate.parameters.digest
                return self._state(
                    measured(self._joined, base.manifest, self._delivered, digest), "its own images"
                )
        if source.kind == pb.Candidate.KIND_ROUTED:
            if not source.sets:
                raise UpdateRefusedError(f"site {self._site}: a routed candidate without sets of statistics")
            return self._state(self._set(source.sets[0]), source.sets[0])
        if source.kind == pb.Candidate.KIND_CARRIED:
            return self._state(self._set(source.set), source.set)
        return {name: value for name, value in self._local(source).items() if _is_statistic(name)}

    def _local(self, source: pb.Candidate.Source) -> State:
        if source.kind == pb.Candidate.KIND_BASE:
            return {}
        if source.kind == pb.Candidate.KIND_OWN:
            return load_state(Outbox(self._joined).model)
        raise UpdateRefusedError(f"site {self._site}: a candidate of unknown kind", "run the same version")

    def _set(self, name: str) -> Mapping[str, BatchNorm]:
        layers = self._statistics.get(name)
        if layers is None:
            raise UpdateRefusedError(f"site {self._site}: the statistics {name} did not come along")
        return layers

    def _state(self, layers: Mapping[str, BatchNorm], name: str) -> State:
        state: State = {}
        for layer, found in layers.items():
            for part, values in ((MEAN, found.mean), (VAR, found.var)):
                wanted = self._base.get(join(layer, part))
                dtype = wanted.dtype if wanted is not None else torch.float32
                state[join(layer, part)] = torch.from_numpy(values).to(dtype)
            state[join(layer, COUNT)] = torch.tensor(found.count)
        for key, value in state.items():
            wanted = self._base.get(key)
            if wanted is None or wanted.shape != value.shape or wanted.dtype != value.dtype:
                raise UpdateRefusedError(f"site {self._site}: {key} of {name} doesn't fit the base")
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
