"""The names of what a run measures, and which way each is better; imports no torch."""

from __future__ import annotations

NAMES = ("psnr", "ssim", "mse", "psnr_blurred", "ssim_blurred", "mse_blurred", "psnr_gain")
PSF_CORRELATION = "psf_correlation"  # of networks that estimate PSFs, beside those

LOSS = "train/loss"
VALIDATION, TEST = (tuple(f"{split}/{name}" for name in (*NAMES, PSF_CORRELATION)) for split in ("val", "test"))


def metric_mode(name: str) -> str:
    """`min` for losses and errors, `max` for all other metrics."""
    return "min" if name.split("/")[-1].startswith(("loss", "mse")) else "max"


def is_better(name: str, value: float, other: float) -> bool:
    """Whether the value of the metric is better than the other; of equal ones neither is."""
    return value < other if metric_mode(name) == "min" else value > other
