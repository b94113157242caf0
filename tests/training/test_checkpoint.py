"""When a run is saved within an epoch."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from deblur.training.checkpoint import Interrupted, RunCheckpoint


class Epoch:
    """Stands in for the trainer of several processes in an epoch of so many batches; `saved` after which of them."""

    world_size = 2

    def __init__(self, batches: int, accumulate: int) -> None:
        self.batches, self.accumulate_grad_batches = batches, accumulate
        self.saved: list[int] = []
        self.agreed = 0
        self._batch = 0
        self.strategy = SimpleNamespace(broadcast=self._broadcast)
        self.lightning_module = SimpleNamespace(check_weights=lambda: None)

    def walk(self, checkpoint: RunCheckpoint) -> None:
        for batch in range(self.batches):
            self._batch = batch
            progress = SimpleNamespace(is_last_batch=batch == self.batches - 1)
            self.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
            checkpoint.on_train_batch_end(self, None, None, None, batch)

    def save_checkpoint(self, path: object) -> None:
        self.saved.append(self._batch)

    def _broadcast(self, value: object) -> object:
        self.agreed += 1
        return value


ACCUMULATE = pytest.mark.parametrize("accumulate", [1, 2, 3, 5, 7, 50, 64, 100])


@ACCUMULATE
def test_several_processes_save_within_an_epoch_however_many_batches_a_step_has(tmp_path, accumulate):
    checkpoint, epoch = RunCheckpoint(every_minutes=0.0), Epoch(500, accumulate)
    checkpoint.folder = tmp_path
    epoch.walk(checkpoint)
    assert all((batch + 1) % accumulate == 0 for batch in epoch.saved)
    waits = [after - before for before, after in zip([-1, *epoch.saved], [*epoch.saved, 499], strict=True)]
    assert max(waits) <= max(50, accumulate)
    assert epoch.agreed <= 500 / 25  # each keeps the processes waiting for one another


@ACCUMULATE
def test_several_processes_hear_a_signal_within_an_epoch(tmp_path, accumulate):
    checkpoint, epoch = RunCheckpoint(), Epoch(500, accumulate)
    checkpoint.folder = tmp_path
    checkpoint._on_signal(signal.SIGTERM, None)
    with pytest.raises(Interrupted, match="SIGTERM"):
        epoch.walk(checkpoint)
    assert len(epoch.saved) == 1
    assert epoch.saved[0] < max(50, accumulate)
