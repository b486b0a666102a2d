from __future__ import annotations

import numpy as np
import pytest

from experiments.monitor.protocol import Packet
from experiments.monitor.sequence import Sequencer

RATE, SIZE = 250.0, 50


def packet(first: int | None, size: int = SIZE) -> Packet:
    start = first or 0
    return Packet("a", RATE, ("I",), first, np.arange(start, start + size, dtype=np.float32)[:, None])


def run(firsts: list[int]) -> tuple[list[float], Sequencer]:
    own = Sequencer(RATE, ("I",))
    return [value for first in firsts for value in own.push(packet(first))[0][:, 0].tolist()], own


def test_packets_in_order_pass() -> None:
    out, own = run([0, 50, 100])
    assert out == list(range(150))
    assert vars(own.losses) == {"taken": 150, "lost": 0, "double": 0, "late": 0, "restarts": 0}


def test_packets_that_overtake_one_another_are_put_in_order() -> None:
    out, own = run([0, 100, 50, 150])
    assert out == list(range(200))
    assert own.losses.lost == 0


def test_double_packets_are_dropped() -> None:
    out, own = run([0, 50, 50, 0, 100])
    assert out == list(range(150))
    assert own.losses.double == 100


def test_a_lost_packet_becomes_a_gap_of_its_length() -> None:
    out, own = run([0, 100, 150, 200, 250])
    assert out[:50] == list(range(50))
    assert np.isnan(out[50:100]).all()
    assert out[100:] == list(range(100, 300))
    assert own.losses.lost == 50
    assert own.push(packet(50))[0].size == 0
    assert own.losses.late == 1


def test_overlapping_packets_give_each_sample_once() -> None:
    out, own = run([0, 30, 60])
    assert out == list(range(110))
    assert own.losses.double == 40


def test_a_long_gap_and_a_jump_back_start_the_stream_anew() -> None:
    own = Sequencer(RATE, ("I",))
    own.push(packet(0))
    samples, restart = own.push(packet(10_000))
    assert restart
    assert samples[:, 0].tolist() == list(range(10_000, 10_050))
    assert own.losses.lost == 9_950
    assert own.push(packet(0))[1]
    assert own.losses.restarts == 2
    assert own.losses.lost == 9_950  # the device counts anew: nobody knows what was lost


def test_packets_without_numbers_follow_one_another() -> None:
    own = Sequencer(RATE, ("I",))
    sizes = [own.push(packet(None))[0].shape[0] for _ in range(4)]
    assert sizes == [SIZE] * 4
    assert own.losses.double == 0


@pytest.mark.parametrize("seed", range(20))
def test_any_order_loses_nothing_but_what_never_came(seed: int) -> None:
    """Each sample appears once, in order, or is counted as lost."""
    draw = np.random.default_rng(seed)
    firsts = (np.arange(60) * SIZE).tolist()
    shuffled = [firsts[0], *sorted(firsts[1:], key=lambda first: first + draw.uniform(0, 200))]
    sent = [first for first in shuffled if first == 0 or draw.random() > 0.1]
    sent += (firsts[-1] + SIZE * np.arange(1, 6)).tolist()
    out, own = run(sent)
    numbers = np.array(out)
    assert np.array_equal(numbers[np.isfinite(numbers)], np.flatnonzero(np.isfinite(numbers)))
    assert np.isnan(numbers).sum() == own.losses.lost
