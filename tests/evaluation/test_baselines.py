"""The classical baselines equal scikit-image's and a slow solver's, and their parameter is that of validation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve as filter_image
from scipy.ndimage import correlate as correlate_image
from scipy.optimize import minimize
from scipy.signal import convolve2d, correlate2d
from skimage.restoration import richardson_lucy, wiener
from torch import Tensor

from deblur.blur import RandomWalk, Shake, convolve
from deblur.blur.psf import good_size
from deblur.data.pairs import Pairs
from deblur.errors import ArgumentError
from deblur.evaluation.baselines import (
    BASELINES,
    Baseline,
    RichardsonLucy,
    TotalVariation,
    Wiener,
    base,
    choose,
    total_variation,
)
from deblur.metrics import image_metrics

# (height, width, K, what lies outside): odd and even sides, a PSF of one pixel, one wider than the image.
CASES = [
    (12, 12, 3, "zeros"),
    (13, 10, 5, "zeros"),
    (8, 9, 1, "zeros"),
    (9, 8, 13, "zeros"),
    (12, 15, 5, "reflect"),
    (12, 15, 5, "circular"),
    (11, 10, 7, "circular"),
]
ANY_BASELINE = [Wiener(0.01), RichardsonLucy(5), TotalVariation(0.001)]


def random_psf(count: int, size: int, seed: int = 0) -> Tensor:
    """Asymmetric PSFs (count, 1, size, size) in double precision."""
    psf = torch.rand(count, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) ** 4
    return psf / psf.sum(dim=(2, 3), keepdim=True)


def random_images(*shape: int, seed: int = 1) -> Tensor:
    """Noise of flat patches in [0, 1], in double precision."""
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).round(decimals=1)


def shapes(count: int, size: int, margin: int, seed: int = 0) -> Tensor:
    """White rectangles on black (count, 1, size, size) with a black margin: digits for a test."""
    corners = torch.randint(margin, size - margin - 4, (count, 2), generator=torch.Generator().manual_seed(seed))
    images = torch.zeros(count, 1, size, size)
    for image, (y, x) in zip(images, corners.tolist(), strict=True):
        image[0, y : y + 5, x : x + 3] = 1
        image[0, y + 1, x + 1] = 0.4
    return images


def shaken(count: int, noise: float, *, size: int = 20, seed: int = 0) -> Pairs:
    source = torch.Generator().manual_seed(seed)
    blur = Shake(5, noise=noise)
    sharp = shapes(count, size, 5, seed)
    motion = blur.draw(count, (size, size), source)
    return Pairs(sharp, blur.apply(sharp, motion, source), motion)


def restore_each(blurred: Tensor, psf: Tensor, restore_one: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Tensor:
    """restore_one(plane, kernel) of every channel of every image, clamped: what a loop over skimage gives."""
    planes = [
        [restore_one(plane, kernel[0]) for plane in image]
        for image, kernel in zip(blurred.numpy(), psf.numpy(), strict=True)
    ]
    return torch.from_numpy(np.array(planes)).clamp(0, 1)


@pytest.mark.parametrize(("height", "width", "size", "padding"), CASES)
def test_wiener_equals_scikit_image(height: int, width: int, size: int, padding: str) -> None:
    blurred, psf = random_images(3, 2, height, width) + 0.05, random_psf(3, size)
    around = size - 1

    def one(plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        if padding == "reflect":
            mirrored = np.pad(plane, ((0, height - 2), (0, width - 2)), mode="reflect")
            return wiener(mirrored, kernel, 0.02)[:height, :width]
        if padding == "zeros":  # black that the light of one edge cannot cross to the other
            sides = ((0, good_size(height + around) - height), (0, good_size(width + around) - width))
            return wiener(np.pad(plane, sides), kernel, 0.02)[:height, :width]
        return wiener(plane, kernel, 0.02)

    torch.testing.assert_close(Wiener(0.02).restore(blurred, psf, padding), restore_each(blurred, psf, one))


@pytest.mark.parametrize(("height", "width", "size"), [case[:3] for case in CASES if case[3] == "zeros"])
def test_richardson_lucy_equals_scikit_image(height: int, width: int, size: int) -> None:
    blurred, psf = random_images(3, 2, height, width), random_psf(3, size)
    expected = restore_each(blurred, psf, lambda plane, kernel: richardson_lucy(plane, kernel, num_iter=8))
    torch.testing.assert_close(RichardsonLucy(8).restore(blurred, psf), expected)


@pytest.mark.parametrize("padding", ["circular", "reflect"])
def test_richardson_lucy_with_other_borders_equals_a_plain_loop(padding: str) -> None:
    """Scikit-image knows only black borders: its loop with other convolutions, by scipy."""
    blurred, psf = random_images(3, 2, 12, 15), random_psf(3, 5)

    def one(plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        def forward(image: np.ndarray) -> np.ndarray:
            return filter_image(image, kernel, mode="wrap") if circular else convolve2d(image, kernel, mode="valid")

        def adjoint(image: np.ndarray) -> np.ndarray:
            return correlate_image(image, kernel, mode="wrap") if circular else correlate2d(image, kernel, mode="full")

        circular = padding == "circular"
        estimate = np.full_like(adjoint(plane), 0.5)
        share = adjoint(np.ones_like(plane))
        for _ in range(8):
            estimate *= adjoint(plane / (forward(estimate) + 1e-12)) / share * (share > 0.01)
        return estimate if circular else estimate[2:-2, 2:-2]

    torch.testing.assert_close(RichardsonLucy(8).restore(blurred, psf, padding), restore_each(blurred, psf, one))


def test_richardson_lucy_in_single_precision_stays_with_scikit_image_for_hundreds_of_iterations() -> None:
    pairs = shaken(4, noise=0.02)
    psf = pairs.motion.psf
    expected = restore_each(
        pairs.blurred.double().clamp(min=0), psf.double(), lambda y, k: richardson_lucy(y, k, num_iter=300)
    )
    restored = RichardsonLucy(300).restore(pairs.blurred, psf)
    torch.testing.assert_close(restored.double(), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("baseline", ANY_BASELINE, ids=str)
@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_borders_follow_the_padding(baseline: Baseline, padding: str) -> None:
    """Light that left at one edge is not looked for at the other, unless the blur carried it there."""
    sharp = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    sharp[0, 0, 5:11, 0:2] = 1
    psf = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    psf[0, 0, 3, 1:4] = 1 / 3  # moves light to the left
    blurred = convolve(sharp, psf, padding)
    right = {kind: baseline.restore(blurred, psf, kind)[..., 8:].abs().max().item() for kind in ("zeros", "circular")}
    if padding == "zeros":
        assert right["zeros"] < 0.05
    else:
        assert right["circular"] < 0.3 < right["zeros"]


def objective(image: Tensor, blurred: Tensor, psf: Tensor, weight: float, padding: str, step: float = 0) -> Tensor:
    """1/2 |k * x - y|^2 + weight TV(x) of one image; a `step` > 0 rounds the corner of each length off.

    For `reflect` the image is the canvas: a periodic one with the frame of the blurred image at its origin.
    """
    height, width = blurred.shape[-2:]
    blur = convolve(image, psf, "zeros" if padding == "zeros" else "circular")[..., :height, :width]
    if padding == "zeros":
        image = torch.nn.functional.pad(image, (1, 1, 1, 1))
    squares = (image.roll(-1, 2) - image) ** 2 + (image.roll(-1, 3) - image) ** 2
    return 0.5 * (blur - blurred).square().sum() + weight * (squares + step**2).sqrt().sum()


def slow_minimiser(blurred: Tensor, psf: Tensor, weight: float, padding: str) -> Tensor:
    """The image in [0, 1] of least `objective`, by scipy's L-BFGS-B with corners rounded off less and less."""
    sides = (
        blurred.shape[-2:] if padding != "reflect" else [good_size(n + psf.shape[-1] - 1) for n in blurred.shape[-2:]]
    )
    shape = (1, 1, *sides)

    def value_and_slope(flat: np.ndarray, step: float) -> tuple[float, np.ndarray]:
        image = torch.from_numpy(flat).view(shape).requires_grad_()
        value = objective(image, blurred, psf, weight, padding, step)
        return value.item(), torch.autograd.grad(value, image)[0].numpy().ravel()

    image = np.full(sides[0] * sides[1], 0.5)
    options = {"maxiter": 1500, "maxfun": 3000, "ftol": 1e-12, "gtol": 1e-8}
    for step in (1e-1, 1e-2, 1e-3, 1e-4):
        bounds = [(0, 1)] * image.size
        solver = {"jac": True, "method": "L-BFGS-B", "bounds": bounds, "options": options}
        image = minimize(value_and_slope, image, (step,), **solver).x
    return torch.from_numpy(image).view(shape)


