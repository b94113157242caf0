"""Train a deblurring network: `python train.py model=unet blur.length=9`; `--help` lists the settings."""

from deblur.cli import door

if __name__ == "__main__":
    door("train", "deblur.training.train:train", check="deblur.training.settings:check_early")
