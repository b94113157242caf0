"""No damaged file makes a reader crash, hang or eat the memory. (`scripts/faults.py fuzz` tries many more.)"""

from __future__ import annotations

import pytest

from deblur.faults.fuzz import Reader, readers, try_reader

_NAMES = (
    "IDX",
    "IDX, compressed",
    "photographs",
    "pictures to restore",
    "PSFs, .npy",
    "PSFs, .npz",
    "PSFs, pictures",
    "settings of a run",
    "results of a run",
    "checkpoints",
    "published weights",
    "sweeps",
    "histories",
)


@pytest.mark.parametrize("name", _NAMES)
def test_a_damaged_file_is_read_or_refused_in_one_line(name, whole, tmp_path):
    known = {reader.name: reader for reader in readers(whole)}
    assert tuple(known) == _NAMES
    for content in known[name].wholes:  # the good ones are read
        (tmp_path / "good").mkdir(exist_ok=True)
        file = tmp_path / "good" / known[name].file
        file.write_bytes(content)
        if name != "checkpoints":
            known[name].read(file)
    assert try_reader(known[name], tmp_path / "fuzz", 150) is None


def test_a_reader_that_crashes_is_found(tmp_path):
    def read(file):
        if file.read_bytes()[:1] != b"x":
            raise KeyError("header")

    failure = try_reader(Reader("bad", "file", (b"xyz",), read), tmp_path / "fuzz", 100)
    assert failure is not None
    assert "KeyError" in failure
