"""Search for the best settings: `python tune.py model=cnn search=cnn search.trials=30`; `--help` lists the settings."""

from deblur.cli import door

if __name__ == "__main__":
    door("tune", "deblur.search.tune:tune")
