"""TensorBoard: events in the run folder itself, hyper-parameters once, at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import hparams

from deblur.errors import UsageError, shown
from deblur.metrics import NAMES
from deblur.stored import read_json

HISTORY = "history.json"  # of a published run, which has no events: name -> [[step, value], ...]


class RunLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger that writes into the run folder and nothing but events.

    Args:
        folder: the run folder.
        purge_step: events of this step and later, of an interrupted run, are void.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        super().__init__(str(folder), name="", version="", default_hp_metric=False, purge_step=purge_step)

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Called by Lightning after fitting and after testing, well or not: the file stays open for what follows."""
        if status == "success":
            self.save()

    @rank_zero_only
    def close(self) -> None:
        """End the event file; that of a failed run as far as it can be written."""
        with suppress(OSError):
            self.experiment.close()

    @rank_zero_only
    def log_config(self, settings: Mapping[str, Any]) -> None:
        """The settings as a block of code, which the dashboard's text page shows as it is."""
        lines = yaml.safe_dump(dict(settings), sort_keys=False).splitlines()
        self.experiment.add_text("config", "".join(f"    {line}\n" for line in lines))

    @rank_zero_only
    def log_summary(
        self,
        settings: Mapping[str, Any],
        metrics: Mapping[str, float],
        split: str = "test",
        swept: Collection[str] = (),
    ) -> None:
        """One row of the HParams tab: the same metric keys in every run, no value but numbers and words.

        Args:
            settings: its settings.
            metrics: of the run, by their names on the dashboard.
            split: which metrics count: `test`, or `val` for runs that are not tested.
            swept: the settings that differ between the runs of its sweep; the tab shows them first.
        """
        row = {f"{split}/{name}": float(metrics.get(f"{split}/{name}", 0.0)) for name in NAMES}
        columns, *values = hparams(dict(settings), row)
        _mark_differing(columns, swept)
        writer = self.experiment._get_file_writer()
        for summary in (columns, *values):
            writer.add_summary(summary)


def _mark_differing(columns: Summary, swept: Collection[str]) -> None:
    """TensorBoard shows five columns at first, those of settings that differ before others. It is told which do."""
    plugin = columns.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in swept
    plugin.content = content.SerializeToString()


def read_history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All scalars of a run as (step, value) pairs by name, without what a resumed run replaced.

    Raises:
        UsageError: the history of a published run is damaged.
    """
    published = folder / HISTORY
    if published.is_file():
        try:
            lines = read_json(published, most_bytes=2**26)
            return {name: [(int(step), float(value)) for step, value in line] for name, line in lines.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"{published}: is damaged: {shown(error)}") from error
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
