"""Evaluate trained networks: `python evaluate.py run=outputs/unet/2026-11-23_18-30-12`; `--help` lists the settings."""

from deblur.cli import door

if __name__ == "__main__":
    door("evaluate", "deblur.evaluation.evaluate:evaluate")
