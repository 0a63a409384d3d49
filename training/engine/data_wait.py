"""Tells whether the trainer waits for its data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import lightning
from torch.utils.data import DataLoader


class TimedLoader(DataLoader):
    """A loader that knows how long it was waited for.

    Attributes:
        waited_s: seconds, from the beginning.
    """

    waited_s = 0.0

    def __iter__(self) -> Iterator[Any]:
        """Batches, as ever."""
        start = time.perf_counter()
        batches = iter(super().__iter__())
        while True:
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - start
            if batch is None:
                return
            yield batch
            start = time.perf_counter()


class DataWait(lightning.Callback):
    """Logs ``train/data_wait``: the share of an epoch, from its start to the step at hand, spent waiting for data.

    More than a tenth means too few ``data.workers``, or a slow disk.
    """

    def __init__(self, loader: TimedLoader) -> None:
        """Watch ``loader``."""
        self._loader = loader
        self._start, self._waited = 0.0, 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start counting."""
        self._start, self._waited = time.perf_counter(), self._loader.waited_s

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """Log."""
        passed = time.perf_counter() - self._start
        pl_module.log('train/data_wait', (self._loader.waited_s - self._waited) / passed, prog_bar=True)
