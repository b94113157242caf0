"""What is said and drawn when a training has ended."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from deblur.figures import draw_curves, draw_restorations
from deblur.installed import installed
from deblur.tables import print_table
from deblur.training.logger import read_history
from deblur.training.panels import Panels
from deblur.training.run import Run

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "deblur")


def versions() -> dict[str, str]:
    """Versions of Python and of what the results depend on."""
    found = {package: installed(package) for package in _PACKAGES}
    there = {package: known.version for package, known in found.items() if known is not None}
    return {"python": platform.python_version()} | there


def print_results(console: Console, run: Run, results: Mapping[str, Any], data: str) -> None:
    """Print the one table of a training: blurred, restored, gain; where the run lies and how to look at it."""
    metrics = results["metrics"]
    console.print(f"Test on {data}:", highlight=False)
    cells = [["", "blurred", "restored", "gain"]]
    for name, unit, digits in (("psnr", "PSNR, dB", 2), ("ssim", "SSIM", 4), ("mse", "MSE", 6)):
        restored, blurred = metrics[f"test/{name}"], metrics[f"test/{name}_blurred"]
        cells.append([unit, f"{blurred:.{digits}f}", f"{restored:.{digits}f}", f"{restored - blurred:+.{digits}f}"])
    if "test/psf_correlation" in metrics:
        cells.append(["PSF correlation", "", f"{metrics['test/psf_correlation']:.4f}", ""])
    print_table(console, cells, words=("",))
    if results.get("best_epoch") is not None:
        psnr = metrics.get("val/psnr")
        on_validation = "" if psnr is None else f", PSNR {psnr:.2f} dB on validation"
        console.print(f"weights of epoch {results['best_epoch']}{on_validation}", highlight=False)
    speed = results.get("images_per_second")
    console.print(
        f"{results['parameters']:,} parameters"
        + (f", {speed:,.0f} training images/s" if speed else "")
        + f", {results['seconds']:.0f} s in all",
        highlight=False,
    )
    console.print(f"run: {run.path}", highlight=False, soft_wrap=True)
    console.print(f"look at it: tensorboard --logdir {shlex.quote(str(run.path))}", highlight=False, soft_wrap=True)


def draw_figures(run: Run, panels: Panels, name: str) -> None:
    """Write the run's figures of restored test images and of the training."""
    if panels.tested is not None:
        pairs, restored = panels.tested
        title = f"{name}: test images"
        draw_restorations(run.figures / "restorations.png", pairs, restored.images, title, restored.psf)
    draw_curves(run.figures / "curves.png", read_history(run.path), title=f"{name}: training")
