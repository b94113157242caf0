"""A photograph of twelve megapixels from file to file, against the bare network over the same pixels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deblur.benchmark.bench import Bench, Row, Side
from deblur.models import CoarseToFine
from deblur.restoration.picture import Picture
from deblur.restoration.tiles import restore_in_tiles

HEIGHT, WIDTH, PART = 3000, 4000, 1000  # pixels; the bare network takes parts of this side
TARGET = 0.77  # 1.3 times its time


def run(bench: Bench) -> Iterator[Row]:
    """The network of `experiment=photographs` (weights do not matter) on a colour JPEG."""
    network = CoarseToFine(channels=3).eval().to(bench.device)
    source = np.random.default_rng(0)
    coarse = Image.fromarray(source.integers(0, 256, (HEIGHT // 20, WIDTH // 20, 3), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        file, made = Path(folder) / "photo.jpg", Path(folder) / "restored.jpg"
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, quality=95)
        pixels = Picture.read(file).pixels

        @torch.inference_mode()
        def restore() -> None:
            picture = Picture.read(file)
            picture.write(picture.through(lambda image: restore_in_tiles(network, image.to(bench.device)), 3), made)

        @torch.inference_mode()
        def bare() -> None:
            for top in range(0, HEIGHT, PART):
                for left in range(0, WIDTH, PART):
                    network(pixels[None, :, top : top + PART, left : left + PART].to(bench.device)).cpu()

        sides = [Side("file to file", restore, 1), Side("bare network", bare, 1)]
        rates = replace(bench, rounds=2).measure("restoring 12 megapixels", sides)
    seconds = {name: [1 / rate for rate in found] for name, found in rates.items()}
    yield Row(
        "a colour JPEG of 12 megapixels restored, file to file",
        f"the bare network on parts of {PART}x{PART}",
        seconds["file to file"],
        seconds["bare network"],
        TARGET,
        unit="s",
    )
