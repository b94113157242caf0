"""The notebook: as committed it shows results and nothing of the machine, and it runs from clean on tiny settings."""

from __future__ import annotations

import re

import nbformat

from tests.conftest import ROOT

NOTEBOOK = ROOT / "notebooks" / "deblurring.ipynb"
LARGEST = 1_500_000  # bytes, so that it can be read in a browser and kept in git


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(output: nbformat.NotebookNode) -> str:
    """All that an output shows but for its pictures."""
    shown = {kind: text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")}
    return "\n".join([output.get("text", ""), *map(str, shown.values()), *output.get("traceback", [])])


def test_committed_notebook_is_small_and_shows_nothing_of_the_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    texts = [cell.source for cell in notebook.cells]
    texts += [text_of(output) for cell in code_cells(notebook) for output in cell.outputs]
    assert not re.findall(r"\S*/(?:work|root|tmp|home|Users)\b\S*", "\n".join(texts))
    assert NOTEBOOK.stat().st_size < LARGEST
