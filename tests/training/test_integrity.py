"""A checkpoint in which any bit has changed is refused, or is still the same."""

from __future__ import annotations

import random

import pytest
import torch

from deblur.errors import UsageError
from deblur.training.checkpoint import read_checkpoint


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
    content = {"state_dict": {"a": torch.arange(9.0), "b": torch.ones(3)}, "epoch": 3, "name": "run"}
    file = tmp_path / "a.ckpt"
    torch.save(content, file)
    whole = file.read_bytes()
    read_checkpoint(file)
    places = random.Random(0).sample(range(8 * len(whole)), 400)
    refused = 0
    for place in places:
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        file.write_bytes(changed)
        try:
            found = read_checkpoint(file)
        except UsageError:
            refused += 1
            continue
        assert (found["epoch"], found["name"]) == (3, "run")
        assert all(torch.equal(found["state_dict"][name], content["state_dict"][name]) for name in ("a", "b"))
    assert refused > 100


@pytest.mark.parametrize("length", [0, 1, 22, 500, -1])
def test_a_cut_off_checkpoint_is_refused(tmp_path, length):
    file = tmp_path / "a.ckpt"
    torch.save({"state_dict": {}}, file)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UsageError, match="damaged"):
        read_checkpoint(file)


def test_what_networks_and_optimisers_keep_is_read(tmp_path):
    content = {
        "state_dict": {},
        "other": [torch.ones(2, dtype=kind) for kind in (torch.bfloat16, torch.int64, torch.bool)],
    }
    content["more"] = {"parameter": torch.nn.Parameter(torch.ones(2)), "size": torch.Size([2]), "type": torch.float16}
    torch.save(content, tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt").keys() == content.keys()
