from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.seeds import rng_for, seed_for, torch_generator_for

part = st.one_of(st.integers(0, 99), st.text(alphabet="ab1:", max_size=3))
requested = st.tuples(st.integers(0, 2**31), st.lists(part, max_size=3))


@settings(max_examples=200, deadline=None)
@given(requested, requested)
def test_seeds_are_equal_only_for_equal_parts(
    one: tuple[int, list[str | int]], other: tuple[int, list[str | int]]
) -> None:
    assert (seed_for(one[0], *one[1]) == seed_for(other[0], *other[1])) == (one == other)
    assert 0 <= seed_for(one[0], *one[1]) < 2**63


def test_order_and_kind_of_a_part_count() -> None:
    seeds = {
        seed_for(1, "a", "b"),
        seed_for(1, "b", "a"),
        seed_for(1, "ab"),
        seed_for(1, 3),
        seed_for(1, "3"),
        seed_for(13),
    }
    assert len(seeds) == 6


def test_a_seed_is_the_same_in_every_process_and_release() -> None:
    assert seed_for(1, "north", 3, "shuffle") == 2741550083237433541
    code = "from common.seeds import seed_for; print(seed_for(7, 'x', 1))"
    reported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(reported) == seed_for(7, "x", 1)


def test_generators_start_from_the_seed_alone() -> None:
    expected = np.random.default_rng(seed_for(1, "a")).random(3)
    np.random.random()
    np.testing.assert_array_equal(rng_for(1, "a").random(3), expected)
    drawn = torch.rand(3, generator=torch_generator_for(1, "a"))
    torch.rand(1)
    assert torch.equal(torch.rand(3, generator=torch_generator_for(1, "a")), drawn)
    assert not torch.equal(torch.rand(3, generator=torch_generator_for(1, "b")), drawn)
