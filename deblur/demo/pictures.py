"""What was played as HTML: pictures inside it, so that nothing of it lies in a file."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from deblur.blur.psf import crop_psf
from deblur.demo.play import Played

_SMALL = 128  # up to this longer side, pixels are shown as squares

CSS = """
.deblur-row {display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 16px; margin-bottom: 18px}
.deblur-row figure {margin: 0; min-width: 0}
.deblur-row img {display: block; max-width: 100%; height: auto; margin: 0; background: #000; box-sizing: border-box;
    border: 1px solid var(--border-color-primary)}
.deblur-row img.small, .deblur-row img.plot {width: 100%; max-width: 300px}
.deblur-row img.small {image-rendering: pixelated}
.deblur-row img.plot {background: #fff}
.deblur-row figcaption {margin: 0 0 6px; line-height: 1.35; color: var(--body-text-color)}
.deblur-row figcaption b, .deblur-row figcaption span {display: block; color: inherit; overflow-wrap: anywhere}
.deblur-line {margin: 0 0 14px; color: var(--body-text-color); overflow-wrap: anywhere}
.deblur-error {padding: 10px 14px; border-left: 4px solid #dc2626; background: rgba(220, 38, 38, 0.1)}
#picture .download {display: none}
#run input {padding-right: 32px; text-overflow: ellipsis}
#again {align-self: end}
"""


def result_html(played: Played, title: str) -> str:
    """All that came out: sharp, blurred and restored side by side; below, trajectory and PSFs.

    Args:
        played: what came out.
        title: stands above.
    """
    judged = {"blurred": (played.blurred, played.before), "restored": (played.restored, played.after)}
    above = [] if played.sharp is None else [_shown("sharp", played.sharp, _size(played.sharp))]
    above += [_shown(name, image, _text(metrics) or _size(image)) for name, (image, metrics) in judged.items()]
    below = []
    if played.trajectory is not None:
        below.append(figure("trajectory", "pixels, from dark to bright", trajectory_png(played.trajectory), "plot"))
    psfs = {name: psf for name, psf in (("PSF", played.psf), ("PSF found", played.found)) if psf is not None}
    side = max((len(psf) for psf in psfs.values()), default=0)  # both in one window, for the eye
    below += [_shown(name, _scaled(crop_psf(psf[None, None], side)[0]), _size(psf)) for name, psf in psfs.items()]
    rows = [f'<div class="deblur-row">{"".join(row)}</div>' for row in (above, below) if row]
    return f'<p class="deblur-line">{html.escape(title)}</p>{"".join(rows)}'


def picture_html(image: Tensor, title: str) -> str:
    """A picture that was sent to the page, (1 or 3, H, W) in [0, 1]."""
    return f'<div class="deblur-row">{_shown(title, image, _size(image))}</div>'


def message_html(text: str, error: bool = False) -> str:
    """A line of text."""
    return f'<p class="deblur-line{" deblur-error" if error else ""}">{html.escape(text)}</p>'


def figure(name: str, note: str, png: bytes, kind: str) -> str:
    """A picture with its name and a note above it.

    Args:
        kind: `small` shows pixels as squares, `plot` and `large` do not.
    """
    source = base64.b64encode(png).decode()
    caption = f"<b>{html.escape(name)}</b><span>{html.escape(note)}</span>"
    picture = f'<img class="{kind}" alt="{html.escape(name)}" src="data:image/png;base64,{source}">'
    return f"<figure><figcaption>{caption}</figcaption>{picture}</figure>"


def trajectory_png(trajectory: Tensor) -> bytes:
    """A picture of a trajectory, (T, 2) offsets (y, x) in pixels: from dark to bright."""
    points = trajectory.cpu().numpy()
    drawing = Figure(figsize=(3, 3), dpi=150, layout="constrained")
    axis = drawing.add_subplot(aspect="equal")
    axis.plot(points[:, 1], points[:, 0], color="0.7", lw=1.2)
    axis.scatter(points[:, 1], points[:, 0], c=np.linspace(0, 1, len(points)), s=16, cmap="viridis", zorder=3)
    reach = max(1.0, 1.15 * float(np.abs(points).max()))
    axis.set(xlim=(-reach, reach), ylim=(reach, -reach))  # y goes down, as in images
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=8)
    stream = io.BytesIO()
    drawing.savefig(stream, format="png")
    return stream.getvalue()


def _png(image: Tensor) -> bytes:
    """An image, (1 or 3, H, W), as a PNG; what is beyond [0, 1] is clamped."""
    values = (image.detach().cpu().float().clamp(0, 1) * 255).round().byte().numpy()
    stream = io.BytesIO()
    Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0).copy()).save(stream, "PNG")
    return stream.getvalue()


def _shown(name: str, image: Tensor, note: str) -> str:
    return figure(name, note, _png(image), "small" if max(image.shape[-2:]) <= _SMALL else "large")


def _scaled(psf: Tensor) -> Tensor:
    return psf / psf.max().clamp(min=1e-12)


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]} x {image.shape[-2]} pixels"


def _text(metrics: dict[str, float]) -> str:
    return f"PSNR {metrics['psnr']:.2f} dB, SSIM {metrics['ssim']:.3f}" if metrics else ""
