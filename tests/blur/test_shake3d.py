"""Shake with roll: the mean of frames turned and moved, against scipy and against the convolution it generalises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from deblur.blur import Motion, Shake, Shake3D
from deblur.errors import ArgumentError

PADDINGS = ("zeros", "reflect", "circular")
SCIPYS = {"zeros": "grid-constant", "reflect": "mirror", "circular": "grid-wrap"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mean_of_warped(image: np.ndarray, motion: Motion, padding: str) -> np.ndarray:
    """The slow way, for one image (H, W): one interpolation for each instant of the exposure."""
    centre = (np.array(image.shape) - 1) / 2
    frames = []
    for offset, angle in zip(motion.trajectory[0].double().numpy(), motion.angle[0].double().numpy(), strict=True):
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])  # of (y, x)
        back = turn.T  # from where the frame's pixels lie to where they were
        frames.append(
            ndimage.affine_transform(image, back, centre - back @ (centre + offset), order=1, mode=SCIPYS[padding])
        )
    return np.mean(frames, axis=0)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(33, 48), (40, 31)])
@pytest.mark.parametrize("registration", ["centroid", "start"])
def test_blurred_image_is_the_mean_of_scipys_warped_frames(padding, size, registration):
    blur = Shake3D(length=6, rotation=8, padding=padding, registration=registration)
    motion = blur.draw(1, size, generator(3))
    assert blur.frames(size) <= blur.points  # so that scipy sees the same instants
    image = torch.rand(1, 2, *size, generator=generator(4))
    blurred = blur.apply(image, motion)[0]
    for channel in (0, 1):
        wanted = mean_of_warped(image[0, channel].double().numpy(), motion, padding)
        np.testing.assert_allclose(blurred[channel], wanted, atol=2e-5)


def test_a_positive_angle_turns_clockwise_as_seen():
    blur = Shake3D(length=0, rotation=90)
    still = torch.zeros(1, 32, 2)
    motion = Motion(torch.ones(1, 1, 1, 1), still, torch.zeros(1), angle=torch.full((1, 32), math.pi / 2))
    image = torch.zeros(1, 1, 11, 11)
    image[..., 5, 9] = 1.0  # right of the centre
    turned = blur.apply(image, motion)
    assert turned[0, 0, 9, 5].item() == pytest.approx(1, abs=1e-4)  # below it


@given(st.sampled_from(PADDINGS), st.floats(0, 12), st.sampled_from(["centroid", "start"]), st.integers(0, 2**32))
@settings(deadline=None, max_examples=12)
def test_without_rotation_it_is_the_convolution_with_the_psf_of_the_same_path(padding, length, registration, seed):
    common = {"padding": padding, "registration": registration}
    turning, plain = Shake3D(length, rotation=0, **common), Shake(length, **common)
    motion, same = (blur.draw(3, (30, 37), generator(seed)) for blur in (turning, plain))
    assert torch.equal(motion.trajectory, same.trajectory)
    assert torch.equal(motion.psf, same.psf)
    images = torch.rand(3, 3, 30, 37, generator=generator(1))
    torch.testing.assert_close(turning.apply(images, motion), plain.apply(images, same), atol=5e-6, rtol=0)


@given(st.floats(0, 20), st.sampled_from(PADDINGS), st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_an_even_image_stays_even_where_no_border_gets(rotation, padding, seed):
    blur = Shake3D(length=8, rotation=rotation, padding=padding)
    blurred = blur.apply(torch.full((2, 1, 48, 48), 0.7), blur.draw(2, (48, 48), generator(seed)))
    inside = slice(14, -14)
    assert blur.margin((20, 20)) <= 14
    torch.testing.assert_close(blurred[..., inside, inside], torch.full((2, 1, 20, 20), 0.7), atol=1e-5, rtol=0)


def test_blur_is_linear_and_grows_towards_the_corner():
    blur = Shake3D(length=2, rotation=12)
    motion = blur.draw(4, (61, 61), generator())
    one, two = torch.rand(2, 4, 1, 61, 61, generator=generator(1)).unbind(0)
    mixed = blur.apply(2 * one - 3 * two, motion)
    torch.testing.assert_close(mixed, 2 * blur.apply(one, motion) - 3 * blur.apply(two, motion), atol=1e-5, rtol=0)
    middle, corner = torch.zeros(2, 4, 1, 61, 61).unbind(0)
    middle[..., 30, 30], corner[..., 8, 8] = 1, 1
    peaks = [blur.apply(image, motion).amax(dim=(1, 2, 3)) for image in (middle, corner)]
    assert (peaks[0] > 1.5 * peaks[1]).all()
    half = motion.psf.shape[-1] // 2  # what a point in the centre becomes
    centre = slice(30 - half, 31 + half)
    torch.testing.assert_close(blur.apply(middle, motion)[..., centre, centre], motion.psf, atol=0.02, rtol=0)


@given(st.floats(0.1, 30), st.sampled_from(["centroid", "start"]), st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_angles_span_the_asked_rotation_about_their_mean_or_start(rotation, registration, seed):
    motion = Shake3D(length=5, rotation=rotation, registration=registration).draw(8, (32, 32), generator(seed))
    degrees = motion.angle.rad2deg()
    torch.testing.assert_close(degrees.amax(1) - degrees.amin(1), torch.full((8,), rotation), atol=0, rtol=1e-4)
    aligned = motion.angle.mean(dim=1) if registration == "centroid" else motion.angle[:, 0]
    torch.testing.assert_close(aligned, torch.zeros(8), atol=1e-5, rtol=0)


def test_rotation_is_smooth_and_random_within_its_range():
    motion = Shake3D(rotation=[1, 4]).draw(500, (32, 32), generator())
    degrees = motion.angle.rad2deg()
    spans = degrees.amax(1) - degrees.amin(1)
    assert 1 <= spans.min() < 1.1
    assert 3.9 < spans.max() <= 4 + 1e-4
    jumps = degrees.diff(dim=1).abs().amax(dim=1) / spans
    assert jumps.quantile(0.5) < 4 / 31  # of the range, between two of 32 instants


@pytest.mark.parametrize("registration", ["centroid", "start"])
@pytest.mark.parametrize("rotation", [0, 3, 25])
def test_no_light_gets_into_an_image_from_farther_than_its_margin(registration, rotation):
    blur = Shake3D(length=[0, 9], rotation=rotation, registration=registration)
    size = (24, 31)
    margin = blur.margin(size)
    outside = torch.ones(40, 1, size[0] + 2 * margin + 12, size[1] + 2 * margin + 12)
    outside[..., 6:-6, 6:-6] = 0
    motion = blur.draw(40, size, generator())
    leaked = blur.apply(outside, motion)[..., margin + 6 : -margin - 6, margin + 6 : -margin - 6]
    assert leaked.shape[-2:] == size
    assert leaked.max() < 1e-4
    assert margin < 9 + 2 * 20 * math.sin(math.radians(rotation) / 2) + 1


def test_a_frame_moves_by_about_a_pixel_at_most_at_the_corner():
    blur, size = Shake3D(length=9, rotation=10), (128, 128)
    frames = blur.frames(size)
    assert frames > blur.points == 32
    motion = blur.draw(200, size, generator())
    poses = torch.cat([motion.trajectory, motion.angle.unsqueeze(-1)], dim=-1).mT
    y, x, angle = torch.nn.functional.interpolate(poses, size=frames, mode="linear", align_corners=True).unbind(1)
    corner = 63.5
    places = torch.stack([y + corner * (angle.sin() + angle.cos()), x + corner * (angle.cos() - angle.sin())], dim=-1)
    assert places.diff(dim=1).norm(dim=-1).quantile(0.99) < 1.1


def test_path_of_a_place_is_where_its_light_gets():
    blur = Shake3D(length=5, rotation=20)
    motion = blur.draw(3, (41, 41), generator())
    image = torch.zeros(3, 1, 41, 41)
    image[..., 20 - 9, 20 + 12] = 1
    blurred = blur.apply(image, motion).double()
    grid = torch.arange(41, dtype=torch.float64) - 20
    mean = torch.stack([blurred.sum(dim=(1, 3)) @ grid, blurred.sum(dim=(1, 2)) @ grid], dim=-1)
    wanted = motion.path_of((-9, 12)).double().mean(dim=1)
    torch.testing.assert_close(mean / blurred.sum(dim=(1, 2, 3)).unsqueeze(1), wanted, atol=0.05, rtol=0)
    plain = Shake(length=5).draw(3, (41, 41), generator())
    torch.testing.assert_close(plain.path_of((2, 3)), plain.trajectory + torch.tensor([2.0, 3.0]))


@pytest.mark.parametrize(("length", "rotation"), [(5.0, 20.0), (9.0, 0.0)])
def test_the_mean_of_the_frames_is_the_image_s_place(length, rotation):
    blur = Shake3D(length=length, rotation=rotation, points=8)
    image = torch.zeros(1, 1, 129, 129)
    image[..., 64, 64] = 1.0
    for seed in range(4):
        blurred = blur.move(image, blur.draw(1, (129, 129), torch.Generator().manual_seed(seed)))
        place = torch.arange(129.0) - 64
        for axis in (2, 3):
            assert abs(float((blurred.sum(5 - axis).flatten() * place).sum())) < 5e-3


def test_a_very_long_path_is_made_at_once_and_refused_for_the_image():
    with pytest.raises(ArgumentError, match=r"^length="):
        Shake3D(length=50_000, padding="zeros").draw(1, (28, 28), torch.Generator().manual_seed(0))
    motion = Shake3D(length=3, rotation=5, points=1000).draw(2, (64, 64), torch.Generator().manual_seed(0))
    assert motion.angle.shape == (2, 1000)
    span = motion.angle.amax(1) - motion.angle.amin(1)
    torch.testing.assert_close(span, torch.full((2,), math.radians(5.0)))


def test_angles_go_with_their_images():
    motion = Shake3D(rotation=[0, 9]).draw(5, (32, 32), generator())
    again = Motion.cat([motion[:2], motion[torch.tensor([2, 3, 4])].to("cpu")])
    assert torch.equal(again.angle, motion.angle)


def test_images_of_a_batch_are_blurred_each_by_its_own_motion():
    blur = Shake3D(length=7, rotation=6, padding="reflect")
    images = torch.rand(300, 1, 16, 16, generator=generator(1))  # more than are worked on at once
    motion = blur.draw(300, (16, 16), generator())
    whole = blur.apply(images, motion)
    for index in (0, 255, 256, 299):
        alone = blur.apply(images[index : index + 1], motion[index : index + 1])
        torch.testing.assert_close(whole[index : index + 1], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("rotation", -1), ("rotation", [3, 1]), ("rotation", "much"), ("rotation", 91), ("length", -1), ("padding", "x")],
)
def test_a_refused_setting_is_named(key, value):
    with pytest.raises(ArgumentError, match=rf"^{key}="):
        Shake3D(**{key: value})


def test_an_image_that_would_wrap_around_itself_more_than_once_is_refused():
    with pytest.raises(ArgumentError, match=r"^rotation=90\.0: must be so small"):
        Shake3D(rotation=90, padding="circular").draw(1, (28, 28), generator())
