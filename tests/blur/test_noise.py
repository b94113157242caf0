"""The sensor noise of every blur."""

from __future__ import annotations

import pytest
import torch

from deblur.blur import GaussianProcess, Kernels, Line, Motion, NoBlur, RandomWalk, Shake
from deblur.blur.random_walk import Walk
from deblur.errors import ArgumentError

BLURS = {
    "Shake": Shake,
    "Line": Line,
    "GaussianProcess": GaussianProcess,
    "RandomWalk": RandomWalk,
    "NoBlur": NoBlur,
    "Kernels": lambda **common: Kernels(torch.rand(3, 5, 5, generator=generator(9)), **common),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same_without_noise(motion: Motion) -> Motion:
    none = torch.zeros_like(motion.noise)
    if isinstance(motion, Walk):
        return Walk(motion.trajectory, none, motion.step)
    return Motion(motion.psf, motion.trajectory, none)


@pytest.mark.parametrize("name", BLURS)
def test_noise_has_the_asked_standard_deviation_in_each_image(name):
    blur = BLURS[name](noise=[0.02, 0.2])
    sharp = torch.rand(32, 3, 40, 40, generator=generator(1))
    motion = blur.draw(32, (40, 40), generator(2))
    assert motion.noise.shape == (32,)
    assert motion.noise.min() >= 0.02
    assert motion.noise.max() <= 0.2
    assert motion.noise.max() - motion.noise.min() > 0.1
    noise = blur.apply(sharp, motion, generator(3)) - blur.apply(sharp, same_without_noise(motion), generator(4))
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)), motion.noise, atol=0, rtol=0.06)
    assert noise.mean().abs() < 0.002


@pytest.mark.parametrize("name", BLURS)
def test_noise_needs_a_generator_and_follows_it(name):
    blur = BLURS[name](noise=0.1)
    sharp = torch.rand(2, 1, 28, 28, generator=generator(1))
    motion = blur.draw(2, (28, 28), generator(2))
    assert torch.equal(motion.noise, torch.full((2,), 0.1))
    with pytest.raises(ValueError, match="generator"):
        blur.apply(sharp, motion)
    first, same, other = (blur.apply(sharp, motion, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first[0] - sharp[0], first[1] - sharp[1])


@pytest.mark.parametrize("name", BLURS)
def test_without_noise_a_blur_is_deterministic_and_linear(name):
    blur = BLURS[name]()
    one, two = torch.rand(2, 4, 1, 28, 28, generator=generator(1)).unbind(0)
    motion = blur.draw(4, (28, 28), generator(2))
    assert (motion.noise == 0).all()
    assert torch.equal(blur.apply(one, motion), blur.apply(one, motion, generator(3)))
    combined = blur.apply(2 * one - 3 * two, motion)
    torch.testing.assert_close(combined, 2 * blur.apply(one, motion) - 3 * blur.apply(two, motion), atol=1e-5, rtol=0)


def test_noisy_image_is_not_clamped():
    blur = Shake(5, noise=0.2)
    blurred = blur.apply(torch.ones(1, 1, 28, 28), blur.draw(1, (28, 28), generator()), generator())
    assert blurred.max() > 1.2
    black = blur.apply(torch.zeros(1, 1, 28, 28), blur.draw(1, (28, 28), generator()), generator())
    assert black.min() < -0.2


@pytest.mark.parametrize("name", BLURS)
def test_motions_are_indexed_and_joined_image_by_image(name):
    motion = BLURS[name](noise=[0, 0.1]).draw(5, (28, 28), generator())
    parts = [motion[:2], motion[torch.tensor([2, 3, 4])]]
    assert [len(part) for part in parts] == [2, 3]
    again = type(motion).cat(parts)
    assert torch.equal(again.noise, motion.noise)
    torch.testing.assert_close(again.psf, motion.psf)
    if motion.trajectory is None:
        assert again.trajectory is None
    else:
        assert torch.equal(again.trajectory, motion.trajectory)


@pytest.mark.parametrize("size", [28, 96])  # of the two, the larger one goes through the Fourier domain
def test_images_of_other_float_types_are_blurred_and_integers_refused(size):
    blur = BLURS["Shake"](length=25, noise=0.1)
    sharp = torch.rand(2, 1, size, size, generator=generator(1))
    motion = blur.draw(2, (size, size), generator(2))
    expected = blur.apply(sharp, motion, generator(3))
    for kind, tolerance in ((torch.float64, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        found = blur.apply(sharp.to(kind), motion, generator(3))
        assert found.dtype == kind
        torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)
    with pytest.raises(ArgumentError, match="floating type"):
        blur.apply((255 * sharp).to(torch.uint8), motion, generator(3))


def test_no_blur_leaves_an_image_as_it_is_and_its_psf_is_one_pixel():
    blur, sharp = NoBlur(), torch.rand(3, 2, 5, 7, generator=generator(1))
    motion = blur.draw(3, (5, 7), generator(2))
    assert torch.equal(blur.apply(sharp, motion), sharp)
    assert torch.equal(motion.psf, torch.ones(3, 1, 1, 1))
    assert blur.reach == 0
