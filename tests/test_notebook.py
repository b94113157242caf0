"""The notebook: as committed it shows results and nothing of the machine, and it runs from clean on tiny settings."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT, write_idx

NOTEBOOK = ROOT / "notebooks" / "deblurring.ipynb"
LARGEST = 1_500_000  # bytes, so that it can be read in a browser and kept in git


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(output: nbformat.NotebookNode) -> str:
    """All that an output shows but for its pictures."""
    shown = {kind: text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")}
    return "\n".join([output.get("text", ""), *map(str, shown.values()), *output.get("traceback", [])])


def test_committed_notebook_was_executed_in_order_and_shows_pictures():
    cells = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    outputs = [output for cell in cells for output in cell.outputs]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 11
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


def test_committed_notebook_is_small_and_shows_nothing_of_the_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    texts = [cell.source for cell in notebook.cells]
    texts += [text_of(output) for cell in code_cells(notebook) for output in cell.outputs]
    assert not re.findall(r"\S*/(?:work|root|tmp|home|Users)\b\S*", "\n".join(texts))
    assert NOTEBOOK.stat().st_size < LARGEST


@pytest.mark.slow
def test_notebook_runs_from_clean_on_tiny_settings(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = tmp_path / "digits"
    shutil.copytree(tiny_root, data)
    raw = data / "MNIST" / "raw"
    write_idx(raw / "train-images-idx3-ubyte", np.zeros((5001, 28, 28)))  # MNIST's own validation split takes 5,000
    write_idx(raw / "t10k-labels-idx1-ubyte", np.random.default_rng(0).integers(0, 10, 61))
    for name, value in {
        "DEBLUR_DATA": str(data),
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }.items():
        monkeypatch.setenv(name, value)

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    (settings,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    tiny = {"IMAGES": 20, "GRID_IMAGES": 4, "FEW_IMAGES": 8, "ROUNDS": 2, "DIGITS": 10}
    tiny |= {name: f"outputs/pretrained/{name[:-4].lower()}" for name in ("SHAKE_RUN", "TREMOR_RUN")}
    assert set(re.findall(r"[A-Z_]{2,}(?=.* = )", settings.source)) == set(tiny)
    settings.source = "\n".join(f"{name} = {value!r}" for name, value in tiny.items())

    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute(env=dict(os.environ))  # raises what a cell raises

    shown = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 11
