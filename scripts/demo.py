"""Open a page to blur and restore drawings and pictures: `python scripts/demo.py`; `--help` lists settings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed, too

from deblur.cli import door

if __name__ == "__main__":
    door("demo", "deblur.demo.demo:demo")
