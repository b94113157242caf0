"""Pictures of runs: images side by side, PSFs, curves; `..._figure` returns one, `draw_...` writes it to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from deblur.blur import Motion
from deblur.blur.psf import crop_psf, psf_reach
from deblur.data.pairs import Pairs
from deblur.metrics import image_metrics, psf_correlation
from deblur.sheet import Sheet

_ERROR_SCALE = 0.5  # absolute error shown as white
_FOUND = "PSF found"


def panel(pairs: Pairs, restored: Tensor, tile: int = 84, psf: Tensor | None = None) -> np.ndarray:
    """One picture for the dashboard: a column an image; rows: sharp, blurred, restored, error, PSFs known and found.

    Args:
        pairs: the images, (B, C, H, W).
        restored: (B, C, H, W).
        psf: (B, 1, K, K), what the network found, or None.
        tile: side of an image in the picture, pixels.

    Returns:
        uint8 (rows * tile, labels + B * tile, 3).
    """
    rows = _rows(pairs, restored, psf)
    margin, gap = 58, 4
    width = margin + len(restored) * (tile + gap)
    canvas = Image.new("RGB", (width, len(rows) * (tile + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    for row, (name, images) in enumerate(rows.items()):
        top = row * (tile + gap)
        draw.text((4, top + tile // 2 - 6), name, fill="black")
        for column, image in enumerate(images):
            picture = Image.fromarray((image * 255).round().astype(np.uint8)).convert("RGB")
            canvas.paste(picture.resize((tile, tile), Image.Resampling.NEAREST), (margin + column * (tile + gap), top))
    return np.asarray(canvas)


def draw_restorations(path: Path, pairs: Pairs, restored: Tensor, title: str, psf: Tensor | None = None) -> None:
    """Write `restorations_figure` to a PNG."""
    restorations_figure(pairs, restored, title, psf=psf).savefig(path)


def draw_blur(path: Path, pairs: Pairs, title: str) -> None:
    """Write `blur_figure` to a PNG."""
    blur_figure(pairs, title).savefig(path)


def draw_curves(path: Path, history: Mapping[str, Sequence[tuple[int, float]]], title: str) -> None:
    """Write `curves_figure` to a PNG."""
    curves_figure(history, title).savefig(path)


def restorations_figure(
    pairs: Pairs, restored: Tensor, title: str, names: Sequence[str] | None = None, psf: Tensor | None = None
) -> Figure:
    """Images side by side, with the PSNR of each: sharp, blurred, restored, error, PSF if it is known.

    Below the true PSFs stand those that were found, if there are any, each with its correlation.

    Args:
        pairs: the images, (B, C, H, W).
        restored: (B, C, H, W).
        title: stands above.
        names: one above each image.
        psf: (B, 1, K, K), what the network found, or None.
    """
    judged = {"blurred": pairs.blurred, "restored": restored}
    found = {}
    if psf is not None and pairs.motion is not None:
        found[_FOUND] = [f"{value:.2f}" for value in psf_correlation(psf, pairs.motion.psf.to(psf.device))]
    return _side_by_side(_rows(pairs, restored, psf), judged, pairs.sharp, title, names, found)


def comparison_figure(
    pairs: Pairs, restored: Mapping[str, Tensor], title: str, names: Sequence[str] | None = None
) -> Figure:
    """What several methods make of the same images, with the PSNR of each: sharp, blurred, a row a method, PSF.

    Args:
        pairs: the images, (B, C, H, W).
        restored: (B, C, H, W) by the method's name.
        title: stands above.
        names: one above each image.
    """
    judged = {"blurred": pairs.blurred, **restored}
    rows = {"sharp": pairs.sharp, **judged}
    shown = {name: _images(images) for name, images in rows.items()} | _psf_row(pairs.motion)
    return _side_by_side(shown, judged, pairs.sharp, title, names)


def blur_figure(pairs: Pairs, title: str) -> Figure:
    """The blur itself: trajectories and PSFs, as far as they are known, sharp and blurred images.

    Where the image turns, also the paths of nine places of it, and the PSF is that of its centre. With a camera, each
    blurred image has its share of the full exposure and the electrons of white.
    """
    motion = pairs.motion
    paths, camera = (None, None) if motion is None else (motion.trajectory, motion.camera)
    turns = motion is not None and motion.angle is not None
    rows = _psf_row(motion) | {"sharp": _images(pairs.sharp), "blurred": _images(pairs.blurred)}
    traced = (["trajectory"] if paths is not None else []) + (["across the image"] if turns else [])
    captioned = ("blurred",) if camera is not None else ()
    sheet = Sheet(traced + list(rows), len(pairs.sharp), title, captioned)
    if turns:
        _trace_across(sheet, "across the image", motion, tuple(pairs.sharp.shape[-2:]))
    for column, (exposure, white, *_) in enumerate(camera.tolist() if captioned else []):
        light = f", {white:,.0f} e⁻" if white < float("inf") else ""
        sheet.caption("blurred", column, f"exp. {exposure:.2f}{light}", 6)
    if paths is not None:
        reach = max(1.0, 1.1 * float(paths.abs().max()))
        for column, points in enumerate(paths.cpu().numpy()):
            sheet.frame("trajectory", column)
            sheet.trace("trajectory", column, points, reach)
        sheet.note("trajectory", f"±{reach:.1f} px")
    for name, images in rows.items():
        for column, image in enumerate(images):
            sheet.show(name, column, image)
    return sheet.figure


def _trace_across(sheet: Sheet, row: str, motion: Motion, image_size: tuple[int, int]) -> None:
    """Draw the paths of the corners, the middles of the sides and the centre of each image, enlarged to be seen."""
    down, across = ((side - 1) / 2 for side in image_size)
    places = [(y, x) for y in (-down, 0.0, down) for x in (-across, 0.0, across)]
    corners = motion.trajectory.new_tensor(places).view(-1, 1, 2)
    paths = torch.stack([motion.path_of(place) for place in places], dim=1)
    enlarged = max(1, round(0.4 * min(down, across) / max(1.0, float((paths - corners).abs().max()))))
    paths = corners + enlarged * (paths - corners)
    reach = 1.05 * float(paths.abs().max())
    for column, nine in enumerate(paths.cpu().numpy()):
        sheet.frame(row, column)
        for path in nine:
            sheet.trace(row, column, path, reach, size=0.3)
    sheet.note(row, f"{image_size[0]}x{image_size[1]}" + (f", motion x{enlarged}" if enlarged > 1 else ""))


def gallery_figure(motions: Mapping[str, Motion], title: str) -> Figure:
    """A gallery of PSFs, a row for each blur by name, with the trajectory that drew each upon it from dark to bright.

    Args:
        motions: equally many of each blur.
        title: stands above.
    """
    sheet = Sheet(list(motions), max(map(len, motions.values())), title)
    for name, motion in motions.items():
        psfs = _psfs(motion)
        for column, psf in enumerate(psfs):
            sheet.show(name, column, psf, cmap="gray_r", high=1.5)
            sheet.frame(name, column)
            if motion.trajectory is not None:
                sheet.trace(name, column, motion.trajectory[column].cpu().numpy(), len(psf) / 2, size=1.5)
        sheet.note(name, f"{len(psfs[0])} px")
    return sheet.figure


def curves_figure(history: Mapping[str, Sequence[tuple[int, float]]], title: str) -> Figure:
    """The training: loss, PSNR and SSIM of validation (and of its blurred images), of PSFs if any, learning rate.

    Args:
        history: (step, value) pairs by the dashboard's names.
        title: stands above.
    """
    plots = (
        ("loss", {"train/loss_step": "step", "train/loss": "epoch"}),
        ("PSNR, dB", {"val/psnr": "restored", "val/psnr_blurred": "blurred"}),
        ("SSIM", {"val/ssim": "restored", "val/ssim_blurred": "blurred"}),
        ("learning rate", {"train/lr": "rate"}),
    )
    if "val/psf_correlation" in history:
        plots = (*plots[:3], ("PSF correlation", {"val/psf_correlation": "found"}), plots[3])
    figure = Figure(figsize=(3 * len(plots), 2.9), dpi=90, layout="constrained")
    for axis, (name, curves) in zip(figure.subplots(1, len(plots)), plots, strict=True):
        for number, (key, label) in enumerate(curves.items()):
            points = history.get(key, [])
            if points:
                style = "-" if len(points) > 30 else "o-"
                axis.plot(*zip(*points, strict=True), style, ms=3, lw=1, label=label, color=f"C{number}")
        axis.set(title=name, xlabel="step")
        axis.grid(alpha=0.3)
        if name == "loss":
            axis.set_yscale("log")
        if len(curves) > 1 and axis.lines:
            axis.legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    return figure


def _side_by_side(
    rows: Mapping[str, list[np.ndarray]],
    judged: Mapping[str, Tensor],
    sharp: Tensor,
    title: str,
    names: Sequence[str] | None,
    more: Mapping[str, list[str]] | None = None,
) -> Figure:
    """A row of images for each name, the PSNR above those of the rows that are judged, the names above the sharp.

    Above the rows in `more` stand its texts.
    """
    psnr = {name: image_metrics(images, sharp)["psnr"] for name, images in judged.items()}
    captions = {name: ([f"{value:.1f} dB" for value in values], 7) for name, values in psnr.items()}
    captions |= {name: (texts, 7) for name, texts in (more or {}).items()}
    if names is not None:
        captions["sharp"] = (list(names), 8)
    sheet = Sheet(list(rows), len(sharp), title, tuple(captions))
    for name, images in rows.items():
        for column, image in enumerate(images):
            sheet.show(name, column, image)
    for name, (texts, size) in captions.items():
        for column, text in enumerate(texts):
            sheet.caption(name, column, text, size)
    return sheet.figure


def _rows(pairs: Pairs, restored: Tensor, psf: Tensor | None) -> dict[str, list[np.ndarray]]:
    error = (restored.clamp(0, 1) - pairs.sharp).abs() / _ERROR_SCALE
    rows = {
        "sharp": _images(pairs.sharp),
        "blurred": _images(pairs.blurred),
        "restored": _images(restored),
        "error": _images(error),
    }
    if psf is None:
        return rows | _psf_row(pairs.motion)
    side = 2 * psf_reach(psf, 0.02) + 1
    if pairs.motion is None:
        return rows | {_FOUND: _scaled(crop_psf(psf, side))}
    side = max(side, 2 * psf_reach(pairs.motion.psf) + 1)  # both in one window, for the eye
    true = {name: _scaled(crop_psf(pairs.motion.psf, side)) for name in _psf_row(pairs.motion)}
    return rows | true | {_FOUND: _scaled(crop_psf(psf, side))}


def _psf_row(motion: Motion | None) -> dict[str, list[np.ndarray]]:
    """The PSFs, if they are known, under what they are."""
    if motion is None:
        return {}
    return {"PSF" if motion.angle is None else "PSF at the centre": _psfs(motion)}


def _images(batch: Tensor) -> list[np.ndarray]:
    """Images as (H, W) or (H, W, 3) arrays in [0, 1]."""
    arrays = batch.detach().float().clamp(0, 1).cpu().numpy()
    return [image[0] if len(image) == 1 else image.transpose(1, 2, 0) for image in arrays]


def _psfs(motion: Motion) -> list[np.ndarray]:
    """The PSFs, each scaled to its own maximum, cut to what the largest of them needs."""
    return _scaled(crop_psf(motion.psf, 2 * psf_reach(motion.psf) + 1))


def _scaled(psf: Tensor) -> list[np.ndarray]:
    return _images(psf / psf.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12))
