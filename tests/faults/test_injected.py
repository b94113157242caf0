"""What goes wrong while training ends in one line with the last whole checkpoint, or is mended."""

from __future__ import annotations

import pytest

from deblur.faults.bad_data import BAD_DATA, try_data
from deblur.faults.injected import DAMAGES, FAULTS, WRONG_NUMBERS, try_damage, try_fault, try_numbers

_FAULTS = [
    "ENOSPC while a checkpoint is written",
    "a checkpoint that cannot be renamed",
    "a figure that cannot be written",
    "the folder vanishes",
    "memory of the GPU ends in a step",
]


@pytest.mark.parametrize("name", _FAULTS)
def test_a_fault_ends_the_run_with_one_line_and_a_whole_checkpoint(name, tmp_path, tiny_root):
    assert try_fault(*FAULTS[name], tmp_path, tiny_root) is None


@pytest.mark.parametrize("name", WRONG_NUMBERS)
def test_numbers_gone_wrong_reach_no_checkpoint(name, tmp_path, tiny_root):
    assert try_numbers(*WRONG_NUMBERS[name], tmp_path, tiny_root) is None


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_other_optimisers_skip_a_step_too(optimizer, tmp_path, tiny_root):
    wrong = WRONG_NUMBERS["a gradient of NaN, once"]
    assert try_numbers(*wrong, tmp_path, tiny_root, f"optimizer={optimizer}") is None


def test_a_patience_of_none_stops_at_once(tmp_path, tiny_root):
    what, steps, _, _ = WRONG_NUMBERS["a loss of NaN, once"]
    said = "no longer numbers (step 4, training batch 4"
    assert try_numbers(what, steps, 1, said, tmp_path, tiny_root, "module.nan_patience=0") is None


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_run_goes_on_from_what_is_whole(name, whole, tmp_path, tiny_root):
    assert try_damage(*DAMAGES[name], whole, tmp_path, tiny_root) is None


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_one_line(name, tmp_path):
    assert try_data(*BAD_DATA[name], tmp_path) is None
