"""Random generators as pure functions of what they are for: the same key, the same numbers, whatever ran before."""

from __future__ import annotations

from hashlib import blake2b

import torch


def seed_of(*key: int | str) -> int:
    """A seed for the key, an int in [0, 2**63)."""
    digest = blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & (2**63 - 1)


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on the device, seeded by the key."""
    return torch.Generator(device).manual_seed(seed_of(*key))
