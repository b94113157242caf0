"""The images that a run shows: the same each time, spread over all that there are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from deblur.data.loaders import EvaluationLoader
from deblur.data.pairs import Pairs
from deblur.models.estimates import Restored
from deblur.training.panels import Panels


def shown(count: int, batch_size: int) -> list[int]:
    """The numbers of the test images of a run's figure; the image of number n is n everywhere, restored to n + 0.5."""
    numbers = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1)

    class Numbered:
        split = "test"

        def __len__(self) -> int:
            return count

        def __getitem__(self, span: slice) -> Pairs:
            return Pairs(numbers[span], numbers[span] + 0.25, None)

    loader = EvaluationLoader(Numbered(), batch_size=batch_size)
    panels, trainer = Panels(), SimpleNamespace(is_global_zero=True, num_test_batches=[len(loader)])
    for _ in range(2):
        for number, batch in enumerate(loader):
            batch = batch.pairs
            panels.on_test_batch_end(trainer, None, Restored(batch.sharp + 0.5, None), batch, number)
        panels.on_test_epoch_end(trainer, None)
    pairs, restored = panels.tested
    assert torch.equal(pairs.blurred, pairs.sharp + 0.25)
    assert torch.equal(restored.images, pairs.sharp + 0.5)
    return pairs.sharp.flatten().int().tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 25, 100, 1000])
def test_they_are_spread_over_all_images(batch_size):
    found = shown(100, batch_size)
    assert len(found) == 8
    assert found == sorted(set(found))
    assert found[0] == 0
    steps = [after - before for before, after in zip(found, [*found[1:], 100], strict=True)]
    assert min(steps) >= 5
    assert max(steps) <= 20


@pytest.mark.parametrize("batch_size", [1, 2, 100])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_of_few_images_all_are_shown(count, batch_size):
    assert shown(count, batch_size) == list(range(count))