@pytest.mark.parametrize(
    ("padding", "weight"), [("zeros", 0.003), ("zeros", 0.03), ("circular", 0.01), ("reflect", 0.01)]
)
def test_total_variation_reaches_the_minimum_that_a_slow_solver_finds(padding: str, weight: float) -> None:
    psf = random_psf(1, 5)
    noise = 0.03 * torch.randn(1, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blurred = convolve(shapes(1, 12, 1).double(), psf, padding) + noise
    best = slow_minimiser(blurred, psf, weight, padding)
    least = objective(best, blurred, psf, weight, padding).item()
    restored = best.clone()  # keeps the slow solver's margin, where there is one
    restored[..., :12, :12] = TotalVariation(weight).restore(blurred, psf, padding)
    assert objective(restored, blurred, psf, weight, padding).item() == pytest.approx(least, rel=5e-4)
    restored[..., :12, :12] = blurred.clamp(0, 1)
    assert objective(restored, blurred, psf, weight, padding).item() > 1.2 * least


def test_total_variation_lowers_its_objective_as_it_iterates(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = shaken(1, noise=0.02)
    values = []
    for iterations in (1, 3, 10, 30, 100):
        monkeypatch.setattr(total_variation, "_ITERATIONS", iterations)
        restored = TotalVariation(0.003).restore(pairs.blurred, pairs.motion.psf)
        values.append(objective(restored, pairs.blurred, pairs.motion.psf, 0.003, "zeros").item())
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.7 * values[0]


@pytest.mark.parametrize("baseline", [Wiener(1e-8), RichardsonLucy(1000), TotalVariation(1e-5)], ids=str)
def test_without_noise_the_sharp_images_come_back(baseline: Baseline) -> None:
    pairs = shaken(8, noise=0)
    before = image_metrics(pairs.blurred, pairs.sharp)["psnr"]
    after = image_metrics(baseline.restore(pairs.blurred, pairs.motion.psf), pairs.sharp)["psnr"]
    assert before.mean() < 25
    assert after.min() > 40


@pytest.mark.parametrize("baseline", [Wiener(0.02), RichardsonLucy(20), TotalVariation(0.001)], ids=str)
def test_a_photograph_gains_up_to_its_border(baseline: Baseline) -> None:
    """Cut from a larger scene, as `reflect` stands for: what lay outside has leaked into the blurred border."""
    scene = torch.from_numpy(skimage.data.camera()[100:196, 200:296] / 255)[None, None].float()
    motion = Shake(9).draw(1, (96, 96), torch.Generator().manual_seed(3))
    inside = slice(16, 80)
    sharp, blurred = scene[..., inside, inside], convolve(scene, motion.psf)[..., inside, inside]
    restored = baseline.restore(blurred, motion.psf, "reflect")
    rim = torch.ones(64, 64, dtype=torch.bool)
    rim[4:-4, 4:-4] = False
    errors = [(image - sharp)[..., rim].square().mean().sqrt().item() for image in (restored, blurred)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("kind", BASELINES)
def test_the_parameter_is_the_best_of_validation(kind: type[Baseline], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "grid", kind.grid[:: len(kind.grid) // 5])
    monkeypatch.setattr(base, "_CPU_CHUNK", 3 * 400)
    monkeypatch.setattr(total_variation, "_ITERATIONS", 30)
    validation, seen = shaken(8, noise=0.02), []
    choice = choose(kind, validation, "zeros", seen.append)
    slow = {
        value: image_metrics(kind(value).restore(validation.blurred, validation.motion.psf), validation.sharp)["psnr"]
        .mean()
        .item()
        for value in kind.grid
    }
    assert choice.psnr == pytest.approx(slow, abs=1e-3)
    assert choice.baseline.value == max(slow, key=slow.__getitem__)
    assert choice.at_the_edge == (choice.baseline.value in (kind.grid[0], kind.grid[-1]))
    assert sum(seen) == 8
    assert len(seen) > 1


@pytest.mark.parametrize(("kind", "direction"), [(Wiener, 1), (RichardsonLucy, -1), (TotalVariation, 1)])
def test_more_noise_asks_for_more_regularisation(
    kind: type[Baseline], direction: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(total_variation, "_ITERATIONS", 30)
    little, much = (choose(kind, shaken(8, noise)).baseline.value for noise in (0.005, 0.1))
    assert direction * (much - little) > 0


@pytest.mark.parametrize("baseline", ANY_BASELINE, ids=str)
@pytest.mark.parametrize("padding", ["zeros", "reflect", "circular"])
def test_images_and_channels_are_restored_each_by_itself(
    baseline: Baseline, padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blurred, psf = random_images(5, 2, 12, 11), random_psf(5, 7)
    psf[1::2, :, :2], psf[1::2, :, -2:], psf[1::2, ..., :2], psf[1::2, ..., -2:] = 0, 0, 0, 0  # of less reach
    psf /= psf.sum(dim=(1, 2, 3), keepdim=True)
    alone = [
        baseline.restore(blurred[i : i + 1, c : c + 1], psf[i : i + 1], padding) for i in range(5) for c in range(2)
    ]
    monkeypatch.setattr(base, "_CPU_CHUNK", 2 * 2 * 12 * 11)
    seen: list[int] = []
    together = baseline.restore(blurred, psf, padding, seen.append)
    torch.testing.assert_close(together, torch.cat(alone).view_as(blurred))
    assert sum(seen) == 5
    assert len(seen) == 3


@given(
    level=st.floats(0.05, 1),
    size=st.sampled_from([1, 3, 7]),
    seed=st.integers(0, 1000),
    kind=st.sampled_from([0, 1, 2]),
)
@settings(max_examples=30, deadline=None)
def test_an_even_surface_stays_as_it_is(level: float, size: int, seed: int, kind: int) -> None:
    blurred = torch.full((1, 1, 9, 8), level, dtype=torch.float64)
    restored = ANY_BASELINE[kind].restore(blurred, random_psf(1, size, seed), "circular")
    torch.testing.assert_close(restored, blurred, atol=1e-6, rtol=0)


@pytest.mark.parametrize("baseline", [Wiener(1e-4), RichardsonLucy(100), TotalVariation(1e-4)], ids=str)
def test_the_tremor_walk_is_undone_though_its_psf_is_wider_than_the_image(baseline: Baseline) -> None:
    blur, source = RandomWalk(), torch.Generator().manual_seed(0)
    motion, sharp = blur.draw(4, (28, 28), source), shapes(4, 28, 8)
    assert motion.psf.shape[-1] > 28
    restored = baseline.restore(blur.apply(sharp, motion), motion.psf)
    blurred_psnr = image_metrics(blur.apply(sharp, motion), sharp)["psnr"]
    assert (image_metrics(restored, sharp)["psnr"] - blurred_psnr).min() > 8


@pytest.mark.parametrize("baseline", ANY_BASELINE, ids=str)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blurred": torch.rand(2, 9, 9)}, "blurred=float32 2x9x9: must be floats of shape"),
        ({"blurred": torch.zeros(2, 1, 9, 9, dtype=torch.uint8)}, "blurred=uint8"),
        ({"blurred": torch.full((2, 1, 9, 9), torch.nan)}, "blurred=not finite"),
        ({"psf": random_psf(3, 3)}, r"psf=float64 3x1x3x3: must be floats of shape \(2, 1, K, K\)"),
        ({"psf": random_psf(2, 3)[..., :2, :2]}, "with K odd"),
        ({"psf": random_psf(2, 3)[:, 0]}, "with K odd"),
        ({"psf": 2 * random_psf(2, 3)}, "psf=sums from 2 to 2.*each with the sum 1"),
        ({"psf": torch.tensor([[-1.0, 1, 1]] * 3).div(3).expand(2, 1, 3, 3)}, "smallest value -0.333"),
        ({"psf": torch.full((2, 1, 3, 3), torch.nan)}, "psf=sums from nan"),
        ({"psf": random_psf(2, 11), "padding": "reflect"}, "psf=11x11 pixels: must be at most 9"),
        ({"psf": random_psf(2, 11), "padding": "circular"}, "psf=11x11 pixels: must be at most 9"),
        ({"padding": "mirror"}, "padding=mirror: must be one of zeros, reflect, circular"),
    ],
)
def test_what_cannot_be_restored_is_refused_by_name(baseline: Baseline, change: dict, message: str) -> None:
    good = {"blurred": torch.rand(2, 1, 9, 9), "psf": random_psf(2, 3), "padding": "zeros"}
    baseline.restore(**good)
    with pytest.raises(ArgumentError, match=message):
        baseline.restore(**good | change)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Wiener, 0, "balance=0: must be a number > 0"),
        (TotalVariation, -1.0, "weight=-1.0: must be a number > 0"),
        (RichardsonLucy, 0, "iterations=0: must be a whole number >= 1"),
        (RichardsonLucy, 2.5, "iterations=2.5: must be a whole number"),
    ],
)
def test_a_parameter_out_of_range_is_refused(kind: type[Baseline], value: float, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        kind(value)
