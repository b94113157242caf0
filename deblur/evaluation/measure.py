"""The metrics of every method on the pairs of a condition: of sharp, blurred, restored images and of the baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from deblur.data.pairs import EvaluationPairs, Pairs, cut, join
from deblur.errors import ArgumentError
from deblur.evaluation.baselines import Baseline
from deblur.evaluation.protocols import Draws
from deblur.evaluation.registry import Metric, Truth, measure
from deblur.evaluation.workers import side_by_side
from deblur.models.estimates import Restored, takes_psf

Values = dict[str, Tensor]  # name of a metric -> (N,)

_BLOCK = 256  # images that are measured at once, about
_TOGETHER = 8  # the number of blocks is a multiple of it: equal shares for two, four and eight threads

BLURRED, SHARP = "blurred", "sharp"  # methods beside the networks and baselines


def blocks(pairs: EvaluationPairs | Draws, size: int) -> Iterator[tuple[Tensor, Pairs]]:
    """(which images, their pairs) in turn, on the CPU."""
    if isinstance(pairs, Draws):
        yield from pairs.blocks()
        return
    for start in range(0, len(pairs), size):
        stop = min(start + size, len(pairs))
        yield torch.arange(start, stop), pairs[start:stop]


def block_size(count: int, most: int) -> int:
    """The size of blocks of about the same size, at most so large, that several threads share out evenly.

    It does not depend on the number of threads: neither do the batches that the networks see.
    """
    number = -(-count // most)
    return -(-count // (-(-number // _TOGETHER) * _TOGETHER))


def measure_methods(
    pairs: EvaluationPairs | Draws,
    networks: Mapping[str, nn.Module],
    baselines: Mapping[str, tuple[Baseline, str]],
    metrics: Sequence[Metric],
    labels: Tensor | None,
    *,
    batch_size: int,
    device: torch.device,
    advance: Callable[[int], object],
) -> dict[str, Values]:
    """The values of each metric for each image by method: `blurred`, the networks, the baselines, and `sharp`.

    `sharp` has only what is not the same for every sharp image: legibility.

    Args:
        pairs: N of them.
        networks: by name, from blurred (and their PSFs, if they take such) to restored (B, C, H, W), on the device.
        baselines: by name, each with the padding of the data.
        metrics: as the registry chooses them.
        labels: (M,), the digit of each image that the pairs are of, or None.
        batch_size: images that a network restores at once.
        device: where the networks are.
        advance: called with the number of (image, method) done since its last call, from any thread.
    """

    @torch.inference_mode()
    def measured(item: tuple[Tensor, Pairs]) -> dict[str, Values]:
        chosen, block = item
        sharp, blurred = (side.to(device, non_blocking=True) for side in (block.sharp, block.blurred))
        truth = Truth(sharp, None if labels is None else labels[chosen].to(device))
        images = {BLURRED: blurred}
        if any(metric.digits_only for metric in metrics):
            images[SHARP] = sharp
        found_psfs: dict[str, Tensor] = {}
        for name, network in networks.items():
            restored = restore(network, Pairs(sharp, blurred, block.motion), batch_size, device)
            images[name] = restored.images
            if restored.psf is not None:
                found_psfs[name] = restored.psf
        for name, (baseline, padding) in baselines.items():
            images[name] = baseline.restore(block.blurred, block.motion.psf, padding, advance).to(device)
        found = {}
        for name, side in images.items():
            wanted = [metric for metric in metrics if name != SHARP or metric.digits_only]
            values = measure([metric for metric in wanted if not metric.of_psfs], side, truth)
            if name in found_psfs and block.motion is not None:
                true = Truth(block.motion.psf.to(device))
                for metric in wanted:
                    values |= metric.compute(found_psfs[name], true) if metric.of_psfs else {}
            found[name] = {key: value.cpu() for key, value in values.items()}
        advance(len(sharp) * len(networks))
        return found

    cpu = device.type == "cpu"
    workers = torch.get_num_threads() if cpu else 1
    most = 1 if pairs.alone else max(_BLOCK, batch_size) if cpu else batch_size
    size = block_size(len(pairs), most) if cpu else most
    parts = list(side_by_side(measured, blocks(pairs, size), min(workers, -(-len(pairs) // size))))
    return {
        name: {key: torch.cat([part[name][key] for part in parts]) for key in values}
        for name, values in parts[0].items()
    }


@torch.inference_mode()
def restore(network: nn.Module, pairs: Pairs, batch_size: int, device: torch.device) -> Restored:
    """What a network on the device makes of the pairs' blurred images, there, with the PSFs if it finds such.

    Args:
        network: a `Restorer`, or any other from blurred to restored images.
        pairs: N of them.
        batch_size: images that it restores at once.
        device: where it is.
    """
    parts = []
    for number, blurred in enumerate(pairs.blurred.split(batch_size)):
        given = [blurred.to(device)]
        if takes_psf(network):
            given.append(pairs.motion.psf[number * batch_size :][: len(blurred)].to(device))
        finds = getattr(network, "estimates_psf", False)
        parts.append(network.with_psf(*given) if finds else Restored(network(*given), None))
    psfs = [part.psf for part in parts if part.psf is not None]
    return Restored(torch.cat([part.images for part in parts]), torch.cat(psfs) if psfs else None)


def gather(pairs: EvaluationPairs | Draws, indices: Sequence[int]) -> Pairs:
    """The pairs of these numbers, on the CPU; of pictures of several sizes the middle that all have.

    Raises:
        ArgumentError: there is no such number.
    """
    if isinstance(pairs, EvaluationPairs):
        found = [pairs[index : index + 1] for index in indices]
        return join(_middles(found) if pairs.alone else found)
    if not all(0 <= index < len(pairs) for index in indices):
        raise ArgumentError("images", list(indices), f"numbers from 0 to {len(pairs) - 1}")
    drawn: dict[int, Pairs] = {}
    start = 0
    for _, block in pairs.blocks():
        inside = (index for index in indices if start <= index < start + len(block.sharp))
        drawn |= {index: cut(block, slice(index - start, index - start + 1)) for index in inside}
        start += len(block.sharp)
    return join([drawn[index] for index in indices])


def _middles(parts: Sequence[Pairs]) -> list[Pairs]:
    sides = [min(part.sharp.shape[axis] for part in parts) for axis in (-2, -1)]
    made = []
    for part in parts:
        top, left = ((part.sharp.shape[axis] - side) // 2 for axis, side in zip((-2, -1), sides, strict=True))
        inside = np.s_[..., top : top + sides[0], left : left + sides[1]]
        made.append(part._replace(sharp=part.sharp[inside], blurred=part.blurred[inside]))
    return made
