"""A network as ONNX: traced by PyTorch's own exporter, then run by ONNX Runtime and compared before it is written.

The graph takes normalised float32 images (N, 3, H, W), named ``images``, and answers ``logits`` (N, classes, H, W)
at their resolution. One that routes also answers ``set``, int64 (N,): which statistics each image got, 0 for the
pooled ones. How pixels are normalised and what the classes are stands in the file's metadata.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from client.data.images import normalise
from client.data.scenes import DOMAINS, render
from client.models.hrda import HRDA
from client.models.routed import RoutedModel
from protos import files
from protos.errors import ConfigurationError, ModelFileError

OPSET: Final = 18
"""The version of ONNX's operators: what PyTorch's exporter writes without converting."""
TOLERANCE: Final = 1e-4
"""How far a logit of ONNX Runtime may be from PyTorch's: this, times the largest logit where that is above 1."""
SIZE: Final = (256, 512)
"""Height and width in pixels that are tried where none is named."""
IMAGES, LOGITS, SET = "images", "logits", "set"
_EXTRA = "install onebasin with its extra `export`: pip install 'onebasin[export]'"


@dataclass(frozen=True)
class Tried:
    """One comparison of ONNX Runtime with PyTorch.

    Attributes:
        shape: Of the images: number, height, width.
        difference: The largest difference between two logits.
        largest: The largest logit, absolute.

    """

    shape: tuple[int, int, int]
    difference: float
    largest: float

    @property
    def allowed(self) -> float:
        """How large the difference may be."""
        return TOLERANCE * max(1.0, self.largest)


class _Answers(nn.Module):
    """What is exported: a network, with the sets that were chosen if it chooses."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Normalised float32 (N, 3, H, W) → logits, or logits and sets."""
        if isinstance(self.network, RoutedModel):
            return self.network.explained(images)
        logits: Tensor = self.network(images)
        return logits


def is_tied_to_a_size(network: nn.Module) -> bool:
    """Tell whether a network's graph depends on the images' size: HRDA's windows lie where that says."""
    return isinstance(network.network if isinstance(network, RoutedModel) else network, HRDA)


def write(
    network: nn.Module,
    path: Path,
    said: Mapping[str, str],
    *,
    size: tuple[int, int] | None = None,
    fixed: bool = False,
) -> list[Tried]:
    """Write a network as ONNX, atomically, if ONNX Runtime says what PyTorch does.

    Args:
        network: In evaluation mode, on the CPU.
        path: Where to.
        said: The file's metadata.
        size: Height and width to try, in pixels; by default `SIZE`.
        fixed: Take one image of this size and nothing else, as some engines want it.

    Returns:
        What was compared.

    Raises:
        ConfigurationError: Packages are missing, or the network is tied to a size and none is named.
        ModelFileError: The network can't be exported, or ONNX Runtime says something else than PyTorch.
        StorageError: The disk is full.

    """
    _require()
    tied = is_tied_to_a_size(network)
    if tied and size is None:
        raise ConfigurationError(
            "HRDA looks at images through windows whose places depend on their size, so its graph is for one size",
            "name it, height and width in pixels: --size 1024x2048",
        )
    height, width = size or SIZE
    if isinstance(network, HRDA):  # not so in a routed one: there the first window decides for the whole image
        network.together = True
    answers = _Answers(network).eval()
    with _quiet():
        content = _traced(answers, said, (height, width), tied=tied, fixed=fixed)
    tried = _compared(answers, content, _shapes(height, width, tied=tied, fixed=fixed))
    with files.atomic(path) as file:
        file.write(content)
    return tried


def _require() -> None:
    """Make sure that the packages of the extra are there."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ConfigurationError(f"writing ONNX takes the package {name}, which is not installed", _EXTRA)


def _traced(
    answers: _Answers, said: Mapping[str, str], size: tuple[int, int], *, tied: bool, fixed: bool
) -> bytes:
    """Trace a network and return the ONNX file's content."""
    axes = {} if fixed else {0: "number"} if tied else {0: "number", 2: "height", 3: "width"}
    # Two images where any number will do: PyTorch takes a length of 1 for a constant.
    example = torch.zeros(1 if fixed else 2, 3, *size)
    try:
        program = torch.onnx.export(
            answers,
            (example,),
            input_names=[IMAGES],
            output_names=[LOGITS, SET] if isinstance(answers.network, RoutedModel) else [LOGITS],
            dynamic_shapes=(axes,) if axes else None,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise ModelFileError(
            f"PyTorch can't write this network as ONNX: {_first_line(error)}",
            "export a state dict (.pth), and report this with the versions of torch and onnxscript",
        ) from error
    assert program is not None
    program.model.metadata_props.update(said)
    return bytes(program.model_proto.SerializeToString())


def _shapes(height: int, width: int, *, tied: bool, fixed: bool) -> list[tuple[int, int, int]]:
    """Return which images are tried: every axis that is free has another length each time, odd ones too."""
    if fixed:
        return [(1, height, width)] * 2
    if tied:
        return [(1, height, width), (2, height, width)]
    return [
        (2, height, width),
        (1, height // 2 + 3, width // 2 + 1),
        (3, max(64, height // 3), max(64, width // 4)),
    ]


def _compared(answers: _Answers, content: bytes, shapes: list[tuple[int, int, int]]) -> list[Tried]:
    """Run the file's content and the network on the same images, and refuse a difference."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    tried = []
    for place, shape in enumerate(shapes):
        images = _images(place, *shape)
        with torch.inference_mode():
            answer = answers(images)
        expected, sets = answer if isinstance(answer, tuple) else (answer, None)
        said, *chosen = session.run(None, {IMAGES: images.contiguous().numpy()})
        if said.shape != tuple(expected.shape):
            raise _wrong(f"logits of shape {list(said.shape)} where PyTorch has {list(expected.shape)}")
        found = Tried(shape, float((torch.from_numpy(said) - expected).abs().max()), float(expected.abs().max()))
        if not found.difference <= found.allowed:  # NaN isn't either
            raise _wrong(f"logits that differ by {found.difference:.2g}, where {found.allowed:.2g} is allowed")
        if sets is not None and chosen[0].tolist() != sets.tolist():
            raise _wrong(f"the sets {chosen[0].tolist()} where PyTorch has {sets.tolist()}")
        tried.append(found)
    return tried


def _images(place: int, number: int, height: int, width: int) -> Tensor:
    """Render normalised images of several domains, others for each place."""
    domains = list(DOMAINS)
    scenes = [render(domains[(place + at) % len(domains)], place, at, (height, width)) for at in range(number)]
    pixels = torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes])
    return normalise(pixels)


def _wrong(what: str) -> ModelFileError:
    return ModelFileError(
        f"ONNX Runtime answers {what}; nothing was written",
        "report this with the versions of torch, onnxscript and onnxruntime; export a state dict (.pth) meanwhile",
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporter and converter have to say about themselves from the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
