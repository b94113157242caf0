"""What the steps of a training spend their time on, by operation."""

from __future__ import annotations

from pathlib import Path

import torch
from pytorch_lightning.profilers import PyTorchProfiler
from torch.profiler import profile, tensorboard_trace_handler

_ROWS = 30  # of a table


class StepProfiler(PyTorchProfiler):
    """Traces of three training, validation and test steps each, and a table of each one's operations.

    Lightning's own table is of what was recorded last: the end of the validation, and no training step. Where there are
    fewer than five steps of a kind, all that comes after the first of them is recorded as one.

    Args:
        folder: where traces (for the browser) and tables go.
        filename: of the tables.
    """

    def __init__(self, folder: Path, filename: str) -> None:
        super().__init__(dirpath=folder, filename=filename, record_module_names=False, on_trace_ready=self._keep)
        self._step = ""
        self._tables: dict[str, str] = {}

    def stop(self, action_name: str) -> None:
        if any(action_name.endswith(step) for step in self.STEP_FUNCTIONS):
            self._step = action_name
        super().stop(action_name)

    def summary(self) -> str:
        self._delete_profilers()
        tables, self._tables = self._tables, {}  # those of the fit are not the test's
        return self._stats_to_str(tables)

    def _keep(self, recorded: profile) -> None:
        name = self._prepare_filename(action_name=self._step, extension="")
        tensorboard_trace_handler(str(self.dirpath), name)(recorded)
        sort = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        kind = "all steps" if self._schedule is None else self._step.rpartition(".")[2]
        self._tables[kind] = recorded.key_averages().table(sort_by=sort, row_limit=_ROWS)
