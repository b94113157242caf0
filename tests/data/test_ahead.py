"""Photographs are decoded ahead of the training: the same batches, the same errors, and no thread is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur.blur import Line, NoBlur
from deblur.data.ahead import THREADS, ahead
from deblur.data.loaders import TrainingBatch, TrainingLoader
from deblur.data.photographs import Crops, Photographs, Photos
from deblur.data.real_pairs import PairPhotos, RealPairs
from deblur.errors import UsageError
from deblur.seeding import generator


def write(file: Path, seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40 + seed % 3, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def photographs(root: Path) -> Photographs:
    for number in range(12):
        write(root / f"{number:02}.png", number)
    return Photographs(Line(length=1), root=str(root), size=16, batch_size=4, crops=3)


def pairs(root: Path) -> RealPairs:
    for number in range(12):
        for folder in ("input", "target"):
            write(root / folder / f"{number:02}.png", number)
    return RealPairs(NoBlur(), root=str(root), size=16, batch_size=4, crops=3)


DATA = pytest.mark.parametrize("make", [photographs, pairs])


class OneByOne(TrainingLoader):
    """The batches of a `CropLoader`, each taken when it is asked for."""

    images: Crops

    def _taken(self, chosen: Iterator[tuple[torch.Tensor, int]]) -> Iterator[torch.Tensor]:
        for numbers, number in chosen:
            yield self.images.take(numbers, generator("crops", self.seed, self.rank, number), turned=True)


def one_by_one(data: Photographs, epoch: int) -> list[TrainingBatch]:
    loader = OneByOne(data.images.train, batch_size=data.batch_size, seed=data.seed)
    loader.set_epoch(epoch)
    return list(loader)


def same(one: list[TrainingBatch], other: list[TrainingBatch]) -> bool:
    alike = (a.number == b.number and torch.equal(a.images, b.images) for a, b in zip(one, other, strict=True))
    return all(alike)


def left_behind() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREADS)]


def soon(condition) -> bool:
    """Whether it holds within some seconds."""
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


@DATA
def test_batches_are_those_that_would_be_read_one_by_one(tmp_path, make):
    data = make(tmp_path / "data")
    loader = data.train_dataloader()
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        assert same(list(loader), one_by_one(data, epoch))
        assert not left_behind()


@DATA
@pytest.mark.parametrize("delivered", [1, 2, 5])
def test_what_was_read_ahead_is_read_again_by_a_resumed_run(tmp_path, make, delivered):
    data = make(tmp_path / "data")
    stopped = data.train_dataloader()
    stopped.set_epoch(1)
    reading = iter(stopped)
    before = [next(reading) for _ in range(delivered)]
    state = stopped.state_dict()
    assert state["position"] == delivered
    resumed = make(tmp_path / "data").train_dataloader()
    resumed.load_state_dict(state)
    resumed.set_epoch(1)
    assert same(before + list(resumed), one_by_one(data, 1))
    reading.close()


def test_the_next_batches_are_read_while_one_is_trained_on(tmp_path, monkeypatch):
    data = photographs(tmp_path / "data")
    files = []
    monkeypatch.setattr(Photos, "read", lambda self, number: files.append(number) or torch.zeros(3, 40, 50).byte())
    reading = iter(data.train_dataloader())
    next(reading)
    assert soon(lambda: len(set(files)) > 4)  # what one batch has at most
    reading.close()


def test_the_threads_end_with_an_iterator_that_is_not_read_to_its_end(tmp_path):
    loader = photographs(tmp_path / "data").train_dataloader()
    reading = iter(loader)
    next(reading)
    assert left_behind()
    reading.close()
    assert not left_behind()
    reading = iter(loader)
    next(reading)
    del reading  # as a trainer does with what it no longer needs
    assert not left_behind()


def test_a_damaged_picture_is_the_same_clear_error_where_it_belongs(tmp_path):
    data = photographs(tmp_path / "data")
    order = [int(number) // 3 for number in torch.randperm(len(data.images.train), generator=generator("order", 0, 0))]
    data.images.train.photos._kept.clear()
    file = data.images.train.photos.files[order[8]]  # of the third batch, unless it came earlier
    file.write_bytes(file.read_bytes()[:500])
    whole = next(place for place, photo in enumerate(order) if photo == order[8]) // 4
    reading = iter(data.train_dataloader())
    for _ in range(whole):
        next(reading)
    with pytest.raises(UsageError, match=rf"{file.name}: cannot be read as a picture"):
        next(reading)
    assert not left_behind()


@pytest.mark.parametrize("kind", ["photographs", "pairs"])
def test_many_threads_share_what_is_kept_and_keep_no_more_than_there_is_room(tmp_path, kind):
    files = [write(tmp_path / f"{number}.png", number) for number in range(12)]
    if kind == "photographs":
        room, photos = 20_000, Photos(files, 3, cache_mb=0.02)
    else:
        found = pairs(tmp_path / "pairs").images.train.photos.pairs
        room, photos = 40_000, PairPhotos(found, 3, cache_mb=0.04)
    truth = [photos.read(number) for number in range(len(photos))]
    with ThreadPoolExecutor(8) as pool:
        asked = [number % len(photos) for number in range(200)]
        assert all(
            torch.equal(truth[number], photo)
            for number, photo in zip(asked, pool.map(photos.__getitem__, asked), strict=True)
        )
    kept = sum(photo.numel() for photo in photos._kept.values())
    assert len(photos._kept) == 3
    assert kept + photos._room == pytest.approx(room)


def test_order_and_errors_are_those_of_map():
    def slow(item: int) -> int:
        time.sleep(0.01 * (item % 3))
        return 12 // (5 - item)

    made = ahead(slow, range(9), most=4, threads=3)
    assert [next(made) for _ in range(5)] == [12 // (5 - item) for item in range(5)]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert not left_behind()
    assert list(ahead(slow, range(3), most=100, threads=2)) == [2, 3, 4]
    assert list(ahead(slow, [], most=1, threads=2)) == []


def test_no_more_is_made_ahead_than_was_asked_for():
    begun: list[int] = []
    made = ahead(begun.append, range(100), most=5, threads=2)
    next(made)
    until = time.monotonic() + 20
    while len(begun) < 6 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)
    assert sorted(begun) == list(range(6))
    made.close()
