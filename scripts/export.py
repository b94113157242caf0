"""Write a trained network for other programs: `python scripts/export.py run=<run> format=onnx`; `--help` lists more."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed, too

from deblur.cli import door

if __name__ == "__main__":
    door("export", "deblur.training.export:export")
