"""Generators as functions of what they are for."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from deblur.seeding import generator, seed_of

keys = st.lists(st.one_of(st.integers(), st.text()), max_size=4).map(tuple)


@given(keys, keys)
def test_seed_is_a_function_of_the_key_and_of_nothing_else(one, two):
    assert 0 <= seed_of(*one) < 2**63
    assert (seed_of(*one) == seed_of(*two)) == (one == two)


def test_words_are_not_joined_and_numbers_are_not_words():
    keys = [("ab", "c"), ("a", "bc"), ("abc",), ("a", 1), ("a", "1"), ("a1",), (1, 11), (11, 1), ()]
    assert len({seed_of(*key) for key in keys}) == len(keys)


def test_seeds_stay_what_they_were_when_results_were_published():
    # Every fixed pair of evaluation images hangs on these numbers, in every process and version.
    assert seed_of("evaluation pairs", 0, "test", 0) == 7_023_364_055_948_689_053
    assert seed_of("order", 0, 0) == 6_986_939_029_676_710_535


def test_generator_starts_afresh_with_every_call():
    first, same, other = (torch.rand(8, generator=generator("x", number)) for number in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_generator_leaves_the_global_one_alone():
    state = torch.get_rng_state()
    torch.rand(3, generator=generator("x"))
    assert torch.equal(torch.get_rng_state(), state)
