"""The camera: linear light, photons, saturation, quantisation; and that without one nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skimage.color import rgb2xyz
from skimage.color.colorconv import xyz_from_rgb

from deblur.blur import Camera, GaussianProcess, Kernels, Line, RandomWalk, Shake, Shake3D
from deblur.blur.srgb import srgb_decode, srgb_encode
from deblur.data.pairs import EvaluationPairs
from deblur.errors import ArgumentError

PERFECT = {"full_well": None, "bits": None}  # linear light and nothing else
BLURS = {
    "Shake": Shake,
    "Shake3D": Shake3D,
    "Line": Line,
    "GaussianProcess": GaussianProcess,
    "RandomWalk": RandomWalk,
    "Kernels": lambda **common: Kernels(torch.rand(3, 5, 5, generator=generator(9)), **common),
}
PATHS = ("Shake", "Shake3D", "Line", "GaussianProcess")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(light: float, camera: Camera, side: int = 200, seed: int = 0) -> torch.Tensor:
    """The light that the camera reports for an even surface of the given light, (side, side)."""
    drawn = camera.draw(1, generator())
    seen = camera.record(torch.full((1, 1, side, side), light), drawn, generator(seed))
    return srgb_decode(seen)[0, 0].double()


# Linear light.


def test_an_edge_is_blurred_in_linear_light_against_numpy():
    sharp = torch.zeros(1, 1, 20, 40)
    sharp[..., 20:] = 0.8
    psf = torch.zeros(7, 7)
    psf[3] = 1 / 7
    blur = Kernels(psf[None], camera=Camera(**PERFECT))
    blurred = blur.apply(sharp, blur.draw(1, (20, 40), generator()))[0, 0]
    grey = np.full((1, 1, 3), 0.8)
    light = (rgb2xyz(grey) @ np.linalg.inv(xyz_from_rgb).T)[0, 0, 0] * np.convolve(np.arange(40) >= 20, [1 / 7] * 7)[
        3:-3
    ]
    encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(blurred[10, :37], encoded[:37], atol=1e-5)
    plain = Kernels(psf[None])
    assert (blurred - plain.apply(sharp, plain.draw(1, (20, 40), generator()))[0, 0])[10, 18].item() > 0.1


@pytest.mark.parametrize("name", BLURS)
def test_without_motion_a_perfect_camera_gives_the_sharp_image(name):
    still = {"RandomWalk": {"step": 0.0}, "Kernels": {}, "Shake3D": {"length": 0, "rotation": 0}}
    blur = BLURS[name](camera=Camera(**PERFECT), **still.get(name, {"length": 0}))
    if name == "Kernels":
        blur = Kernels(torch.ones(1, 1, 1), camera=blur.camera)
    sharp = torch.rand(4, 3, 12, 12, generator=generator(1))
    torch.testing.assert_close(blur.apply(sharp, blur.draw(4, (12, 12), generator())), sharp, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BLURS)
def test_a_perfect_camera_is_the_plain_blur_of_the_light(name):
    sharp = torch.rand(6, 3, 28, 28, generator=generator(1))
    blur, plain = BLURS[name](camera=Camera(**PERFECT)), BLURS[name]()
    seen = blur.apply(sharp, blur.draw(6, (28, 28), generator()))
    light = plain.apply(srgb_decode(sharp), plain.draw(6, (28, 28), generator()))
    torch.testing.assert_close(seen, srgb_encode(light), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BLURS)
def test_without_a_camera_the_stored_values_are_moved_and_only_plain_noise_is_added(name):
    blur, sharp = BLURS[name](noise=[0.01, 0.1]), torch.rand(4, 3, 28, 28, generator=generator(1))
    motion = blur.draw(4, (28, 28), generator())
    assert motion.camera is None
    noise = torch.randn(sharp.shape, generator=generator(2)) * motion.noise.view(-1, 1, 1, 1)
    torch.testing.assert_close(
        blur.apply(sharp, motion, generator(2)), blur.move(sharp, motion) + noise, atol=1e-6, rtol=0
    )


def test_without_a_camera_the_random_numbers_are_those_of_before_there_were_any():
    """As drawn by the version before: a published run's fixed pairs must not change."""
    source = generator()
    motion = Shake(length=[3, 15], noise=[0, 0.1]).draw(2, (28, 28), source)
    torch.testing.assert_close(
        motion.trajectory[:, 0], torch.tensor([[0.16365, 0.64152], [3.94804, 4.50575]]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(motion.noise, torch.tensor([0.0032074, 0.0077996]), atol=1e-6, rtol=0)
    assert torch.rand(1, generator=source).item() == pytest.approx(0.3985816, abs=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_a_full_exposure_moves_images_as_without_a_camera(name):
    filmed, plain = (BLURS[name](camera=camera).draw(8, (28, 28), generator()) for camera in (Camera(), None))
    assert torch.equal(filmed.psf, plain.psf)


# Photons.


@pytest.mark.parametrize(("electrons", "read_noise"), [(4, 0.0), (50, 0.0), (3000, 0.0), (50, 4.0)])
def test_noise_has_the_mean_and_variance_of_photons_and_readout(electrons, read_noise):
    camera = Camera(full_well=10 * electrons, read_noise=read_noise, bits=None)
    counted = flat(0.1, camera) * 10 * electrons
    assert counted.mean().item() == pytest.approx(electrons, rel=0.01)
    assert counted.var().item() == pytest.approx(electrons + read_noise**2, rel=0.03)


def test_counts_of_few_photons_are_poissons():
    counted = (flat(0.02, Camera(full_well=100, bits=None)) * 100).round()
    values = np.bincount(counted.int().flatten().numpy(), minlength=9)
    wanted = stats.poisson(2).pmf(np.arange(9)) * counted.numel()
    assert stats.chisquare(values[:8], wanted[:8] * values[:8].sum() / wanted[:8].sum()).pvalue > 1e-3


@given(st.floats(0.05, 1.0))
@settings(deadline=None, max_examples=10)
def test_a_shorter_exposure_has_relative_noise_larger_by_the_root(exposure):
    full, short = (flat(0.3, Camera(exposure=e, full_well=2000, bits=None)) for e in (1.0, exposure))
    assert short.mean().item() == pytest.approx(full.mean().item(), rel=0.02)  # the gain makes up for it
    assert (short.std() / full.std()).item() == pytest.approx(exposure**-0.5, rel=0.03)


@pytest.mark.parametrize("name", PATHS)
def test_a_shorter_exposure_has_a_shorter_path(name):
    blur = BLURS[name](length=[4, 12], camera=Camera(exposure=[0.2, 0.8]))
    motion = blur.draw(50, (28, 28), generator())
    full = BLURS[name](length=[4, 12]).draw(50, (28, 28), generator())
    exposure = motion.camera[:, 0]
    assert exposure.min() >= 0.2
    assert exposure.max() <= 0.8
    assert exposure.std() > 0.1
    torch.testing.assert_close(motion.trajectory, full.trajectory * exposure.view(-1, 1, 1), atol=1e-5, rtol=0)
    if name == "Shake3D":
        spans = motion.angle.amax(dim=1) - motion.angle.amin(dim=1)
        torch.testing.assert_close(spans, exposure * blur.rotation[1] * torch.pi / 180, atol=1e-6, rtol=0)


def test_a_shorter_exposure_shortens_the_steps_of_a_walk_and_leaves_given_psfs():
    camera = Camera(exposure=0.5)
    half, full = (RandomWalk(camera=c).draw(3, (28, 28), generator()).trajectory for c in (camera, None))
    torch.testing.assert_close(half, full / 2)
    given_psfs = [BLURS["Kernels"](camera=c).draw(3, (28, 28), generator()).psf for c in (camera, None)]
    assert torch.equal(*given_psfs)


# Saturation, and what is stored.


def test_light_above_white_is_cut_off_after_the_blur():
    sharp = torch.zeros(1, 1, 21, 21)
    sharp[..., 10, 10] = 1.0
    sharp[..., 3, 3] = 0.99
    psf = torch.full((1, 3, 3), 1 / 9)
    drawn = generator()
    for highlights, white in ((0.0, 1 / 9), (3.5, 4.5 / 9), (17.0, 1.0)):
        blur = Kernels(psf, camera=Camera(highlights=highlights, **PERFECT))
        light = srgb_decode(blur.apply(sharp, blur.draw(1, (21, 21), drawn)))[0, 0]
        torch.testing.assert_close(light[9:12, 9:12], torch.full((3, 3), white), atol=1e-5, rtol=0)
        assert light[3, 3].item() == pytest.approx(srgb_decode(torch.tensor(0.99)).item() / 9, abs=1e-5)  # is not white


def test_nothing_leaves_the_range_however_noisy():
    camera = Camera(full_well=20, read_noise=10, highlights=2)
    blur = Line(length=5, camera=camera)
    blurred = blur.apply(
        (torch.rand(3, 3, 28, 28, generator=generator(1)) * 1.2).clamp(max=1),
        blur.draw(3, (28, 28), generator()),
        generator(),
    )
    assert blurred.min() == 0
    assert blurred.max() == 1


@given(st.integers(1, 16), st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_stored_values_are_whole_steps(bits, seed):
    blur = Shake(length=5, noise=0.05, camera=Camera(full_well=500, bits=bits))
    sharp = torch.rand(2, 1, 16, 16, generator=generator(seed))
    blurred = blur.apply(sharp, blur.draw(2, (16, 16), generator(seed)), generator(seed))
    steps = torch.arange(2**bits) / (2**bits - 1)
    assert torch.isin(blurred, steps).all()


def test_plain_noise_comes_on_top_of_a_camera():
    sharp = torch.full((4, 1, 100, 100), 0.5)
    blur = Line(length=1, noise=0.05, camera=Camera(**PERFECT))
    blurred = blur.apply(sharp, blur.draw(4, (100, 100), generator()), generator(1))
    assert blurred[..., 2:-2, 2:-2].std().item() == pytest.approx(0.05, rel=0.05)


# Randomness.


@pytest.mark.parametrize("name", BLURS)
def test_the_same_generator_gives_the_same_picture(name):
    blur = BLURS[name](camera=Camera(exposure=[0.3, 1], full_well=[100, 1000], read_noise=[1, 3], highlights=[0, 2]))
    sharp = torch.rand(4, 3, 28, 28, generator=generator(1))
    first, same, other = (
        blur.apply(sharp, blur.draw(4, (28, 28), generator(2)), generator(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_photons_need_a_generator():
    blur = Line(length=3, camera=Camera())
    with pytest.raises(ValueError, match="generator"):
        blur.apply(torch.rand(1, 1, 28, 28), blur.draw(1, (28, 28), generator()))


@pytest.mark.parametrize("name", BLURS)
def test_what_the_camera_drew_goes_with_its_image(name):
    blur = BLURS[name](camera=Camera(exposure=[0.3, 1], full_well=[100, 1000], highlights=[0, 2], bits=None))
    motion = blur.draw(5, (28, 28), generator())
    again = type(motion).cat([motion[:2], motion[torch.tensor([2, 3])], motion[4:].to("cpu")])
    assert torch.equal(again.camera, motion.camera)
    assert len(set(motion.camera[:, 1].tolist())) == 5


def test_fixed_pairs_are_the_same_however_they_are_asked_for():
    images = torch.randint(256, (50, 1, 20, 20), generator=generator(), dtype=torch.uint8)
    blur = Shake3D(length=5, camera=Camera(exposure=[0.5, 1], full_well=[100, 1000], read_noise=1, highlights=1))
    whole = EvaluationPairs(images, blur, eval_seed=0, split="val")[:50]
    parts = EvaluationPairs(images, blur, eval_seed=0, split="val")
    for start in (30, 0, 7):
        assert torch.equal(parts[start : start + 9].blurred, whole.blurred[start : start + 9])
    first = EvaluationPairs(images, blur, eval_seed=0, split="val", count=20)
    assert len(first) == 20
    assert torch.equal(first[:].blurred, whole.blurred[:20])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("exposure", 0.0),
        ("exposure", 1.5),
        ("exposure", [0.9, 0.2]),
        ("full_well", 0),
        ("full_well", "bright"),
        ("read_noise", -1),
        ("highlights", -0.5),
        ("bits", 0),
        ("bits", 8.5),
    ],
)
def test_a_refused_setting_is_named(key, value):
    with pytest.raises(ArgumentError, match=rf"^{key}="):
        Camera(**{key: value})


@pytest.mark.parametrize("name", BLURS)
def test_only_a_camera_is_one(name):
    with pytest.raises(ArgumentError, match=r"^camera=phone: must be a Camera"):
        BLURS[name](camera="phone")
