"""From which checkpoint, and which step, a run goes on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deblur.errors import UsageError
from deblur.training.checkpoint import read_checkpoint
from deblur.training.run import Run, whole_file

log = logging.getLogger(__name__)


def where_to_go_on(run: Run, max_epochs: int) -> tuple[Path, int]:
    """The checkpoint that a run goes on from, and the first step that it logs anew.

    The last checkpoint, or the one before it if that is damaged, which is said.

    Args:
        run: has checkpoints.
        max_epochs: at which it is to end.

    Raises:
        UsageError: all its checkpoints are damaged, or from after the end.
    """
    file, content = _newest_whole(run)
    try:
        step, epoch = int(content["global_step"]), int(content["epoch"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file}: holds no training that could go on") from error
    if max_epochs < epoch:
        raise UsageError(f"trainer.max_epochs={max_epochs}: the run has done {epoch} epochs already")
    return file, step + 1


def keep_as_last(run: Run, checkpoint: Path) -> None:
    """Put the checkpoint that a run goes on from in the place of the last one, if that is damaged: the next that is
    saved makes the last one the one before."""
    if checkpoint != run.last:
        with whole_file(run.last) as temporary:
            shutil.copyfile(checkpoint, temporary)


def _newest_whole(run: Run) -> tuple[Path, Mapping[str, Any]]:
    newest, *before = run.checkpoints
    try:
        return newest, read_checkpoint(newest)
    except UsageError as error:
        for file in before:
            with suppress(UsageError):
                content = read_checkpoint(file)
                log.warning("%s; the run goes on from the one before it, %s", error, file)
                return file, content
        raise
