"""Make a small folder of a run, to keep: `python scripts/publish.py run=<run> output=outputs/pretrained/<name>`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed, too

from deblur.cli import door

if __name__ == "__main__":
    door("publish", "deblur.training.publish:publish")
