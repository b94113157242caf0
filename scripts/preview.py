"""Look at a blur before training on it: `python scripts/preview.py blur=shake blur.length=9`; `--help` lists more."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed, too

from deblur.cli import door

if __name__ == "__main__":
    door("preview", "deblur.preview:preview")
