"""Restore pictures: `python restore.py run=<run> input=<file or folder> output=<folder>`; `--help` lists settings."""

from deblur.cli import door

if __name__ == "__main__":
    door("restore", "deblur.restoration.restore:restore")
