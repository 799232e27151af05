"""What a training loop runs on: PyTorch as it is, or Lightning Fabric for GPUs, several of them, mixed precision.

Fabric takes seconds to import (it brings much of Lightning along), and on one CPU in float32 it would do nothing.
So the demo's sites, which are in just that case, don't load it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.optim import Optimizer

from protos.errors import AdaptationError, ConfigurationError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from client.training.passes import Learn


class Engine:
    """One device, float32, without Fabric.

    Attributes:
        device: Where to compute.
        rank: Which of several processes this is.
        ranks: How many there are.

    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.ranks = 0, 1

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device.

        On a GPU its weights are laid out with channels last, which is what its convolutions are fastest on; a
        CPU's reorder them by themselves.
        """
        if self.device.type == "cuda":
            return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
        return network.to(self.device)

    def wrap(self, learner: nn.Module, optimizer: Optimizer) -> tuple[Learn, Optimizer]:
        """Return what to call instead of the learner and of the optimizer."""
        self._learner = learner
        return cast("Learn", learner), optimizer

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in the settings' precision inside."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to the parameters'."""
        loss.backward()  # type: ignore[no-untyped-call]

    def apart(self, on: bool) -> AbstractContextManager[object]:
        """Leave gradients of this process alone inside, if several are accumulated and these are not the last."""
        return nullcontext()

    def clip(self, optimizer: Optimizer, norm: float) -> None:
        """Scale all gradients down so that their norm is at most so large; 0 = leave them."""
        if norm:
            nn.utils.clip_grad_norm_(self._learner.parameters(), norm)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes."""
        return values

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold besides: the gradient scaler's state, if there is one."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's state back."""

    def memory(self) -> int:
        """Return the most memory of the GPU that tensors took so far, in MB; 0 on a CPU."""
        if self.device.type != "cuda":
            return 0
        return torch.cuda.max_memory_allocated(self.device) // 10**6


class FabricEngine(Engine):
    """Whatever Fabric was made for.

    Args:
        fabric: Launched, if it has several processes.

    """

    def __init__(self, fabric: Fabric) -> None:
        super().__init__(fabric.device)
        self._fabric = fabric
        self.rank, self.ranks = fabric.global_rank, fabric.world_size

    def wrap(self, learner: nn.Module, optimizer: Optimizer) -> tuple[Learn, Optimizer]:
        """Return what to call instead of the learner and of the optimizer."""
        self._learner, wrapped = self._fabric.setup(learner, optimizer)
        return cast("Learn", self._learner), cast("Optimizer", wrapped)

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in the settings' precision inside."""
        return self._fabric.autocast()

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients, scaled if the precision asks for it, to the parameters'."""
        self._fabric.backward(loss)

    def apart(self, on: bool) -> AbstractContextManager[object]:
        """Leave gradients of this process alone inside, if several are accumulated and these are not the last."""
        if self.ranks == 1:
            return nullcontext()
        return self._fabric.no_backward_sync(self._learner, enabled=on)  # type: ignore[arg-type]

    def clip(self, optimizer: Optimizer, norm: float) -> None:
        """Scale all gradients down so that their norm is at most so large; 0 = leave them."""
        if norm:
            # Infinite gradients are the scaler's business: it skips such a step.
            self._fabric.clip_gradients(
                self._learner,
                optimizer,
                max_norm=norm,
                error_if_nonfinite=False,
            )

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes."""
        return cast("Tensor", self._fabric.all_reduce(values, reduce_op="mean")) if self.ranks > 1 else values

    def state(self) -> dict[str, Any]:
        """Return the gradient scaler's state, if there is one."""
        return dict(self._fabric.strategy.precision.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's state back."""
        self._fabric.strategy.precision.load_state_dict(state)


def resolve(device: str, devices: int) -> torch.device:
    """Return the device that a setting means.

    Args:
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        devices: How many of them.

    Raises:
        ConfigurationError: There is no such device, or there are too few.

    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"There is no device {device!r}.", 'Use "auto", "cpu" or "cuda".')
    found = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cuda" and not found:
        raise ConfigurationError(
            "There is no GPU that PyTorch can use.",
            'Check nvidia-smi and that this PyTorch is built for CUDA, or set resources.device = "cpu".',
        )
    if found and devices > found:
        raise ConfigurationError(f"{devices} GPUs are asked for, but there are {found}.", "Lower adapt.devices.")
    return torch.device("cuda", 0) if found else torch.device("cpu")


def launch(work: Callable[..., Any], job: object, device: torch.device, devices: int, precision: str) -> Any:
    """Call ``work(engine, job)`` on an engine that fits.

    Several devices have a process each, of which results are lost: they have to be left in a file.

    Args:
        work: A function of a module, so that other processes find it.
        job: What to work on; has to be picklable if there are several devices.
        device: From :func:`resolve`.
        devices: How many of them.
        precision: One of ``client.training.settings.PRECISIONS``.

    Returns:
        What it returns, or None for several devices.

    """
    if device.type == "cpu" and devices == 1 and precision == "32":
        return work(Engine(device), job)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on what Lightning's own dependencies are made of
        from lightning_fabric import Fabric

        fabric = Fabric(
            accelerator=device.type,
            devices=devices,
            strategy="ddp_spawn" if devices > 1 else "auto",
            precision={"32": "32-true"}.get(precision, precision),  # type: ignore[arg-type]
        )
    if devices == 1:
        return work(FabricEngine(fabric), job)
    try:
        # Bound here, since Fabric looks into arguments and refuses frozen dataclasses.
        fabric.launch(partial(_in_process, work=work, job=job))
    except (ProcessRaisedException, ProcessExitedException) as error:
        raise _of_process(str(error)) from error
    return None


def _of_process(text: str) -> AdaptationError:
    """Return what another process's error, of which only the traceback came over, says."""
    lines = [line.strip() for line in text.strip().splitlines()]
    fix = "See the log, then start again: the run continues from its last checkpoint."
    for at, line in enumerate(lines):
        if line.startswith("protos.errors."):
            following = lines[at + 1] if at + 1 < len(lines) else ""
            return AdaptationError(
                line.partition(": ")[2], following.removeprefix("→ ") if following.startswith("→") else fix
            )
    return AdaptationError(f"One of the GPUs' processes failed: {lines[-1]}", fix)


def _in_process(fabric: Fabric, work: Callable[..., Any], job: object) -> None:
    work(FabricEngine(fabric), job)
