"""What there is of a run, and from which checkpoint, and which step, it goes on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deblur.data.module import DeblurDataModule
from deblur.errors import UsageError
from deblur.training.checkpoint import read_checkpoint
from deblur.training.run import MadeOtherwise, Run, whole_file
from deblur.training.settings import differences
from deblur.training.trainer import make_trainer

log = logging.getLogger(__name__)


def earlier_try(settings: Mapping[str, Any]) -> Run | None:
    """What there is of an earlier try of this job of a sweep, killed before it wrote anything perhaps; or None.

    Raises:
        MadeOtherwise: it has checkpoints that were made with other settings.
    """
    if settings["sweep"]["job"] is None:
        return None
    root = Path(settings["output_root"]).expanduser() / "sweeps"
    run = Run(root / settings["sweep"]["name"] / settings["sweep"]["job"])
    if not run.path.is_dir():
        return None
    other = differences(run.config(), settings) if run.checkpoints else []
    if other:
        raise MadeOtherwise(f"{run.path}: was made with {' '.join(other)}; take another sweep.name")
    return run


def clear(run: Run) -> None:
    """Remove a run that has nothing to go on from.

    Raises:
        UsageError: another process is working in it.
    """
    run.lock()
    try:
        shutil.rmtree(run.path)
    finally:
        run.unlock()


def is_finished(run: Run, settings: Mapping[str, Any]) -> bool:
    """Whether nothing is left to do; says so."""
    before, now = run.config()["trainer"], settings["trainer"]
    if run.state() != "finished" or now["max_epochs"] > before["max_epochs"]:
        return False
    if now.get("max_time") != before.get("max_time"):
        return False
    metrics = run.results().get("metrics", {})
    split = "test" if "test/psnr" in metrics else "val"  # a trial of a search is not tested
    psnr = metrics.get(f"{split}/psnr")
    limits = [f"trainer.{key} (now {now[key]})" for key in ("max_epochs", "max_time") if now.get(key) is not None]
    print(
        f"{run.path}: finished, PSNR {float('nan') if psnr is None else psnr:.2f} dB on {split}; a larger "
        f"{' or '.join(limits)} trains on, init=<run> starts a new run from it"
    )
    return True


def where_to_go_on(run: Run, trainer: Mapping[str, Any], data: DeblurDataModule) -> tuple[Path, int]:
    """The checkpoint that a run goes on from, and the first step that it logs anew.

    The last checkpoint, or the one before it if that is damaged, which is said.

    Args:
        run: has checkpoints.
        trainer: the section of the settings, checked, with which it goes on.
        data: that it is trained on.

    Raises:
        UsageError: all its checkpoints are damaged, from after the end, or from within an epoch that was shared by
            another number of processes.
    """
    file, content = _newest_whole(run)
    processes = make_trainer(trainer, callbacks=[], logger=None).world_size
    try:
        step, epoch = int(content["global_step"]), int(content["epoch"])
        position = content.get(type(data).__qualname__)  # where Lightning keeps the state of the data
        if position:
            data.check_position(position, processes)
            epoch += position["position"] > 0
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file}: holds no training that could go on") from error
    if trainer["max_epochs"] < epoch:
        raise UsageError(f"trainer.max_epochs={trainer['max_epochs']}: the run is in epoch {epoch} already")
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
