"""Training logs: TensorBoard's, in the campaign's folder at the site, and MLflow's if the site has one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from protos.errors import StorageError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from client.training.tracking import Tracker

_log = logging.getLogger(__name__)

EVERY = 10
"""Steps between two entries."""


class Logbook:
    """Writes numbers of each tenth step. Without a folder it doesn't load TensorBoard.

    Args:
        folder: Where TensorBoard's go; look at them with ``tensorboard --logdir``.
        first: The first step of this process; entries of later ones, which a crash undid, are dropped.
        tracker: Where they go as well.

    Raises:
        StorageError: The folder can't be made.

    """

    def __init__(self, folder: Path | None, first: int = 0, tracker: Tracker | None = None) -> None:
        self._writer: SummaryWriter | None = None
        self._tracker = tracker
        if folder is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on what TensorBoard is made of
            from torch.utils.tensorboard import SummaryWriter
        try:
            self._writer = SummaryWriter(str(folder), purge_step=first + 1)
        except OSError as error:
            raise StorageError(
                f"can't write training logs to {folder}: {error.strerror}",
                "free some space, or set adapt.tensorboard = false",
            ) from error

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write down what a step came to, if it is its turn.

        Args:
            step: Steps done, from 1.
            values: Numbers by name.

        """
        if step % EVERY != 0:
            return
        if self._tracker is not None:
            self._tracker.write(step, values)
        if self._writer is not None:
            with self._optional():
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what is left."""
        if self._tracker is not None:
            self._tracker.close()
        if self._writer is not None:
            with self._optional():
                self._writer.close()

    @contextmanager
    def _optional(self) -> Iterator[None]:
        """Go on without logs where they can't be written any more: no run of days should end for them."""
        try:
            yield
        except OSError as error:
            self._writer = None
            _log.warning("training logs end here, they can't be written any more: %s", error.strerror or error)
