"""What `python train.py` calls: wrong settings are refused before Lightning is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deblur.build import EVERYTHING, build, find_class, trusting
from deblur.training.run import Run
from deblur.training.settings import check_settings


def train(composed: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Train, test and report one run, see `deblur.training.train.train`; the exit code.

    Args:
        composed: the settings of this command, resolved to plain containers.
        typed: this command's overrides, as Hydra keeps them.

    Raises:
        UsageError: the settings are refused; nothing was written.
    """
    check_settings(composed)
    if composed["resume"] is not None:
        Run.open(str(composed["resume"]), "resume")
    else:
        with trusting(EVERYTHING):
            build(composed["blur"], "blur")
            find_class(composed["model"], "model")
    from deblur.training.train import train as go_on

    return go_on(composed, typed)


def check_job(composed: Mapping[str, Any]) -> int:
    """Check the settings of a sweep's job, see `deblur.training.train.check_job`; its work in operations.

    Raises:
        UsageError: a setting is refused.
    """
    from deblur.training.train import check_job as go_on

    return go_on(composed)
